//! What holds where a kernel or a container's profile refuses a layer, and what is said of it.

use crate::probe::{End, Probe, is_root};

const RUNNER: &[&str] = &["--profile", "preview1"];

/// What is said when one thing is refused, and the probe goes on.
fn said(refused: &[&str]) -> String {
    let mut probe = Probe::new(RUNNER);
    for name in refused {
        probe = probe.with("--refuse").with(name);
    }
    match probe.run(&["layers"]) {
        End::Done(said) => said,
        end => panic!("{refused:?}: {end:?}"),
    }
}

#[test]
fn all_hold_on_this_machine() {
    for profile in ["preview1", "wasix", "compiler"] {
        let probe = || Probe::new(&["--profile", profile, "--demand-all"]);
        assert_eq!(probe().run(&["layers"]), End::Done("all hold".into()));
        assert_eq!(probe().unprivileged().run(&["layers"]), End::Done("all hold".into()));
    }
}

#[test]
fn what_is_refused_is_said_with_its_reason() {
    let cases: &[(&[&str], &str)] = &[
        (&["landlock-absent"], "landlock (not in this kernel)"),
        (&["landlock-disabled"], "landlock (not enabled when this kernel booted)"),
        (
            &["landlock"],
            "landlock (refused, perhaps by the container's seccomp profile: Operation not \
             permitted (os error 1))",
        ),
        (
            &["landlock-restrict"],
            "landlock (refused: failed to restrict the calling thread: Argument list too long (os \
             error 7))",
        ),
        (&["seccomp", "prctl-seccomp"], "seccomp (refused: Operation not permitted (os error 1))"),
        (
            &["prctl-dumpable"],
            "core dumps (cannot be turned off: Operation not permitted (os error 1))",
        ),
        (
            &["close_range", "openat"],
            "descriptors (neither close_range nor /proc/self/fd works here, so only those below",
        ),
    ];
    for (refused, expected) in cases {
        let said = said(refused);
        assert!(said.starts_with(expected), "{refused:?}: {said}");
    }
}

#[test]
fn another_way_to_the_same_is_no_loss() {
    // /proc/self/fd, and the older call.
    for refused in [&["close_range"][..], &["seccomp"], &["prctl-seccomp"]] {
        assert_eq!(said(refused), "all hold", "{refused:?}");
    }
    let end = Probe::new(RUNNER).with("--refuse").with("seccomp").run(&["attack", "ptrace"]);
    assert_eq!(end, crate::probe::SIGSYS);
}

/// Only who is root has capabilities to drop, and can load a filter without `no_new_privs`.
#[test]
fn a_root_that_keeps_its_privileges_is_said() {
    if !is_root() {
        return;
    }
    assert!(said(&["capset"]).starts_with("capabilities (cannot be dropped: "));
    assert!(said(&["no_new_privs"]).starts_with("no_new_privs (refused: "));
}

#[test]
fn what_is_refused_ends_a_step_that_demands_all() {
    let refusals = ["landlock", "landlock-absent", "landlock-restrict", "prctl-dumpable"];
    for refused in refusals {
        let end = Probe::new(RUNNER)
            .with("--demand-all")
            .with("--refuse")
            .with(refused)
            .run(&["nothing"]);
        let End::Failed(said) = end else { panic!("{refused}: {end:?}") };
        let layer = refused.split('-').next().unwrap_or_default().replace("prctl", "core dumps");
        let expected =
            format!("jail-probe: every layer of the jail is demanded, and {layer} does not hold: ");
        assert!(said.starts_with(&expected), "{said}");
        assert_eq!(said.lines().count(), 1);
    }
}

/// The other layers are no weaker for the one that is missing.
#[test]
fn the_others_hold() {
    let end = Probe::new(RUNNER).with("--refuse").with("landlock").run(&["attack", "ptrace"]);
    assert_eq!(end, crate::probe::SIGSYS);
    let running = Probe::new(RUNNER).with("--refuse").with("landlock").start(&["wait"]);
    assert_eq!(running.status("NoNewPrivs"), "1");
    assert_eq!(running.status("Seccomp"), "2");
}

#[test]
fn a_second_thread_is_refused() {
    let end = Probe::new(RUNNER).with("--thread").run(&["nothing"]);
    let End::Failed(said) = end else { panic!("{end:?}") };
    assert!(said.contains("the process has 2 threads"), "{said}");
}
