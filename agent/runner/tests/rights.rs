//! Rights: what a module gave up is refused, on the descriptor and beneath it.
//!
//! What it never asked for is not: programs ask for too little, and other runtimes let them. Reading
//! and writing are the exception, as the descriptor is opened for what was asked.

mod support;

use support::calls::*;
use support::puppet::Puppet;
use tempfile::tempdir;

/// A call on a file, and the right that it needs.
type FileCall = (&'static str, u64, fn(&mut Puppet, u32) -> u16);

const ON_A_FILE: &[FileCall] = &[
    ("fd_datasync", rights::DATASYNC, |puppet, fd| puppet.call("fd_datasync", &[fd.into()])),
    ("fd_read", rights::READ, |puppet, fd| error(puppet.read(fd, 1))),
    ("fd_pread", rights::READ, |puppet, fd| error(puppet.pread(fd, 1, 0))),
    ("fd_seek", rights::SEEK, |puppet, fd| error(puppet.seek(fd, 1, 0))),
    ("fd_pread", rights::SEEK, |puppet, fd| error(puppet.pread(fd, 1, 0))),
    ("fd_pwrite", rights::SEEK, |puppet, fd| error(puppet.pwrite(fd, b"x", 0))),
    ("fd_fdstat_set_flags", rights::SET_FLAGS, |puppet, fd| {
        puppet.call("fd_fdstat_set_flags", &[fd.into(), 0])
    }),
    ("fd_sync", rights::SYNC, |puppet, fd| puppet.call("fd_sync", &[fd.into()])),
    ("fd_tell", rights::TELL, |puppet, fd| error(puppet.tell(fd))),
    ("fd_write", rights::WRITE, |puppet, fd| error(puppet.write(fd, b"x"))),
    ("fd_pwrite", rights::WRITE, |puppet, fd| error(puppet.pwrite(fd, b"x", 0))),
    ("fd_advise", rights::ADVISE, |puppet, fd| puppet.call("fd_advise", &[fd.into(), 0, 0, 0])),
    ("fd_allocate", rights::ALLOCATE, |puppet, fd| puppet.call("fd_allocate", &[fd.into(), 0, 1])),
    ("fd_filestat_get", rights::STAT, |puppet, fd| error(puppet.fstat(fd))),
    ("fd_filestat_set_size", rights::SET_SIZE, |puppet, fd| {
        puppet.call("fd_filestat_set_size", &[fd.into(), 5])
    }),
    ("fd_filestat_set_times", rights::SET_TIMES, |puppet, fd| {
        puppet.call("fd_filestat_set_times", &[fd.into(), 0, 0, 10])
    }),
];

/// A call on descriptor 3, and the right that it needs.
type DirectoryCall = (&'static str, u64, fn(&mut Puppet) -> u16);

const ON_A_DIRECTORY: &[DirectoryCall] = &[
    ("path_create_directory", 1 << 9, |puppet| error(puppet.mkdir("made"))),
    ("path_open, creating", 1 << 10, |puppet| error(puppet.open("new", CREAT, 0))),
    ("path_link, from", 1 << 11, |puppet| error(puppet.link("file", "linked"))),
    ("path_link, to", 1 << 12, |puppet| error(puppet.link("file", "linked too"))),
    ("path_open", rights::PATH_OPEN, |puppet| error(puppet.open("file", 0, 0))),
    ("fd_readdir", rights::READDIR, |puppet| error(puppet.readdir(3, 64, 0))),
    ("path_readlink", 1 << 15, |puppet| error(puppet.readlink("link", 9))),
    ("path_rename, from", 1 << 16, |puppet| error(puppet.rename("file", "file"))),
    ("path_rename, to", 1 << 17, |puppet| error(puppet.rename("file", "file"))),
    ("path_filestat_get", 1 << 18, |puppet| error(puppet.stat("file", 0))),
    ("path_open, truncating", rights::PATH_SET_SIZE, |puppet| error(puppet.open("file", TRUNC, 0))),
    ("path_filestat_set_times", 1 << 20, |puppet| error(puppet.set_times("file", 0, (0, 0), 2))),
    ("path_symlink", 1 << 24, |puppet| error(puppet.symlink("file", "symlinked"))),
    ("path_remove_directory", 1 << 25, |puppet| error(puppet.rmdir("empty"))),
    ("path_unlink_file", 1 << 26, |puppet| error(puppet.unlink("spare"))),
];

/// The error number of a result, 0 where there is none.
fn error<T>(result: Result<T, u16>) -> u16 {
    result.err().unwrap_or(0)
}

#[test]
fn what_was_given_up_on_a_file_is_refused() {
    for (name, right, call) in ON_A_FILE {
        let directory = tempdir().expect("a directory");
        let mut puppet = Puppet::with(directory.path());
        let fd = puppet.open("file", CREAT, rights::WRITER).expect("open");
        assert_eq!(call(&mut puppet, fd), 0, "{name} with every right");
        let base = puppet.fdstat(fd).expect("fdstat").base;
        let inheriting = puppet.fdstat(fd).expect("fdstat").inheriting;
        let fewer = [fd.into(), base & !right, inheriting];
        assert_eq!(puppet.call("fd_fdstat_set_rights", &fewer), 0);
        assert_eq!(puppet.fdstat(fd).expect("fdstat").base, base & !right);
        assert_eq!(call(&mut puppet, fd), errno::NOTCAPABLE, "{name} without its right");
        let all = [fd.into(), base, inheriting];
        assert_eq!(puppet.call("fd_fdstat_set_rights", &all), errno::NOTCAPABLE, "it is gone");
    }
}

#[test]
fn what_was_given_up_on_a_directory_is_refused() {
    for (name, right, call) in ON_A_DIRECTORY {
        let run = |give_up: bool| {
            let directory = tempdir().expect("a directory");
            for file in ["file", "spare"] {
                std::fs::write(directory.path().join(file), "x").expect("write");
            }
            std::fs::create_dir(directory.path().join("empty")).expect("mkdir");
            std::os::unix::fs::symlink("file", directory.path().join("link")).expect("symlink");
            let mut puppet = Puppet::with(directory.path());
            if give_up {
                let stat = puppet.fdstat(3).expect("fdstat");
                assert_eq!(stat.base & right, *right, "{name}");
                let fewer = [3, stat.base & !right, stat.inheriting];
                assert_eq!(puppet.call("fd_fdstat_set_rights", &fewer), 0);
            }
            call(&mut puppet)
        };
        assert_eq!(run(false), 0, "{name} with every right");
        assert_eq!(run(true), errno::NOTCAPABLE, "{name} without its right");
    }
}

#[test]
fn what_was_given_up_for_what_is_beneath_stays_so() {
    let directory = tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("d")).expect("mkdir");
    std::fs::write(directory.path().join("d/file"), "x").expect("write");
    let mut puppet = Puppet::with(directory.path());
    let stat = puppet.fdstat(3).expect("fdstat");
    let fewer = stat.inheriting & !(rights::WRITE | rights::TELL);
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[3, stat.base, fewer]), 0);
    assert_eq!(puppet.open("d/file", 0, rights::WRITE), Err(errno::NOTCAPABLE));
    let below = puppet.open("d", DIRECTORY, fewer).expect("open");
    let opened = puppet.open_at(below, "file", 0, 0, (rights::READ | rights::WRITE, 0), 0);
    assert_eq!(opened, Err(errno::NOTCAPABLE));
    let file = puppet.open_at(below, "file", 0, 0, (rights::READ, 0), 0).expect("open");
    assert_eq!(puppet.read(file, 1), Ok(b"x".to_vec()));
    assert_eq!(puppet.tell(file), Err(errno::NOTCAPABLE));
}

#[test]
fn what_was_never_asked_for_is_not_missed() {
    let directory = tempdir().expect("a directory");
    let mut puppet = Puppet::with(directory.path());
    let fd = puppet.open("file", CREAT, rights::READ | rights::WRITE).expect("open");
    for (name, _, call) in ON_A_FILE {
        assert_eq!(call(&mut puppet, fd), 0, "{name}");
    }
    let below = puppet.open_at(3, ".", 0, DIRECTORY, (0, 0), 0).expect("open");
    assert_eq!(puppet.on_path("path_create_directory", below, "made"), Ok(()));
    let asked = (rights::READ | rights::WRITE, 0);
    assert!(puppet.open_at(below, "new", 0, CREAT | TRUNC, asked, 0).is_ok());
}

#[test]
fn other_rights_to_change_do_not_open_for_writing() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("file");
    std::fs::write(&path, "x").expect("write");
    let mut puppet = Puppet::with(directory.path());
    let asked = rights::READ | rights::ALLOCATE | rights::SET_SIZE;
    let fd = puppet.open("file", 0, asked).expect("open");
    assert_eq!(puppet.call("fd_filestat_set_size", &[fd.into(), 0]), errno::NOTCAPABLE);
    assert_eq!(puppet.call("fd_allocate", &[fd.into(), 0, 9]), errno::NOTCAPABLE);
    assert_eq!(support::contents(&path), b"x");
    assert!(puppet.open(".", 0, asked).is_ok(), "nor is it an error on a directory");
}
