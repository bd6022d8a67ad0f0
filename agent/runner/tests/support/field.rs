//! A grant beside what it must not lead to, and every way to try.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use super::calls::*;
use super::puppet::Puppet;

/// Everything beneath a directory: what it is, what it holds, when it was changed.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, u64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().expect("it is there");
        let bytes = if metadata.is_file() { std::fs::read(&path).expect("a file") } else { vec![] };
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        let what =
            (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), metadata.nlink(), bytes);
        all.insert(path, what);
    }
    all
}

/// A grant, `inside`, beside `outside`, which holds a secret and must not change.
pub(crate) fn field() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let field = tempdir().expect("a directory");
    let (inside, outside) = (field.path().join("inside"), field.path().join("outside"));
    for directory in [&inside, &outside, &outside.join("d"), &inside.join("d")] {
        std::fs::create_dir(directory).expect("mkdir");
    }
    std::fs::write(outside.join("secret"), "SECRET").expect("write");
    std::fs::write(inside.join("own"), "own").expect("write");
    (field, inside, outside)
}

/// Where symbolic links that leave may point, from a directory `depth` below the grant.
pub(crate) fn ways_out(outside: &Path, depth: usize) -> Vec<String> {
    let absolute = outside.to_str().expect("a temporary path is UTF-8");
    let up = "../".repeat(depth);
    let far = "../".repeat(depth + 40);
    let relative = absolute.trim_start_matches('/');
    let mut ways = Vec::new();
    for end in ["", "/secret", "/d", "/new", "/d/new", "/./secret", "//secret", "/d/../secret"] {
        ways.push(format!("{absolute}{end}"));
        ways.push(format!("{up}../outside{end}"));
        ways.push(format!("{far}{relative}{end}"));
        ways.push(format!("{up}d/../../outside{end}"));
        ways.push(format!("./{up}./..//outside{end}"));
    }
    ways.extend(["/", "../..", "/proc/self/root", "/proc/self/cwd"].map(String::from));
    ways
}

/// Does everything with a path that might read or change what lies outside.
pub(crate) fn try_to_leave(puppet: &mut Puppet, path: &str) {
    let opens = [
        (0, rights::READ),
        (0, rights::READ | rights::WRITE),
        (CREAT, rights::WRITE),
        (CREAT | EXCL, rights::WRITE),
        (TRUNC, rights::WRITE),
        (DIRECTORY, rights::READDIR),
    ];
    for (oflags, rights) in opens {
        if let Ok(fd) = puppet.open(path, oflags, rights) {
            panic!("{path} was opened with {oflags}: {:?}", puppet.read(fd, 64));
        }
    }
    assert!(puppet.stat(path, FOLLOW).is_err(), "{path}");
    assert!(puppet.set_times(path, FOLLOW, (1, 1), 5).is_err(), "{path}");
    let below = format!("{path}/made");
    assert!(puppet.mkdir(&below).is_err(), "{path}");
    assert!(puppet.symlink("own", &below).is_err(), "{path}");
    assert!(puppet.link("own", &below).is_err(), "{path}");
    assert!(puppet.rename("own", &below).is_err(), "{path}");
    let secret = format!("{path}/secret");
    assert!(puppet.link(&secret, "stolen").is_err(), "{path}");
    assert!(puppet.rename(&secret, "stolen").is_err(), "{path}");
    assert!(puppet.unlink(&secret).is_err(), "{path}");
    assert!(puppet.rmdir(&format!("{path}/d")).is_err(), "{path}");
    assert!(puppet.readlink(&secret, 64).is_err(), "{path}");
}

/// Fills a grant with symbolic links that lead out, and tries every path over them.
///
/// Panics where something outside was reached or changed.
pub(crate) fn try_every_link(inside: &Path, outside: &Path, puppet: &mut Puppet) {
    let mut shapes: Vec<String> = Vec::new();
    for (directory, depth) in [("", 0), ("d/", 1)] {
        for (number, way) in ways_out(outside, depth).iter().enumerate() {
            let name = format!("{directory}link{number}");
            symlink(way, inside.join(&name)).expect("symlink");
            let chain = format!("{directory}chain{number}");
            symlink(format!("link{number}"), inside.join(&chain)).expect("symlink");
            shapes.extend([name, chain]);
        }
    }
    let mut paths = shapes.clone();
    for shape in &shapes {
        let ends = ["", "/secret", "/new", "/..", "/d/../secret"];
        paths.extend(ends.map(|end| format!("{shape}/{end}")));
    }
    assert!(shapes.len() >= 160 && paths.len() >= 900, "{} {}", shapes.len(), paths.len());
    let before = snapshot(outside);
    for path in &paths {
        try_to_leave(puppet, path);
    }
    assert_eq!(snapshot(outside), before);
}
