//! The functions of preview 1 on descriptors, each with what makes it fail.

mod support;

use std::path::Path;

use support::calls::*;
use support::contents;
use support::puppet::Puppet;
use tempfile::{TempDir, tempdir};

fn puppet() -> (Puppet, TempDir) {
    let directory = tempdir().expect("a directory");
    (Puppet::with(directory.path()), directory)
}

/// A file with the writer's rights, beneath descriptor 3.
fn file(puppet: &mut Puppet, name: &str) -> u32 {
    puppet.open(name, CREAT, rights::WRITER).expect("the file can be created")
}

#[test]
fn fd_advise() {
    let (mut puppet, _directory) = puppet();
    let fd = file(&mut puppet, "file");
    for advice in 0..=5 {
        assert_eq!(puppet.call("fd_advise", &[fd.into(), 10, 50, advice]), 0);
    }
    assert_eq!(puppet.fstat(fd).expect("stat").size, 0, "advice does not change the size");
    assert_eq!(puppet.call("fd_advise", &[fd.into(), 0, 0, 6]), errno::INVAL);
    assert_eq!(puppet.call("fd_advise", &[fd.into(), u64::MAX, 1, 0]), errno::INVAL);
    assert_eq!(puppet.call("fd_advise", &[3, 0, 0, 0]), errno::BADF);
    assert_eq!(puppet.call("fd_advise", &[77, 0, 0, 0]), errno::BADF);
}

#[test]
fn fd_allocate() {
    let (mut puppet, directory) = puppet();
    let fd = file(&mut puppet, "file");
    for (offset, length, size) in [(0, 100, 100), (10, 10, 100), (90, 20, 110)] {
        assert_eq!(puppet.call("fd_allocate", &[fd.into(), offset, length]), 0);
        assert_eq!(puppet.fstat(fd).expect("stat").size, size);
    }
    assert_eq!(contents(&directory.path().join("file")), [0; 110]);
    assert_eq!(puppet.call("fd_allocate", &[fd.into(), 0, 0]), errno::INVAL);
    assert_eq!(puppet.call("fd_allocate", &[fd.into(), u64::MAX, 1]), errno::INVAL);
    assert_eq!(puppet.call("fd_allocate", &[3, 0, 1]), errno::ISDIR);
    let reader = puppet.open("file", 0, rights::READER).expect("open");
    assert_eq!(puppet.call("fd_allocate", &[reader.into(), 0, 1]), errno::NOTCAPABLE);
}

#[test]
fn fd_close() {
    let (mut puppet, _directory) = puppet();
    let fd = file(&mut puppet, "file");
    assert_eq!(puppet.close(fd), Ok(()));
    assert_eq!(puppet.close(fd), Err(errno::BADF));
    assert_eq!(puppet.fdstat(fd), Err(errno::BADF));
    assert_eq!(puppet.close(u32::MAX), Err(errno::BADF));
    let again = file(&mut puppet, "other");
    assert_eq!(again, fd, "the lowest free number is given");
}

#[test]
fn fd_close_of_a_preopen_leaves_what_was_opened_beneath() {
    let (mut puppet, _directory) = puppet();
    let below = puppet.open(".", DIRECTORY, rights::ALL & !rights::WRITE).expect("open");
    assert_eq!(puppet.close(3), Ok(()));
    assert_eq!(puppet.fdstat(3), Err(errno::BADF));
    assert_eq!(puppet.call("fd_prestat_get", &[3, 4096]), errno::BADF);
    assert_eq!(puppet.fdstat(below).map(|stat| stat.kind), Ok(DIRECTORY_TYPE));
    let opened = puppet.open_at(below, "x", NOFOLLOW, CREAT, (rights::WRITER, 0), 0);
    assert_eq!(opened, Ok(3), "its number is free");
}

#[test]
fn fd_sync_and_fd_datasync() {
    let (mut puppet, _directory) = puppet();
    let fd = file(&mut puppet, "file");
    for name in ["fd_sync", "fd_datasync"] {
        assert_eq!(puppet.call(name, &[fd.into()]), 0);
        assert_eq!(puppet.call(name, &[3]), 0, "a directory can be synced");
        assert_eq!(puppet.call(name, &[99]), errno::BADF);
    }
}

#[test]
fn fd_fdstat_get() {
    let (mut puppet, _directory) = puppet();
    let root = puppet.fdstat(3).expect("fdstat");
    assert_eq!((root.kind, root.flags), (DIRECTORY_TYPE, 0));
    assert_eq!(root.base & (rights::READ | rights::WRITE | rights::SEEK | rights::SET_SIZE), 0);
    assert_ne!(root.base & rights::PATH_SET_SIZE, 0);
    assert_eq!(root.inheriting & rights::WRITER, rights::WRITER);
    let fd = puppet.open("file", CREAT, rights::READ | rights::WRITE).expect("open");
    let stat = puppet.fdstat(fd).expect("fdstat");
    assert_eq!((stat.kind, stat.base), (REGULAR_FILE, rights::READ | rights::WRITE));
    assert_eq!(puppet.fdstat(0).expect("fdstat").kind, SOCKET);
    assert_eq!(puppet.fdstat(500), Err(errno::BADF));
    assert_eq!(puppet.call("fd_fdstat_get", &[3, (64 << 16) - 8]), errno::FAULT);
}

#[test]
fn fd_fdstat_set_flags() {
    let (mut puppet, _directory) = puppet();
    let asked = (rights::WRITER, 0);
    let fd = puppet.open_at(3, "file", NOFOLLOW, CREAT, asked, APPEND).expect("open");
    assert_eq!(puppet.write(fd, &[0; 100]), Ok(100));
    puppet.seek(fd, 0, 0).expect("seek");
    assert_eq!(puppet.write(fd, &[1; 100]), Ok(100), "it is appended");
    assert_eq!(puppet.fstat(fd).expect("stat").size, 200);
    assert_eq!(puppet.call("fd_fdstat_set_flags", &[fd.into(), 0]), 0);
    puppet.seek(fd, 0, 0).expect("seek");
    assert_eq!(puppet.write(fd, &[2; 100]), Ok(100), "it is written over the beginning");
    assert_eq!(puppet.fstat(fd).expect("stat").size, 200);
    let all = u64::from(APPEND | NONBLOCK | SYNC);
    assert_eq!(puppet.call("fd_fdstat_set_flags", &[fd.into(), all]), 0);
    assert_eq!(puppet.fdstat(fd).map(|stat| u64::from(stat.flags)), Ok(all));
    assert_eq!(puppet.write(fd, b"synced"), Ok(6));
    assert_eq!(puppet.call("fd_fdstat_set_flags", &[fd.into(), 32]), errno::INVAL);
    assert_eq!(puppet.call("fd_fdstat_set_flags", &[fd.into(), 1 << 16]), errno::INVAL);
}

#[test]
fn fd_fdstat_set_rights() {
    let (mut puppet, _directory) = puppet();
    let some = rights::READ | rights::WRITE | rights::SEEK | rights::TELL;
    let fd = puppet.open("file", CREAT, some).expect("open");
    puppet.write(fd, &[0, 1, 2, 3]).expect("write");
    puppet.seek(fd, 0, 0).expect("seek");
    assert_eq!(puppet.read(fd, 4), Ok(vec![0, 1, 2, 3]));
    let fewer = rights::SEEK | rights::TELL;
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[fd.into(), fewer, 0]), 0);
    assert_eq!(puppet.fdstat(fd).map(|stat| (stat.base, stat.inheriting)), Ok((fewer, 0)));
    assert_eq!(puppet.read(fd, 4), Err(errno::NOTCAPABLE));
    assert_eq!(puppet.write(fd, &[1]), Err(errno::NOTCAPABLE));
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[fd.into(), some, 0]), errno::NOTCAPABLE);
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[fd.into(), 0, 1]), errno::NOTCAPABLE);
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[88, 0, 0]), errno::BADF);
}

#[test]
fn fd_filestat_get_and_set() {
    let (mut puppet, directory) = puppet();
    let fd = file(&mut puppet, "file");
    let stat = puppet.fstat(fd).expect("stat");
    assert_eq!((stat.kind, stat.size, stat.links), (REGULAR_FILE, 0, 1));
    assert_eq!(puppet.call("fd_filestat_set_size", &[fd.into(), 100]), 0);
    let (set, now) = ([1, 4], [2, 8]);
    let modified = stat.modified - 100;
    let arguments = [fd.into(), modified, modified, set[1]];
    assert_eq!(puppet.call("fd_filestat_set_times", &arguments), 0);
    let changed = puppet.fstat(fd).expect("stat");
    assert_eq!((changed.size, changed.modified), (100, modified));
    assert_eq!(changed.accessed, stat.accessed);
    assert_eq!(puppet.call("fd_filestat_set_times", &[fd.into(), 5, 0, set[0]]), 0);
    assert_eq!(puppet.fstat(fd).map(|stat| (stat.accessed, stat.modified)), Ok((5, modified)));
    assert_eq!(puppet.call("fd_filestat_set_times", &[fd.into(), 0, 0, now[0] | now[1]]), 0);
    let changed = puppet.fstat(fd).expect("stat");
    assert!(changed.accessed > modified && changed.modified > modified);
    for wrong in [set[0] | now[0], set[1] | now[1], 16] {
        let arguments = [fd.into(), 100, 200, wrong];
        assert_eq!(puppet.call("fd_filestat_set_times", &arguments), errno::INVAL);
    }
    assert_eq!(puppet.call("fd_filestat_set_size", &[fd.into(), 3]), 0);
    assert_eq!(contents(&directory.path().join("file")).len(), 3);
    assert_eq!(puppet.call("fd_filestat_set_size", &[fd.into(), u64::MAX]), errno::INVAL);
    assert_eq!(puppet.call("fd_filestat_set_size", &[3, 0]), errno::ISDIR);
    assert_eq!(puppet.fstat(77), Err(errno::BADF));
    let reader = puppet.open("file", 0, rights::READ).expect("open");
    assert_eq!(puppet.call("fd_filestat_set_size", &[reader.into(), 0]), errno::NOTCAPABLE);
}

#[test]
fn fd_pread_and_fd_pwrite() {
    let (mut puppet, _directory) = puppet();
    let fd = file(&mut puppet, "file");
    assert_eq!(puppet.pwrite(fd, &[0, 1, 2, 3], 0), Ok(4));
    assert_eq!(puppet.pread(fd, 4, 0), Ok(vec![0, 1, 2, 3]));
    assert_eq!(puppet.pread(fd, 4, 2), Ok(vec![2, 3]));
    assert_eq!(puppet.pread(fd, 4, 4), Ok(vec![]));
    assert_eq!(puppet.pwrite(fd, &[1, 0], 2), Ok(2));
    assert_eq!(puppet.pread(fd, 4, 0), Ok(vec![0, 1, 1, 0]));
    assert_eq!(puppet.tell(fd), Ok(0), "the position does not move");
    assert_eq!(puppet.pread(fd, 4, u64::MAX), Err(errno::INVAL));
    assert_eq!(puppet.pwrite(fd, &[1], 1 << 63), Err(errno::INVAL));
    assert_eq!(puppet.pread(3, 4, 0), Err(errno::ISDIR));
    assert_eq!(puppet.pwrite(3, &[1], 0), Err(errno::ISDIR));
}

#[test]
fn fd_prestat() {
    let directory = tempdir().expect("a directory");
    let names = ["/", "/data", "relative/ä", ""];
    let mut puppet = Puppet::start(|step| {
        names.iter().fold(step, |step, name| step.directory(directory.path(), name))
    });
    for (name, fd) in names.iter().zip(3..) {
        let (record, buffer) = (puppet.room(8), puppet.room(32));
        assert_eq!(puppet.call("fd_prestat_get", &[fd, record.into()]), 0);
        let bytes = puppet.peek(record, 8);
        assert_eq!((bytes[0], u32_at(&bytes, 4) as usize), (0, name.len()));
        let arguments = [fd, buffer.into(), name.len() as u64];
        assert_eq!(puppet.call("fd_prestat_dir_name", &arguments), 0);
        assert_eq!(puppet.peek(buffer, name.len()), name.as_bytes());
        assert_eq!(puppet.call("fd_prestat_dir_name", &[fd, buffer.into(), 32]), 0);
        if !name.is_empty() {
            let arguments = [fd, buffer.into(), name.len() as u64 - 1];
            assert_eq!(puppet.call("fd_prestat_dir_name", &arguments), errno::NAMETOOLONG);
        }
    }
    for fd in [0, 1, 2, 7] {
        assert_eq!(puppet.call("fd_prestat_get", &[fd, 4096]), errno::BADF);
        assert_eq!(puppet.call("fd_prestat_dir_name", &[fd, 4096, 9]), errno::BADF);
    }
}

#[test]
fn fd_read_and_fd_write() {
    let (mut puppet, directory) = puppet();
    let fd = puppet.open("file", CREAT, rights::WRITE).expect("open");
    assert_eq!(puppet.write(fd, &[1; 50]), Ok(50));
    assert_eq!(puppet.read(fd, 9), Err(errno::NOTCAPABLE));
    let fd = puppet.open("file", 0, rights::READ).expect("open");
    assert_eq!(puppet.read(fd, 100), Ok(vec![1; 50]));
    assert_eq!(puppet.read(fd, 100), Ok(vec![]));
    assert_eq!(puppet.write(fd, &[1]), Err(errno::NOTCAPABLE));
    assert_eq!(puppet.read(3, 1), Err(errno::ISDIR));
    assert_eq!(puppet.write(3, &[1]), Err(errno::ISDIR));
    assert_eq!(puppet.read(66, 1), Err(errno::BADF));
    assert_eq!(puppet.write(66, &[1]), Err(errno::BADF));
    assert_eq!(contents(&directory.path().join("file")), [1; 50]);
}

#[test]
fn buffers_outside_the_memory_are_refused() {
    let (mut puppet, _directory) = puppet();
    let fd = file(&mut puppet, "file");
    let end = 64_u32 << 16;
    let wrong: [(u32, u32); 4] = [(end, 1), (end - 1, 2), (u32::MAX, 1), (8192, u32::MAX)];
    for (at, length) in wrong {
        let list = puppet.put(&[at.to_le_bytes(), length.to_le_bytes()].concat());
        let out = puppet.room(4);
        let plain = [fd.into(), list.into(), 1, out.into()];
        let placed = [fd.into(), list.into(), 1, 0, out.into()];
        for name in ["fd_read", "fd_write"] {
            assert_eq!(puppet.call(name, &plain), errno::FAULT, "{name} {at} {length}");
        }
        for name in ["fd_pread", "fd_pwrite"] {
            assert_eq!(puppet.call(name, &placed), errno::FAULT, "{name} {at} {length}");
        }
    }
    let list = puppet.room(8);
    for count in [u64::from(u32::MAX), 1 << 29, 1 << 20] {
        let arguments = [fd.into(), list.into(), count, u64::from(list)];
        assert_eq!(puppet.call("fd_write", &arguments), errno::FAULT, "{count} buffers");
    }
    let arguments = [fd.into(), list.into(), 1, u64::from(end) - 3];
    assert_eq!(puppet.call("fd_write", &arguments), errno::FAULT, "the result does not fit");
    assert_eq!(puppet.fstat(fd).expect("stat").size, 0, "nothing was written");
}

#[test]
fn many_buffers_are_a_short_write() {
    let (mut puppet, directory) = puppet();
    let fd = file(&mut puppet, "file");
    let byte = puppet.put(b"x");
    let list: Vec<u8> = [byte.to_le_bytes(), 1_u32.to_le_bytes()].concat().repeat(3000);
    let list = puppet.put(&list);
    let out = puppet.room(4);
    assert_eq!(puppet.call("fd_write", &[fd.into(), list.into(), 3000, out.into()]), 0);
    let written = u32_at(&puppet.peek(out, 4), 0);
    assert_eq!(written, 1024);
    assert_eq!(contents(&directory.path().join("file")), [b'x'; 1024]);
}

#[test]
fn fd_readdir() {
    let (mut puppet, directory) = puppet();
    puppet.mkdir("d").expect("mkdir");
    let fd = puppet.open("d", DIRECTORY, rights::READDIR | rights::STAT).expect("open");
    let inode = puppet.fstat(fd).expect("stat").inode;
    let (mut entries, used) = puppet.readdir(fd, 256, 0).expect("readdir");
    assert_eq!(used, 2 * 24 + 3);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(entries[0].name, b".");
    assert_eq!((entries[0].kind, entries[0].inode), (DIRECTORY_TYPE, inode));
    assert_eq!((&entries[1].name[..], entries[1].kind), (&b".."[..], DIRECTORY_TYPE));

    puppet.create("d/file");
    puppet.symlink("file", "d/link").expect("symlink");
    let names = puppet.list(fd, 256);
    assert_eq!(names.len(), 4);
    let found = |name: &[u8]| names.iter().find(|entry| entry.name == name).expect("it is there");
    assert_eq!(found(b"file").kind, REGULAR_FILE);
    assert_eq!(found(b"file").inode, puppet.stat("d/file", 0).expect("stat").inode);
    assert_eq!(found(b"link").kind, SYMBOLIC_LINK);
    for (place, entry) in names.iter().enumerate() {
        let (rest, _) = puppet.readdir(fd, 4096, entry.next).expect("readdir");
        let rest: Vec<_> = rest.into_iter().map(|entry| entry.name).collect();
        let expected: Vec<_> = names[place + 1..].iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(rest, expected, "from the cookie of {place}");
    }
    for room in [0, 1, 24, 25, 40] {
        let (_, used) = puppet.readdir(fd, room, 0).expect("readdir");
        assert_eq!(used, room, "an entry that does not fit is cut");
    }
    assert_eq!(puppet.readdir(4444, 64, 0).map(drop), Err(errno::BADF));
    let file = puppet.open("d/file", 0, rights::ALL).expect("open");
    assert_eq!(puppet.readdir(file, 64, 0).map(drop), Err(errno::NOTDIR));
    assert!(directory.path().join("d/link").is_symlink());
}

#[test]
fn fd_readdir_of_a_grant_hides_what_is_above() {
    let (mut puppet, _directory) = puppet();
    let own = puppet.fstat(3).expect("stat").inode;
    let names = puppet.list(3, 512);
    let above = names.iter().find(|entry| entry.name == b"..").expect("it is there");
    assert_eq!(above.inode, own);
}

#[test]
fn fd_readdir_of_a_thousand() {
    let (mut puppet, directory) = puppet();
    for number in 0..1000 {
        std::fs::write(directory.path().join(format!("file.{number}")), "").expect("write");
    }
    for room in [256, 4096, 100_000] {
        let mut names: Vec<_> = puppet.list(3, room).into_iter().map(|entry| entry.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1002, "with a buffer of {room}");
    }
}

#[test]
fn fd_renumber() {
    let (mut puppet, _directory) = puppet();
    let (from, to) = (file(&mut puppet, "a"), file(&mut puppet, "b"));
    puppet.write(from, b"a").expect("write");
    let before = puppet.fdstat(from).expect("fdstat");
    let inode = puppet.fstat(from).expect("stat").inode;
    assert_eq!(puppet.call("fd_renumber", &[from.into(), to.into()]), 0);
    assert_eq!(puppet.close(from), Err(errno::BADF));
    assert_eq!(puppet.fdstat(to), Ok(before));
    assert_eq!(puppet.fstat(to).expect("stat").inode, inode);
    assert_eq!(puppet.call("fd_renumber", &[to.into(), from.into()]), errno::BADF);
    assert_eq!(puppet.call("fd_renumber", &[from.into(), to.into()]), errno::BADF);
    assert_eq!(puppet.call("fd_renumber", &[to.into(), to.into()]), 0);
    assert_eq!(puppet.call("fd_renumber", &[to.into(), 3]), 0, "over a grant");
    assert_eq!(puppet.call("fd_prestat_get", &[3, 4096]), errno::BADF);
    assert_eq!(puppet.call("fd_renumber", &[2, 3]), 0, "of standard error");
    assert_eq!(puppet.fdstat(2), Err(errno::BADF));
    assert!(puppet.fdstat(3).is_ok());
}

#[test]
fn fd_seek_and_fd_tell() {
    let (mut puppet, _directory) = puppet();
    let fd = file(&mut puppet, "file");
    let (set, current, end) = (0, 1, 2);
    assert_eq!(puppet.tell(fd), Ok(0));
    puppet.write(fd, &[0; 100]).expect("write");
    assert_eq!(puppet.tell(fd), Ok(100));
    assert_eq!(puppet.seek(fd, -50, current), Ok(50));
    assert_eq!(puppet.seek(fd, 0, set), Ok(0));
    assert_eq!(puppet.seek(fd, 1000, current), Ok(1000), "beyond the end");
    assert_eq!(puppet.seek(fd, -2000, current), Err(errno::INVAL));
    assert_eq!(puppet.seek(fd, -1, set), Err(errno::INVAL));
    assert_eq!(puppet.seek(fd, -10, end), Ok(90));
    assert_eq!(puppet.seek(fd, 0, 3), Err(errno::INVAL));
    assert_eq!(puppet.seek(99, 0, set), Err(errno::BADF));
    for whence in [set, current, end] {
        assert_eq!(puppet.seek(3, 0, whence), Err(errno::ISDIR));
    }
    assert_eq!(puppet.tell(3), Err(errno::ISDIR));
    assert_eq!(puppet.seek(2, 0, current), Err(errno::SPIPE), "standard error is a pipe here");
    assert_eq!(puppet.tell(2), Err(errno::SPIPE));
    let teller = puppet.open("file", 0, rights::TELL | rights::SEEK).expect("open");
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[teller.into(), rights::TELL, 0]), 0);
    assert_eq!(puppet.seek(teller, 0, current), Ok(0), "which is to tell");
    assert_eq!(puppet.seek(teller, 0, set), Err(errno::NOTCAPABLE));
}

#[test]
fn a_grant_that_is_missing_is_named() {
    let ended = support::Step::wat("(module (func (export \"_start\")))")
        .directory(Path::new("/no/such/directory"), "/")
        .run();
    assert_eq!(ended.code(), 126);
    assert!(ended.stderr.contains("/no/such/directory"), "{}", ended.stderr);
}
