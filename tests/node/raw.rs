//! A client that speaks the protocol by hand, to say what no shim would.

use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use warmstep_wire::frame::{self, Kind};
use warmstep_wire::message::{Reply, Step};

/// What a shim sends first.
pub(crate) const REQUEST: &[u8] = b"POST /v1/steps HTTP/1.1\r\nHost: warmstep\r\n\
    Connection: Upgrade\r\nUpgrade: warmstep/1\r\nContent-Length: 0\r\n\r\n";

/// A step that asks for a module and nothing else.
pub(crate) fn step(module: &str) -> Step {
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

/// A connection; nothing has been said.
pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A connection on which frames are spoken.
pub(crate) fn upgraded(socket: &Path) -> UnixStream {
    let mut stream = connect(socket);
    stream.write_all(REQUEST).unwrap();
    let head = head(&mut stream).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

/// The head of an HTTP answer, read byte by byte so that no frame is touched.
pub(crate) fn head(stream: &mut UnixStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Asks for a step and waits for what comes of it, past all progress.
pub(crate) fn ask(
    stream: &UnixStream,
    step: &Step,
    descriptors: &[BorrowedFd<'_>],
) -> (Reply, Vec<OwnedFd>) {
    frame::send(stream, Kind::Step, step, descriptors).unwrap();
    loop {
        match frame::receive::<Reply>(stream, Kind::Reply).unwrap() {
            (Reply::Progress { .. }, _) => {}
            answer => return answer,
        }
    }
}
