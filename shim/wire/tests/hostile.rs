//! Frames from someone who means harm: refused, and every descriptor that came along closed.

#[path = "support/frame.rs"]
mod frame;
#[path = "support/step.rs"]
mod step;

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use frame::frame;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use step::step;
use warmstep_wire::frame::{
    FrameError, HEADER, Kind, MAX_BODY, MAX_DESCRIPTORS, Parser, receive, send, send_some, to_bytes,
};
use warmstep_wire::message::{Reply, Step};

/// What comes of bytes and the end of the stream behind them.
fn received(bytes: &[u8]) -> Result<Step, FrameError> {
    let (mut theirs, ours) = UnixStream::pair().expect("a pair");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || {
        // The receiver may hang up in the middle.
        let _ = theirs.write_all(&bytes);
    });
    let result = receive(&ours, Kind::Step).map(|(step, _)| step);
    drop(ours);
    writer.join().expect("the writer");
    result
}

/// A pipe whose read end tells when every copy of its write end is closed.
struct Canary {
    reader: std::io::PipeReader,
    writer: Option<std::io::PipeWriter>,
}

impl Canary {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        Self { reader, writer: Some(writer) }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.writer.as_ref().expect("a descriptor").as_fd()
    }

    /// Blocks for ever if somebody keeps one.
    fn assert_all_closed(mut self) {
        drop(self.writer.take());
        assert_eq!(self.reader.read(&mut [0]).expect("the end"), 0);
    }
}

/// One `sendmsg` with as many copies of a descriptor as the kernel takes (`SCM_MAX_FD`).
fn send_many(socket: &UnixStream, bytes: &[u8], descriptor: BorrowedFd<'_>, count: usize) {
    let copies = vec![descriptor; count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&copies)));
    let sent =
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    assert_eq!(sent.expect("a message"), bytes.len());
}

#[test]
fn cut_at_every_byte() {
    let whole = to_bytes(Kind::Step, &step(), 0).expect("a frame");
    assert_eq!(received(&whole).expect("a step"), step());
    assert!(matches!(received(b""), Err(FrameError::Closed)));
    for end in 1..whole.len() {
        let error = received(&whole[..end]).expect_err("cut");
        assert!(matches!(error, FrameError::Io(_)), "{end}: {error}");
    }
}

#[test]
fn every_cut_of_a_body_is_an_error() {
    let body = &to_bytes(Kind::Step, &step(), 0).expect("a frame")[HEADER..];
    // The last byte is an optional field that is absent either way: but the list says it is there.
    for end in 0..body.len() {
        assert!(received(&frame(1, 0, &body[..end])).is_err(), "{end}");
    }
}

#[test]
fn one_wrong_byte_is_an_error_or_another_step() {
    let whole = to_bytes(Kind::Step, &step(), 0).expect("a frame");
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = whole.clone();
            wrong[at] ^= flip;
            if let Ok(other) = received(&wrong) {
                // The two reserved bytes of the header mean nothing yet.
                assert!(other != step() || (6..8).contains(&at), "{at}");
            }
        }
    }
}

#[test]
fn headers_that_are_refused() {
    let header = |kind: u8, descriptors: u8, length: u32| {
        let mut bytes = b"WSTP".to_vec();
        bytes.extend([kind, descriptors, 0, 0]);
        bytes.extend(length.to_le_bytes());
        received(&bytes)
    };
    for length in [1 << 31, u32::MAX, u32::try_from(MAX_BODY + 1).expect("small")] {
        assert!(matches!(header(1, 0, length), Err(FrameError::Length(_))), "{length}");
    }
    for kind in [0, 2, 3, 255] {
        assert!(matches!(header(kind, 0, 0), Err(FrameError::Kind(_))), "{kind}");
    }
    for count in [9, 255] {
        assert!(matches!(header(1, count, 0), Err(FrameError::Descriptors { .. })), "{count}");
    }
    assert!(matches!(header(1, 0, 0), Err(FrameError::Body(_))));
    assert!(matches!(received(b"GET / HTTP/1.1\r\n\r\n"), Err(FrameError::Magic)));
}

#[test]
fn the_longest_body_and_one_byte_more() {
    let long = |length: usize| Step { module: "m".repeat(length), ..step() };
    let rest = to_bytes(Kind::Step, &long(70_000), 0).expect("a frame").len() - HEADER - 70_000;
    let most = to_bytes(Kind::Step, &long(MAX_BODY - rest), 0).expect("a frame");
    assert_eq!(most.len(), HEADER + MAX_BODY);
    assert_eq!(received(&most).expect("a step"), long(MAX_BODY - rest));
    let more = to_bytes(Kind::Step, &long(MAX_BODY - rest + 1), 0);
    assert!(matches!(more, Err(FrameError::Length(length)) if length == MAX_BODY + 1));
}

#[test]
fn ten_thousand_deep() {
    // As an unknown field, which is skipped, and in the place of a known one.
    for (list, opening, closing) in [(0x81, 1, 0), (0x9f, 1, 1), (0xa1, 2, 0)] {
        let mut body = vec![0x8a, 0x61, b'm', 0x80, 0x80, 0x80, 0x80, 0xf6, 0xf6, 0xf6, 0xf6];
        let start = body.len();
        for _ in 0..10_000 {
            body.push(list);
            body.resize(body.len() + opening - 1, 0);
        }
        body.push(0x00);
        body.resize(body.len() + 10_000 * closing, 0xff);
        assert_eq!(received(&frame(1, 0, &body)).expect("a step").module, "m");
        body[0] = 0x81;
        body.drain(1..start);
        assert!(matches!(received(&frame(1, 0, &body)), Err(FrameError::Body(_))));
    }
}

#[test]
fn lists_longer_than_they_may_be() {
    let list = |field: usize, element: &[u8], count: u32| {
        let mut body = vec![0x88, 0x61, b'm'];
        for other in 1..8 {
            if other == field {
                body.push(0x9a);
                body.extend(count.to_be_bytes());
                body.extend(element.repeat(usize::try_from(count).expect("a count")));
            } else {
                body.push(if other < 5 { 0x80 } else { 0xf6 });
            }
        }
        received(&frame(1, 0, &body))
    };
    let address = [0x63, b'h', b':', b'1'];
    for (field, element, most) in [
        (1, &[0x40][..], warmstep_wire::MAX_ARGUMENTS + 1),
        (2, &[0x82, 0x41, b'A', 0x40], warmstep_wire::MAX_VARIABLES),
        (3, &[0x83, 0x41, b'/', 0x41, b'g', 0xf4], warmstep_wire::MAX_DIRECTORIES),
        (4, &address, warmstep_wire::MAX_ADDRESSES),
        (7, &[0x83, 0x41, b'/', 0x41, b'/', 0xf4], warmstep_wire::MAX_PATHS),
    ] {
        let most = u32::try_from(most).expect("a count");
        list(field, element, most).expect("as many as there may be");
        let error = list(field, element, most + 1).expect_err("one more");
        assert!(error.to_string().contains("too many"), "{error}");
    }
    // A count without elements costs nothing.
    let mut body = vec![0x87, 0x61, b'm', 0x9b];
    body.extend([0xff; 8]);
    assert!(matches!(received(&frame(1, 0, &body)), Err(FrameError::Body(_))));
}

#[test]
fn descriptors_by_the_hundred_a_thousand_times() {
    let canary = Canary::new();
    let bytes = frame(1, 8, &[]);
    for _ in 0..1000 {
        let (theirs, ours) = UnixStream::pair().expect("a pair");
        send_many(&theirs, &bytes, canary.descriptor(), 253);
        let error = receive::<Step>(&ours, Kind::Step).expect_err("too many");
        assert!(matches!(error, FrameError::Descriptors { received: 253, announced: 8 }));
    }
    canary.assert_all_closed();
}

#[test]
fn descriptors_that_trickle_in_with_the_header() {
    let canary = Canary::new();
    let (theirs, ours) = UnixStream::pair().expect("a pair");
    let mut parser = Parser::new(Kind::Step);
    let mut result = Ok(());
    for byte in frame(1, 8, &[]) {
        let _ = send_some(theirs.as_fd(), &[byte], &[canary.descriptor()]);
        result = result.and_then(|()| parser.read(ours.as_fd()));
    }
    assert!(matches!(result, Err(FrameError::Descriptors { received: 9, .. })), "{result:?}");
    drop((parser, ours, theirs));
    canary.assert_all_closed();
}

#[test]
fn another_number_of_descriptors_than_announced() {
    let body = &to_bytes(Kind::Step, &step(), 0).expect("a frame")[HEADER..];
    for (announced, sent) in [(0_u8, 1_u8), (1, 2), (2, 1), (1, 0), (8, 7)] {
        let canary = Canary::new();
        let (theirs, ours) = UnixStream::pair().expect("a pair");
        let descriptors = vec![canary.descriptor(); usize::from(sent)];
        send_some(theirs.as_fd(), &frame(1, announced, body), &descriptors).expect("sent");
        let error = receive::<Step>(&ours, Kind::Step).expect_err("another number");
        let numbers = (usize::from(sent), usize::from(announced));
        assert!(
            matches!(error, FrameError::Descriptors { received, announced }
                if (received, announced) == numbers),
            "{numbers:?}: {error}"
        );
        drop((theirs, ours));
        canary.assert_all_closed();
    }
}

#[test]
fn descriptors_on_the_body_are_refused() {
    let canary = Canary::new();
    let (theirs, ours) = UnixStream::pair().expect("a pair");
    let whole = to_bytes(Kind::Step, &step(), 1).expect("a frame");
    send_some(theirs.as_fd(), &whole[..HEADER], &[canary.descriptor()]).expect("the header");
    send_some(theirs.as_fd(), &whole[HEADER..], &[canary.descriptor()]).expect("the body");
    let error = receive::<Step>(&ours, Kind::Step).expect_err("a stray descriptor");
    assert!(matches!(error, FrameError::Descriptors { received: 2, announced: 1 }), "{error}");
    drop((theirs, ours));
    canary.assert_all_closed();
}

#[test]
fn more_descriptors_than_a_frame_takes_are_not_sent() {
    let (theirs, _ours) = UnixStream::pair().expect("a pair");
    let descriptors = [theirs.as_fd(); MAX_DESCRIPTORS + 1];
    let error = send(&theirs, Kind::Reply, &Reply::Lend, &descriptors).expect_err("too many");
    assert!(matches!(error, FrameError::Descriptors { .. }), "{error}");
}

#[test]
fn two_frames_in_one_write_stay_two() {
    let (mut theirs, ours) = UnixStream::pair().expect("a pair");
    let mut both = to_bytes(Kind::Reply, &Reply::Busy { retry_after: 1 }, 0).expect("a frame");
    both.extend(to_bytes(Kind::Reply, &Reply::Busy { retry_after: 2 }, 0).expect("a frame"));
    theirs.write_all(&both).expect("written");
    for retry_after in [1, 2] {
        let (reply, _) = receive::<Reply>(&ours, Kind::Reply).expect("a reply");
        assert_eq!(reply, Reply::Busy { retry_after });
    }
}

#[test]
fn what_is_lent_arrives_open_in_order_and_closes_on_exec() {
    let (theirs, ours) = UnixStream::pair().expect("a pair");
    let pipes: Vec<_> = (0..4).map(|_| std::io::pipe().expect("a pipe")).collect();
    let writers: Vec<_> = pipes.iter().map(|(_, writer)| writer.as_fd()).collect();
    send(&theirs, Kind::Reply, &Reply::Lend, &writers).expect("lent");
    let (reply, descriptors) = receive::<Reply>(&ours, Kind::Reply).expect("a reply");
    assert_eq!((reply, descriptors.len()), (Reply::Lend, 4));
    for (number, descriptor) in (0..).zip(descriptors) {
        let flags = rustix::io::fcntl_getfd(&descriptor).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(&descriptor, &[number]).expect("written");
    }
    for (number, (mut reader, writer)) in (0..).zip(pipes) {
        drop(writer);
        let mut written = Vec::new();
        reader.read_to_end(&mut written).expect("the end");
        assert_eq!(written, [number]);
    }
}
