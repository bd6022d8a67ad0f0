//! An agent that does what a test tells it: one function for each connection, in order.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use warmstep_wire::frame::{self, Kind};
use warmstep_wire::message::{Reply, Step};

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What an agent does with one connection.
pub(crate) type Visit = Box<dyn FnOnce(Connection) + Send>;

/// A fake agent with its socket in a folder of its own.
pub(crate) struct Agent {
    folder: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// An agent that is away: nothing is at its socket yet.
    pub(crate) fn away() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), thread: None }
    }

    /// An agent that takes one connection for each visit.
    pub(crate) fn start(visits: Vec<Visit>) -> Self {
        let mut agent = Self::away();
        agent.come(Duration::ZERO, visits);
        agent
    }

    /// An agent with a single visit.
    pub(crate) fn once(visit: impl FnOnce(Connection) + Send + 'static) -> Self {
        Self::start(vec![Box::new(visit)])
    }

    /// Lets the agent come after a while.
    pub(crate) fn come(&mut self, after: Duration, visits: Vec<Visit>) {
        let path = self.socket();
        let serve = move |listener: UnixListener| {
            for (number, visit) in visits.into_iter().enumerate() {
                visit(accept(&listener, number));
            }
        };
        self.thread = Some(if after.is_zero() {
            let listener = UnixListener::bind(path).expect("a socket");
            std::thread::spawn(move || serve(listener))
        } else {
            std::thread::spawn(move || {
                std::thread::sleep(after);
                let _ = std::fs::remove_file(&path);
                serve(UnixListener::bind(path).expect("a socket"));
            })
        });
    }

    /// The folder of the socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Waits for the last visit to end, and passes its panic on.
    pub(crate) fn join(mut self) {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

fn accept(listener: &UnixListener, number: usize) -> Connection {
    listener.set_nonblocking(true).expect("a listener that does not block");
    let start = Instant::now();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("a stream that blocks");
            stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
            return Connection(stream);
        }
        assert!(start.elapsed() < DEADLINE, "connection {number} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The agent's end of a connection.
pub(crate) struct Connection(pub(crate) UnixStream);

impl Connection {
    /// Reads the request and answers it with anything.
    pub(crate) fn answer(&mut self, response: &str) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        self.0.write_all(response.as_bytes()).expect("an answer");
        String::from_utf8(head).expect("a request in ASCII")
    }

    /// Reads the request and switches to frames.
    pub(crate) fn upgrade(&mut self) {
        let head = self.answer(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: warmstep/1\r\n\r\n",
        );
        assert!(head.starts_with("POST /v1/steps HTTP/1.1\r\n"), "{head}");
    }

    /// Receives the step, and the module when it is a file.
    pub(crate) fn step(&mut self) -> (Step, Vec<OwnedFd>) {
        let received: (Step, _) = frame::receive(&self.0, Kind::Step).expect("a step");
        assert_eq!(received.0.check(), Ok(()));
        received
    }

    /// Upgrades and receives the step.
    pub(crate) fn welcome(&mut self) -> (Step, Vec<OwnedFd>) {
        self.upgrade();
        self.step()
    }

    /// Sends a reply.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        frame::send(&self.0, Kind::Reply, reply, &[]).expect("a reply");
    }

    /// Lends descriptors.
    pub(crate) fn lend(&mut self, files: &[File]) {
        let descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        frame::send(&self.0, Kind::Reply, &Reply::Lend, &descriptors).expect("a loan");
    }

    /// Lends the stand-in for the runner with a plan, and checks that it gets the module.
    pub(crate) fn lend_runner(&mut self, plan: &str) {
        self.lend(&[runner(), memory(plan.as_bytes()), memory(b"the module")]);
        let mut outcome = String::new();
        self.0.read_to_string(&mut outcome).expect("an outcome");
        assert_eq!(outcome, "the module");
    }
}

/// A file in memory, at its beginning.
pub(crate) fn memory(content: &[u8]) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("lent", flags).expect("a file in memory"));
    file.write_all(content).expect("its content");
    std::io::Seek::rewind(&mut file).expect("its beginning");
    file
}

/// The stand-in for the runner, compiled on first use.
pub(crate) fn runner() -> File {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/runner.c");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in-runner");
        let made = path.with_extension(std::process::id().to_string());
        let status = Command::new("cc")
            .args(["-static", "-O1", "-Wall", "-Werror", "-o"])
            .args([&made, Path::new(source)])
            .status();
        assert!(status.expect("a C compiler").success(), "the stand-in for the runner compiles");
        std::fs::rename(&made, &path).expect("the runner in place");
        path
    });
    File::open(path).expect("the runner")
}
