//! Clients that break the protocol, in every way and often: the agent closes, and goes on.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use warmstep_tests::Agent;
use warmstep_wire::frame::{self, Kind};
use warmstep_wire::message::Reply;

use crate::{guests, raw};

/// What the agent holds: descriptors, threads, children.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    children: usize,
}

fn held(pid: Pid) -> Held {
    let directory = format!("/proc/{}", pid.as_raw_nonzero());
    let descriptors = fs::read_dir(format!("{directory}/fd")).unwrap().count();
    let mut children = 0;
    for task in fs::read_dir(format!("{directory}/task")).unwrap() {
        let listed = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        children += listed.split_whitespace().count();
    }
    Held { descriptors, children }
}

struct Target {
    agent: Agent,
    module: String,
    pid: Pid,
    before: Held,
    resident: u64,
}

impl Target {
    fn new() -> Self {
        let mut agent = Agent::builder().start().unwrap();
        let path = agent.scratch().join("canary.wasm");
        fs::write(&path, guests::says("canary")).unwrap();
        let module = path.display().to_string();
        // Warm, optimized and quiet: what is held then is what has to be held afterwards.
        assert_eq!(agent.step(&module).run().unwrap().out(), "canary\n");
        agent
            .until(Duration::from_secs(20), |status| {
                status.modules.contains_key("optimized") && !status.modules.contains_key("baseline")
            })
            .unwrap();
        assert_eq!(agent.step(&module).run().unwrap().out(), "canary\n");
        std::thread::sleep(Duration::from_millis(200));
        let pid = agent.program().unwrap().pid();
        let resident = agent.program().unwrap().resident().unwrap();
        Self { before: held(pid), agent, module, pid, resident }
    }

    /// INV: the same process, nothing leaked, and a canary is served.
    fn unharmed(mut self) {
        assert!(self.agent.program().unwrap().is_running().unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        while held(self.pid) != self.before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(held(self.pid), self.before);
        let now = self.agent.program().unwrap().resident().unwrap();
        // A twentieth, and what an allocator may keep of a burst.
        let most = self.resident + self.resident / 20 + 4 * 1024 * 1024;
        assert!(now <= most, "{now} bytes are resident, {} were", self.resident);
        assert_eq!(self.agent.step(&self.module).run().unwrap().out(), "canary\n");
        assert!(!self.agent.log().unwrap().contains("panicked"));
    }
}

/// R2: each message is cut at every byte.
#[test]
fn connections_cut_at_every_byte() {
    let target = Target::new();
    let socket = target.agent.socket();
    for length in 0..raw::REQUEST.len() {
        raw::connect(&socket).write_all(&raw::REQUEST[..length]).unwrap();
    }
    let step = frame::to_bytes(Kind::Step, &raw::step("sha256:00"), 0).unwrap();
    for length in 0..step.len() {
        raw::upgraded(&socket).write_all(&step[..length]).unwrap();
    }
    target.unharmed();
}

/// R3: lengths that nobody means.
#[test]
fn lengths_that_nobody_means() {
    let target = Target::new();
    let socket = target.agent.socket();
    for length in [u32::MAX, 1 << 31, 2 * 1024 * 1024 + 1] {
        let mut header = b"WSTP\x01\0\0\0".to_vec();
        header.extend_from_slice(&length.to_le_bytes());
        let mut stream = raw::upgraded(&socket);
        stream.write_all(&header).unwrap();
        assert_closed(&mut stream);
    }
    // The longest body that may be, of arrays in arrays.
    let mut nested = b"WSTP\x01\0\0\0".to_vec();
    nested.extend_from_slice(&(2 * 1024 * 1024_u32).to_le_bytes());
    nested.resize(12 + 2 * 1024 * 1024, 0x81);
    let mut stream = raw::upgraded(&socket);
    let _ = stream.write_all(&nested);
    assert_closed(&mut stream);
    let mut huge = raw::REQUEST[..raw::REQUEST.len() - 2].to_vec();
    huge.extend_from_slice(b"X-Padding: ");
    huge.resize(huge.len() + 100_000, b'x');
    let mut stream = raw::connect(&socket);
    let _ = stream.write_all(&huge);
    let answer = raw::head(&mut stream).unwrap_or_default();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    target.unharmed();
}

/// The agent closes: by an end, or by a reset when it did not read everything.
fn assert_closed(stream: &mut std::os::unix::net::UnixStream) {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let timed_out = read.as_ref().is_err_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    });
    assert!(!timed_out, "the connection stays open");
    assert!(rest.is_empty(), "the agent answers {rest:?}");
}

/// R4: as many descriptors as the kernel carries, a thousand times; R5: not as many as announced.
#[test]
fn descriptors_that_nobody_asked_for() {
    let target = Target::new();
    let socket = target.agent.socket();
    let file = fs::File::open("/dev/null").unwrap();
    for round in 0..1000 {
        let stream = raw::upgraded(&socket);
        let count = if round % 2 == 0 { 253 } else { 7 };
        let descriptors = vec![file.as_fd(); count];
        // More than a frame may carry: by hand.
        send_with(&stream, b"WSTP\x01\x02\0\0\x04\0\0\0", &descriptors);
    }
    target.unharmed();
}

fn send_with(
    stream: &std::os::unix::net::UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    let bytes = [std::io::IoSlice::new(bytes)];
    rustix::net::sendmsg(stream, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// R6: a file that never answers, or is none.
#[test]
fn descriptors_that_are_no_files() {
    let target = Target::new();
    let socket = target.agent.socket();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let directory = fs::File::open("/").unwrap();
    let terminal = fs::File::open("/dev/zero").unwrap();
    for descriptor in [pipe.as_fd(), directory.as_fd(), terminal.as_fd()] {
        let began = Instant::now();
        let (reply, _) = raw::ask(&raw::upgraded(&socket), &raw::step("/x.wasm"), &[descriptor]);
        let Reply::Refused { code, reason } = reply else { panic!("{reply:?}") };
        assert_eq!(code, 126);
        assert!(reason.contains("not a regular file"), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    target.unharmed();
}

/// R8: what a child still holds open does not keep a step alive for ever; here, the other way
/// round: connections that say nothing are cut at a deadline.
#[test]
fn clients_that_say_nothing_are_cut() {
    let target = Target::new();
    let socket = target.agent.socket();
    let mut silent: Vec<_> = (0..200).map(|_| raw::connect(&socket)).collect();
    let mut halfway: Vec<_> = (0..200).map(|_| raw::upgraded(&socket)).collect();
    let began = Instant::now();
    assert_eq!(target.agent.step(&target.module).run().unwrap().out(), "canary\n");
    assert!(began.elapsed() < Duration::from_secs(2), "others wait for the silent");
    for stream in silent.iter_mut().chain(&mut halfway) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let text = String::from_utf8_lossy(&rest).into_owned();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    drop((silent, halfway));
    target.unharmed();
}

/// O1: more at once than there is room for; each is served in the end.
#[test]
fn a_crowd_is_served_or_told_to_come_back() {
    let agent = Agent::builder().tables("[limits]\nwaiting = 4").start().unwrap();
    let path = agent.scratch().join("m.wasm");
    fs::write(&path, guests::heavy(2000, "crowd")).unwrap();
    let steps: Vec<_> = (0..60).map(|_| agent.step(&path).start().unwrap()).collect();
    for step in steps {
        let ended = step.wait().unwrap();
        assert_eq!((ended.code, ended.out().as_str()), (0, "crowd\n"), "{}", ended.err());
    }
    assert!(agent.status().unwrap().counts.busy > 0, "nobody was told to come back");
}

#[test]
fn other_requests_get_an_answer() {
    let agent = Agent::builder().start().unwrap();
    let cases = [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200"),
        ("GET /v1/steps HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405"),
        ("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"),
        ("POST /v1/steps HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 426"),
        (
            "POST /v1/steps HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: warmstep/9\r\n\
             Content-Length: 0\r\n\r\n",
            "HTTP/1.1 426",
        ),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
    ];
    for (request, answer) in cases {
        let mut stream = raw::connect(&agent.socket());
        stream.write_all(request.as_bytes()).unwrap();
        let head = raw::head(&mut stream).unwrap();
        assert!(head.starts_with(answer), "{request}: {head}");
    }
}
