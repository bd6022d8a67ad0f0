//! Steps that are well formed and ask for what nobody can grant.

#[path = "support/step.rs"]
mod step;

use step::step;
use warmstep_wire::check::{StepError, address};
use warmstep_wire::message::{DirectoryGrant, PathGrant, Step, Variable};

fn directory(host: &[u8], guest: &[u8]) -> DirectoryGrant {
    DirectoryGrant { host: host.to_vec().into(), guest: guest.to_vec().into(), read_only: false }
}

fn variable(name: &[u8], value: &[u8]) -> Variable {
    Variable { name: name.to_vec().into(), value: value.to_vec().into() }
}

#[test]
fn a_good_step() {
    assert_eq!(step().check(), Ok(()));
    let most = vec![b"x".to_vec().into(); warmstep_wire::MAX_ARGUMENTS];
    assert_eq!(Step { arguments: most, ..step() }.check(), Ok(()));
}

#[test]
fn modules() {
    let named = |name: &str| Step { module: name.into(), ..step() }.check();
    assert_eq!(named(""), Err(StepError::ModuleEmpty));
    assert_eq!(named(&"a".repeat(4096)), Ok(()));
    assert_eq!(named(&"a".repeat(4097)), Err(StepError::ModuleLength(4097)));
    for name in ["a\0", "a\nb", "\u{1b}[2J", "\u{9b}"] {
        assert_eq!(named(name), Err(StepError::ModuleControl), "{name:?}");
    }
}

#[test]
fn arguments() {
    let given = |list: &[&[u8]]| {
        let arguments = list.iter().map(|argument| argument.to_vec().into()).collect();
        Step { arguments, ..step() }.check()
    };
    assert_eq!(given(&[b"", b"\xff\n"]), Ok(()));
    assert_eq!(given(&[b"a", b"b\0c"]), Err(StepError::ArgumentNul(2)));
    let many = vec![&b"x"[..]; warmstep_wire::MAX_ARGUMENTS + 1];
    assert!(matches!(given(&many), Err(StepError::TooMany { .. })));
}

#[test]
fn variables() {
    let set = |name: &[u8], value: &[u8]| {
        Step { environment: vec![variable(name, value)], ..step() }.check()
    };
    assert_eq!(set(b"\xff odd.name", b"=\n"), Ok(()));
    for name in [&b""[..], b"A=", b"A\0B"] {
        assert!(matches!(set(name, b""), Err(StepError::VariableName(_))), "{name:?}");
    }
    assert_eq!(set(b"A", b"1\0"), Err(StepError::VariableNul("A".into())));
}

#[test]
fn directories() {
    let granted = |list: Vec<DirectoryGrant>| Step { directories: list, ..step() }.check();
    assert_eq!(granted(vec![directory(b"/", b"/"), directory(b"/", b".")]), Ok(()));
    for host in [&b""[..], b"data", b"/a\0b"] {
        let error = granted(vec![directory(host, b"g")]);
        assert!(matches!(error, Err(StepError::DirectoryHost(_))), "{host:?}");
    }
    for guest in [&b""[..], b"a\0b"] {
        let error = granted(vec![directory(b"/a", guest)]);
        assert!(matches!(error, Err(StepError::DirectoryGuest(_))), "{guest:?}");
    }
    let twice = granted(vec![directory(b"/a", b"g"), directory(b"/b", b"g")]);
    assert_eq!(twice, Err(StepError::DirectoryTwice("g".into())));
}

#[test]
fn paths() {
    let granted = |list: &[(&[u8], &[u8])]| {
        let grant = |(host, guest): &(&[u8], &[u8])| PathGrant {
            host: host.to_vec().into(),
            guest: guest.to_vec().into(),
            read_only: false,
        };
        Step { paths: list.iter().map(grant).collect(), ..step() }.check()
    };
    assert_eq!(granted(&[(b"/a/b", b"/\xff/..."), (b"/a/b", b"/c")]), Ok(()));
    for path in ["", "/", "a", "./a", "/a/", "/a//b", "//a", "/./a", "/a/..", "/../a", "/a\0b"] {
        let path = path.as_bytes();
        for grant in [(path, &b"/g"[..]), (&b"/h"[..], path)] {
            let error = granted(&[grant]);
            assert!(matches!(error, Err(StepError::Path(_))), "{path:?}: {error:?}");
        }
    }
    let twice = granted(&[(b"/a", b"/g"), (b"/b", b"/g")]);
    assert_eq!(twice, Err(StepError::PathTwice("/g".into())));
}

#[test]
fn limits() {
    assert!(matches!(Step { usual_memory: Some(0), ..step() }.check(), Err(StepError::Zero(_))));
    assert!(matches!(Step { memory: Some(0), ..step() }.check(), Err(StepError::Zero(_))));
    assert!(matches!(Step { timeout: Some(0), ..step() }.check(), Err(StepError::Zero(_))));
}

#[test]
fn addresses() {
    for (text, parts) in [
        ("example.org:443", ("example.org", 443)),
        ("a_b-c:1", ("a_b-c", 1)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("[::1]:80", ("::1", 80)),
    ] {
        assert_eq!(address(text), Some(parts), "{text}");
    }
    for text in [
        "",
        ":",
        ":80",
        "h",
        "h:",
        "h:0",
        "h:65536",
        "h:+1",
        "h:-1",
        "h:8 0",
        "::1:80",
        "[::1]",
        "[]:80",
        "[h]:80",
        "[::1%lo]:80",
        "a b:1",
        "h/x:1",
        "u@h:1",
        "h\n:1",
        "\u{e4}:1",
        "*:1",
    ] {
        assert_eq!(address(text), None, "{text}");
        let step = Step { network: vec![text.into()], ..step() };
        assert_eq!(step.check(), Err(StepError::Address(text.into())));
    }
}
