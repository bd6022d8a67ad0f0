//! References that parse, those that do not, and a second opinion from the OCI project's parser.

use super::*;

const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// What parses, and how it is written afterwards.
const GOOD: &[(&str, &str)] = &[
    ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
    ("oci://ghcr.io/a/b:1", "ghcr.io/a/b:1"),
    ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
    ("localhost/a", "localhost/a:latest"),
    ("localhost:5000/a/b/c:v1.2-rc_3", "localhost:5000/a/b/c:v1.2-rc_3"),
    ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
    ("[::1]:5000/a:1", "[::1]:5000/a:1"),
    ("[2001:DB8::1]/a:1", "[2001:db8::1]/a:1"),
    ("registry.example:443/a:1", "registry.example/a:1"),
    ("REGISTRY.example/a:UPPER", "registry.example/a:UPPER"),
    ("docker.io/hello:1", "docker.io/library/hello:1"),
    ("docker.io/me/hello:1", "docker.io/me/hello:1"),
    ("r.example/a-b.c_d__e---f/0:_", "r.example/a-b.c_d__e---f/0:_"),
];

/// What does not parse, and a word that the error must hold.
const BAD: &[(&str, &str)] = &[
    ("", "empty"),
    ("oci://", "empty"),
    (":tag", "registry"),
    ("hello", "docker.io/library/hello"),
    ("hello:1", "such as docker.io/library/hello:1"),
    ("a/b:1", "such as docker.io/a/b"),
    ("localhost:5000", "repository"),
    ("./hello.wasm", "not a host name"),
    ("/hello.wasm", "registry"),
    ("ghcr.io", "repository"),
    ("ghcr.io/", "repository"),
    ("ghcr.io:5000", "repository"),
    ("ghcr.io//a", "part of a repository"),
    ("ghcr.io/a/", "part of a repository"),
    ("ghcr.io/../etc", "part of a repository"),
    ("ghcr.io/a___b", "part of a repository"),
    ("ghcr.io/a..b", "part of a repository"),
    ("ghcr.io/-a", "part of a repository"),
    ("ghcr.io/a%2fb", "part of a repository"),
    ("ghcr.io/a?ns=x", "part of a repository"),
    ("ghcr.io/a#b", "part of a repository"),
    ("ghcr.io/A:1", "lowercase"),
    ("ghcr.io/a:", "not a tag"),
    ("ghcr.io/a:-x", "not a tag"),
    ("ghcr.io/a:x:y", "part of a repository"),
    ("ghcr.io/a b", "' '"),
    ("ghcr.io/a\n", "'\\n'"),
    ("ghcr.io/ä", "'ä'"),
    ("ghcr.io:0/a", "host name"),
    ("ghcr.io:65536/a", "host name"),
    ("ghcr.io:+1/a", "host name"),
    ("ghcr.io:/a", "host name"),
    ("-ghcr.io/a", "host name"),
    ("ghcr..io/a", "host name"),
    ("user:pass@ghcr.io/a", "digest"),
    ("[::1/a:1", "host name"),
    ("[nonsense]:5000/a", "host name"),
    ("https://ghcr.io/a", "without \"https://\""),
    ("docker://ghcr.io/a", "without \"docker://\""),
    ("ghcr.io/a@", "digest"),
    ("ghcr.io/a@sha256:abc", "64 lowercase"),
    ("ghcr.io/a@sha512:abc", "sha256"),
    ("ghcr.io/a@@sha256:abc", "sha256"),
];

#[test]
fn good_references_parse_and_print() {
    for (text, printed) in GOOD {
        let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reference.to_string(), *printed);
        assert_eq!(printed.parse(), Ok(reference.clone()), "printing and parsing are inverse");

        let pinned: Reference = format!("{text}@{DIGEST}").parse().expect("with a digest");
        assert_eq!(pinned.digest().map(ToString::to_string).as_deref(), Some(DIGEST));
        assert_eq!(pinned.repository(), reference.repository());
    }
}

#[test]
fn a_digest_alone_implies_no_tag() {
    let reference: Reference = format!("ghcr.io/a@{DIGEST}").parse().expect("parses");
    assert_eq!(reference.tag(), None);
    assert_eq!(reference.to_string(), format!("ghcr.io/a@{DIGEST}"));
}

#[test]
fn bad_references_say_why_on_one_line() {
    for (text, word) in BAD {
        let error = text.parse::<Reference>().expect_err(text).to_string();
        assert!(error.contains(word), "{text:?} should say {word:?}, says {error:?}");
        assert!(!error.contains('\n'), "{error:?}");
    }
    for long in ["a".repeat(1 << 20), format!("ghcr.io/{}", "a/".repeat(150)) + "a"] {
        let error = long.parse::<Reference>().expect_err("too long").to_string();
        assert!(error.contains("longer than") && error.len() < 300, "{error}");
    }
    let error = format!("ghcr.io/a:{}", "t".repeat(129)).parse::<Reference>().expect_err("tag");
    assert!(error.to_string().contains("128"), "{error}");
}

/// Whatever we accept, the OCI project's parser must take apart in the same way: a reference that
/// two programs read differently is a way around a policy.
#[test]
fn the_oci_parser_agrees() {
    for (text, _) in GOOD.iter().filter(|(text, _)| !text.contains('[')) {
        let ours: Reference = text.parse().expect("parses");
        let bare = text.strip_prefix("oci://").unwrap_or(text);
        let theirs: oci_client::Reference = bare.parse().expect("parses there too");
        let registry = theirs.registry().to_ascii_lowercase();
        assert_eq!(ours.registry(), registry.trim_end_matches(":443"), "{text}");
        assert_eq!(ours.repository(), theirs.repository(), "{text}");
        assert_eq!(ours.tag(), theirs.tag(), "{text}");
    }
}
