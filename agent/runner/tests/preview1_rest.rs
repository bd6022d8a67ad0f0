//! The functions of preview 1 that need no directory: arguments, clocks, polling, sockets, the end.

mod support;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use support::Step;
use support::calls::*;
use support::puppet::{Puppet, Strings};
use tempfile::tempdir;

fn puppet() -> Puppet {
    Puppet::start(|step| step)
}

/// A puppet whose standard input is this.
fn puppet_on(stdin: impl Into<OwnedFd>) -> Puppet {
    let stdin = stdin.into();
    Puppet::start_as("wasi_snapshot_preview1", Strings::Stdout, |step| step.stdin(stdin))
}

/// The strings of `args_get` or `environ_get`.
fn strings(puppet: &mut Puppet, sizes: &str, get: &str) -> Vec<Vec<u8>> {
    let out = puppet.room(8);
    assert_eq!(puppet.call(sizes, &[out.into(), u64::from(out) + 4]), 0);
    let record = puppet.peek(out, 8);
    let (count, size) = (u32_at(&record, 0) as usize, u32_at(&record, 4) as usize);
    let (table, text) = (puppet.room(count * 4), puppet.room(size));
    assert_eq!(puppet.call(get, &[table.into(), text.into()]), 0);
    let pointers = puppet.peek(table, count * 4);
    let bytes = puppet.peek(text, size);
    let starts = pointers.chunks_exact(4).map(|pointer| (u32_at(pointer, 0) - text) as usize);
    starts
        .map(|start| bytes[start..].split(|byte| *byte == 0).next().expect("one").to_vec())
        .collect()
}

#[test]
fn args_and_environ() {
    let mut puppet = Puppet::start(|step| {
        step.name("prog")
            .argument("a b")
            .argument("")
            .argument(b"\xff")
            .variable("A", "1=2")
            .variable("B", "")
    });
    let arguments = strings(&mut puppet, "args_sizes_get", "args_get");
    let expected: [&[u8]; 4] = [b"prog", b"a b", b"", b"\xff"];
    assert_eq!(arguments, expected);
    let variables = strings(&mut puppet, "environ_sizes_get", "environ_get");
    let expected: [&[u8]; 2] = [b"A=1=2", b"B="];
    assert_eq!(variables, expected, "and nothing of the process's own environment");
    let end = 64_u64 << 16;
    for name in ["args_get", "environ_get", "args_sizes_get", "environ_sizes_get"] {
        assert_eq!(puppet.call(name, &[end - 1, 4096]), errno::FAULT, "{name}");
        assert_eq!(puppet.call(name, &[4096, end - 1]), errno::FAULT, "{name}");
        assert_eq!(puppet.call(name, &[u32::MAX.into(), 4096]), errno::FAULT, "{name}");
    }
}

#[test]
fn no_arguments_beside_the_name_and_no_environment() {
    let mut puppet = puppet();
    assert_eq!(strings(&mut puppet, "args_sizes_get", "args_get").len(), 1);
    assert!(strings(&mut puppet, "environ_sizes_get", "environ_get").is_empty());
}

#[test]
fn clocks() {
    let mut puppet = puppet();
    let out = puppet.room(8);
    let mut time = |id: u64| {
        assert_eq!(puppet.call("clock_time_get", &[id, 0, out.into()]), 0);
        u64_at(&puppet.peek(out, 8), 0)
    };
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let real = u64::try_from(real.expect("after 1970").as_nanos()).expect("before 2554");
    assert!(time(0).abs_diff(real) < 10_000_000_000);
    for id in [1, 2, 3] {
        let first = time(id);
        assert!(first > 0 && time(id) >= first, "clock {id} runs forward");
    }
    for id in 0..4 {
        assert_eq!(puppet.call("clock_res_get", &[id, out.into()]), 0);
        assert!((1..1_000_000_000).contains(&u64_at(&puppet.peek(out, 8), 0)));
    }
    for id in [4, u32::MAX.into()] {
        assert_eq!(puppet.call("clock_time_get", &[id, 0, out.into()]), errno::INVAL);
        assert_eq!(puppet.call("clock_res_get", &[id, out.into()]), errno::INVAL);
    }
    assert_eq!(puppet.call("clock_time_get", &[0, 0, u32::MAX.into()]), errno::FAULT);
}

#[test]
fn random_get() {
    let mut puppet = puppet();
    let out = puppet.room(64);
    assert_eq!(puppet.call("random_get", &[out.into(), 32]), 0);
    let bytes = puppet.peek(out, 64);
    assert!(bytes[..32].iter().any(|byte| *byte != 0));
    assert_eq!(bytes[32..], [0; 32]);
    assert_eq!(puppet.call("random_get", &[out.into(), 0]), 0);
    // As much as there is, in one call.
    let all = (64 << 16) - u64::from(out);
    assert_eq!(puppet.call("random_get", &[out.into(), all]), 0);
    assert_eq!(puppet.call("random_get", &[out.into(), all + 1]), errno::FAULT);
}

#[test]
fn random_get_of_many_mebibytes() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1600)
      (func (export "_start")
        (call $exit (i32.or
          (call $random (i32.const 0) (i32.const 104857600))
          (i64.eqz (i64.load (i32.const 104857592)))))))"#;
    Step::wat(wat).run().success();
}

#[test]
fn sched_yield() {
    assert_eq!(puppet().call("sched_yield", &[]), 0);
}

#[test]
fn proc_exit_gives_its_code() {
    for (code, seen) in
        [(0, 0), (1, 1), (33, 33), (127, 127), (255, 255), (256, 0), (u32::MAX, 255)]
    {
        let ended = puppet().exit(code);
        assert_eq!(ended.code(), seen, "{code}");
        assert_eq!(i32::from(ended.outcome().code), seen);
        assert_eq!((ended.outcome().reason.as_ref(), &ended.stderr[..]), (None, ""));
    }
}

#[test]
fn proc_raise() {
    let signals = [
        (6, 134, "SIGABRT"),
        (15, 143, "SIGTERM"),
        (2, 130, "SIGINT"),
        (9, 137, "SIGKILL"),
        (24, 153, "SIGXFSZ"),
    ];
    for (signal, code, name) in signals {
        let mut puppet = puppet();
        puppet.call_without_answer("proc_raise", &[signal]);
        let ended = puppet.wait();
        assert_eq!(ended.code(), code);
        assert_eq!(ended.outcome().reason.as_deref(), Some(&*format!("the module raised {name}")));
    }
    let mut puppet = puppet();
    for ignored in [0, 16, 17, 22, 27] {
        assert_eq!(puppet.call("proc_raise", &[ignored]), 0, "{ignored}");
    }
    for stop in 18..=21 {
        assert_eq!(puppet.call("proc_raise", &[stop]), errno::NOTSUP, "{stop}");
    }
    assert_eq!(puppet.call("proc_raise", &[31]), errno::INVAL);
}

/// A witx `subscription` to a clock.
fn clock(userdata: u64, id: u32, timeout: u64, absolute: bool) -> [u8; 48] {
    let mut record = [0; 48];
    record[..8].copy_from_slice(&userdata.to_le_bytes());
    record[16..20].copy_from_slice(&id.to_le_bytes());
    record[24..32].copy_from_slice(&timeout.to_le_bytes());
    record[40] = u8::from(absolute);
    record
}

/// A witx `subscription` to a descriptor: 1 to read, 2 to write.
fn ready(userdata: u64, kind: u8, fd: u32) -> [u8; 48] {
    let mut record = [0; 48];
    record[..8].copy_from_slice(&userdata.to_le_bytes());
    record[8] = kind;
    record[16..20].copy_from_slice(&fd.to_le_bytes());
    record
}

/// The events: userdata, error, type, bytes, flags.
type Event = (u64, u16, u8, u64, u16);

fn poll(puppet: &mut Puppet, subscriptions: &[[u8; 48]]) -> Result<Vec<Event>, u16> {
    puppet.forget();
    let list = puppet.put(&subscriptions.concat());
    let events = puppet.room(32 * subscriptions.len());
    let out = puppet.room(4);
    let arguments = [list.into(), events.into(), subscriptions.len() as u64, out.into()];
    puppet.done("poll_oneoff", &arguments)?;
    let count = u32_at(&puppet.peek(out, 4), 0) as usize;
    let bytes = puppet.peek(events, 32 * count);
    let event = |event: &[u8]| {
        (u64_at(event, 0), u16_at(event, 8), event[10], u64_at(event, 16), u16_at(event, 24))
    };
    Ok(bytes.chunks_exact(32).map(event).collect())
}

const MILLI: u64 = 1_000_000;

#[test]
fn poll_oneoff_of_clocks() {
    let mut puppet = puppet();
    let before = Instant::now();
    let events = poll(&mut puppet, &[clock(9, 1, 30 * MILLI, false), clock(8, 0, 1 << 60, false)]);
    assert_eq!(events, Ok(vec![(9, 0, 0, 0, 0)]));
    assert!(before.elapsed() >= Duration::from_millis(30));
    for id in [0, 1] {
        assert_eq!(poll(&mut puppet, &[clock(1, id, 0, true)]), Ok(vec![(1, 0, 0, 0, 0)]), "past");
        assert_eq!(poll(&mut puppet, &[clock(1, id, 0, false)]), Ok(vec![(1, 0, 0, 0, 0)]));
    }
    let out = puppet.room(8);
    assert_eq!(puppet.call("clock_time_get", &[1, 0, out.into()]), 0);
    let soon = u64_at(&puppet.peek(out, 8), 0) + 40 * MILLI;
    let before = Instant::now();
    assert_eq!(poll(&mut puppet, &[clock(5, 1, soon, true)]), Ok(vec![(5, 0, 0, 0, 0)]));
    assert!(before.elapsed() >= Duration::from_millis(35), "{:?}", before.elapsed());
    let both = [clock(1, 1, MILLI, false), clock(2, 1, MILLI, false)];
    assert!(!poll(&mut puppet, &both).expect("poll").is_empty());
    assert_eq!(poll(&mut puppet, &[clock(3, 9, 0, false)]), Ok(vec![(3, errno::INVAL, 0, 0, 0)]));
    assert_eq!(poll(&mut puppet, &[clock(3, 2, 0, false)]), Ok(vec![(3, errno::NOTSUP, 0, 0, 0)]));
}

#[test]
fn poll_oneoff_of_descriptors() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut puppet = puppet_on(reader);
    let later = clock(1, 1, 20 * MILLI, false);
    assert_eq!(poll(&mut puppet, &[ready(2, 1, 0), later]), Ok(vec![(1, 0, 0, 0, 0)]));
    writer.write_all(b"12345").expect("write");
    let long = clock(1, 1, 60_000 * MILLI, false);
    assert_eq!(poll(&mut puppet, &[ready(2, 1, 0), long]), Ok(vec![(2, 0, 1, 5, 0)]));
    assert_eq!(poll(&mut puppet, &[ready(3, 2, 2)]), Ok(vec![(3, 0, 2, 0, 0)]), "to write");
    let (first, second) = (ready(3, 2, 2), ready(2, 1, 0));
    assert_eq!(poll(&mut puppet, &[first, second, long]).map(|events| events.len()), Ok(2));
    drop(writer);
    let events = poll(&mut puppet, &[ready(2, 1, 0), long]).expect("poll");
    assert_eq!((events[0].0, events[0].1, events[0].3), (2, 0, 5));
    assert_eq!(puppet.read(0, 9), Ok(b"12345".to_vec()));
    let ended = (0..1000).map(|_| poll(&mut puppet, &[ready(2, 1, 0), long]).expect("poll")[0]);
    // Another test's process, just forked, may hold the other end for a moment.
    assert!(ended.into_iter().any(|event| event.4 == 1), "the end is said");
}

#[test]
fn poll_oneoff_says_what_is_wrong_with_each() {
    let directory = tempdir().expect("a directory");
    let mut puppet = Puppet::with(directory.path());
    let file = puppet.open("file", CREAT, rights::ALL).expect("open");
    puppet.write(file, b"123").expect("write");
    puppet.seek(file, 0, 0).expect("seek");
    assert_eq!(poll(&mut puppet, &[ready(1, 1, file)]), Ok(vec![(1, 0, 1, 3, 0)]));
    assert_eq!(poll(&mut puppet, &[ready(1, 2, file)]), Ok(vec![(1, 0, 2, 0, 0)]));
    let long = clock(7, 1, 60_000 * MILLI, false);
    let wrong = [ready(1, 1, 99), ready(2, 1, 3), ready(3, 1, 2), long];
    let expected =
        vec![(1, errno::BADF, 1, 0, 0), (2, errno::BADF, 1, 0, 0), (3, errno::NOTCAPABLE, 1, 0, 0)];
    assert_eq!(poll(&mut puppet, &wrong), Ok(expected), "at once, whatever else is waited for");
    assert_eq!(poll(&mut puppet, &[]), Err(errno::INVAL));
    assert_eq!(poll(&mut puppet, &[ready(1, 3, 0)]), Err(errno::INVAL));
    for count in [5000, u64::from(u32::MAX)] {
        assert_eq!(puppet.call("poll_oneoff", &[4096, 4096, count, 4096]), errno::INVAL);
    }
    let end = 64_u64 << 16;
    assert_eq!(puppet.call("poll_oneoff", &[end - 47, 4096, 1, 4096]), errno::FAULT);
    assert_eq!(puppet.call("poll_oneoff", &[4096, end - 31, 1, 4096]), errno::FAULT);
}

/// One buffer for `sock_recv` and `sock_send`: its list, and where it is.
fn buffer(puppet: &mut Puppet, bytes: &[u8]) -> (u64, u32) {
    let at = puppet.put(bytes);
    let length = u32::try_from(bytes.len()).expect("small");
    (puppet.put(&[at.to_le_bytes(), length.to_le_bytes()].concat()).into(), at)
}

fn receive(puppet: &mut Puppet, fd: u32, room: usize, flags: u64) -> Result<(Vec<u8>, u16), u16> {
    puppet.forget();
    let (list, at) = buffer(puppet, &vec![0; room]);
    let out = puppet.room(8);
    let arguments = [fd.into(), list, 1, flags, out.into(), u64::from(out) + 4];
    puppet.done("sock_recv", &arguments)?;
    let record = puppet.peek(out, 8);
    Ok((puppet.peek(at, u32_at(&record, 0) as usize), u16_at(&record, 4)))
}

fn send(puppet: &mut Puppet, fd: u32, bytes: &[u8], flags: u64) -> Result<u32, u16> {
    puppet.forget();
    let (list, _) = buffer(puppet, bytes);
    let out = puppet.room(4);
    puppet.done("sock_send", &[fd.into(), list, 1, flags, out.into()])?;
    Ok(u32_at(&puppet.peek(out, 4), 0))
}

#[test]
fn sock_recv_send_and_shutdown() {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let mut puppet = puppet_on(theirs);
    assert_eq!(puppet.fdstat(0).expect("fdstat").kind, SOCKET);
    ours.write_all(b"hello").expect("write");
    let (peek, wait_for_all) = (1, 2);
    assert_eq!(receive(&mut puppet, 0, 3, peek), Ok((b"hel".to_vec(), 0)));
    assert_eq!(receive(&mut puppet, 0, 5, wait_for_all), Ok((b"hello".to_vec(), 0)));
    assert_eq!(receive(&mut puppet, 0, 3, 4), Err(errno::INVAL));
    assert_eq!(send(&mut puppet, 0, b"answer", 0), Ok(6));
    let mut answer = [0; 6];
    ours.read_exact(&mut answer).expect("read");
    assert_eq!(&answer, b"answer");
    assert_eq!(send(&mut puppet, 0, b"x", 1), Err(errno::INVAL));
    assert_eq!(puppet.call("sock_shutdown", &[0, 0]), errno::INVAL);
    assert_eq!(puppet.call("sock_shutdown", &[0, 4]), errno::INVAL);
    assert_eq!(puppet.call("sock_shutdown", &[0, 2]), 0);
    assert_eq!(ours.read(&mut answer).expect("read"), 0);
    assert_eq!(send(&mut puppet, 0, b"x", 0), Err(errno::PIPE), "and no signal");
    assert_eq!(puppet.call("sock_shutdown", &[0, 1]), 0);
    assert_eq!(receive(&mut puppet, 0, 3, 0), Ok((vec![], 0)));
}

#[test]
fn sock_recv_says_that_a_message_was_cut() {
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
    let mut puppet = puppet_on(theirs);
    ours.send(b"long message").expect("send");
    assert_eq!(receive(&mut puppet, 0, 4, 0), Ok((b"long".to_vec(), 1)));
}

#[test]
fn sock_functions_want_a_socket() {
    let directory = tempdir().expect("a directory");
    let mut puppet = Puppet::with(directory.path());
    let file = puppet.open("file", CREAT, rights::ALL).expect("open");
    for fd in [file, 2, 3] {
        assert_eq!(puppet.call("sock_shutdown", &[fd.into(), 3]), errno::NOTSOCK);
        assert_eq!(receive(&mut puppet, fd, 1, 0), Err(errno::NOTSOCK));
        assert_eq!(send(&mut puppet, fd, b"x", 0), Err(errno::NOTSOCK));
        assert_eq!(puppet.call("sock_accept", &[fd.into(), 0, 4096]), errno::NOTSOCK);
    }
    assert_eq!(puppet.call("sock_shutdown", &[99, 3]), errno::BADF);
    assert_eq!(puppet.call("sock_accept", &[99, 0, 4096]), errno::BADF);
}

#[test]
fn sock_accept_on_a_listening_standard_input() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("listen");
    let mut puppet = puppet_on(listener);
    let mut client = UnixStream::connect(&path).expect("connect");
    let out = puppet.room(4);
    assert_eq!(puppet.call("sock_accept", &[0, 1, out.into()]), errno::INVAL, "not append");
    assert_eq!(puppet.call("sock_accept", &[0, NONBLOCK.into(), out.into()]), 0);
    let fd = u32_at(&puppet.peek(out, 4), 0);
    let stat = puppet.fdstat(fd).expect("fdstat");
    assert_eq!((stat.kind, u32::from(stat.flags)), (SOCKET, NONBLOCK));
    assert_eq!(puppet.read(fd, 1), Err(errno::AGAIN));
    client.write_all(b"x").expect("write");
    assert_eq!(puppet.read(fd, 1), Ok(b"x".to_vec()));
    assert_eq!(puppet.write(fd, b"y"), Ok(1));
    let mut byte = [0];
    client.read_exact(&mut byte).expect("read");
    assert_eq!(&byte, b"y");
    assert_eq!(puppet.close(fd), Ok(()));
}

#[test]
fn reads_and_writes_are_counted() {
    let directory = tempdir().expect("a directory");
    let mut puppet = Puppet::with(directory.path());
    let file = puppet.open("file", CREAT, rights::ALL).expect("open");
    let before = 3000;
    puppet.write(file, &vec![1; before]).expect("write");
    puppet.pwrite(file, b"12345", 0).expect("write");
    puppet.pread(file, 1000, 0).expect("read");
    let ended = puppet.exit(0);
    // What the test itself says to the puppet counts too.
    assert!(ended.outcome().bytes_written > 3005 && ended.outcome().bytes_written < 20_000);
    assert!(ended.outcome().bytes_read > 4000 && ended.outcome().bytes_read < 30_000);
}
