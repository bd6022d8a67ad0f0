//! Whether a step may run, and with what: pure, from what it asks for and what the operator allows.

use std::path::Path;

use warmstep_registry::{Digest, Reference};
use warmstep_wire::exit;
use warmstep_wire::message::Step;
use warmstep_wire::plan::Plan;

use crate::config::{Limits, Policy};
use crate::host::Host;

/// Where a module comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From a registry.
    Reference(Reference),
    /// From a descriptor that came with the step.
    File,
    /// From the cache.
    Digest(Digest),
}

/// A step that may run.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Where its module comes from.
    pub(crate) source: Source,
    /// What it is lent; the module's digest is filled in when it is known.
    pub(crate) plan: Plan,
}

/// A step that may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Denied(String);

impl Denied {
    /// The exit code of the shim.
    pub(crate) fn code(&self) -> u8 {
        exit::REFUSED
    }
}

fn denied<T>(reason: impl Into<String>) -> Result<T, Denied> {
    Err(Denied(reason.into()))
}

/// Checks a step against the operator's policy and limits.
pub(crate) fn admit(
    step: Step,
    descriptors: usize,
    policy: &Policy,
    limits: &Limits,
) -> Result<Admitted, Denied> {
    step.check().map_err(|error| Denied(error.to_string()))?;
    let source = source(&step.module, descriptors, policy)?;
    network(&step.network, policy)?;
    let mut arguments = vec![name(&source, &step.module).into_bytes().into()];
    arguments.extend(step.arguments);
    let plan = Plan {
        module: step.module,
        digest: String::new(),
        arguments,
        environment: step.environment,
        directories: step.directories,
        network: step.network,
        memory: memory(step.memory, step.usual_memory, limits)?,
        timeout: timeout(step.timeout, limits)?,
        whole_jail: policy.whole_jail.then_some(true),
        paths: step.paths,
    };
    Ok(Admitted { source, plan })
}

/// Checks the addresses that are to be granted. Whether the module can use them is known once it is
/// compiled: see [`runs_on`].
fn network(addresses: &[String], policy: &Policy) -> Result<(), Denied> {
    let Some(first) = addresses.first() else { return Ok(()) };
    if !policy.wasix {
        return denied(format!(
            "the network grant {first:?} cannot be given: only WASIX modules can connect, and they \
             are not allowed on this node (policy.wasix)"
        ));
    }
    let allowed =
        |address: &&String| policy.network.iter().any(|pattern| matches(pattern, address));
    match addresses.iter().find(|address| !allowed(address)) {
        Some(address) => denied(format!(
            "the network grant {address:?} is not allowed on this node (policy.network)"
        )),
        None => Ok(()),
    }
}

/// Checks what a step needs of the host that its module runs on.
pub(crate) fn runs_on(host: Host, plan: &Plan, policy: &Policy) -> Result<(), Denied> {
    match (host, plan.network.first()) {
        (Host::Wasix, _) if !policy.wasix => {
            denied("it needs WASIX, which is not allowed on this node (policy.wasix)")
        }
        (Host::Preview1, Some(address)) => denied(format!(
            "the network grant {address:?} is of no use to it: it is a WASI preview 1 module, and \
             preview 1 cannot open connections; build it for WASIX, or leave out --net"
        )),
        _ => Ok(()),
    }
}

/// Reads the module as its author wrote it.
pub(crate) fn source(module: &str, descriptors: usize, policy: &Policy) -> Result<Source, Denied> {
    match descriptors {
        0 => {}
        1 if policy.files => return Ok(Source::File),
        1 => return denied("modules that are files are not allowed on this node (policy.files)"),
        _ => return denied(format!("{descriptors} descriptors came with the step, not one")),
    }
    if module.starts_with("sha256:") {
        return match module.parse() {
            Ok(digest) => Ok(Source::Digest(digest)),
            Err(error) => denied(format!("module {module:?}: {error}")),
        };
    }
    let reference: Reference = module
        .parse()
        .map_err(|error| Denied(format!("module {module:?} is not a reference: {error}")))?;
    let place = format!("{}/{}", reference.registry(), reference.repository());
    if !policy.allow.iter().any(|pattern| matches(pattern, &place)) {
        return denied(format!("module {place} is not allowed on this node (policy.allow)"));
    }
    Ok(Source::Reference(reference))
}

/// The module's own name, as its first argument.
fn name(source: &Source, module: &str) -> String {
    let last = |text: &str| text.rsplit('/').next().unwrap_or(text).to_owned();
    match source {
        Source::Reference(reference) => last(reference.repository()),
        Source::File => Path::new(module)
            .file_name()
            .map_or_else(|| module.to_owned(), |name| name.to_string_lossy().into_owned()),
        Source::Digest(_) => module.to_owned(),
    }
    .replace('\0', "")
}

/// What a step may have. What is usual for it, it did not ask for: more than there may be is no
/// reason to refuse it.
fn memory(asked: Option<u64>, usual: Option<u64>, limits: &Limits) -> Result<u64, Denied> {
    let most = limits.memory_max.as_u64();
    match asked {
        None => Ok(usual.map_or(limits.memory.as_u64(), |usual| usual.min(most))),
        Some(bytes) if bytes > most => denied(format!(
            "{bytes} bytes of memory are more than the {most} that this node allows (limits.memory_max)"
        )),
        Some(bytes) => Ok(bytes),
    }
}

fn timeout(asked: Option<u64>, limits: &Limits) -> Result<u64, Denied> {
    let milliseconds =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let most = milliseconds(limits.timeout_max);
    match asked {
        None => Ok(milliseconds(limits.timeout)),
        Some(asked) if most > 0 && (asked == 0 || asked > most) => denied(format!(
            "a timeout of {asked} ms is more than the {most} ms that this node allows \
             (limits.timeout_max)"
        )),
        Some(asked) => Ok(asked),
    }
}

/// Whether a pattern, in which `*` stands for any run of characters, covers a text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        match rest.find(part) {
            Some(position) => rest = &rest[position + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use warmstep_wire::message::{DirectoryGrant, PathGrant, Variable};

    use super::*;

    fn step(module: &str) -> Step {
        Step {
            module: module.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directories: Vec::new(),
            network: Vec::new(),
            memory: None,
            timeout: None,
            paths: Vec::new(),
            usual_memory: None,
        }
    }

    fn reason(step: Step) -> String {
        admit(step, 0, &Policy::default(), &Limits::default()).unwrap_err().to_string()
    }

    fn directory(host: &str, guest: &str) -> DirectoryGrant {
        DirectoryGrant {
            host: host.as_bytes().to_vec().into(),
            guest: guest.as_bytes().to_vec().into(),
            read_only: true,
        }
    }

    #[test]
    fn a_step_gets_what_it_asks_for_and_the_node_s_defaults() {
        let limits = Limits { memory: ByteSize::mib(64), ..Limits::default() };
        let asked = Step {
            arguments: vec![b"--fast".to_vec().into()],
            ..step("oci://ghcr.io/acme/tools/render:1")
        };
        let admitted = admit(asked, 0, &Policy::default(), &limits).unwrap();
        assert!(matches!(admitted.source, Source::Reference(_)));
        let arguments: Vec<&[u8]> =
            admitted.plan.arguments.iter().map(|argument| &argument[..]).collect();
        assert_eq!(arguments, [b"render".as_slice(), b"--fast"]);
        assert_eq!(admitted.plan.memory, 64 * 1024 * 1024);
        assert_eq!(admitted.plan.timeout, 0);
    }

    #[test]
    fn memory_that_is_usual_is_bounded_and_memory_that_is_asked_for_refused() {
        let limits = Limits {
            memory: ByteSize::mib(64),
            memory_max: ByteSize::mib(256),
            ..Limits::default()
        };
        let given = |memory: Option<u64>, usual_memory: Option<u64>| {
            let asked = Step { memory, usual_memory, ..step("oci://localhost:5000/hello:1") };
            admit(asked, 0, &Policy::default(), &limits).map(|admitted| admitted.plan.memory >> 20)
        };
        let mib = |number: u64| Some(number << 20);
        assert_eq!(given(None, mib(200)), Ok(200));
        assert_eq!(given(None, mib(300)), Ok(256));
        assert_eq!(given(mib(32), mib(300)), Ok(32));
        assert!(given(mib(300), mib(32)).is_err());
    }

    #[test]
    fn single_paths_are_passed_on() {
        let path = PathGrant {
            host: b"/tmp/in.md".to_vec().into(),
            guest: b"/tmp/in.md".to_vec().into(),
            read_only: true,
        };
        let asked = Step { paths: vec![path.clone()], ..step("oci://localhost:5000/hello:1") };
        let admitted = admit(asked, 0, &Policy::default(), &Limits::default()).unwrap();
        assert_eq!(admitted.plan.paths, [path]);
    }

    #[test]
    fn what_a_step_may_not_is_said() {
        let good = || step("oci://localhost:5000/hello:1");
        let bad = [
            (step("oci://"), "is not a reference"),
            (step("sha256:12"), "64 lowercase hexadecimal digits"),
            (Step { arguments: vec![b"a\0b".to_vec().into()], ..good() }, "argument 1 contains"),
            (
                Step {
                    environment: vec![Variable {
                        name: b"A=B".to_vec().into(),
                        value: Vec::new().into(),
                    }],
                    ..good()
                },
                "\"A=B\" cannot be the name",
            ),
            (Step { directories: vec![directory("x", "/x")], ..good() }, "not an absolute path"),
            (Step { network: vec!["a".to_owned()], ..good() }, "\"a\" is not an address"),
            (Step { memory: Some(u64::MAX), ..good() }, "limits.memory_max"),
            (Step { memory: Some(0), ..good() }, "memory limit of zero"),
        ];
        for (step, said) in bad {
            let reason = reason(step);
            assert!(reason.contains(said), "{reason}");
        }
    }

    #[test]
    fn the_operator_s_policy_holds() {
        let policy =
            Policy { allow: vec!["ghcr.io/acme/*".to_owned()], files: false, ..Policy::default() };
        let admit = |module: &str, descriptors| {
            admit(step(module), descriptors, &policy, &Limits::default())
                .map(|_| ())
                .map_err(|denied| denied.to_string())
        };
        assert_eq!(admit("oci://ghcr.io/acme/a:1", 0), Ok(()));
        assert!(admit("oci://ghcr.io/other/a:1", 0).unwrap_err().contains("policy.allow"));
        assert!(admit("/a.wasm", 1).unwrap_err().contains("policy.files"));
        assert!(admit("/a.wasm", 2).unwrap_err().contains("2 descriptors"));
    }

    #[test]
    fn the_network_is_for_wasix_and_within_the_policy() {
        let asked = |network: &str| Step {
            network: vec![network.to_owned()],
            ..step("oci://localhost:5000/hello:1")
        };
        let admit = |network: &str, policy: &Policy| {
            admit(asked(network), 0, policy, &Limits::default())
                .map_err(|denied| denied.to_string())
        };
        let plan = admit("a.example:443", &Policy::default()).unwrap().plan;
        assert_eq!(plan.network, ["a.example:443"]);
        assert_eq!(runs_on(Host::Wasix, &plan, &Policy::default()), Ok(()));
        let denied = runs_on(Host::Preview1, &plan, &Policy::default()).unwrap_err().to_string();
        assert!(denied.contains("preview 1 cannot open connections"), "{denied}");

        let some = Policy { network: vec!["*.example:443".to_owned()], ..Policy::default() };
        assert!(admit("a.example:443", &some).is_ok());
        assert!(admit("a.example:80", &some).unwrap_err().contains("policy.network"));
        let none = Policy { wasix: false, ..Policy::default() };
        assert!(admit("a.example:443", &none).unwrap_err().contains("policy.wasix"));
        assert!(runs_on(Host::Wasix, &plan, &none).is_err());
    }

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, expected) in [
            ("*", "anything", true),
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/*", "a/", true),
            ("*/b", "a/c/b", true),
            ("a*b*c", "a12b3c", true),
            ("a*b*c", "ac", false),
            ("ab*bc", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
