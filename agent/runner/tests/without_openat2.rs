//! A kernel or a container without `openat2`: the same paths lead to the same, and nowhere else.

mod support;

use support::calls::*;
use support::contents;
use support::field::{field, try_every_link};
use support::puppet::Puppet;
use tempfile::tempdir;

/// What old kernels say, and what some seccomp profiles do.
const REFUSALS: [libc::c_int; 2] = [libc::ENOSYS, libc::EPERM];

#[test]
fn no_symbolic_link_leads_out() {
    for errno in REFUSALS {
        let (_field, inside, outside) = field();
        let mut puppet = Puppet::without(libc::SYS_openat2, errno, &inside);
        try_every_link(&inside, &outside, &mut puppet);
        assert_eq!(puppet.exit(0).code(), 0);
    }
}

#[test]
fn every_function_on_paths_works() {
    for refusal in REFUSALS {
        let directory = tempdir().expect("a directory");
        let mut puppet = Puppet::without(libc::SYS_openat2, refusal, directory.path());
        assert_eq!(puppet.mkdir("d"), Ok(()));
        assert_eq!(puppet.mkdir("d/e/"), Ok(()));
        let fd = puppet.open("d/e/file", CREAT | EXCL, rights::WRITER).expect("open");
        assert_eq!(puppet.write(fd, b"12345"), Ok(5));
        assert_eq!(puppet.open("d/e/file", CREAT | EXCL, 0), Err(errno::EXIST));
        assert_eq!(puppet.symlink("d/e/file", "link"), Ok(()));
        assert_eq!(puppet.symlink("d/e", "to-e"), Ok(()));
        assert_eq!(puppet.readlink("link", 64), Ok(b"d/e/file".to_vec()));
        assert_eq!(puppet.readlink("d", 64), Err(errno::INVAL));
        assert_eq!(puppet.stat("link", FOLLOW).map(|stat| stat.size), Ok(5));
        assert_eq!(puppet.stat("link", NOFOLLOW).map(|stat| stat.kind), Ok(SYMBOLIC_LINK));
        assert_eq!(puppet.stat("d/e/../e/./file", 0).map(|stat| stat.size), Ok(5));
        assert_eq!(puppet.set_times("link", FOLLOW, (5, 6), 5), Ok(()));
        assert_eq!(puppet.set_times("link", NOFOLLOW, (7, 8), 5), Ok(()));
        assert_eq!(
            puppet.stat("d/e/file", 0).map(|stat| (stat.accessed, stat.modified)),
            Ok((5, 6))
        );
        assert_eq!(puppet.stat("link", NOFOLLOW).map(|stat| stat.modified), Ok(8));
        assert_eq!(puppet.link("d/e/file", "to-e/hard"), Ok(()));
        assert_eq!(puppet.rename("to-e/hard", "d/moved"), Ok(()));
        assert_eq!(contents(&directory.path().join("d/moved")), b"12345");
        let fd = puppet.open("link", TRUNC, rights::READ | rights::WRITE).expect("open");
        assert_eq!(puppet.fstat(fd).map(|stat| stat.size), Ok(0));
        let asked = (rights::WRITER, 0);
        let fd = puppet.open_at(3, "d/moved", FOLLOW, 0, asked, APPEND).expect("open");
        assert_eq!(puppet.write(fd, b"x"), Ok(1));
        assert_eq!(puppet.open_at(3, "link", NOFOLLOW, 0, (0, 0), 0), Err(errno::LOOP));
        assert_eq!(puppet.open("d/e/file/", 0, 0), Err(errno::NOTDIR));
        assert_eq!(puppet.open("d/e/file/x", 0, 0), Err(errno::NOTDIR));
        assert_eq!(puppet.open("none", 0, 0), Err(errno::NOENT));
        assert_eq!(puppet.open("d", 0, rights::WRITE), Err(errno::ISDIR));
        for path in ["/d", "..", "d/../..", "/"] {
            assert_eq!(puppet.open(path, 0, 0), Err(errno::PERM), "{path}");
            assert_eq!(puppet.stat(path, FOLLOW).map(drop), Err(errno::PERM), "{path}");
        }
        let below = puppet.open("to-e/", DIRECTORY, rights::ALL & !rights::WRITE).expect("open");
        assert_eq!(puppet.list(below, 256).len(), 3);
        assert_eq!(puppet.unlink("to-e/file"), Ok(()));
        assert_eq!(puppet.rmdir("d/e"), Ok(()));
    }
}

#[test]
fn a_fifo_does_not_make_it_hang() {
    let directory = tempdir().expect("a directory");
    let mode = rustix::fs::Mode::from_bits_truncate(0o666);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, directory.path().join("fifo"), kind, mode, 0)
        .expect("a FIFO");
    let mut puppet = Puppet::without(libc::SYS_openat2, libc::ENOSYS, directory.path());
    for rights in [rights::READ, rights::WRITE, rights::READ | rights::WRITE] {
        assert_eq!(puppet.open("fifo", 0, rights), Err(errno::NXIO));
    }
}
