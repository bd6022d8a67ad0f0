//! Paths that are granted by themselves: their directory has no other names, whatever a module tries.

mod support;

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use support::calls::*;
use support::field::{snapshot, try_to_leave};
use support::puppet::Puppet;
use support::{Step, contents};
use tempfile::{TempDir, tempdir};

/// A directory of a pod: an input and an input directory, an output directory, an output that is not
/// there yet, and beside them what is nobody's business.
fn pod() -> (TempDir, PathBuf) {
    let pod = tempdir().expect("a directory");
    let tmp = pod.path().join("tmp");
    for directory in ["tmp", "tmp/ref", "tmp/d", "tmp/other", "tmp/other/d"] {
        std::fs::create_dir(pod.path().join(directory)).expect("mkdir");
    }
    let write = |name: &str, text: &str| std::fs::write(tmp.join(name), text).expect("write");
    write("in.md", "input");
    write("ref/page", "reference");
    write("d/own", "own");
    write("secret", "SECRET");
    write("other/secret", "SECRET");
    (pod, tmp)
}

fn granted(step: Step, tmp: &Path) -> Step {
    let grants = [("in.md", true), ("ref", true), ("d", false), ("out.html", false)];
    grants.into_iter().fold(step, |step, (name, read_only)| {
        step.path(&tmp.join(name), &format!("/tmp/{name}"), read_only)
    })
}

fn puppet(tmp: &Path) -> Puppet {
    Puppet::start(|step| granted(step, tmp))
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

#[test]
fn what_is_granted_is_there() {
    let (_pod, tmp) = pod();
    let mut puppet = puppet(&tmp);
    let out = puppet.room(8);
    assert_eq!(puppet.done("fd_prestat_get", &[3, out.into()]), Ok(()));
    let name = puppet.room(4);
    assert_eq!(puppet.done("fd_prestat_dir_name", &[3, name.into(), 4]), Ok(()));
    assert_eq!(puppet.peek(name, 4), b"/tmp");
    assert_eq!(puppet.done("fd_prestat_get", &[4, out.into()]), Err(errno::BADF));

    for path in ["in.md", "./in.md", ".//./in.md"] {
        let fd = puppet.open(path, 0, rights::READER).expect("the input");
        assert_eq!(puppet.read(fd, 64), Ok(b"input".to_vec()));
        puppet.close(fd).expect("closed");
    }
    let fd = puppet.open("ref/page", 0, rights::READER).expect("below an input");
    assert_eq!(puppet.read(fd, 64), Ok(b"reference".to_vec()));

    let fd = puppet.open("out.html", CREAT | TRUNC, rights::WRITER).expect("the output");
    assert_eq!(puppet.write(fd, b"first"), Ok(5));
    let fd = puppet.open("out.html", CREAT | TRUNC, rights::WRITER).expect("the output");
    assert_eq!(puppet.write(fd, b"output"), Ok(6));
    assert_eq!(puppet.done("fd_sync", &[fd.into()]), Ok(()));
    assert_eq!(contents(&tmp.join("out.html")), b"output");
    assert_eq!(puppet.stat("out.html", FOLLOW).map(|stat| stat.size), Ok(6));
    assert_eq!(puppet.set_times("out.html", FOLLOW, (5, 6), 5), Ok(()));

    assert_eq!(puppet.mkdir("d/sub"), Ok(()));
    puppet.create("d/sub/file");
    assert_eq!(puppet.rename("d/sub/file", "d/moved"), Ok(()));
    assert_eq!(puppet.link("d/moved", "d/again"), Ok(()));
    assert_eq!(puppet.symlink("sub", "d/link"), Ok(()));
    assert_eq!(puppet.rmdir("d/sub"), Ok(()));
    assert!(tmp.join("d/again").exists());
    // An output is whatever the module makes of it, as often as it likes.
    assert_eq!(puppet.rename("d/moved", "out.html"), Ok(()));
    assert_eq!(puppet.unlink("out.html"), Ok(()));
    assert_eq!(puppet.mkdir("out.html/"), Ok(()));
    puppet.create("out.html/index");
    assert!(tmp.join("out.html/index").exists());
    assert_eq!(puppet.exit(0).code(), 0);
}

/// Nobody else would make the directory of an output that is one.
#[test]
fn an_output_becomes_a_directory_when_something_is_made_in_it() {
    let (_pod, tmp) = pod();
    let mut puppet = puppet(&tmp);
    assert_eq!(puppet.open("out.html/page", 0, rights::READ), Err(errno::NOENT));
    assert_eq!(puppet.stat("out.html/page", FOLLOW), Err(errno::NOENT));
    assert_eq!(puppet.unlink("out.html/page"), Err(errno::NOENT));
    assert!(!tmp.join("out.html").exists(), "looking makes nothing");
    puppet.create("out.html/page");
    assert!(tmp.join("out.html/page").is_file());
    assert_eq!(puppet.unlink("out.html/page"), Ok(()));
    assert_eq!(puppet.rmdir("out.html"), Ok(()));
    assert_eq!(puppet.mkdir("out.html/a"), Ok(()));
    assert!(tmp.join("out.html/a").is_dir());
    // No other name, and no deeper one, is made on the way.
    assert_eq!(puppet.open("none/page", CREAT, rights::WRITER), Err(errno::NOENT));
    assert_eq!(puppet.open("out.html/b/page", CREAT, rights::WRITER), Err(errno::NOENT));
    assert_eq!(puppet.open("in.md/page", CREAT, rights::WRITER), Err(errno::NOTDIR));
    assert_eq!(puppet.exit(0).code(), 0);
}

#[test]
fn nothing_else_is_there() {
    let (pod, tmp) = pod();
    let before = snapshot(pod.path());
    let mut puppet = puppet(&tmp);
    for path in [
        "secret",
        "other",
        "other/secret",
        "./secret",
        "..",
        "../tmp/secret",
        "../tmp/in.md/../secret",
        "ref/../secret",
        "d/../secret",
        "d/../../tmp/secret",
        "d/./../other",
        "/tmp/secret",
        "/",
        "in.md/../secret",
        "none/../secret",
        "secret/",
        "\u{ff}",
    ] {
        try_to_leave(&mut puppet, path);
    }
    assert_eq!(puppet.open("secret", 0, rights::READ), Err(errno::NOENT));
    assert_eq!(puppet.stat("secret", NOFOLLOW), Err(errno::NOENT));
    assert_eq!(puppet.stat("none", NOFOLLOW), Err(errno::NOENT));
    assert_eq!(puppet.open("d/../secret", 0, rights::READ), Err(errno::PERM));
    assert_eq!(puppet.open("", 0, rights::READ), Err(errno::NOENT));
    // What would make another name says that it may not.
    assert_eq!(puppet.open("new", CREAT, rights::WRITER), Err(errno::ACCES));
    assert_eq!(puppet.open("secret", CREAT | TRUNC, rights::WRITER), Err(errno::ACCES));
    assert_eq!(puppet.mkdir("new"), Err(errno::ACCES));
    assert_eq!(puppet.mkdir("new/er"), Err(errno::NOENT));
    assert_eq!(puppet.symlink("d/own", "new"), Err(errno::ACCES));
    assert_eq!(puppet.link("d/own", "new"), Err(errno::ACCES));
    assert_eq!(puppet.rename("d/own", "secret"), Err(errno::ACCES));
    assert_eq!(puppet.rename("secret", "out.html"), Err(errno::NOENT));
    assert_eq!(puppet.link("secret", "out.html"), Err(errno::NOENT));
    assert_eq!(puppet.unlink("secret"), Err(errno::NOENT));
    assert_eq!(snapshot(pod.path()), before);
    assert_eq!(puppet.exit(0).code(), 0);
}

#[test]
fn an_input_cannot_be_changed() {
    let (pod, tmp) = pod();
    let before = snapshot(pod.path());
    let mut puppet = puppet(&tmp);
    for path in ["in.md", "ref", "ref/page", "ref/new"] {
        for oflags in [CREAT, TRUNC, CREAT | EXCL] {
            assert!(puppet.open(path, oflags, rights::WRITER).is_err(), "{path}");
        }
        assert!(puppet.open(path, 0, rights::WRITE).is_err(), "{path}");
        assert_eq!(puppet.unlink(path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.rmdir(path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.mkdir(path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.symlink("x", path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.set_times(path, FOLLOW, (1, 1), 5), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.rename("d/own", path), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.rename(path, "d/own"), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.link("d/own", path), Err(errno::ROFS), "{path}");
        // A second name where it can be written would do as well.
        assert_eq!(puppet.link(path, "out.html"), Err(errno::ROFS), "{path}");
        assert_eq!(puppet.link(path, "d/stolen"), Err(errno::ROFS), "{path}");
    }
    let fd = puppet.open("ref", DIRECTORY, rights::READDIR).expect("a directory");
    let asked = (rights::WRITER, 0);
    assert_eq!(puppet.open_at(fd, "page", 0, 0, asked, 0), Err(errno::ROFS));
    assert_eq!(puppet.on_path("path_unlink_file", fd, "page"), Err(errno::ROFS));
    let fd = puppet.open("in.md", 0, rights::READER).expect("a file");
    assert!(puppet.write(fd, b"x").is_err());
    assert_eq!(puppet.done("fd_filestat_set_size", &[fd.into(), 0]), Err(errno::ROFS));
    assert_eq!(puppet.done("fd_filestat_set_times", &[fd.into(), 1, 1, 5]), Err(errno::ROFS));
    assert_eq!(snapshot(pod.path()), before);
    assert_eq!(puppet.exit(0).code(), 0);
}

/// Symbolic links in an entry's place: made before, or by the module, in any way there is.
#[test]
fn no_link_leads_from_an_entry_to_its_neighbours() {
    let (pod, tmp) = pod();
    std::fs::remove_file(tmp.join("in.md")).expect("unlink");
    symlink("secret", tmp.join("in.md")).expect("symlink");
    symlink("other", tmp.join("out.html")).expect("symlink");
    symlink("../secret", tmp.join("d/up")).expect("symlink");
    let mut puppet = puppet(&tmp);
    for path in ["in.md", "in.md/", "out.html", "out.html/", "out.html/secret", "d/up", "d/up/"] {
        let before = snapshot(pod.path());
        try_to_leave(&mut puppet, path);
        assert_eq!(snapshot(pod.path()), before, "{path}");
    }
    assert_eq!(puppet.open("in.md", 0, rights::READ), Err(errno::LOOP));
    assert_eq!(puppet.stat("in.md", FOLLOW), Err(errno::LOOP));
    assert_eq!(puppet.stat("in.md", NOFOLLOW).map(|stat| stat.kind), Ok(SYMBOLIC_LINK));
    assert_eq!(puppet.open("out.html", CREAT, rights::WRITER), Err(errno::LOOP));

    for target in ["secret", "other", "d", "in.md", "./secret", "d/own", "nothing"] {
        assert_eq!(puppet.symlink(target, "out.html"), Err(errno::PERM), "{target}");
    }
    // Argo follows links when it saves outputs: none may point upwards, from wherever.
    for target in ["..", "../secret", "x/../../secret", "./../secret", "sub/.."] {
        assert_eq!(puppet.symlink(target, "d/link"), Err(errno::PERM), "{target}");
    }
    assert_eq!(puppet.symlink("own", "d/link"), Ok(()));
    assert_eq!(puppet.rename("d/link", "out.html"), Err(errno::PERM));
    assert_eq!(puppet.rename("d/link/", "out.html"), Err(errno::PERM));
    assert_eq!(puppet.link("d/link", "out.html"), Err(errno::PERM));
    assert_eq!(puppet.rename("d/up", "out.html"), Err(errno::PERM));
    assert!(tmp.join("out.html").symlink_metadata().expect("it is there").is_symlink());
    assert_eq!(contents(&tmp.join("secret")), b"SECRET");
    assert_eq!(puppet.exit(0).code(), 0);
}

/// A name can be exchanged by someone else at any time: an entry is opened without following.
#[test]
fn a_link_that_comes_and_goes_leads_nowhere() {
    let (_pod, tmp) = pod();
    symlink("secret", tmp.join("link")).expect("symlink");
    std::fs::write(tmp.join("out.html"), "own").expect("write");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (tmp.join("link"), tmp.join("out.html"));
            while !over.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let here = rustix::fs::CWD;
                rustix::fs::renameat_with(here, &one, here, &other, flags).expect("exchange");
            }
        });
        let mut puppet = puppet(&tmp);
        let mut opened = 0;
        for _ in 0..20_000 {
            if let Ok(fd) = puppet.open("out.html", 0, rights::READER) {
                opened += 1;
                let read = puppet.read(fd, 8).expect("it can be read");
                assert_eq!(read, b"own", "the secret");
                puppet.close(fd).expect("closed");
            }
        }
        over.store(true, Ordering::Relaxed);
        println!("{opened} of 20,000 opened");
    });
}

#[test]
fn a_listing_has_the_entries_alone() {
    let (_pod, tmp) = pod();
    let mut puppet = puppet(&tmp);
    let all = puppet.list(3, 4096);
    assert_eq!(names(&all), [".", "..", "d", "ref", "in.md"]);
    let kinds: Vec<u8> = all.iter().map(|entry| entry.kind).collect();
    assert_eq!(
        kinds,
        [DIRECTORY_TYPE, DIRECTORY_TYPE, DIRECTORY_TYPE, DIRECTORY_TYPE, REGULAR_FILE]
    );
    let inode = |name: &str| tmp.join(name).metadata().expect("it is there").ino();
    assert_eq!(all[4].inode, inode("in.md"));
    assert_eq!(all[1].inode, inode("."), "what lies above has no number");
    puppet.create("out.html");
    for room in [32, 40, 64, 4096] {
        let listed = names(&puppet.list(3, room));
        assert_eq!(listed, [".", "..", "d", "ref", "in.md", "out.html"], "{room}");
    }
    for cookie in [6, 7, u64::MAX] {
        assert_eq!(puppet.readdir(3, 4096, cookie).map(|(entries, _)| entries.len()), Ok(0));
    }
}

/// The directory itself can be opened again, moved to another number, and is as narrow everywhere.
#[test]
fn the_directory_is_narrow_however_it_is_reached() {
    let (pod, tmp) = pod();
    std::fs::create_dir(pod.path().join("whole")).expect("mkdir");
    let whole = pod.path().join("whole");
    let mut puppet = Puppet::start(|step| granted(step.directory(&whole, "/whole"), &tmp));
    // Descriptor 3 is the whole one, 4 is narrowed.
    let all = (rights::ALL, rights::ALL);
    let asked = (rights::READDIR, rights::ALL);
    let again = puppet.open_at(4, ".", FOLLOW, DIRECTORY, asked, 0).expect("the directory");
    assert_eq!(puppet.open_at(4, ".", FOLLOW, DIRECTORY, all, 0), Err(errno::ISDIR));
    assert_eq!(names(&puppet.list(again, 512)), [".", "..", "d", "ref", "in.md"]);
    assert!(puppet.open_at(again, "secret", FOLLOW, 0, (rights::READ, 0), 0).is_err());
    assert!(puppet.open_at(again, "in.md", FOLLOW, 0, (rights::READ, 0), 0).is_ok());
    let dotted = puppet.open_at(again, "./", FOLLOW, 0, asked, 0).expect("the directory");
    assert!(puppet.open_at(dotted, "secret", FOLLOW, 0, (rights::READ, 0), 0).is_err());
    // In the place of the whole one.
    assert_eq!(puppet.done("fd_renumber", &[4, 3]), Ok(()));
    assert_eq!(puppet.open("secret", 0, rights::READ), Err(errno::NOENT));
    assert_eq!(puppet.open("secret", CREAT, rights::WRITER), Err(errno::ACCES));
    assert!(puppet.open("in.md", 0, rights::READ).is_ok());
    // It is the pod's: it is neither dated, nor moved, nor removed.
    let before = tmp.metadata().expect("it is there").mtime_nsec();
    assert_eq!(puppet.done("fd_filestat_set_times", &[3, 1, 1, 5]), Err(errno::ROFS));
    assert_eq!(puppet.set_times(".", FOLLOW, (1, 1), 5), Err(errno::ROFS));
    assert_eq!(tmp.metadata().expect("it is there").mtime_nsec(), before);
    assert_eq!(puppet.mkdir("."), Err(errno::EXIST));
    assert_eq!(puppet.rmdir("."), Err(errno::BUSY));
    assert_eq!(puppet.unlink("."), Err(errno::ISDIR));
    assert_eq!(puppet.rename(".", "out.html"), Err(errno::BUSY));
    assert_eq!(puppet.rename("d", "."), Err(errno::BUSY));
    assert_eq!(puppet.open(".", CREAT | EXCL, rights::WRITER), Err(errno::EXIST));
    assert_eq!(puppet.stat(".", FOLLOW).map(|stat| stat.kind), Ok(DIRECTORY_TYPE));
    assert_eq!(puppet.fstat(again).map(|stat| stat.kind), Ok(DIRECTORY_TYPE));
    assert_eq!(puppet.exit(0).code(), 0);
}

/// A whole directory beside a narrowed one is no way into it.
#[test]
fn nothing_gets_from_one_grant_to_another() {
    let (pod, tmp) = pod();
    let whole = pod.path().join("whole");
    std::fs::create_dir(&whole).expect("mkdir");
    symlink("../tmp/secret", whole.join("up")).expect("symlink");
    std::fs::write(whole.join("file"), "own").expect("write");
    let mut puppet = Puppet::start(|step| granted(step.directory(&whole, "/whole"), &tmp));
    assert_eq!(puppet.rename_at((3, "up"), (4, "out.html")), Err(errno::PERM));
    assert_eq!(puppet.link_at((3, "up"), NOFOLLOW, (4, "out.html")), Err(errno::PERM));
    assert_eq!(puppet.rename_at((3, "file"), (4, "secret")), Err(errno::ACCES));
    assert_eq!(puppet.link_at((4, "in.md"), NOFOLLOW, (3, "stolen")), Err(errno::ROFS));
    assert_eq!(puppet.link_at((4, "secret"), NOFOLLOW, (3, "stolen")), Err(errno::NOENT));
    assert_eq!(puppet.symlink("../tmp/secret", "down"), Err(errno::PERM));
    assert_eq!(puppet.rename_at((3, "file"), (4, "out.html")), Ok(()));
    assert_eq!(contents(&tmp.join("out.html")), b"own");
    assert_eq!(contents(&tmp.join("secret")), b"SECRET");
    assert_eq!(puppet.exit(0).code(), 0);
}

/// An output inside of an input: the preopen that the module's libc takes for it, the deepest one,
/// shows the rest of the input too.
#[test]
fn an_output_inside_of_an_input() {
    let (pod, tmp) = pod();
    let before = snapshot(&tmp.join("other"));
    let mut puppet = Puppet::start(|step| {
        let step = step.path(&tmp, "/tmp", true);
        step.path(&tmp.join("out.html"), "/tmp/out.html", false)
    });
    // Descriptor 3 is `/`, with `tmp` alone; 4 is `/tmp`.
    assert_eq!(names(&puppet.list(3, 512)), [".", "..", "tmp"]);
    let read = (rights::READER, rights::ALL);
    let fd = puppet.open_at(4, "in.md", FOLLOW, 0, read, 0).expect("the input");
    assert_eq!(puppet.read(fd, 64), Ok(b"input".to_vec()));
    let write = (rights::WRITER, 0);
    for path in ["in.md", "new", "other/new", "d/own", "d/../out.html"] {
        assert_eq!(puppet.open_at(4, path, FOLLOW, CREAT, write, 0), Err(errno::ROFS), "{path}");
    }
    assert_eq!(puppet.on_path("path_create_directory", 4, "new"), Err(errno::ROFS));
    assert_eq!(puppet.on_path("path_unlink_file", 4, "in.md"), Err(errno::ROFS));
    assert_eq!(puppet.open_at(3, "tmp/out.html", FOLLOW, CREAT, write, 0), Err(errno::ROFS));
    let fd = puppet.open_at(4, "out.html", FOLLOW, CREAT, write, 0).expect("the output");
    assert_eq!(puppet.write(fd, b"out"), Ok(3));
    let listed = names(&puppet.list(4, 512));
    assert!(["in.md", "out.html", "other"].iter().all(|name| listed.contains(&name.to_string())));
    assert_eq!(snapshot(&tmp.join("other")), before);
    assert!(pod.path().exists());
}

/// Argo may have put an artifact somewhere else, and a link in its place.
#[test]
fn an_input_that_lies_somewhere_else() {
    let (pod, tmp) = pod();
    let there = pod.path().join("artifacts");
    std::fs::create_dir(&there).expect("mkdir");
    std::fs::write(there.join("page"), "elsewhere").expect("write");
    std::fs::write(there.join("secret"), "SECRET").expect("write");
    let mut puppet = Puppet::start(|step| {
        let step = step.path(&there.join("page"), "/tmp/page.md", true);
        step.path(&tmp.join("out.html"), "/tmp/out.html", false)
    });
    let fd = puppet.open("page.md", 0, rights::READER).expect("the input");
    assert_eq!(puppet.read(fd, 64), Ok(b"elsewhere".to_vec()));
    assert_eq!(puppet.stat("page.md", FOLLOW).map(|stat| stat.size), Ok(9));
    for path in ["page", "secret", "../artifacts/secret"] {
        try_to_leave(&mut puppet, path);
    }
    puppet.create("out.html");
    assert_eq!(names(&puppet.list(3, 512)), [".", "..", "page.md", "out.html"]);
}

#[test]
fn directories_at_the_root_and_far_down() {
    let (_pod, tmp) = pod();
    let mut puppet = Puppet::start(|step| {
        let step = step.path(&tmp.join("in.md"), "/in.md", true);
        step.path(&tmp.join("other/d/x"), "/very/far/down/x", false)
    });
    assert_eq!(names(&puppet.list(3, 512)), [".", "..", "in.md"]);
    assert_eq!(puppet.open("etc/passwd", 0, rights::READ), Err(errno::NOENT));
    assert_eq!(puppet.open("etc", DIRECTORY, rights::READDIR), Err(errno::NOENT));
    let write = (rights::WRITER, 0);
    assert!(puppet.open_at(4, "x", FOLLOW, CREAT, write, 0).is_ok());
    assert!(tmp.join("other/d/x").exists());
}

/// A grant whose directory is not there says so; nothing wider is granted in its place.
#[test]
fn a_directory_that_is_missing() {
    let (_pod, tmp) = pod();
    let step = Step::wat(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let ended = step.path(&tmp.join("none/out"), "/none/out", false).run();
    assert_eq!(ended.code(), 126, "{ended:?}");
    assert!(ended.stderr.contains("cannot open the granted directory"), "{ended:?}");
    assert!(ended.stderr.contains("none"), "{ended:?}");
}

/// Every layer takes what is narrowed, and what was opened to tell it so is closed again.
#[test]
fn every_layer_holds() {
    let (_pod, tmp) = pod();
    let mut puppet = puppet(&tmp);
    assert_eq!(puppet.call("sched_yield", &[]), 0, "the module runs, and so the jail is shut");
    let open: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", puppet.id()))
        .expect("its descriptors")
        .filter_map(|entry| std::fs::read_link(entry.expect("one").path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    // Nothing but the directory that is narrowed is left.
    let files = tmp.to_str().expect("a path");
    let of_the_pod: Vec<&String> = open.iter().filter(|link| link.starts_with(files)).collect();
    assert!(!of_the_pod.is_empty(), "{open:?}");
    assert!(of_the_pod.iter().all(|link| *link == files), "{of_the_pod:?}");
    let ended = puppet.exit(0);
    assert_eq!(ended.outcome().missing_layers, None);
}
