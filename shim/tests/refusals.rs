//! Everything that ends a step before it runs: its own mistakes, refusals, and sockets that are not
//! an agent's.

mod support;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use support::agent::{Agent, Connection, memory, runner};
use support::shim::{finish, run};
use warmstep_wire::frame::{self, Kind};
use warmstep_wire::message::{Outcome, Reply};

fn warmstep(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warmstep"));
    command.env_clear().args(arguments);
    command
}

#[test]
fn help_and_version_are_no_failures() {
    for (arguments, says) in [
        (&["--help"][..], "Usage: warmstep run"),
        (&["run", "--help"], "--dir HOST[:GUEST][:ro]"),
        (&["version"], concat!("warmstep ", env!("CARGO_PKG_VERSION"), " (warmstep/1)")),
    ] {
        let ended = finish(&mut warmstep(arguments));
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.contains(says), "{ended:?}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense() {
    for (arguments, word) in [
        (&[][..], "--help"),
        (&["walk"], "walk"),
        (&["run"], "MODULE"),
        (&["run", "--dri", "x", "m"], "'--dri'"),
        (&["run", "m", "x"], "behind --"),
        (&["run", "--wait", "60", "m"], "--wait"),
    ] {
        finish(&mut warmstep(arguments)).failed(125, &[word]);
    }
}

#[test]
fn modules_and_grants_that_are_not_there() {
    let agent = Agent::away();
    let folder = agent.folder();
    std::fs::write(folder.join("file"), "").expect("a file");
    for (arguments, code, words) in [
        (&["nowhere.wasm"][..], 127, &["no file nowhere.wasm"][..]),
        (&["ghcr.io/x/y:1"], 127, &["write oci://ghcr.io/x/y:1"]),
        (&["."], 126, &["the module . is a directory"]),
        (&["/dev/zero"], 126, &["/dev/zero is a device"]),
        (&["oci://"], 126, &["oci://REGISTRY/NAME"]),
        (&["sha256:12"], 126, &["64 lowercase"]),
        (&[""], 126, &["name is empty"]),
        (&["--dir", "nowhere", "file"], 126, &["directory nowhere"]),
        (&["--dir", "file", "file"], 126, &["file: it is not a directory"]),
        (&["--dir", ".:x", "--dir", "/:x", "file"], 126, &["\"x\""]),
        (&["--env", "UNSET", "file"], 126, &["UNSET is not set"]),
    ] {
        // They are found before the agent is asked, so that nobody waits for them.
        let ended = finish(run(&agent.socket(), arguments).current_dir(folder));
        ended.failed(code, words);
    }
}

#[test]
fn a_pipe_as_the_module_holds_nobody() {
    let agent = Agent::away();
    let pipe = agent.folder().join("pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("a pipe");
    finish(&mut run(&agent.socket(), &[&pipe])).failed(126, &["is a named pipe"]);
}

#[test]
fn the_agent_chooses_the_code_and_the_words() {
    for (code, reason, line) in [
        (126, "registry not allowed: evil.example", "registry not allowed: evil.example"),
        (127, "no such module", "no such module"),
        (124, "late", "late"),
        (126, "two\nlines \u{1b}[31mred\u{202e}\0", "two lines \u{fffd}[31mred\u{fffd}\u{fffd}"),
    ] {
        let agent = Agent::once(move |mut connection| {
            connection.welcome();
            connection.reply(&Reply::Refused { code, reason: reason.into() });
        });
        let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
        ended.failed(code.into(), &[]);
        assert_eq!(ended.stderr, format!("warmstep: {line}\n"));
        agent.join();
    }
}

#[test]
fn kubernetes_is_told_the_last_words() {
    // A /dev of one's own, with the file that the kubelet mounts there.
    let script = "mount -t tmpfs none /dev && echo 'earlier words, and more of them' > /dev/$0 \
                  || exit 77; \"$@\"; code=$?; cat /dev/$0; exit $code";
    let unshare = |log: &str, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, log]);
        finish(command.arg(env!("CARGO_BIN_EXE_warmstep")).args(arguments))
    };
    let ended = unshare("termination-log", &["run", "nowhere.wasm"]);
    if ended.code == Some(77) || ended.stderr.contains("unshare") {
        eprintln!("skipped: this machine makes no mount namespace: {}", ended.stderr);
        return;
    }
    let line = "warmstep: there is no file nowhere.wasm\n";
    assert_eq!((ended.code, &*ended.stderr, &*ended.stdout), (Some(127), line, line));
    let ended = unshare("termination-log", &["run", "--dri"]);
    assert_eq!((ended.code, &ended.stderr), (Some(125), &ended.stdout), "{ended:?}");
    // Where there is no such file, none is made.
    let ended = unshare("other", &["run", "nowhere.wasm"]);
    assert_eq!((ended.code, &*ended.stdout), (Some(127), "earlier words, and more of them\n"));
}

#[test]
fn a_refusal_of_a_step_that_nobody_read() {
    let agent = Agent::once(|mut connection| {
        connection.upgrade();
        connection.reply(&Reply::Refused { code: 126, reason: "too much".into() });
    });
    let argument = "x".repeat(128 * 1024 - 1);
    let ended = finish(run(&agent.socket(), &["oci://r/m", "--"]).args([&argument; 12]));
    ended.failed(126, &["too much"]);
    agent.join();
}

/// What the shim says of something that is no agent; it must not wait for it to become one.
#[track_caller]
fn stranger(words: &[&str], visit: impl FnOnce(Connection) + Send + 'static) {
    let agent = Agent::once(visit);
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    ended.failed(125, words);
    assert!(ended.after < Duration::from_secs(5), "{ended:?}");
    agent.join();
}

/// Outside of Argo a step has no single paths, and any agent of this major version will do.
#[test]
fn nothing_new_is_asked_for_where_there_is_no_template() {
    let agent = Agent::once(|mut connection| {
        let head = connection.answer("HTTP/1.1 426 x\r\ncontent-length: 0\r\n\r\n");
        assert!(head.contains("\r\nUpgrade: warmstep/1\r\n"), "{head}");
    });
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    ended.failed(125, &["is not the socket of an agent for warmstep/1"]);
    agent.join();
}

#[test]
fn other_protocols() {
    let path = "agent.sock is not the socket of an agent for warmstep/1";
    for answer in ["SSH-2.0-OpenSSH_9.2p1\r\n", "-ERR unknown command 'POST'\r\n", "\0\u{1}\u{2}"] {
        stranger(&[path, "its answer is not an agent's"], move |mut connection| {
            connection.answer(answer);
        });
    }
    stranger(&[path, "it answers 404: page not found"], |mut connection| {
        connection.answer("HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\npage not found");
    });
    stranger(&[path, "426: this agent speaks warmstep/2"], |mut connection| {
        let body = "this agent speaks warmstep/2";
        let length = body.len();
        connection.answer(&format!("HTTP/1.1 426 x\r\ncontent-length: {length}\r\n\r\n{body}"));
    });
    stranger(&[path, "not an agent's"], |mut connection| {
        connection.answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    });
}

#[test]
fn an_endless_head() {
    stranger(&["its answer is not an agent's"], |mut connection| {
        connection.answer("HTTP/1.1 101 Switching Protocols\r\nX: ");
        // Until the shim has had enough.
        while connection.0.write_all(&[b'x'; 1024]).is_ok() {}
    });
}

#[test]
fn silence_is_no_answer() {
    let agent = Agent::once(|mut connection| {
        connection.answer("");
        let mut end = Vec::new();
        std::io::Read::read_to_end(&mut connection.0, &mut end).expect("the shim hangs up");
    });
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    ended.failed(125, &["no answer within 10s"]);
    assert!(ended.after >= Duration::from_secs(10) && ended.after < Duration::from_secs(25));
    agent.join();
}

#[test]
fn frames_that_make_no_sense() {
    stranger(&["does not speak warmstep/1"], |mut connection| {
        connection.welcome();
        connection.0.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("written");
    });
    stranger(&["malformed frame"], |mut connection| {
        connection.welcome();
        connection.0.write_all(b"WSTP\x02\0\0\0\x03\0\0\0\x82\x07\x80").expect("written");
    });
    stranger(&["is longer than"], |mut connection| {
        connection.welcome();
        connection.0.write_all(b"WSTP\x02\0\0\0\0\0\0\x80").expect("written");
    });
    stranger(&["unexpected frame of kind 3"], |mut connection| {
        connection.welcome();
        let (code, reason, load, run, cpu) = (0, None, 0, 0, 0);
        let (peak_memory, bytes_read, bytes_written, missing_layers) = (0, 0, 0, None);
        let outcome = Outcome {
            code,
            reason,
            load,
            run,
            cpu,
            peak_memory,
            bytes_read,
            bytes_written,
            missing_layers,
        };
        frame::send(&connection.0, Kind::Outcome, &outcome, &[]).expect("sent");
    });
}

#[test]
fn loans_that_are_none() {
    stranger(&["lends 0 descriptors"], |mut connection| {
        connection.welcome();
        connection.lend(&[]);
    });
    stranger(&["lends 2 descriptors"], |mut connection| {
        connection.welcome();
        connection.lend(&[runner(), memory(b"exit 0")]);
    });
    stranger(&["cannot be executed", "ENOEXEC"], |mut connection| {
        connection.welcome();
        connection.lend(&[memory(b"\x7fELF, but no program"), memory(b""), memory(b"")]);
    });
    stranger(&["may not execute", "EACCES", "execveat"], |mut connection| {
        connection.welcome();
        connection.lend(&[File::open("/dev/null").expect("a device"), memory(b""), memory(b"")]);
    });
}

#[test]
fn things_at_the_socket_that_are_none() {
    let agent = Agent::away();
    let folder = agent.folder();
    let file = folder.join("file");
    std::fs::write(&file, "").expect("a file");
    finish(&mut run(&file, &["oci://r/m"])).failed(125, &["file is not a socket"]);
    finish(&mut run(folder, &["oci://r/m"])).failed(125, &["is not a socket"]);
    let below = file.join("agent.sock");
    finish(&mut run(&below, &["oci://r/m"])).failed(125, &["cannot connect to", "Not a directory"]);
    let datagram = folder.join("datagram");
    let _socket = UnixDatagram::bind(&datagram).expect("a socket");
    finish(&mut run(&datagram, &["oci://r/m"])).failed(125, &["cannot connect to"]);
    let long = folder.join("x".repeat(120));
    finish(&mut run(&long, &["oci://r/m"])).failed(125, &["cannot connect to", "too long"]);
}

/// The shim where another user can start it: the build directory may be closed to them.
fn as_user(uid: u32, agent: &Agent) -> Command {
    let copy = agent.folder().join("warmstep");
    // Not by this process: another test's child could hold the copy open for writing for a moment.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_warmstep")).arg(&copy).status();
    assert!(copied.expect("cp").success());
    let mode = |bits| std::fs::Permissions::from_mode(bits);
    std::fs::set_permissions(agent.folder(), mode(0o755)).expect("an open folder");
    let mut command = Command::new(copy);
    command.env_clear().uid(uid).args(["run", "oci://r/m", "--socket"]).arg(agent.socket());
    command
}

#[test]
fn a_socket_for_others() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start the shim as somebody else");
        return;
    }
    let agent = Agent::away();
    let _listener = UnixListener::bind(agent.socket()).expect("a socket");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(agent.socket(), mode).expect("a closed socket");
    finish(&mut as_user(4242, &agent)).failed(125, &["user 4242 may not use", "agent.sock"]);
}

#[test]
fn a_socket_of_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can serve a socket as somebody else");
        return;
    }
    let agent = Agent::away();
    let socket = agent.socket();
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(agent.folder(), mode).expect("an open folder");
    // The kernel notes who calls listen(2); only this thread becomes somebody else.
    let listener = std::thread::spawn(move || {
        let other = rustix::process::Uid::from_raw(4242);
        rustix::thread::set_thread_res_uid(other, other, other).expect("another user");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&socket, mode).expect("an open socket");
        listener
    });
    let _listener = listener.join().expect("a listener");
    let words = &["is served by user 4242", "neither root nor"];
    finish(&mut run(&agent.socket(), &["oci://r/m"])).failed(125, words);
    finish(&mut as_user(4243, &agent)).failed(125, words);
}
