//! `wasi_unstable`: where it differs from the version that followed it.

mod support;

use support::Step;
use support::calls::*;
use support::puppet::{Puppet, Strings};
use tempfile::{TempDir, tempdir};

fn puppet() -> (Puppet, TempDir) {
    let directory = tempdir().expect("a directory");
    let puppet = Puppet::start_as("wasi_unstable", Strings::Stdin, |step| {
        step.directory(directory.path(), "/")
    });
    (puppet, directory)
}

#[test]
fn filestat_has_a_link_count_of_32_bits() {
    let (mut puppet, directory) = puppet();
    std::fs::write(directory.path().join("file"), "12345").expect("write");
    std::fs::hard_link(directory.path().join("file"), directory.path().join("more")).expect("link");
    let fd = puppet.open("file", 0, rights::ALL).expect("open");
    let (path, out) = (puppet.put(b"file"), puppet.room(64));
    for call in ["fd", "path"] {
        puppet.poke(out, &[0xee; 64]);
        let error = match call {
            "fd" => puppet.call("fd_filestat_get", &[fd.into(), out.into()]),
            _ => puppet.call("path_filestat_get", &[3, 0, path.into(), 4, out.into()]),
        };
        assert_eq!(error, 0);
        let record = puppet.peek(out, 64);
        assert_eq!((record[16], u32_at(&record, 20), u64_at(&record, 24)), (REGULAR_FILE, 2, 5));
        use std::os::unix::fs::MetadataExt;
        let host = std::fs::metadata(directory.path().join("file")).expect("metadata");
        let modified = host.mtime() * 1_000_000_000 + host.mtime_nsec();
        assert_eq!(u64_at(&record, 40).cast_signed(), modified);
        assert_eq!(record[56..], [0xee; 8], "nothing is written beyond it");
    }
}

#[test]
fn whence_has_another_order() {
    let (mut puppet, _directory) = puppet();
    let fd = puppet.open("file", CREAT, rights::ALL).expect("open");
    puppet.write(fd, &[0; 100]).expect("write");
    let (current, end, set) = (0, 1, 2);
    assert_eq!(puppet.seek(fd, -50, current), Ok(50));
    assert_eq!(puppet.seek(fd, -10, end), Ok(90));
    assert_eq!(puppet.seek(fd, 7, set), Ok(7));
    assert_eq!(puppet.seek(fd, 0, 3), Err(errno::INVAL));
}

#[test]
fn clock_subscriptions_begin_with_an_identifier() {
    let (mut puppet, _directory) = puppet();
    let mut clock = [0; 56];
    clock[0] = 5;
    clock[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    clock[24] = 1;
    clock[32..40].copy_from_slice(&20_000_000_u64.to_le_bytes());
    let mut write = [0; 56];
    (write[0], write[8], write[16]) = (6, 2, 2);
    let list = puppet.put(&clock);
    let (events, out) = (puppet.room(64), puppet.room(4));
    let before = std::time::Instant::now();
    assert_eq!(puppet.call("poll_oneoff", &[list.into(), events.into(), 1, out.into()]), 0);
    assert!(before.elapsed() >= std::time::Duration::from_millis(20));
    assert_eq!(puppet.peek(events, 12)[..11], [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let list = puppet.put(&[clock, write].concat());
    assert_eq!(puppet.call("poll_oneoff", &[list.into(), events.into(), 2, out.into()]), 0);
    let event = puppet.peek(events, 12);
    assert_eq!((event[0], event[8], event[10]), (6, 0, 2));
}

#[test]
fn what_is_the_same_works() {
    let (mut puppet, _directory) = puppet();
    puppet.mkdir("d").expect("mkdir");
    puppet.create("d/f");
    puppet.rename("d/f", "g").expect("rename");
    assert_eq!(puppet.list(3, 256).len(), 4);
    assert_eq!(puppet.exit(3).code(), 3);
}

#[test]
fn sock_accept_is_not_in_it() {
    let wat = r#"(module
      (import "wasi_unstable" "sock_accept" (func (param i32 i32 i32) (result i32)))
      (func (export "_start")))"#;
    let ended = Step::wat(wat).run();
    assert_eq!(ended.code(), 126);
    assert!(ended.stderr.contains("wasi_unstable.sock_accept"), "{}", ended.stderr);
}
