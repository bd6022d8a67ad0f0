//! Paths of all shapes over trees of all shapes: both ways to resolve them agree, and stay beneath.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tempfile::tempdir;

use super::*;

#[test]
fn a_path_is_split_before_its_last_name() {
    let cases: &[(&str, &str, &str)] = &[
        ("", "", ""),
        ("/", "/", ""),
        ("//", "//", ""),
        ("a", "", "a"),
        ("a/", "", "a/"),
        ("a//b", "a//", "b"),
        ("a/b///", "a/", "b///"),
        ("/a", "/", "a"),
        ("..", "", ".."),
        ("a/../", "a/", "../"),
    ];
    for (path, above, name) in cases {
        assert_eq!(split(path.as_bytes()), (above.as_bytes(), name.as_bytes()), "{path}");
    }
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).expect("it is small")]
    }

    /// A path of a few names that are likely to be there.
    fn path(&mut self) -> String {
        let mut path = self.one_of(&["", "", "", "", "", "", "", "/", "./", "../"]).to_owned();
        for _ in 0..=self.below(3) {
            path.push_str(self.one_of(&["a", "b", "a", "b", "a", "c", ".", "..", "none"]));
            path.push_str(self.one_of(&["/", "/", "/", "//"]));
        }
        if self.below(3) > 0 {
            path.truncate(path.trim_end_matches('/').len());
        }
        path
    }

    fn flags(&mut self) -> OFlags {
        let access = [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::PATH];
        let mut flags = access[usize::try_from(self.below(4)).expect("it is small")];
        let more = [OFlags::NOFOLLOW, OFlags::DIRECTORY, OFlags::TRUNC, OFlags::APPEND];
        let more = if flags == OFlags::PATH { &more[..2] } else { &more[..] };
        for flag in more {
            if self.below(4) == 0 {
                flags |= *flag;
            }
        }
        if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK }
    }
}

/// Fills a directory with files, directories, and symbolic links that lead anywhere.
fn grow(root: &Path, numbers: &mut Numbers) {
    for _ in 0..40 {
        let path = root.join(numbers.path().trim_matches('/'));
        if !path.starts_with(root) || path.components().any(|part| part.as_os_str() == "..") {
            continue;
        }
        // Much of it fails, because of what is there already.
        match numbers.below(4) {
            0 => drop(std::fs::write(path, "x")),
            1 => drop(std::os::unix::fs::symlink(numbers.path(), path)),
            _ => drop(std::fs::create_dir(path)),
        }
    }
}

/// Which file a descriptor is, after checking that it lies beneath.
fn identity(found: &OwnedFd, root: &Path) -> (u64, u64) {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).expect("a path");
    assert!(path.starts_with(root), "{path:?} is not beneath {root:?}");
    let stat = rustix::fs::fstat(found).expect("stat");
    (stat.st_dev, stat.st_ino)
}

#[test]
fn both_ways_agree_and_stay_beneath() {
    let outside = tempdir().expect("a directory");
    let outside = outside.path().canonicalize().expect("a path");
    let mut numbers = Numbers(0x5eed);
    let (mut found, mut refused) = (0, 0);
    for tree in 0..300 {
        let root = outside.join(format!("root{tree}"));
        std::fs::create_dir(&root).expect("mkdir");
        grow(&root, &mut numbers);
        let directory = std::fs::File::open(&root).expect("open");
        for _ in 0..100 {
            let (path, flags) = (numbers.path(), numbers.flags());
            match compare(directory.as_fd(), &root, path.as_bytes(), flags) {
                true => found += 1,
                false => refused += 1,
            }
        }
        std::fs::remove_dir_all(&root).expect("remove");
    }
    assert!(found > 3000 && refused > 3000, "{found} found, {refused} refused");
}

/// Resolves a path in both ways; says whether it was found.
fn compare(directory: BorrowedFd<'_>, root: &Path, path: &[u8], flags: OFlags) -> bool {
    let kernel = open(directory, path, flags, Mode::empty());
    let walked = open_by_walking(directory, path, flags, Mode::empty());
    let shown = std::ffi::OsStr::from_bytes(path);
    match (&kernel, &walked) {
        (Ok(kernel), Ok(walked)) => {
            assert_eq!(identity(kernel, root), identity(walked, root), "{shown:?} {flags:?}");
        }
        (Err(_), Err(_)) => {}
        _ => panic!("{shown:?} with {flags:?} in {root:?}: {kernel:?} but {walked:?}"),
    }
    kernel.is_ok()
}
