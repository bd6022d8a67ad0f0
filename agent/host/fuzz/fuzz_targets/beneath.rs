//! Whatever a directory holds and whatever a path says, it leads nowhere else, by either way.
//!
//! An input is lines. Each begins with what to make (`d`irectory, `f`ile, symbolic `l`ink to what
//! stands before a tab) or to open (`o`, `n` without following a link at the end), and a path.

#![no_main]

// The runner is one large program; its resolver is one file, taken alone.
#[path = "../../src/beneath.rs"]
mod beneath;

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{Mode, OFlags};

/// The most lines of an input that are looked at.
const LINES: usize = 64;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("beneath-{}", std::process::id()));
    let _ = std::fs::create_dir_all(root.join("outside"));
    root.canonicalize().expect("a path")
});

fuzz_target!(|data: &[u8]| {
    let grant = ROOT.join("grant");
    let _ = std::fs::remove_dir_all(&grant);
    std::fs::create_dir(&grant).expect("a directory");
    let directory = std::fs::File::open(&grant).expect("it is there");
    for line in data.split(|byte| *byte == b'\n').take(LINES) {
        let Some((what, rest)) = line.split_first() else { continue };
        match what {
            b'd' => drop(inside(&grant, rest).map(std::fs::create_dir)),
            b'f' => drop(inside(&grant, rest).map(|path| std::fs::write(path, "x"))),
            b'l' => link(&grant, rest),
            b'o' => open(directory.as_fd(), &grant, rest, OFlags::RDONLY),
            b'n' => open(directory.as_fd(), &grant, rest, OFlags::NOFOLLOW | OFlags::PATH),
            _ => {}
        }
    }
});

/// A path that certainly is in the grant, to make something at: one name.
fn inside(grant: &Path, name: &[u8]) -> Option<PathBuf> {
    let name = Path::new(OsStr::from_bytes(name));
    let mut parts = name.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { return None };
    Some(grant.join(name))
}

fn link(grant: &Path, line: &[u8]) {
    let Some(tab) = line.iter().position(|byte| *byte == b'\t') else { return };
    if let Some(path) = inside(grant, &line[tab + 1..]) {
        let _ = std::os::unix::fs::symlink(OsStr::from_bytes(&line[..tab]), path);
    }
}

fn open(directory: std::os::fd::BorrowedFd<'_>, grant: &Path, path: &[u8], flags: OFlags) {
    let flags = flags | OFlags::CLOEXEC;
    let kernel = beneath::open(directory, path, flags, Mode::empty());
    let walked = beneath::open_by_walking(directory, path, flags, Mode::empty());
    let (kernel, walked) = (place(kernel, grant), place(walked, grant));
    assert_eq!(kernel, walked);
    if let Ok((parent, name)) = beneath::parent(directory, path) {
        let found = std::fs::read_link(format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd()));
        assert!(found.expect("a path").starts_with(grant) && !name.is_empty());
    }
}

fn place(found: Result<OwnedFd, rustix::io::Errno>, grant: &Path) -> Option<PathBuf> {
    let found = found.ok()?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).expect("a path");
    assert!(path.starts_with(grant), "{path:?}");
    Some(path)
}
