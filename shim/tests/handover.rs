//! Steps that are handed over and lent: what the agent is told, and what the shim becomes.

mod support;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use support::agent::{Agent, memory, runner};
use support::shim::{finish, run, start, wait};
use warmstep_wire::message::{DirectoryGrant, Step, Variable};

/// The values behind a word in the stand-in runner's report.
fn said<'a>(report: &'a str, word: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.strip_prefix(word)?.strip_prefix([' ', ':']).map(str::trim);
    report.lines().filter_map(value).collect()
}

/// Descriptors that this test was started with and that every child of it gets too.
fn inherited() -> Vec<String> {
    let kept = |name: &String| {
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}")).ok()?;
        let line = flags.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(line.trim(), 8).ok()?;
        Some(flags & rustix::fs::OFlags::CLOEXEC.bits() == 0)
    };
    let open = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let names = open.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.len() > 1 || &**name > "2").filter(|n| kept(n) == Some(true)).collect()
}

/// The ignored signals of a process, by its status. Those above 31 are left out: glibc's
/// `posix_spawn` ignores the two that it uses itself.
fn ignored(status: &str) -> u64 {
    let mask = said(status, "SigIgn").first().and_then(|mask| u64::from_str_radix(mask, 16).ok());
    mask.expect("a mask") & 0x7fff_ffff
}

/// The signals that the shim was started without: all that this test ignores but SIGPIPE, which
/// Rust gives back to every program that it starts.
fn ignored_from_the_start() -> u64 {
    ignored(&std::fs::read_to_string("/proc/self/status").expect("status")) & !(1 << 12)
}

#[test]
fn a_hot_step_becomes_the_runner_and_says_nothing() {
    let agent = Agent::once(|mut connection| {
        connection.welcome();
        connection.lend_runner("exit 7");
    });
    let mut command = run(&agent.socket(), &["oci://r/m"]);
    command.env("LD_PRELOAD", "/nowhere.so").env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let child = start(command.current_dir(agent.folder()));
    let pid = child.id().to_string();
    let ended = wait(child);
    assert_eq!((ended.code, &*ended.stderr), (Some(7), ""), "{ended:?}");

    let report = &ended.stdout;
    assert_eq!(said(report, "pid"), [pid]);
    assert!(said(report, "variable").is_empty(), "{report}");
    assert_eq!(said(report, "directory"), [agent.folder().to_str().expect("a path")]);
    let arguments = said(report, "argument");
    assert_eq!((arguments.len(), arguments[0]), (4, "warmstep-run"));
    // The runner has what it is told about, what its parent gave it, and nothing else.
    let inherited = inherited();
    let mut expected = [&["0", "1", "2"], &arguments[1..]].concat();
    expected.extend(inherited.iter().map(String::as_str));
    let mut open = said(report, "open");
    expected.sort_unstable();
    open.sort_unstable();
    assert_eq!(open, expected);
    assert_eq!(said(report, "SigBlk"), ["0000000000000000"]);
    assert_eq!(said(report, "SigCgt"), ["0000000000000000"]);
    assert_eq!(ignored(report), ignored_from_the_start());
    assert_eq!(said(report, "blocking"), ["1"]);
    assert_eq!(said(report, "timeouts"), ["0 0"]);
    agent.join();
}

#[test]
fn a_pipe_signal_that_the_caller_ignores_stays_ignored() {
    let agent = Agent::once(|mut connection| {
        connection.welcome();
        connection.lend_runner("exit 0");
    });
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' PIPE; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_warmstep"), "run"]);
    let ended = finish(command.args(["oci://r/m", "--socket"]).arg(agent.socket()));
    assert_eq!(ignored(&ended.stdout), ignored_from_the_start() | 1 << 12);
    agent.join();
}

#[test]
fn closed_standard_streams_do_not_become_the_connection() {
    for closed in ["0<&-", "1>&-", "0<&- 1>&-"] {
        let agent = Agent::once(|mut connection| {
            connection.welcome();
            connection.lend_runner("exit 6");
        });
        let script = format!("exec \"$@\" {closed}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_warmstep"), "run", "oci://r/m"]);
        let ended = finish(command.arg("--socket").arg(agent.socket()));
        assert_eq!((ended.code, &*ended.stderr), (Some(6), ""), "{closed}: {ended:?}");
        if closed == "0<&-" {
            assert!(said(&ended.stdout, "argument")[1..].iter().all(|n| n.len() > 1 || *n > "2"));
        }
        agent.join();
    }
}

#[test]
fn nobody_listens_to_what_it_says() {
    let mut agent = Agent::away();
    agent.come(
        std::time::Duration::from_millis(100),
        vec![Box::new(|mut connection| {
            connection.welcome();
            connection.lend_runner("exit 4");
        })],
    );
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = run(&agent.socket(), &["oci://r/m"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn();
    assert_eq!(wait(child.expect("the shim starts")).code, Some(4));
    agent.join();
}

#[test]
fn the_agent_is_told_what_the_command_line_says() {
    let (sender, receiver) = channel();
    let agent = Agent::once(move |mut connection| {
        sender.send(connection.welcome()).expect("the test listens");
        connection.lend_runner("exit 0");
    });
    let folder = agent.folder().to_str().expect("a path").to_owned();
    let odd = OsStr::from_bytes(b"\xff \n$(x)");
    let mut command = run(
        &agent.socket(),
        &["--dir", ".:/job:ro", "--dir", &folder, "--env", "A=1", "--env", "B", "--quiet"],
    );
    command.args(["--net", "h:80", "--memory", "64Mi", "--timeout", "1m", "oci://r/m:1", "--"]);
    command.args([OsStr::new("--dir"), OsStr::new(""), odd]).env("B", odd).env("C", "no");
    let ended = finish(command.current_dir(agent.folder()));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");

    let (step, descriptors) = receiver.recv().expect("a step");
    assert!(descriptors.is_empty());
    let bytes = |text: &str| text.as_bytes().to_vec().into();
    let variable = |name: &str, value: &OsStr| Variable {
        name: bytes(name),
        value: value.as_bytes().to_vec().into(),
    };
    let directory = |guest: &str, read_only| DirectoryGrant {
        host: bytes(&folder),
        guest: bytes(guest),
        read_only,
    };
    let expected = Step {
        module: "oci://r/m:1".into(),
        arguments: vec![bytes("--dir"), bytes(""), odd.as_bytes().to_vec().into()],
        environment: vec![variable("A", OsStr::new("1")), variable("B", odd)],
        directories: vec![directory("/job", true), directory(&folder, false)],
        network: vec!["h:80".into()],
        memory: Some(64 << 20),
        timeout: Some(60_000),
        paths: vec![],
        usual_memory: None,
    };
    assert_eq!(step, expected);
    agent.join();
}

#[test]
fn a_module_that_is_a_file_travels_as_a_descriptor() {
    let (sender, receiver) = channel();
    let agent = Agent::once(move |mut connection| {
        sender.send(connection.welcome()).expect("the test listens");
        connection.lend_runner("exit 0");
    });
    std::fs::write(agent.folder().join("m.wasm"), b"\0asm only here").expect("a module");
    let ended = finish(run(&agent.socket(), &["m.wasm"]).current_dir(agent.folder()));
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let (step, mut descriptors) = receiver.recv().expect("a step");
    assert_eq!((&*step.module, descriptors.len()), ("m.wasm", 1));
    let mut file = std::fs::File::from(descriptors.remove(0));
    let flags = rustix::fs::fcntl_getfl(&file).expect("flags");
    assert_eq!(flags & rustix::fs::OFlags::ACCMODE, rustix::fs::OFlags::RDONLY);
    let mut content = Vec::new();
    file.read_to_end(&mut content).expect("the module");
    assert_eq!(content, b"\0asm only here");
    agent.join();
}

#[test]
fn an_image_is_handed_on_too() {
    let agent = Agent::once(|mut connection| {
        connection.welcome();
        connection.lend(&[runner(), memory(b"exit 3"), memory(b""), memory(b"an image")]);
    });
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(said(&ended.stdout, "argument").len(), 5);
    assert_eq!(said(&ended.stdout, "open").len(), 7 + inherited().len());
    agent.join();
}

#[test]
fn the_end_is_the_runners_own() {
    for (plan, code, signal) in [
        ("exit 0", Some(0), None),
        ("exit 64", Some(64), None),
        ("exit 255", Some(255), None),
        ("kill 15", None, Some(15)),
        ("kill 9", None, Some(9)),
        ("kill 13", None, Some(13)),
    ] {
        let agent = Agent::once(move |mut connection| {
            connection.welcome();
            connection.lend_runner(plan);
        });
        let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
        assert_eq!((ended.code, ended.signal), (code, signal), "{plan}: {ended:?}");
        agent.join();
    }
}

#[test]
fn standard_input_is_the_steps_own() {
    let agent = Agent::once(|mut connection| {
        connection.welcome();
        connection.lend_runner("copy");
    });
    let mut command = run(&agent.socket(), &["oci://r/m"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the shim starts");
    child.stdin.take().expect("stdin").write_all(b"from outside\n").expect("input");
    let ended = wait(child);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with("from outside\n"), "{ended:?}");
    agent.join();
}

#[test]
fn a_megabyte_of_arguments() {
    let (sender, receiver) = channel();
    let agent = Agent::once(move |mut connection| {
        sender.send(connection.welcome().0).expect("the test listens");
        connection.lend_runner("exit 0");
    });
    // Linux takes at most 128 KiB in one argument.
    let argument = "x".repeat(128 * 1024 - 1);
    let ended = finish(run(&agent.socket(), &["oci://r/m", "--"]).args([&argument; 8]));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let step = receiver.recv().expect("a step");
    assert_eq!(step.arguments.len(), 8);
    assert!(step.arguments.iter().all(|received| received[..] == *argument.as_bytes()));
    agent.join();
}

#[test]
fn fifty_thousand_arguments() {
    let (sender, receiver) = channel();
    let agent = Agent::once(move |mut connection| {
        sender.send(connection.welcome().0).expect("the test listens");
        connection.lend_runner("exit 0");
    });
    let arguments = vec!["argument"; 50_000];
    let ended = finish(run(&agent.socket(), &["oci://r/m", "--"]).args(arguments));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert_eq!(receiver.recv().expect("a step").arguments.len(), 50_000);
    agent.join();
}

#[test]
fn more_arguments_than_a_frame_takes() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Linux takes a quarter of the stack's limit in arguments: by default as much as a frame.
    let usual = getrlimit(Resource::Stack);
    let current = Some(64 << 20);
    setrlimit(Resource::Stack, Rlimit { current, ..usual }).expect("room for arguments");
    let agent = Agent::away();
    let argument = "x".repeat(128 * 1024 - 1);
    let ended = finish(run(&agent.socket(), &["oci://r/m", "--"]).args([&argument; 17]));
    ended.failed(126, &["2228", "2097152", "file"]);
    let ended = finish(run(&agent.socket(), &["oci://r/m", "--"]).args(vec!["x"; 65_537]));
    ended.failed(126, &["65537 arguments", "65536"]);
}
