//! What a cold step shows while it waits: on a terminal, in a log, and when it is told not to.

mod support;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::agent::{Agent, Connection};
use support::shim::{finish, run, wait};
use warmstep_wire::message::{Phase, Reply};

/// A cold step: resolved, pulled, compiled, lent.
fn cold(mut connection: Connection) {
    connection.welcome();
    for (phase, done, total) in [
        (Phase::Resolve, 0, 0),
        (Phase::Pull, 0, 0),
        (Phase::Pull, 1 << 20, 4 << 20),
        (Phase::Pull, 4 << 20, 4 << 20),
        (Phase::Compile, 0, 100),
        (Phase::Compile, 100, 100),
    ] {
        connection.reply(&Reply::Progress { phase, done, total });
        // A terminal is drawn at most twenty times a second.
        std::thread::sleep(Duration::from_millis(60));
    }
    connection.lend_runner("exit 0");
}

#[test]
fn a_log_gets_a_line_for_each_phase() {
    let agent = Agent::once(cold);
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = ["resolving", "pulling", "compiling"].map(|w| format!("warmstep: {w} oci://r/m\n"));
    assert_eq!(ended.stderr, lines.concat());
    agent.join();
}

#[test]
fn a_long_pull_in_a_log() {
    let agent = Agent::once(|mut connection| {
        connection.welcome();
        for done in [0, 1, 2, 2, 2, 3] {
            let (phase, done, total) = (Phase::Pull, done << 20, 4 << 20);
            connection.reply(&Reply::Progress { phase, done, total });
            std::thread::sleep(Duration::from_millis(700));
        }
        connection.lend_runner("exit 0");
    });
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    let pulling = "warmstep: pulling oci://r/m";
    assert_eq!(ended.stderr, format!("{pulling}\n{pulling}: 2.00 MiB of 4.00 MiB\n"));
    agent.join();
}

#[test]
fn quiet_is_quiet() {
    let agent = Agent::once(cold);
    let ended = finish(&mut run(&agent.socket(), &["-q", "oci://r/m"]));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    agent.join();
}

/// A terminal of 100 columns: its own side, and the side that a program gets.
fn terminal() -> (OwnedFd, File) {
    let ours =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).expect("access");
    unlockpt(&ours).expect("a lock that is open");
    let name = ptsname(&ours, Vec::new()).expect("a name").into_string().expect("a path");
    let theirs = File::options().read(true).write(true).open(name).expect("its other side");
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&theirs, size).expect("a size");
    (ours, theirs)
}

/// Runs a command on a terminal, and returns all that was written there.
fn on_terminal(command: &mut Command) -> (i32, String) {
    let (ours, theirs) = terminal();
    let output = || Stdio::from(theirs.try_clone().expect("a descriptor"));
    let child = command.stdin(Stdio::null()).stdout(output()).stderr(output()).spawn();
    let child = child.expect("the shim starts");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    drop(theirs);
    let reader = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // A terminal whose other side is closed fails with EIO.
        let _ = File::from(ours).read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    let code = wait(child).code.expect("an exit code");
    (code, reader.join().expect("what was shown"))
}

#[test]
fn a_terminal_gets_a_bar_that_goes_away_before_the_module_runs() {
    let agent = Agent::once(cold);
    let mut command = run(&agent.socket(), &["oci://r/m"]);
    let (code, shown) = on_terminal(command.env("TERM", "xterm"));
    assert_eq!(code, 0, "{shown:?}");
    for word in ["resolving oci://r/m", "pulling oci://r/m [", "4.00 MiB/4.00 MiB", "100%"] {
        assert!(shown.contains(word), "{word:?} is not in {shown:?}");
    }
    assert!(!shown.contains("warmstep: "), "{shown:?}");
    // Behind the last bar the line is cleared, and only then the runner's output follows.
    let output = shown.find("pid ").expect("the runner's output");
    let cleared = shown[..output].rfind("\u{1b}[2K").expect("a cleared line");
    let last_bar = shown.rfind("compiling").expect("a bar");
    assert!(last_bar < cleared, "{shown:?}");
    let between: String = shown[cleared..output].replace("\u{1b}[2K", "").replace('\r', "");
    assert_eq!(between, "", "{shown:?}");
    agent.join();
}

#[test]
fn a_hot_step_shows_nothing_on_a_terminal() {
    let agent = Agent::once(|mut connection| {
        connection.welcome();
        connection.lend_runner("exit 0");
    });
    let (code, shown) = on_terminal(run(&agent.socket(), &["oci://r/m"]).env("TERM", "xterm"));
    assert_eq!(code, 0, "{shown:?}");
    assert!(shown.starts_with("pid "), "{shown:?}");
    agent.join();
}

#[test]
fn a_refusal_stands_on_a_line_of_its_own() {
    let agent = Agent::once(|mut connection| {
        connection.welcome();
        connection.reply(&Reply::Progress { phase: Phase::Compile, done: 1, total: 2 });
        std::thread::sleep(Duration::from_millis(100));
        connection.reply(&Reply::Refused { code: 126, reason: "not Wasm".into() });
    });
    let (code, shown) = on_terminal(run(&agent.socket(), &["oci://r/m"]).env("TERM", "xterm"));
    assert_eq!(code, 126, "{shown:?}");
    let last = shown.trim_end().rsplit(['\r', '\n']).next().expect("a line");
    assert_eq!(last.replace("\u{1b}[2K", ""), "warmstep: not Wasm", "{shown:?}");
    agent.join();
}

#[test]
fn a_signal_takes_the_bar_away() {
    let agent = Agent::once(|mut connection| {
        let peer = connection.welcome();
        connection.reply(&Reply::Progress { phase: Phase::Compile, done: 1, total: 2 });
        std::thread::sleep(Duration::from_millis(200));
        drop(peer);
        let pid = rustix::net::sockopt::socket_peercred(&connection.0).expect("a peer").pid;
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
        let mut end = Vec::new();
        connection.0.read_to_end(&mut end).expect("the shim's end");
    });
    let (code, shown) = on_terminal(run(&agent.socket(), &["oci://r/m"]).env("TERM", "xterm"));
    assert_eq!(code, 130, "{shown:?}");
    assert!(shown.contains("50%") && shown.ends_with("\r\u{1b}[2K"), "{shown:?}");
    agent.join();
}
