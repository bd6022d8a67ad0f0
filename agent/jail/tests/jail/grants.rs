//! Landlock: what a granted directory allows, and what it does not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::probe::{End, Probe};

const DONE: fn() -> End = || End::Done(String::new());
const REFUSED: End = End::Refused(libc::EACCES);

/// Two directories with a file and a directory in each.
struct Directories {
    read_only: tempfile::TempDir,
    read_write: tempfile::TempDir,
}

impl Directories {
    fn new() -> Self {
        let [read_only, read_write] = [(); 2].map(|()| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            std::fs::write(directory.path().join("file"), "text").expect("a file");
            std::fs::create_dir(directory.path().join("inner")).expect("a directory");
            open_to_all(directory.path());
            directory
        });
        Self { read_only, read_write }
    }

    /// Tries an action in a probe to which both are granted.
    fn run(&self, profile: &str, action: &[&str]) -> End {
        Probe::new(&["--profile", profile, "--read-only"])
            .with(self.read_only.path())
            .with("--read-write")
            .with(self.read_write.path())
            .run(action)
    }

    fn read_only(&self, name: &str) -> String {
        path(self.read_only.path(), name)
    }

    fn read_write(&self, name: &str) -> String {
        path(self.read_write.path(), name)
    }
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("the path is text").to_owned()
}

/// Lets users without privileges into a temporary directory.
pub(crate) fn open_to_all(directory: &Path) {
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory, all).expect("the tests own the directory");
}

#[test]
fn what_is_granted_can_be_read() {
    let directories = Directories::new();
    for profile in ["preview1", "compiler"] {
        for file in [directories.read_only("file"), directories.read_write("file")] {
            assert_eq!(directories.run(profile, &["read", &file]), DONE(), "{profile} {file}");
        }
    }
    for directory in [directories.read_only("inner"), directories.read_write("")] {
        assert_eq!(directories.run("preview1", &["list", &directory]), DONE(), "{directory}");
    }
}

/// Also by root, whose access to files goes beyond their modes.
#[test]
fn what_is_read_only_cannot_be_written() {
    let directories = Directories::new();
    let (file, new) = (directories.read_only("file"), directories.read_only("new"));
    let elsewhere = directories.read_write("moved");
    let refused: &[&[&str]] = &[
        &["write", &file],
        &["write", &new],
        &["truncate", &file],
        &["mkdir", &new],
        &["unlink", &file],
        &["rename", &file, &new],
    ];
    for action in refused {
        assert_eq!(directories.run("preview1", action), REFUSED, "{action:?}");
    }
    // Out of a read-only grant nothing can be moved, or linked to where it could be written.
    for action in ["rename", "link"] {
        let end = directories.run("preview1", &[action, &file, &elsewhere]);
        assert!(matches!(end, End::Refused(libc::EACCES | libc::EXDEV)), "{action}: {end:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "text");
}

#[test]
fn what_is_read_write_can_be_changed() {
    let directories = Directories::new();
    let (file, new) = (directories.read_write("file"), directories.read_write("new"));
    let (inner, made) = (directories.read_write("inner/file"), directories.read_write("made"));
    let linked = directories.read_write("inner/linked");
    let done: &[&[&str]] = &[
        &["write", &new],
        &["truncate", &new],
        &["mkdir", &made],
        // To another directory, which the first version of Landlock refuses.
        &["rename", &file, &inner],
        &["link", &inner, &linked],
        &["touch", &linked],
        &["unlink", &linked],
    ];
    for action in done {
        assert_eq!(directories.run("preview1", action), DONE(), "{action:?}");
    }
    assert_eq!(std::fs::read_to_string(&inner).expect("the file"), "text");
}

#[test]
fn a_link_out_of_a_grant_leads_nowhere() {
    let directories = Directories::new();
    let link = directories.read_write("link");
    let outside = tempfile::NamedTempFile::new().expect("a file");
    let outside = outside.path().to_str().expect("the path is text");
    std::os::unix::fs::symlink(outside, &link).expect("a link");
    assert_eq!(directories.run("preview1", &["read", &link]), REFUSED);
    let end = directories.run("preview1", &["link", outside, &directories.read_write("hard")]);
    assert!(matches!(end, End::Refused(libc::EACCES | libc::EXDEV)), "{end:?}");
}

#[test]
fn a_single_file_can_be_granted() {
    let directories = Directories::new();
    let (file, other) = (directories.read_only("file"), directories.read_only("inner"));
    let probe = || Probe::new(&["--profile", "preview1", "--read-only", &file]);
    assert_eq!(probe().run(&["read", &file]), DONE());
    assert_eq!(probe().run(&["read", "/proc/self/fd/3"]), DONE());
    assert_eq!(probe().run(&["list", &other]), REFUSED);
    assert_eq!(probe().run(&["write", &file]), REFUSED);
}

/// As an output that exists: neither its neighbours nor its own name are the module's.
#[test]
fn a_single_file_can_be_granted_to_write() {
    let directories = Directories::new();
    let (file, other) = (directories.read_write("file"), directories.read_write("other"));
    std::fs::write(&other, "other").expect("a file");
    let probe = || Probe::new(&["--profile", "preview1", "--read-write", &file]);
    for action in ["read", "write", "truncate"] {
        assert_eq!(probe().run(&[action, &file]), DONE(), "{action}");
        assert_eq!(probe().run(&[action, &other]), REFUSED, "{action}");
    }
    assert_eq!(probe().run(&["unlink", &file]), REFUSED);
    assert_eq!(probe().run(&["write", &directories.read_write("new")]), REFUSED);
    assert_eq!(probe().run(&["list", &directories.read_write("")]), REFUSED);
}

/// What an agent lends may be a memfd, for which Landlock takes no rule.
#[test]
fn a_memfd_can_be_granted() {
    let end = Probe::new(&["--profile", "preview1", "--memfd"]).run(&["read", "/proc/self/fd/3"]);
    assert_eq!(end, DONE());
    let layers = Probe::new(&["--profile", "preview1", "--memfd", "--demand-all"]).run(&["layers"]);
    assert_eq!(layers, End::Done("all hold".into()));
}
