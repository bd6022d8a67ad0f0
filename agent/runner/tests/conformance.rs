//! Facts of the official conformance suite for preview 1 that no other test here asserts.
//!
//! README.md beside this file names the suite's 72 programs, and for each the tests that assert what
//! it does.

mod support;

use support::calls::*;
use support::puppet::{Puppet, Strings};
use support::{Step, contents};
use tempfile::{TempDir, tempdir};

fn puppet() -> (Puppet, TempDir) {
    let directory = tempdir().expect("a directory");
    (Puppet::with(directory.path()), directory)
}

#[test]
fn what_is_written_is_read_at_once_through_another_descriptor() {
    let (mut puppet, _directory) = puppet();
    let reader = puppet.open("file", CREAT, rights::READ).expect("open");
    let writer = puppet.open("file", 0, rights::WRITE).expect("open");
    assert_eq!(puppet.read(reader, 1), Ok(vec![]));
    assert_eq!(puppet.write(writer, &[1]), Ok(1));
    assert_eq!(puppet.read(reader, 1), Ok(vec![1]));
}

#[test]
fn reading_and_writing_share_a_position() {
    let (mut puppet, _directory) = puppet();
    let fd = puppet.open("file", CREAT, rights::WRITER).expect("open");
    puppet.write(fd, &[1; 50]).expect("write");
    puppet.seek(fd, 0, 0).expect("seek");
    assert_eq!(puppet.read(fd, 100), Ok(vec![1; 50]));
    assert_eq!(puppet.tell(fd), Ok(50));
    assert_eq!(puppet.write(fd, &[2; 25]), Ok(25));
    assert_eq!(puppet.fstat(fd).expect("stat").size, 75);
    puppet.seek(fd, 0, 0).expect("seek");
    assert_eq!(puppet.read(fd, 4), Ok(vec![1; 4]));
    assert_eq!(puppet.tell(fd), Ok(4));
    assert_eq!(puppet.read(fd, 1), Ok(vec![1]));
    assert_eq!(puppet.seek(fd, 0, 1), Ok(5));
    assert_eq!(puppet.seek(fd, 0, 2), Ok(75));
}

#[test]
fn appending_goes_to_the_end_and_placed_writes_move_nothing() {
    let (mut puppet, directory) = puppet();
    let asked = (rights::WRITER, 0);
    let fd = puppet.open_at(3, "file", 0, CREAT | TRUNC, asked, APPEND).expect("open");
    assert_eq!(puppet.write(fd, b"ab"), Ok(2));
    assert_eq!(puppet.seek(fd, 0, 0), Ok(0));
    assert_eq!(puppet.read(fd, 9), Ok(b"ab".to_vec()));
    assert_eq!(puppet.seek(fd, 0, 0), Ok(0));
    assert_eq!(puppet.write(fd, b"cd"), Ok(2));
    assert_eq!(puppet.tell(fd), Ok(4));
    assert_eq!(puppet.pwrite(fd, b"xyz", 0), Ok(3));
    assert_eq!(puppet.tell(fd), Ok(4), "the position does not move");
    // POSIX has it written at 0, Linux at the end.
    let held = contents(&directory.path().join("file"));
    assert!(held == b"xyzd" || held == b"abcdxyz", "{held:?}");
    assert_eq!(puppet.call("fd_fdstat_set_flags", &[fd.into(), 0]), 0);
    puppet.seek(fd, 0, 0).expect("seek");
    puppet.write(fd, b"12").expect("write");
    puppet.seek(fd, 0, 0).expect("seek");
    assert_eq!(puppet.read(fd, 2), Ok(b"12".to_vec()), "it is no longer appended");
}

#[test]
fn placed_reads_and_writes_take_many_buffers() {
    let (mut puppet, _directory) = puppet();
    let fd = puppet.open("file", CREAT, rights::WRITER).expect("open");
    let (bytes, done) = (puppet.put(&[0, 1, 2, 3]), puppet.room(4));
    let pair = |at: u32| [at, 2, at + 2, 2].map(u32::to_le_bytes).concat();
    let list = puppet.put(&pair(bytes));
    let mut arguments = [fd.into(), list.into(), 2, 0, done.into()];
    assert_eq!(puppet.call("fd_pwrite", &arguments), 0);
    assert_eq!(u32_at(&puppet.peek(done, 4), 0), 4);
    let room = puppet.put(&[9; 4]);
    arguments[1] = puppet.put(&pair(room)).into();
    assert_eq!(puppet.call("fd_pread", &arguments), 0);
    assert_eq!(puppet.peek(room, 4), [0, 1, 2, 3]);
    arguments[3] = 1;
    assert_eq!(puppet.call("fd_pread", &arguments), 0);
    assert_eq!(u32_at(&puppet.peek(done, 4), 0), 3, "the second is filled in part");
    assert_eq!(puppet.peek(room, 4), [1, 2, 3, 3]);
}

#[test]
fn a_hard_link_opens_as_the_file_does() {
    let (mut puppet, _directory) = puppet();
    puppet.create("file");
    puppet.link("file", "link").expect("link");
    let [file, link] = ["file", "link"].map(|name| {
        puppet.open_at(3, name, 0, 0, (rights::READER, rights::READ), 0).expect("open")
    });
    assert_eq!(puppet.fdstat(file), puppet.fdstat(link));
    assert_eq!(puppet.fstat(file), puppet.fstat(link));
}

#[test]
fn a_clocks_precision_may_be_asked_for() {
    let mut puppet = Puppet::start(|step| step);
    let out = puppet.room(8);
    assert_eq!(puppet.call("clock_time_get", &[1, 1, out.into()]), 0);
    assert!(u64_at(&puppet.peek(out, 8), 0) > 0);
}

#[test]
fn names_can_be_made_again() {
    let (mut puppet, _directory) = puppet();
    puppet.create("file");
    let held = puppet.open("file", 0, rights::READ).expect("open");
    puppet.unlink("file").expect("unlink");
    let again = puppet.open("file", CREAT | EXCL, rights::WRITER).expect("it is free again");
    assert_ne!(puppet.fstat(held).expect("stat").inode, puppet.fstat(again).expect("stat").inode);
    puppet.mkdir("d").expect("mkdir");
    let held = puppet.open("d", DIRECTORY, rights::STAT).expect("open");
    assert_eq!(puppet.rmdir("d"), Ok(()), "an open directory can be removed");
    assert_eq!(puppet.mkdir("d"), Ok(()));
    assert_eq!(puppet.fstat(held).map(|stat| stat.kind), Ok(DIRECTORY_TYPE));
}

#[test]
fn files_of_a_directory_have_one_device_and_inodes_of_their_own() {
    let (mut puppet, _directory) = puppet();
    puppet.create("a");
    puppet.create("b");
    let (a, b) = (puppet.stat("a", 0).expect("stat"), puppet.stat("b", 0).expect("stat"));
    assert_eq!(a.device, b.device);
    assert_ne!(a.inode, b.inode);
    for entry in puppet.list(3, 256) {
        let expected = match &entry.name[..] {
            b"a" => a.inode,
            b"b" => b.inode,
            _ => continue,
        };
        assert_eq!(entry.inode, expected, "as it is listed");
    }
}

#[test]
fn a_directory_takes_the_place_of_a_grant() {
    let (mut puppet, _directory) = puppet();
    puppet.mkdir("d").expect("mkdir");
    let fd = puppet.open("d", DIRECTORY, rights::ALL & !rights::WRITE).expect("open");
    let before = puppet.fstat(fd).expect("stat");
    assert_eq!(puppet.call("fd_renumber", &[fd.into(), 3]), 0);
    let after = puppet.fstat(3).expect("it is open");
    assert_eq!((after.device, after.inode), (before.device, before.inode));
    assert_eq!(puppet.fdstat(fd), Err(errno::BADF));
    assert_eq!(puppet.close(3), Ok(()));
}

#[test]
fn each_standard_descriptor_can_be_renumbered() {
    // The test itself talks to the module over one of them.
    let ways = [(Strings::Stdout, &[0, 2][..]), (Strings::Stdin, &[1])];
    for (strings, numbers) in ways {
        let directory = tempdir().expect("a directory");
        let path = directory.path().to_owned();
        let mut puppet =
            Puppet::start_as("wasi_snapshot_preview1", strings, |step| step.directory(&path, "/"));
        for number in numbers {
            let fd = puppet.open("file", CREAT, rights::WRITER).expect("open");
            let kind = puppet.fdstat(*number).expect("it is open").kind;
            assert_eq!(puppet.call("fd_renumber", &[u64::from(*number), fd.into()]), 0);
            assert_eq!(puppet.fdstat(fd).map(|stat| stat.kind), Ok(kind), "{number}");
            assert_eq!(puppet.fdstat(*number), Err(errno::BADF), "{number}");
            assert_eq!(puppet.unlink("file"), Ok(()));
        }
    }
}

#[test]
fn a_granted_directory_has_every_right_that_libraries_ask_for() {
    let (mut puppet, _directory) = puppet();
    let root = puppet.fdstat(3).expect("fdstat");
    // From path_create_directory (bit 9) to path_unlink_file (26), but for changing sizes.
    let sizes = rights::PATH_SET_SIZE | rights::SET_SIZE;
    let directory = (9..=26).map(|bit| 1 << bit).sum::<u64>() & !sizes;
    assert_eq!(root.base & directory, directory);
    let wanted = directory | rights::WRITER | rights::POLL | rights::DATASYNC | rights::SYNC;
    assert_eq!(root.inheriting & wanted, wanted);
    assert_eq!(root.base & rights::SET_SIZE, 0);
}

#[test]
fn truncating_by_name_needs_the_directorys_right_alone() {
    let (mut puppet, directory) = puppet();
    std::fs::write(directory.path().join("file"), "long").expect("write");
    let root = puppet.fdstat(3).expect("fdstat");
    let inheriting = root.inheriting & !rights::SET_SIZE;
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[3, root.base, inheriting]), 0);
    assert!(puppet.open_at(3, "file", 0, TRUNC, (0, 0), 0).is_ok());
    assert_eq!(contents(&directory.path().join("file")), b"");
    let base = root.base & !rights::PATH_SET_SIZE;
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[3, base, inheriting]), 0);
    assert_eq!(puppet.fdstat(3).expect("fdstat").base & rights::PATH_SET_SIZE, 0);
    assert_eq!(puppet.open_at(3, "file", 0, TRUNC, (0, 0), 0), Err(errno::NOTCAPABLE));
}

#[test]
fn a_short_link_leaves_the_rest_of_the_buffer() {
    let (mut puppet, _directory) = puppet();
    puppet.symlink("target", "link").expect("symlink");
    let (path, buffer, used) = (puppet.put(b"link"), puppet.put(&[7; 10]), puppet.room(4));
    let arguments = [3, path.into(), 4, buffer.into(), 10, used.into()];
    assert_eq!(puppet.call("path_readlink", &arguments), 0);
    assert_eq!(u32_at(&puppet.peek(used, 4), 0), 6);
    assert_eq!(puppet.peek(buffer, 10), b"target\x07\x07\x07\x07");
}

#[test]
fn times_that_are_refused_change_nothing() {
    let (mut puppet, _directory) = puppet();
    puppet.create("file");
    assert_eq!(puppet.set_times("file", 0, (1000, 2000), 5), Ok(()));
    for wrong in [3, 12] {
        assert_eq!(puppet.set_times("file", 0, (7, 8), wrong), Err(errno::INVAL));
    }
    let stat = puppet.stat("file", 0).expect("stat");
    assert_eq!((stat.accessed, stat.modified), (1000, 2000));
}

#[test]
fn advice_and_room_go_together() {
    let (mut puppet, _directory) = puppet();
    let fd = puppet.open("file", CREAT, rights::WRITER).expect("open");
    assert_eq!(puppet.call("fd_filestat_set_size", &[fd.into(), 100]), 0);
    assert_eq!(puppet.call("fd_advise", &[fd.into(), 10, 50, 0]), 0);
    assert_eq!(puppet.fstat(fd).expect("stat").size, 100);
    assert_eq!(puppet.call("fd_allocate", &[fd.into(), 100, 100]), 0);
    assert_eq!(puppet.fstat(fd).expect("stat").size, 200);
}

#[test]
fn without_a_grant_there_is_no_directory() {
    let mut puppet = Puppet::start(|step| step);
    assert_eq!(puppet.call("fd_prestat_get", &[3, 4096]), errno::BADF);
    assert_eq!(puppet.open("file", 0, rights::READ), Err(errno::BADF));
    assert_eq!(puppet.call("sock_shutdown", &[3, 1]), errno::BADF);
}

#[test]
fn standard_output_is_written_to() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\10\00\00\00\05\00\00\00")
      (data (i32.const 16) "hello")
      (func (export "_start")
        (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let ended = Step::wat(wat).run();
    assert_eq!((ended.code(), &ended.stdout[..]), (0, &b"hello"[..]));
}

#[test]
fn the_table_names_tests_that_exist() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let table = std::fs::read_to_string(here.join("README.md")).expect("it can be read");
    let mut programs = 0;
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (program, tests) = row.split_once("` | ").expect("two columns");
        programs += 1;
        for file in tests.trim_end_matches(" |").split("; ") {
            let (file, names) = file.split_once(": ").expect("a file and its tests");
            let text = std::fs::read_to_string(here.join(file).with_extension("rs"));
            let text = text.unwrap_or_else(|error| panic!("{program}: {file}: {error}"));
            // What is in brackets is a remark.
            for name in names.split(" (").next().unwrap_or(names).split(", ") {
                let function = match name.strip_suffix('…') {
                    Some(beginning) => format!("fn {beginning}"),
                    None => format!("fn {name}()"),
                };
                assert!(text.contains(&function), "{program}: {file} has no {name}");
            }
        }
    }
    assert_eq!(programs, 72);
}
