//! M9: a confined process, looked at from outside and from inside.

use std::os::unix::process::CommandExt;

use crate::probe::{End, Probe, Running, is_root};

const PROFILES: [&str; 3] = ["preview1", "wasix", "compiler"];

/// `CAP_DAC_OVERRIDE` and `CAP_FOWNER`, as `/proc/PID/status` prints them.
const FILE_ACCESS: &str = "000000000000000a";
const NONE: &str = "0000000000000000";

fn capabilities(running: &Running) -> [String; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| running.status(set))
}

#[test]
fn no_privilege_is_left_or_can_be_gained() {
    for profile in PROFILES {
        let running = Probe::new(&["--profile", profile]).start(&["wait"]);
        assert_eq!(running.status("NoNewPrivs"), "1");
        assert_eq!(running.status("Seccomp"), "2");
        assert_eq!(running.status("Seccomp_filters"), "1");
        let kept = if is_root() && profile != "compiler" { FILE_ACCESS } else { NONE };
        // The bounding set stays: with no_new_privs nothing comes of it.
        let [inheritable, permitted, effective, _, ambient] = capabilities(&running);
        assert_eq!([&*inheritable, &*permitted, &*effective, &*ambient], [NONE, kept, kept, NONE]);
    }
}

#[test]
fn no_privilege_can_be_gained_without_no_new_privs_either() {
    if !is_root() {
        return;
    }
    let options = ["--profile", "preview1", "--refuse", "no_new_privs"];
    let running = Probe::new(&options).start(&["wait"]);
    assert_eq!(running.status("NoNewPrivs"), "0");
    assert_eq!(running.status("CapBnd"), NONE);
    assert_eq!(running.status("CapEff"), FILE_ACCESS);
}

#[test]
fn who_had_no_privilege_has_none() {
    for profile in PROFILES {
        let running = Probe::new(&["--profile", profile]).unprivileged().start(&["wait"]);
        let [inheritable, permitted, effective, _, ambient] = capabilities(&running);
        assert_eq!([&*inheritable, &*permitted, &*effective, &*ambient], [NONE; 4]);
        assert_eq!(running.status("NoNewPrivs"), "1");
        assert_eq!(running.status("Seccomp"), "2");
    }
}

#[test]
fn speculation_is_not_made_slower() {
    // Whatever the machine's setting is, the jail leaves it.
    let free = Probe::new(&["--free"]).start(&["wait"]);
    let jailed = Probe::new(&["--profile", "preview1"]).start(&["wait"]);
    for field in ["Speculation_Store_Bypass", "SpeculationIndirectBranch"] {
        assert_eq!(jailed.status(field), free.status(field));
    }
}

#[test]
fn no_variable_is_left_even_in_memory() {
    let secret = |options: &[&str]| {
        let mut probe = Probe::new(options);
        probe.0.env("WARMSTEP_TEST_SECRET", "hunter2");
        probe
    };
    let memory = |options: &[&str]| match secret(options).run(&["environment"]) {
        End::Done(memory) => memory,
        end => panic!("{end:?}"),
    };
    assert!(memory(&["--free"]).contains("hunter2"), "the test sees a variable");
    let wiped = memory(&["--profile", "preview1"]);
    assert!(!wiped.is_empty() && wiped.chars().all(|left| left == '.'), "{wiped}");
    let end = secret(&["--profile", "preview1"]).run(&["audit"]);
    assert_eq!(end, End::Done("descriptors 0 1 2\nvariables 0".into()));
}

/// A probe with descriptors that nobody wants, as a container runtime may leave them.
fn leaking(options: &[&str]) -> Probe {
    let mut probe = Probe::new(options);
    let open = || {
        for number in [5, 7, 100, 900] {
            // SAFETY: duplicates stderr to a number that nothing owns in the child.
            if unsafe { libc::dup2(2, number) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `dup2` may be called between fork and exec.
    unsafe { probe.0.pre_exec(open) };
    probe
}

const WAYS: [&[&str]; 3] = [
    &[],
    // As on Linux before 5.9, or under an older container runtime.
    &["--refuse", "close_range"],
    // And without /proc.
    &["--refuse", "close_range", "--refuse", "openat"],
];

#[test]
fn other_descriptors_are_closed() {
    let end = leaking(&["--free"]).run(&["audit"]);
    let End::Done(text) = end else { panic!("{end:?}") };
    for number in [5, 7, 100, 900] {
        assert!(text.contains(&format!(" {number}")), "the test leaks {number}: {text}");
    }
    for way in WAYS {
        let options = [way, &["--profile", "preview1", "--keep", "7"]].concat();
        let end = leaking(&options).run(&["audit"]);
        assert_eq!(end, End::Done("descriptors 0 1 2 7\nvariables 0".into()), "{way:?}");
    }
}

#[test]
fn granted_directories_stay_open() {
    let granted = tempfile::tempdir().expect("a temporary directory");
    let end =
        leaking(&["--profile", "preview1", "--read-only"]).with(granted.path()).run(&["audit"]);
    assert_eq!(end, End::Done("descriptors 0 1 2 3\nvariables 0".into()));
}

#[test]
fn memory_lands_in_no_core_dump() {
    let running = Probe::new(&["--profile", "preview1"]).start(&["wait"]);
    let limits = String::from_utf8(running.proc("limits")).expect("limits are text");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let values: Vec<&str> = core.expect("a limit").split_whitespace().skip(4).collect();
    assert_eq!(values, ["0", "0", "bytes"]);
}

/// A neighbour with the same user id cannot look into the process: its files in `/proc` are root's.
#[test]
fn neighbours_cannot_look_in() {
    use std::os::unix::fs::MetadataExt;
    let running = Probe::new(&["--profile", "preview1"]).unprivileged().start(&["wait"]);
    let memory = format!("/proc/{}/mem", running.0.id());
    let owner = std::fs::metadata(memory).expect("the process is there").uid();
    assert_eq!(owner, 0);
}

/// The process can look at itself all the same, as a user without privileges too.
#[test]
fn own_descriptors_can_be_reopened() {
    let granted = tempfile::tempdir().expect("a temporary directory");
    let file = granted.path().join("file");
    std::fs::write(&file, "text").expect("a file");
    crate::grants::open_to_all(granted.path());
    for probe in [
        Probe::new(&["--profile", "preview1"]),
        Probe::new(&["--profile", "preview1"]).unprivileged(),
    ] {
        let end = probe
            .with("--read-only")
            .with(granted.path())
            .run(&["reopen", file.to_str().expect("the path is text")]);
        assert_eq!(end, End::Done(String::new()));
    }
}
