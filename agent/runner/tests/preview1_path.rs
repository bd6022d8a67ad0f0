//! The functions of preview 1 on paths, each with what makes it fail.

mod support;

use support::calls::*;
use support::contents;
use support::puppet::Puppet;
use tempfile::{TempDir, tempdir};

fn puppet() -> (Puppet, TempDir) {
    let directory = tempdir().expect("a directory");
    (Puppet::with(directory.path()), directory)
}

#[test]
fn path_open_gives_what_is_asked_for_and_may_be_had() {
    let (mut puppet, directory) = puppet();
    let asked = (rights::ALL, 0);
    let fd = puppet.open_at(3, "file", NOFOLLOW, CREAT, asked, 0).expect("open");
    let stat = puppet.fdstat(fd).expect("fdstat");
    assert_eq!(
        (stat.kind, stat.base, stat.inheriting),
        (REGULAR_FILE, rights::WRITER & !rights::READDIR, 0)
    );
    assert_eq!(puppet.write(fd, b"new"), Ok(3));
    assert_eq!(contents(&directory.path().join("file")), b"new");
    let fd = puppet.open("file", TRUNC, rights::READ | rights::WRITE).expect("open");
    assert_eq!(puppet.read(fd, 9), Ok(vec![]), "it was truncated");
    assert_eq!(puppet.open("file", CREAT | EXCL, 0), Err(errno::EXIST));
    assert_eq!(puppet.open("none", 0, rights::READ), Err(errno::NOENT));
    assert_eq!(puppet.open("none/x", CREAT, rights::READ), Err(errno::NOENT));
    assert_eq!(puppet.open("file/x", CREAT, rights::READ), Err(errno::NOTDIR));
    assert_eq!(puppet.open("file", DIRECTORY, 0), Err(errno::NOTDIR));
    assert_eq!(puppet.open(".", CREAT | DIRECTORY, 0), Err(errno::INVAL));
    assert_eq!(puppet.open("file", 16, 0), Err(errno::INVAL));
    assert_eq!(puppet.open_at(3, "file", 2, 0, asked, 0), Err(errno::INVAL));
    assert_eq!(puppet.open_at(3, "file", 0, 0, asked, 32), Err(errno::INVAL));
    assert_eq!(puppet.open_at(0, "file", 0, 0, asked, 0), Err(errno::NOTDIR));
    assert_eq!(puppet.open_at(fd, "file", 0, CREAT, asked, 0), Err(errno::NOTDIR));
    assert_eq!(puppet.open_at(70, "file", 0, 0, asked, 0), Err(errno::BADF));
}

#[test]
fn path_open_of_directories() {
    let (mut puppet, _directory) = puppet();
    let root = puppet.fdstat(3).expect("fdstat");
    for oflags in [0, DIRECTORY] {
        for rights in [0, rights::READ, root.base] {
            let opened = puppet.open_at(3, ".", 0, oflags, (rights, root.inheriting), 0);
            let fd = opened.expect("a directory can be opened");
            let stat = puppet.fdstat(fd).expect("fdstat");
            assert_eq!((stat.kind, stat.base), (DIRECTORY_TYPE, rights & root.base));
            assert_eq!(stat.inheriting, root.inheriting);
        }
        let writing = rights::READ | rights::WRITE;
        assert_eq!(puppet.open(".", oflags, writing), Err(errno::ISDIR));
    }
    let seeking = puppet.open(".", DIRECTORY, rights::SEEK).expect("open");
    assert_eq!(puppet.fdstat(seeking).expect("fdstat").base & rights::SEEK, 0);
    assert_eq!(puppet.seek(seeking, 0, 1), Err(errno::ISDIR));
    assert!(puppet.open_at(3, ".", 0, 0, (0, 0), NONBLOCK).is_ok());
}

#[test]
fn path_open_truncates_only_with_the_right_to() {
    let (mut puppet, directory) = puppet();
    std::fs::write(directory.path().join("file"), "long").expect("write");
    let root = puppet.fdstat(3).expect("fdstat");
    let base = root.base & !rights::PATH_SET_SIZE;
    assert!(puppet.open_at(3, "file", 0, TRUNC, (0, 0), 0).is_ok());
    assert_eq!(contents(&directory.path().join("file")), b"");
    std::fs::write(directory.path().join("file"), "long").expect("write");
    assert_eq!(puppet.call("fd_fdstat_set_rights", &[3, base, root.inheriting]), 0);
    let opened = puppet.open_at(3, "file", 0, TRUNC, (0, 0), 0);
    assert_eq!(opened, Err(errno::NOTCAPABLE));
    assert_eq!(contents(&directory.path().join("file")), b"long");
}

#[test]
fn path_open_flags_are_kept() {
    let (mut puppet, _directory) = puppet();
    for flags in [APPEND, SYNC, NONBLOCK, APPEND | SYNC, 31] {
        let fd = puppet.open_at(3, "file", 0, CREAT, (rights::WRITER, 0), flags).expect("open");
        assert_eq!(u32::from(puppet.fdstat(fd).expect("fdstat").flags), flags);
        assert_eq!(puppet.write(fd, b"x"), Ok(1));
        puppet.close(fd).expect("close");
    }
}

#[test]
fn path_open_of_links() {
    let (mut puppet, _directory) = puppet();
    puppet.mkdir("d").expect("mkdir");
    puppet.create("f");
    for (target, link) in [("d", "to-d"), ("f", "to-f"), ("none", "dangling"), ("loop", "loop")] {
        puppet.symlink(target, link).expect("symlink");
    }
    for link in ["to-d", "to-f", "dangling", "loop"] {
        let opened = puppet.open_at(3, link, NOFOLLOW, 0, (0, 0), 0);
        assert_eq!(opened, Err(errno::LOOP), "{link}");
        let opened = puppet.open_at(3, link, NOFOLLOW, DIRECTORY, (0, 0), 0);
        assert!(matches!(opened, Err(errno::LOOP | errno::NOTDIR)), "{link}: {opened:?}");
    }
    assert!(puppet.open("to-d", DIRECTORY, 0).is_ok());
    assert!(puppet.open("to-f", 0, 0).is_ok());
    assert_eq!(puppet.open("to-f", DIRECTORY, 0), Err(errno::NOTDIR));
    assert_eq!(puppet.open("loop", 0, 0), Err(errno::LOOP));
    assert_eq!(puppet.open("dangling", 0, 0), Err(errno::NOENT));
    assert!(puppet.open("dangling", CREAT, rights::WRITE).is_ok());
    assert!(puppet.stat("none", 0).is_ok(), "it was made where the link points");
    assert_eq!(puppet.open("to-f", CREAT | EXCL, 0), Err(errno::EXIST));
}

#[test]
fn interesting_paths() {
    let (mut puppet, _directory) = puppet();
    puppet.mkdir("dir").expect("mkdir");
    puppet.mkdir("dir/nested").expect("mkdir");
    puppet.create("dir/nested/file");
    let dots = "dir/.//nested/../../dir/nested/../nested///./file";
    assert!(puppet.open(dots, 0, rights::READ).is_ok());
    assert!(puppet.open("dir/nested/", 0, 0).is_ok());
    assert!(puppet.open("dir/nested///", 0, 0).is_ok());
    assert!(puppet.open("./././dir", 0, 0).is_ok());
    assert_eq!(puppet.open("/dir/nested/file", 0, 0), Err(errno::PERM));
    assert_eq!(puppet.open("/", 0, 0), Err(errno::PERM));
    assert_eq!(puppet.open("dir/nested/file/", 0, 0), Err(errno::NOTDIR));
    assert_eq!(puppet.open("dir/nested/file///", 0, 0), Err(errno::NOTDIR));
    assert_eq!(puppet.open("dir/nested/../../../dir", 0, 0), Err(errno::PERM));
    assert_eq!(puppet.open("..", 0, 0), Err(errno::PERM));
    assert_eq!(puppet.open("dir/nested/file\0", 0, 0), Err(errno::INVAL));
    assert_eq!(puppet.open("", 0, 0), Err(errno::NOENT));
    let long = "a/".repeat(2047) + "a";
    assert_eq!(puppet.open(&long, 0, 0), Err(errno::NOENT));
    assert_eq!(puppet.open(&(long + "bb"), 0, 0), Err(errno::NAMETOOLONG));
    assert_eq!(puppet.open(&"n".repeat(256), 0, 0), Err(errno::NAMETOOLONG));
    let end = u64::from(64_u32 << 16);
    let arguments = [3, 0, end - 1, 2, 0, 0, 0, 0, 4096];
    assert_eq!(puppet.call("path_open", &arguments), errno::FAULT);
}

#[test]
fn names_that_are_not_utf8_are_names() {
    let (mut puppet, directory) = puppet();
    let name: &[u8] = b"\xff\xfe name";
    let asked = (rights::WRITER, 0);
    let fd = puppet.open_at(3, name, 0, CREAT, asked, 0).expect("open");
    puppet.write(fd, b"x").expect("write");
    assert!(puppet.list(3, 512).iter().any(|entry| entry.name == name));
    let host: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
    assert_eq!(contents(&directory.path().join(host)), b"x");
    assert_eq!(puppet.on_path("path_unlink_file", 3, name), Ok(()));
}

#[test]
fn path_create_directory() {
    let (mut puppet, directory) = puppet();
    assert_eq!(puppet.mkdir("d"), Ok(()));
    assert_eq!(puppet.mkdir("d/e/"), Ok(()), "a slash at the end is allowed");
    assert!(directory.path().join("d/e").is_dir());
    assert_eq!(puppet.mkdir("d"), Err(errno::EXIST));
    for path in [".", "..", "d/..", "d/../", "d/."] {
        assert_eq!(puppet.mkdir(path), Err(errno::EXIST), "{path}");
    }
    assert_eq!(puppet.mkdir("none/d"), Err(errno::NOENT));
    assert_eq!(puppet.mkdir("../d"), Err(errno::PERM));
    assert_eq!(puppet.mkdir("/d"), Err(errno::PERM));
    assert_eq!(puppet.mkdir(""), Err(errno::NOENT));
    assert_eq!(puppet.on_path("path_create_directory", 2, "d"), Err(errno::NOTDIR));
}

#[test]
fn path_filestat_get() {
    let (mut puppet, directory) = puppet();
    puppet.mkdir("d").expect("mkdir");
    puppet.create("d/f");
    std::fs::write(directory.path().join("d/f"), "12345").expect("write");
    puppet.symlink("d/f", "l").expect("symlink");
    puppet.symlink("d", "ld").expect("symlink");
    assert_eq!(puppet.stat("d", 0).map(|stat| stat.kind), Ok(DIRECTORY_TYPE));
    let file = puppet.stat("d/f", 0).expect("stat");
    assert_eq!((file.kind, file.size), (REGULAR_FILE, 5));
    assert_eq!(puppet.stat("l", FOLLOW), Ok(file));
    assert_eq!(puppet.stat("l", NOFOLLOW).map(|stat| stat.kind), Ok(SYMBOLIC_LINK));
    assert_eq!(puppet.stat("ld", NOFOLLOW).map(|stat| stat.kind), Ok(SYMBOLIC_LINK));
    assert_eq!(puppet.stat("ld/", NOFOLLOW).map(|stat| stat.kind), Ok(DIRECTORY_TYPE));
    assert_eq!(puppet.stat("ld", FOLLOW).map(|stat| stat.kind), Ok(DIRECTORY_TYPE));
    use std::os::unix::fs::MetadataExt;
    let host = std::fs::metadata(directory.path().join("d/f")).expect("metadata");
    assert_eq!((file.device, file.inode, file.links), (host.dev(), host.ino(), 1));
    let modified = host.mtime() * 1_000_000_000 + host.mtime_nsec();
    assert_eq!(file.modified.cast_signed(), modified);
    for (path, error) in [
        ("none", errno::NOENT),
        ("..", errno::PERM),
        ("d/../..", errno::PERM),
        ("/etc", errno::PERM),
        ("d/f/", errno::NOTDIR),
        ("d/f/x", errno::NOTDIR),
        ("", errno::NOENT),
    ] {
        assert_eq!(puppet.stat(path, 0), Err(error), "{path}");
        assert_eq!(puppet.stat(path, FOLLOW), Err(error), "{path}");
    }
    assert_eq!(puppet.stat("d", 2), Err(errno::INVAL));
}

#[test]
fn path_filestat_set_times() {
    let (mut puppet, _directory) = puppet();
    puppet.create("file");
    puppet.symlink("file", "link").expect("symlink");
    let file = puppet.stat("file", 0).expect("stat");
    let link = puppet.stat("link", NOFOLLOW).expect("stat");
    let modified = link.modified - 200;
    assert_eq!(puppet.set_times("link", NOFOLLOW, (0, modified), 4), Ok(()));
    assert_eq!(puppet.stat("link", NOFOLLOW).map(|stat| stat.modified), Ok(modified));
    assert_eq!(puppet.stat("file", 0).map(|stat| stat.modified), Ok(file.modified));
    assert_eq!(puppet.set_times("link", FOLLOW, (7, modified), 5), Ok(()));
    let changed = puppet.stat("file", 0).expect("stat");
    assert_eq!((changed.accessed, changed.modified), (7, modified));
    assert_eq!(puppet.set_times("file", 0, (0, 0), 8), Ok(()));
    assert!(puppet.stat("file", 0).expect("stat").modified >= file.modified);
    for wrong in [3, 12, 15, 16, 1 << 16] {
        assert_eq!(puppet.set_times("file", 0, (0, 0), wrong), Err(errno::INVAL), "{wrong}");
    }
    assert_eq!(puppet.set_times("none", 0, (0, 0), 2), Err(errno::NOENT));
    assert_eq!(puppet.set_times("..", 0, (0, 0), 2), Err(errno::PERM));
    assert_eq!(puppet.set_times(".", 0, (5, 6), 5), Ok(()));
    assert_eq!(puppet.fstat(3).map(|stat| (stat.accessed, stat.modified)), Ok((5, 6)));
}

#[test]
fn path_link() {
    let (mut puppet, directory) = puppet();
    std::fs::write(directory.path().join("file"), "same").expect("write");
    puppet.mkdir("sub").expect("mkdir");
    assert_eq!(puppet.link("file", "sub/link"), Ok(()));
    let (file, link) = (puppet.stat("file", 0), puppet.stat("sub/link", 0));
    assert_eq!(file, link);
    assert_eq!(file.expect("stat").links, 2);
    assert_eq!(contents(&directory.path().join("sub/link")), b"same");
    let sub = puppet.open("sub", DIRECTORY, rights::ALL & !rights::WRITE).expect("open");
    assert_eq!(puppet.link_at((3, "file"), 0, (sub, "other")), Ok(()));
    assert_eq!(puppet.unlink("sub/other"), Ok(()));
    assert_eq!(puppet.link("file", "sub/link"), Err(errno::EXIST));
    assert_eq!(puppet.link("file", "file"), Err(errno::EXIST));
    assert_eq!(puppet.link("file", "sub"), Err(errno::EXIST));
    for directory in ["sub", "sub/", ".", "sub/.", "sub/.."] {
        assert_eq!(puppet.link(directory, "x"), Err(errno::PERM), "{directory}");
    }
    assert_eq!(puppet.link("file", "new/"), Err(errno::NOENT));
    assert_eq!(puppet.link("file/", "new"), Err(errno::NOTDIR));
    assert_eq!(puppet.link("none", "new"), Err(errno::NOENT));
    assert_eq!(puppet.link("none/", "new"), Err(errno::NOENT));
    assert_eq!(puppet.link("../file", "new"), Err(errno::PERM));
    assert_eq!(puppet.link("file", "../new"), Err(errno::PERM));
    assert_eq!(puppet.link("..", "new"), Err(errno::PERM));
    for target in ["target", "symlink"] {
        puppet.symlink(target, "symlink").expect("symlink");
        assert_eq!(puppet.link("symlink", "hard"), Ok(()), "to the link itself");
        assert_eq!(puppet.stat("hard", 0).map(|stat| stat.kind), Ok(SYMBOLIC_LINK));
        assert_eq!(puppet.link("file", "symlink"), Err(errno::EXIST));
        let following = puppet.link_at((3, "symlink"), FOLLOW, (3, "new"));
        assert_eq!(following, Err(errno::INVAL));
        puppet.unlink("symlink").expect("unlink");
        puppet.unlink("hard").expect("unlink");
    }
}

#[test]
fn path_readlink() {
    let (mut puppet, _directory) = puppet();
    puppet.symlink("target", "link").expect("symlink");
    assert_eq!(puppet.readlink("link", 10), Ok(b"target".to_vec()));
    assert_eq!(puppet.readlink("link", 4), Ok(b"targ".to_vec()));
    assert_eq!(puppet.readlink("link", 0), Ok(vec![]));
    let long = "x/".repeat(1000);
    puppet.symlink(&long, "long").expect("symlink");
    assert_eq!(puppet.readlink("long", 4096), Ok(long.into_bytes()));
    puppet.create("file");
    for path in ["file", "."] {
        assert_eq!(puppet.readlink(path, 10), Err(errno::INVAL), "{path}");
    }
    assert_eq!(puppet.readlink("none", 10), Err(errno::NOENT));
    assert_eq!(puppet.readlink("..", 10), Err(errno::PERM));
    assert_eq!(puppet.readlink("/proc/self/exe", 10), Err(errno::PERM));
}

#[test]
fn path_remove_directory() {
    let (mut puppet, directory) = puppet();
    puppet.mkdir("d").expect("mkdir");
    puppet.mkdir("d/e").expect("mkdir");
    assert_eq!(puppet.rmdir("d"), Err(errno::NOTEMPTY));
    assert_eq!(puppet.rmdir("d/e/"), Ok(()), "a slash at the end is allowed");
    assert_eq!(puppet.rmdir("d"), Ok(()));
    puppet.create("file");
    assert_eq!(puppet.rmdir("file"), Err(errno::NOTDIR));
    assert_eq!(puppet.rmdir("file/"), Err(errno::NOTDIR));
    assert_eq!(puppet.rmdir("none"), Err(errno::NOENT));
    assert_eq!(puppet.rmdir("."), Err(errno::INVAL));
    assert_eq!(puppet.rmdir(".."), Err(errno::NOTEMPTY));
    assert_eq!(puppet.rmdir("../x"), Err(errno::PERM));
    puppet.mkdir("empty").expect("mkdir");
    puppet.symlink("empty", "link").expect("symlink");
    for link in ["link", "link/"] {
        assert_eq!(puppet.rmdir(link), Err(errno::NOTDIR), "{link}");
    }
    assert!(directory.path().join("empty").is_dir());
}

#[test]
fn path_rename() {
    let (mut puppet, directory) = puppet();
    let exists = |path: &str| directory.path().join(path).exists();
    puppet.mkdir("source").expect("mkdir");
    assert_eq!(puppet.rename("source", "target"), Ok(()));
    assert!(!exists("source") && exists("target"));
    puppet.mkdir("source").expect("mkdir");
    assert_eq!(puppet.rename("source", "target"), Ok(()), "over an empty directory");
    puppet.mkdir("source").expect("mkdir");
    puppet.create("target/file");
    assert_eq!(puppet.rename("source", "target"), Err(errno::NOTEMPTY));
    assert_eq!(puppet.rename("source", "target/file"), Err(errno::NOTDIR));
    puppet.create("file");
    assert_eq!(puppet.rename("file", "source"), Err(errno::ISDIR));
    assert_eq!(puppet.rename("file", "moved"), Ok(()));
    puppet.create("file");
    assert_eq!(puppet.rename("moved", "file"), Ok(()), "over a file");
    assert_eq!(puppet.rename("file", "file"), Ok(()));
    assert_eq!(puppet.rename("none", "x"), Err(errno::NOENT));
    assert_eq!(puppet.rename("target", "target/below"), Err(errno::INVAL));
    assert_eq!(puppet.rename("../x", "x"), Err(errno::PERM));
    assert_eq!(puppet.rename("file", "../x"), Err(errno::PERM));
    for path in [".", "..", "source/..", "source/."] {
        assert_eq!(puppet.rename(path, "x"), Err(10), "EBUSY: {path}");
        assert_eq!(puppet.rename("source", path), Err(10), "EBUSY: {path}");
    }
    puppet.symlink("file", "link").expect("symlink");
    assert_eq!(puppet.rename("link", "renamed"), Ok(()));
    assert_eq!(puppet.readlink("renamed", 9), Ok(b"file".to_vec()), "the link itself moves");
    let below = puppet.open("target", DIRECTORY, rights::ALL & !rights::WRITE).expect("open");
    assert_eq!(puppet.rename_at((below, "file"), (3, "up")), Ok(()));
    assert!(exists("up"));
}

#[test]
fn path_rename_with_slashes_at_the_end() {
    let (mut puppet, directory) = puppet();
    puppet.mkdir("source").expect("mkdir");
    for (from, to) in
        [("source/", "target"), ("target", "source/"), ("source/", "target/"), ("target", "source")]
    {
        assert_eq!(puppet.rename(from, to), Ok(()), "{from} {to}");
    }
    puppet.create("file");
    assert_eq!(puppet.rename("file/", "x"), Err(errno::NOTDIR));
    assert_eq!(puppet.rename("file", "x/"), Err(errno::NOTDIR));
    puppet.symlink("source", "link").expect("symlink");
    assert_eq!(puppet.rename("link/", "x"), Err(errno::NOTDIR), "a link is no directory");
    assert!(directory.path().join("source").is_dir());
}

#[test]
fn path_symlink() {
    let (mut puppet, directory) = puppet();
    assert_eq!(puppet.symlink("source", "target/"), Err(errno::NOENT));
    assert_eq!(puppet.symlink("source", "target"), Ok(()), "it may dangle");
    assert_eq!(puppet.symlink("source", "target"), Err(errno::EXIST));
    puppet.mkdir("d").expect("mkdir");
    for path in ["d", "d/", ".", "d/.."] {
        assert_eq!(puppet.symlink("source", path), Err(errno::EXIST), "{path}");
    }
    puppet.create("file");
    assert_eq!(puppet.symlink("source", "file"), Err(errno::EXIST));
    let slash = puppet.symlink("source", "file/");
    assert!(matches!(slash, Err(errno::EXIST | errno::NOTDIR)), "{slash:?}");
    assert_eq!(puppet.symlink("/", "root"), Err(errno::PERM));
    assert_eq!(puppet.symlink("/etc/passwd", "root"), Err(errno::PERM));
    assert_eq!(puppet.symlink("", "empty"), Err(errno::NOENT));
    assert_eq!(puppet.symlink("x", "../out"), Err(errno::PERM));
    assert_eq!(puppet.symlink("x", "/out"), Err(errno::PERM));
    assert!(!directory.path().join("root").is_symlink());
}

#[test]
fn path_unlink_file() {
    let (mut puppet, directory) = puppet();
    puppet.mkdir("d").expect("mkdir");
    for path in ["d", "d/", ".", "..", "d/.."] {
        assert_eq!(puppet.unlink(path), Err(errno::ISDIR), "{path}");
    }
    puppet.create("file");
    assert_eq!(puppet.unlink("file/"), Err(errno::NOTDIR));
    puppet.symlink("file", "link").expect("symlink");
    puppet.symlink("d", "to-d").expect("symlink");
    assert_eq!(puppet.unlink("to-d/"), Err(errno::NOTDIR));
    assert_eq!(puppet.unlink("link"), Ok(()));
    assert!(directory.path().join("file").exists(), "the link itself is removed");
    let fd = puppet.open("file", 0, rights::WRITER).expect("open");
    assert_eq!(puppet.unlink("file"), Ok(()));
    assert_eq!(puppet.write(fd, b"still there"), Ok(11), "an open file outlives its name");
    puppet.create("file");
    assert_eq!(puppet.unlink("none"), Err(errno::NOENT));
    assert_eq!(puppet.unlink("../x"), Err(errno::PERM));
}
