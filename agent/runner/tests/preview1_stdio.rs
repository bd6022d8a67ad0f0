//! Standard input, output and error: the pod's own, and nobody else's business.

mod support;

use support::calls::*;
use support::contents;
use support::puppet::{Puppet, Strings};
use tempfile::tempdir;

#[test]
fn fd_close_of_standard_error_keeps_the_last_words() {
    let directory = tempdir().expect("a directory");
    let mut puppet = Puppet::with(directory.path());
    assert_eq!(puppet.close(2), Ok(()));
    let fd = puppet.open("file", CREAT, rights::WRITER).expect("open");
    assert_eq!(fd, 2);
    puppet.write(fd, b"mine").expect("write");
    puppet.call_without_answer("proc_raise", &[6]);
    let ended = puppet.wait();
    assert_eq!(ended.code(), 134);
    assert_eq!(ended.stderr, "warmstep: the module raised SIGABRT\n");
    assert_eq!(contents(&directory.path().join("file")), b"mine");
}

#[test]
fn standard_descriptors_are_what_they_are() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("stdin");
    std::fs::write(&path, "input").expect("write");
    let stdin = std::fs::File::open(&path).expect("open");
    let mut puppet =
        Puppet::start_as("wasi_snapshot_preview1", Strings::Stdout, |step| step.stdin(stdin));
    let stat = puppet.fdstat(0).expect("fdstat");
    assert_eq!((stat.kind, stat.base & rights::SEEK), (REGULAR_FILE, rights::SEEK));
    assert_eq!(puppet.read(0, 3), Ok(b"inp".to_vec()));
    assert_eq!(puppet.seek(0, 0, 0), Ok(0), "a file as standard input can be sought in");
    assert_eq!(puppet.read(0, 9), Ok(b"input".to_vec()));
    assert_eq!(puppet.write(0, b"x"), Err(errno::NOTCAPABLE));
    assert_eq!(puppet.read(2, 1), Err(errno::NOTCAPABLE));
    assert_eq!(puppet.fdstat(2).expect("fdstat").kind, 0, "a pipe has no type of its own");
    let null = std::fs::File::open("/dev/null").expect("open");
    let mut puppet =
        Puppet::start_as("wasi_snapshot_preview1", Strings::Stdout, |step| step.stdin(null));
    let stat = puppet.fdstat(0).expect("fdstat");
    assert_eq!(stat.kind, CHARACTER_DEVICE);
    assert_eq!(stat.base & (rights::SEEK | rights::TELL), 0, "which makes isatty say yes");
}

#[test]
fn a_reader_that_is_gone_is_an_error_number() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut puppet = Puppet::start_as("wasi_snapshot_preview1", Strings::Stdin, |step| {
        step.stdout(std::os::fd::OwnedFd::from(writer))
    });
    assert_eq!(puppet.write(1, b"x"), Ok(1));
    drop(reader);
    // A child of another test holds the reader too, for the moment between its fork and its exec.
    let mut wrote = puppet.write(1, b"x");
    for _ in 0..500 {
        if wrote.is_err() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        wrote = puppet.write(1, b"x");
    }
    assert_eq!(wrote, Err(errno::PIPE));
    assert_eq!(puppet.exit(4).code(), 4);
}

#[test]
fn a_standard_descriptor_that_does_not_block_is_not_shared() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (mut ours, theirs) = (writer, reader);
    let kept = theirs.try_clone().expect("a second one");
    let mut puppet = Puppet::start_as("wasi_snapshot_preview1", Strings::Stdout, |step| {
        step.stdin(std::os::fd::OwnedFd::from(theirs))
    });
    assert_eq!(puppet.call("fd_fdstat_set_flags", &[0, NONBLOCK.into()]), 0);
    assert_eq!(puppet.read(0, 1), Err(errno::AGAIN));
    let shared = rustix::fs::fcntl_getfl(&kept).expect("flags");
    assert!(!shared.contains(rustix::fs::OFlags::NONBLOCK), "other holders are not concerned");
    std::io::Write::write_all(&mut ours, b"z").expect("write");
    assert_eq!(puppet.read(0, 1), Ok(b"z".to_vec()));
    drop(ours);
    // Another test's process, just forked, may hold the other end for a moment.
    let end = (0..1000).map(|_| puppet.read(0, 1)).find(|read| *read != Err(errno::AGAIN));
    assert_eq!(end, Some(Ok(vec![])), "the end is not an error");
    assert_eq!(puppet.call("fd_fdstat_set_flags", &[0, APPEND.into()]), errno::NOTSUP);
}
