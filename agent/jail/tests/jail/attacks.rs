//! M7: a runner that was taken over.

use crate::probe::{End, Probe, SIGSYS};

const RUNNER: &[&str] = &["--profile", "preview1"];
const PROFILES: [&[&str]; 4] = [
    RUNNER,
    &["--profile", "wasix"],
    &["--profile", "wasix", "--connect", "80"],
    &["--profile", "compiler"],
];

/// What seccomp answers.
const CALLS: [&str; 33] = [
    "execve",
    "execveat",
    "fork",
    "socket-raw",
    "socket-unix",
    "socket-netlink",
    "socket-packet",
    "socket-vsock",
    "ptrace",
    "bpf",
    "io_uring",
    "mount",
    "open_tree",
    "unshare",
    "setns",
    "chroot",
    "keyctl",
    "perf_event_open",
    "process_vm_readv",
    "pidfd_open",
    "kill",
    "tgkill",
    "rt_sigqueueinfo",
    "userfaultfd",
    "memfd_create",
    "setuid",
    "capset",
    "seccomp",
    "prctl-dumpable",
    "finit_module",
    "open_by_handle_at",
    "fake-input",
    "write-and-execute",
];

/// What Landlock answers, as far as the file system goes.
const FILES: [&str; 9] = [
    "/etc/passwd",
    "/proc/1/environ",
    "/proc/self/environ",
    "/proc/self/maps",
    "/proc/self/root/etc/passwd",
    "/proc/self/exe",
    "/dev/null",
    "openat-passwd",
    "openat2-passwd",
];

#[test]
fn calls_kill() {
    for profile in PROFILES {
        for attack in CALLS {
            assert_eq!(
                Probe::new(profile).run(&["attack", attack]),
                SIGSYS,
                "{profile:?} {attack}"
            );
        }
    }
}

#[test]
fn without_a_network_there_is_no_socket_at_all() {
    for profile in PROFILES.into_iter().filter(|profile| !profile.contains(&"--connect")) {
        assert_eq!(Probe::new(profile).run(&["attack", "socket-tcp"]), SIGSYS, "{profile:?}");
    }
}

/// Where the kernel has no 32-bit calls the attack faults by itself, jail or not.
#[test]
fn another_architectures_calls_kill() {
    let free = Probe::new(&["--free"]).run(&["attack", "other-architecture"]);
    for profile in PROFILES {
        let end = Probe::new(profile).run(&["attack", "other-architecture"]);
        let faults = matches!(free, End::Killed(libc::SIGSEGV)) && end == free;
        assert!(end == SIGSYS || faults, "{profile:?}: {end:?}, free: {free:?}");
    }
}

/// Files whose opening is not refused for a cause of its own must be readable without a jail, and
/// nothing that is killed with one may be killed without.
#[test]
fn without_a_jail_the_same_attacks_reach_the_kernel() {
    for attack in CALLS {
        let end = Probe::new(&["--free"]).run(&["attack", attack]);
        assert!(matches!(end, End::Done(_) | End::Refused(_)), "{attack}: {end:?}");
    }
    for file in FILES.into_iter().filter(|file| *file != "/proc/1/environ") {
        let end = Probe::new(&["--free"]).run(&["attack", file]);
        assert_eq!(end, End::Done(String::new()), "{file}");
    }
}

#[test]
fn files_are_refused() {
    for profile in PROFILES {
        for file in FILES {
            // The compiler has no openat2, for it has nothing to resolve beneath.
            let expected = match (profile.contains(&"compiler"), file) {
                (true, "openat2-passwd") => SIGSYS,
                _ => End::Refused(libc::EACCES),
            };
            assert_eq!(Probe::new(profile).run(&["attack", file]), expected, "{profile:?} {file}");
        }
    }
}

/// Landlock alone holds the files, where a container's profile refuses seccomp.
#[test]
fn files_are_refused_without_seccomp() {
    for file in FILES {
        let end = Probe::new(RUNNER)
            .with("--refuse")
            .with("seccomp")
            .with("--refuse")
            .with("prctl-seccomp")
            .run(&["attack", file]);
        assert_eq!(end, End::Refused(libc::EACCES), "{file}");
    }
}

/// A grant leads nowhere else, not even by going up from it.
#[test]
fn a_grant_leads_nowhere_else() {
    let granted = tempfile::tempdir().expect("a temporary directory");
    for grant in ["--read-only", "--read-write"] {
        for file in ["/etc/passwd", "openat2-passwd", "openat2-up", "/proc/self/root/etc/passwd"] {
            let end = Probe::new(RUNNER).with(grant).with(granted.path()).run(&["attack", file]);
            assert_eq!(end, End::Refused(libc::EACCES), "{grant} {file}");
        }
    }
}
