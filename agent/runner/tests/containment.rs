//! A module reaches nothing outside its grants, changes nothing in read-only ones, and cannot be
//! kept waiting by what lies inside.

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, RenameFlags, linkat, makedev, mknodat, renameat_with,
};
use support::Step;
use support::calls::*;
use support::field::{field, snapshot, try_every_link};
use support::puppet::Puppet;
use tempfile::tempdir;

#[test]
fn f1_no_symbolic_link_leads_out() {
    let (_field, inside, outside) = field();
    let mut puppet = Puppet::with(&inside);
    try_every_link(&inside, &outside, &mut puppet);
    assert_eq!(puppet.exit(0).code(), 0);
}

/// Opens `path` beneath descriptor 3 a number of times, and reads a byte where it can. Exit code 66
/// when that is the secret's first.
fn opener(path: &str, times: u32) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 64) "{path}")
          (func (export "_start") (local $left i32)
            (local.set $left (i32.const {times}))
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 1))
            (loop $again
              (if (i32.eqz (call $open (i32.const 3) (i32.const 1) (i32.const 64)
                    (i32.const {}) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0)
                    (i32.const 8)))
                (then
                  (i32.store8 (i32.const 16) (i32.const 0))
                  (drop (call $read (i32.load (i32.const 8)) (i32.const 0) (i32.const 1)
                    (i32.const 12)))
                  (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 83))
                    (then (call $exit (i32.const 66))))
                  (drop (call $close (i32.load (i32.const 8))))))
              (local.set $left (i32.sub (local.get $left) (i32.const 1)))
              (br_if $again (local.get $left)))))"#,
        path.len()
    )
}

/// Runs a module while another thread exchanges two names, and says how often that was done.
fn while_exchanging(one: &Path, other: &Path, step: Step) -> u64 {
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchange");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ended = step.run();
        over.store(true, Ordering::Relaxed);
        assert_eq!(ended.code(), 0, "66 is the secret: {ended:?}");
    });
    count.load(Ordering::Relaxed)
}

#[test]
fn f2_no_exchange_of_names_leads_out() {
    let (_field, inside, outside) = field();
    std::fs::write(inside.join("d/secret"), "own").expect("write");
    symlink("../outside", inside.join("link")).expect("symlink");
    let step = Step::wat(&opener("d/secret", 1_000_000)).directory(&inside, "/");
    let count = while_exchanging(&inside.join("d"), &inside.join("link"), step);
    assert!(count > 10_000, "only {count} exchanges");
    assert!(outside.join("secret").exists());
}

#[test]
fn f2_no_directory_moved_away_leads_out() {
    let (_field, inside, outside) = field();
    // `d/e/../../secret` is beneath the grant only while `d/e` is.
    std::fs::create_dir(inside.join("d/e")).expect("mkdir");
    let step = Step::wat(&opener("d/e/../../secret", 200_000)).directory(&inside, "/");
    let count = while_exchanging(&inside.join("d/e"), &outside.join("d"), step);
    assert!(count > 2_000, "only {count} exchanges");
}

#[test]
fn f3_no_magic_link_is_followed() {
    let mut puppet = Puppet::with(Path::new("/proc/self"));
    let magic = [
        "root",
        "root/etc/passwd",
        "cwd",
        "cwd/Cargo.toml",
        "exe",
        "fd/0",
        "fd/1",
        "fd/3",
        "ns/mnt",
        "task/self/root",
    ];
    for path in magic {
        for oflags in [0, DIRECTORY] {
            let opened = puppet.open(path, oflags, rights::READ);
            assert!(opened.is_err(), "{path} was opened");
        }
        assert!(puppet.stat(&format!("{path}/."), FOLLOW).is_err(), "{path}");
    }
    let mut puppet = Puppet::with(Path::new("/proc"));
    for path in ["self/root/etc/passwd", "thread-self/root", "1/root", "self/fd/0", "1/exe"] {
        assert!(puppet.open(path, 0, rights::READ).is_err(), "{path} was opened");
    }
}

#[test]
fn f4_special_files_neither_hang_nor_leak() {
    let (_field, inside, _outside) = field();
    let mode = Mode::from_bits_truncate(0o666);
    let make = |name: &str, kind, device| mknodat(CWD, inside.join(name), kind, mode, device);
    make("fifo", FileType::Fifo, 0).expect("a FIFO");
    let _listener = std::os::unix::net::UnixListener::bind(inside.join("socket")).expect("bind");
    let devices = [
        ("tty", FileType::CharacterDevice, makedev(5, 0)),
        ("console", FileType::CharacterDevice, makedev(5, 1)),
        ("mem", FileType::CharacterDevice, makedev(1, 1)),
        ("loop", FileType::BlockDevice, makedev(7, 0)),
    ];
    let mut special = vec!["fifo", "socket"];
    for (name, kind, device) in devices {
        match make(name, kind, device) {
            Ok(()) => special.push(name),
            Err(error) => eprintln!("{name} is not tried: {error}"),
        }
    }
    let mut puppet = Puppet::with(&inside);
    let before = Instant::now();
    for path in &special {
        for oflags in [0, CREAT, TRUNC, CREAT | TRUNC] {
            for rights in [0, rights::READ, rights::WRITE, rights::READ | rights::WRITE] {
                let opened = puppet.open(path, oflags, rights);
                assert!(opened.is_err(), "{path} was opened with {oflags} and {rights}");
            }
        }
        assert!(puppet.stat(path, FOLLOW).is_ok(), "{path} can be looked at");
    }
    assert_eq!(puppet.open("fifo", 0, rights::READ), Err(errno::NXIO));
    assert!(before.elapsed() < Duration::from_secs(5));
    for (name, minor) in [("null", 3), ("zero", 5), ("urandom", 9)] {
        if make(name, FileType::CharacterDevice, makedev(1, minor)).is_ok() {
            let fd = puppet.open(name, 0, rights::READ | rights::WRITE).expect("it is harmless");
            assert!(puppet.read(fd, 8).is_ok() && puppet.write(fd, b"x").is_ok(), "{name}");
            assert_eq!(puppet.fdstat(fd).map(|stat| stat.kind), Ok(CHARACTER_DEVICE));
        }
    }
    for path in special {
        assert_eq!(puppet.unlink(path), Ok(()), "{path} can be removed");
    }
}

/// Lists descriptor 3 to its end, and exits with 0 if it found as many entries as expected.
fn lister(entries: u32) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_readdir"
            (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 2)
          (func (export "_start") (local $cookie i64) (local $at i32) (local $end i32)
                                  (local $count i32)
            (loop $more
              (if (call $readdir (i32.const 3) (i32.const 65536) (i32.const 65536)
                    (local.get $cookie) (i32.const 0))
                (then (call $exit (i32.const 2))))
              (local.set $at (i32.const 65536))
              (local.set $end (i32.add (i32.const 65536) (i32.load (i32.const 0))))
              (block $cut (loop $next
                (br_if $cut (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
                (br_if $cut (i32.gt_u
                  (i32.add (i32.add (local.get $at) (i32.const 24))
                           (i32.load offset=16 (local.get $at))) (local.get $end)))
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (local.set $cookie (i64.load (local.get $at)))
                (local.set $at (i32.add (i32.add (local.get $at) (i32.const 24))
                           (i32.load offset=16 (local.get $at))))
                (br $next)))
              (br_if $more (i32.eq (i32.load (i32.const 0)) (i32.const 65536))))
            (call $exit (i32.ne (local.get $count) (i32.const {entries})))))"#
    )
}

/// How many entries: a million takes most of a minute to make and to remove.
fn entries() -> u32 {
    if std::env::var_os("WARMSTEP_SOAK").is_some() { 1_000_000 } else { 100_000 }
}

#[test]
fn f7_a_million_entries_cost_no_memory() {
    let count = entries();
    let directory = tempdir().expect("a directory");
    let handle = std::fs::File::open(directory.path()).expect("open");
    let small = Step::wat(&lister(2)).directory(directory.path(), "/").run().success();
    // Second names of a few files are made faster than files; a file has at most 65,000 on ext4.
    let mut first = Vec::new();
    for number in 0..count {
        // Names are bytes: these are no UTF-8.
        let name = [b"\xff".as_slice(), format!("{number:x}").as_bytes()].concat();
        if number % 50_000 == 0 {
            let mode = Mode::from_bits_truncate(0o600);
            mknodat(&handle, &name[..], FileType::RegularFile, mode, 0).expect("a file");
            first = name;
        } else {
            linkat(&handle, &first[..], &handle, &name[..], AtFlags::empty()).expect("a link");
        }
    }
    let large = Step::wat(&lister(count + 2)).directory(directory.path(), "/").run().success();
    let (small, large) = (small.outcome().peak_memory, large.outcome().peak_memory);
    assert!(large < small + (16 << 20), "{large} bytes instead of {small}");
    assert!(large < small + (1 << 20), "nothing is kept: {large} bytes instead of {small}");
}

#[test]
fn f9_a_read_only_grant_is_read_only() {
    let (_field, inside, _outside) = field();
    std::fs::write(inside.join("d/file"), "kept").expect("write");
    symlink("own", inside.join("link")).expect("symlink");
    let before = snapshot(&inside);
    let writable = tempdir().expect("a directory");
    let mut puppet =
        Puppet::start(|step| step.grant(&inside, "/", true).directory(writable.path(), "/out"));
    for rights in [rights::WRITE, rights::ALL, rights::READ | rights::WRITE] {
        for oflags in [0, CREAT, TRUNC, CREAT | EXCL] {
            let opened = puppet.open("own", oflags, rights);
            assert!(matches!(opened, Err(errno::ROFS)), "{rights} {oflags} {opened:?}");
        }
    }
    assert_eq!(puppet.open("own", TRUNC, 0), Err(errno::ROFS));
    assert_eq!(puppet.open("new", CREAT, rights::READ), Err(errno::ROFS));
    assert_eq!(puppet.open("new", CREAT | EXCL, rights::READ), Err(errno::ROFS));
    assert_eq!(puppet.open("own", CREAT | EXCL, rights::READ), Err(errno::EXIST));
    assert!(puppet.open("own", CREAT, rights::READ).is_ok(), "it exists");
    let file = puppet.open("own", 0, rights::READER).expect("open");
    assert_eq!(puppet.read(file, 9), Ok(b"own".to_vec()));
    assert_eq!(puppet.write(file, b"x"), Err(errno::ROFS));
    assert_eq!(puppet.pwrite(file, b"x", 0), Err(errno::ROFS));
    assert_eq!(puppet.call("fd_allocate", &[file.into(), 0, 1]), errno::ROFS);
    assert_eq!(puppet.call("fd_filestat_set_size", &[file.into(), 0]), errno::ROFS);
    assert_eq!(puppet.call("fd_filestat_set_times", &[file.into(), 0, 0, 10]), errno::ROFS);
    assert_eq!(puppet.call("fd_filestat_set_times", &[3, 0, 0, 10]), errno::ROFS);
    for path in ["own", "link", "d", "new"] {
        for flags in [NOFOLLOW, FOLLOW] {
            assert_eq!(puppet.set_times(path, flags, (1, 1), 5), Err(errno::ROFS), "{path}");
        }
        assert_eq!(puppet.mkdir(path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.rmdir(path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.unlink(path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.symlink("x", path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.rename(path, "other"), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.rename("d/file", path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.link("own", path), Err(errno::ROFS), "{path}");
        let (from, to) = ((3, path), (4, "stolen"));
        assert_eq!(puppet.rename_at(from, to), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.link_at(from, 0, to), Err(errno::ROFS), "out of it: {path}");
        assert_eq!(puppet.rename_at((4, "x"), (3, path)), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.link_at((4, "x"), 0, (3, path)), Err(errno::ROFS), "{path}");
    }
    let below =
        puppet.open_at(3, "d", 0, DIRECTORY, (rights::ALL & !rights::WRITE, rights::ALL), 0);
    let below = below.expect("a directory beneath it can be opened");
    assert_eq!(puppet.on_path("path_unlink_file", below, "file"), Err(errno::ROFS));
    let opened = puppet.open_at(below, "file", 0, 0, (rights::WRITE, 0), 0);
    assert_eq!(opened, Err(errno::ROFS), "and what is beneath that");
    let fdstat = puppet.fdstat(3).expect("fdstat");
    assert_eq!(fdstat.inheriting & rights::WRITE, 0, "the rights say so too");
    assert_eq!(snapshot(&inside), before);
}

#[test]
fn the_process_holds_no_descriptor_that_is_not_the_modules() {
    let (_field, inside, _outside) = field();
    let mut puppet = Puppet::with(&inside);
    assert_eq!(puppet.call("sched_yield", &[]), 0, "the module runs");
    let list = std::fs::read_dir(format!("/proc/{}/fd", puppet.id())).expect("it runs");
    let targets: Vec<_> = list
        .filter_map(|entry| std::fs::read_link(entry.expect("an entry").path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    // Three of its own, the grant, the connection, and what a backtrace is made from: the image with
    // the names, and a large module itself.
    let lent = |name: &str| targets.iter().filter(|target| target.ends_with(name)).count();
    assert!(lent("/image") == 1 && lent("/module") <= 1, "{targets:?}");
    assert_eq!(targets.len() - lent("/image") - lent("/module"), 5, "{targets:?}");
    assert!(targets.iter().any(|target| Path::new(target) == inside), "{targets:?}");
}
