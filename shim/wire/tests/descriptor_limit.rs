//! A receiver that may open no more files: the kernel drops descriptors, and the frame is refused.
//! Alone in this file, because the limit is the whole process's.

#[path = "support/frame.rs"]
mod frame;
#[path = "support/step.rs"]
mod step;

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use frame::frame;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use step::step;
use warmstep_wire::frame::{Kind, receive, send_some};
use warmstep_wire::message::Step;

/// How many descriptors this process has, without the one that counts.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("descriptors").count() - 1
}

#[test]
fn descriptors_lost_on_the_way() {
    let body = &warmstep_wire::frame::to_bytes(Kind::Step, &step(), 0).expect("a frame")[12..];
    let (theirs, ours) = UnixStream::pair().expect("a pair");
    let descriptors: [BorrowedFd<'_>; 8] = [theirs.as_fd(); 8];
    send_some(theirs.as_fd(), &frame(1, 8, body), &descriptors).expect("sent");

    let before = open_files();
    let usual = getrlimit(Resource::Nofile);
    let tight = Rlimit { current: Some(before as u64 + 3), ..usual };
    setrlimit(Resource::Nofile, tight).expect("a limit");
    let error = receive::<Step>(&ours, Kind::Step).expect_err("lost descriptors");
    setrlimit(Resource::Nofile, usual).expect("the limit of before");

    assert!(error.to_string().contains("descriptors were lost"), "{error}");
    assert_eq!(open_files(), before);
}
