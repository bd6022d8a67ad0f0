//! Which grant a path of the module is beneath: pure.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The names under which the module sees its grants, as places beneath one root.
#[derive(Debug, Default)]
pub(crate) struct Places {
    places: Vec<PathBuf>,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Where<'p> {
    /// Beneath the grant of this number, by this path; `.` is the granted directory itself.
    Beneath(usize, &'p Path),
    /// To a directory that is there only because a grant is further down.
    Above,
    /// Nowhere.
    Nowhere,
}

impl Places {
    /// The places of grants with these names, which may be relative: the root is where a module
    /// starts.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> Self {
        let place = |name| normal(Path::new(OsStr::from_bytes(name)));
        Self { places: names.into_iter().map(place).collect() }
    }

    /// Where a path leads, which has no `..`: the innermost grant decides.
    pub(crate) fn find<'p>(&self, path: &'p Path) -> Where<'p> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let beneath = |(number, place): (usize, &PathBuf)| {
            path.strip_prefix(place).ok().map(|rest| (place.components().count(), number, rest))
        };
        let found = self.places.iter().enumerate().filter_map(beneath).max_by_key(|found| found.0);
        match found {
            Some((_, number, rest)) if rest.as_os_str().is_empty() => {
                Where::Beneath(number, Path::new("."))
            }
            Some((_, number, rest)) => Where::Beneath(number, rest),
            None if self.is_above(path) => Where::Above,
            None => Where::Nowhere,
        }
    }

    /// Whether a path is a grant, or leads to one: such a name is not the module's to remove.
    pub(crate) fn is_above(&self, path: &Path) -> bool {
        let path = path.strip_prefix("/").unwrap_or(path);
        path.as_os_str().is_empty() || self.places.iter().any(|place| place.starts_with(path))
    }

    /// The names in a directory behind which there are grants.
    pub(crate) fn names_in(&self, directory: &Path) -> BTreeSet<&OsStr> {
        let directory = directory.strip_prefix("/").unwrap_or(directory);
        let depth = directory.components().count();
        let below = self.places.iter().filter(|place| place.starts_with(directory));
        below.filter_map(|place| place.iter().nth(depth)).collect()
    }
}

/// The path beneath the root, without `.` and `..`; there is nothing above the root.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(names: &[&str]) -> Places {
        Places::new(names.iter().map(|name| name.as_bytes()))
    }

    #[test]
    fn the_innermost_grant_decides() {
        let places = places(&["/work", "/work/out", "data/in"]);
        for (path, expected) in [
            ("/work/a", Where::Beneath(0, Path::new("a"))),
            ("/work", Where::Beneath(0, Path::new("."))),
            ("/work/out", Where::Beneath(1, Path::new("."))),
            ("/work/out/b/c", Where::Beneath(1, Path::new("b/c"))),
            ("/work/outside", Where::Beneath(0, Path::new("outside"))),
            ("/data/in/x", Where::Beneath(2, Path::new("x"))),
            ("/data", Where::Above),
            ("/", Where::Above),
            ("/workshop", Where::Nowhere),
            ("/etc/passwd", Where::Nowhere),
        ] {
            assert_eq!(places.find(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_grant_of_the_root_is_everything() {
        for name in ["/", ".", "", "/a/.."] {
            let places = places(&[name]);
            assert_eq!(places.find(Path::new("/a/b")), Where::Beneath(0, Path::new("a/b")));
        }
    }

    #[test]
    fn grants_have_names_in_the_directories_above_them() {
        let places = places(&["/work/in", "/work/out", "/x"]);
        let names = |path: &str| -> Vec<String> {
            let names = places.names_in(Path::new(path));
            names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names("/"), ["work", "x"]);
        assert_eq!(names("/work"), ["in", "out"]);
        assert!(names("/work/in").is_empty());
        assert!(names("/elsewhere").is_empty());
    }
}
