//! What the module sees: a preopen for each granted directory, and one for the directory of each path
//! that is granted by itself. Pure.

use std::borrow::Cow;

use warmstep_wire::message::{DirectoryGrant, PathGrant};

/// A preopen.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen<'p> {
    /// The directory in the pod.
    pub host: Cow<'p, [u8]>,
    /// Its name for the module.
    pub guest: &'p [u8],
    /// Whether all of it is granted, by itself.
    pub granted: bool,
    /// How the module sees names that are not entries; not at all without it.
    pub others: Option<Access>,
    /// Names with an access of their own.
    pub entries: Vec<&'p PathGrant>,
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No change.
    Read,
    /// Everything.
    Write,
}

impl Access {
    /// What a grant says.
    pub fn of(read_only: bool) -> Self {
        if read_only { Self::Read } else { Self::Write }
    }
}

/// A grant of either kind, with everything beneath it.
#[derive(Clone, Copy)]
struct Tree<'p> {
    host: &'p [u8],
    guest: &'p [u8],
    access: Access,
}

/// Makes one view of all grants: the directories in their order, then the directories of paths.
///
/// A module's libc looks for a path in the preopen with the longest name that leads to it. So the
/// preopen of a path must show what an outer grant shows of the same directory, too; and a path that
/// an outer grant covers already, with the same access or more, needs none.
pub fn view<'p>(directories: &'p [DirectoryGrant], paths: &'p [PathGrant]) -> Vec<Seen<'p>> {
    let mut trees: Vec<Tree<'p>> = directories.iter().map(Tree::from).collect();
    let mut seen: Vec<Seen<'p>> = trees.iter().map(Seen::from).collect();
    let mut paths: Vec<&PathGrant> = paths.iter().collect();
    // From the outside in: whatever covers a path has a shorter name.
    paths.sort_by_key(|path| path.guest.len());
    for path in paths {
        let above = trees.iter().filter(|tree| tree.below(&path.guest).is_some());
        let above = above.max_by_key(|tree| simple(tree.guest).len()).copied();
        if above.is_some_and(|above| above.covers(path)) {
            continue;
        }
        trees.push(Tree::from(path));
        let (guest, _) = split(&path.guest);
        match seen.iter_mut().find(|other| simple(other.guest) == simple(guest)) {
            Some(preopen) => preopen.entries.push(path),
            None => seen.push(directory_of(path, guest, above)),
        }
    }
    seen
}

/// The preopen for the directory of a path, which is beneath another grant or not.
fn directory_of<'p>(path: &'p PathGrant, guest: &'p [u8], above: Option<Tree<'p>>) -> Seen<'p> {
    let (host, others) = match above.and_then(|above| Some((above, above.below(guest)?))) {
        Some((above, below)) => (joined(above.host, below), Some(above.access)),
        None => (Cow::Borrowed(split(&path.host).0), None),
    };
    Seen { host, guest, granted: false, others, entries: vec![path] }
}

impl<'p> From<&'p DirectoryGrant> for Tree<'p> {
    fn from(grant: &'p DirectoryGrant) -> Self {
        let access = Access::of(grant.read_only);
        Self { host: &grant.host, guest: &grant.guest, access }
    }
}

impl<'p> From<&'p PathGrant> for Tree<'p> {
    fn from(grant: &'p PathGrant) -> Self {
        let access = Access::of(grant.read_only);
        Self { host: &grant.host, guest: &grant.guest, access }
    }
}

impl<'p> From<&Tree<'p>> for Seen<'p> {
    fn from(tree: &Tree<'p>) -> Self {
        Self {
            host: Cow::Borrowed(tree.host),
            guest: tree.guest,
            granted: true,
            others: Some(tree.access),
            entries: Vec::new(),
        }
    }
}

impl Tree<'_> {
    /// The rest of a path of the module that leads here or further down.
    fn below<'g>(&self, guest: &'g [u8]) -> Option<&'g [u8]> {
        let rest = simple(guest).strip_prefix(simple(self.guest))?;
        if rest.is_empty() || simple(self.guest).is_empty() {
            return Some(rest);
        }
        rest.strip_prefix(b"/")
    }

    /// Whether it gives the module the very thing that a path does, and allows as much.
    fn covers(&self, path: &PathGrant) -> bool {
        let allows = self.access == Access::Write || path.read_only;
        let same = |below| *joined(self.host, below) == path.host[..];
        allows && self.below(&path.guest).is_some_and(same)
    }
}

/// A name for the module without the slashes and dots that do not matter: libcs drop them as well.
fn simple(guest: &[u8]) -> &[u8] {
    let mut name = guest;
    while let [b'/', rest @ ..] | [b'.', b'/', rest @ ..] | [rest @ .., b'/'] = name {
        name = rest;
    }
    if name == b"." { b"" } else { name }
}

fn joined<'p>(directory: &'p [u8], below: &[u8]) -> Cow<'p, [u8]> {
    if below.is_empty() {
        return Cow::Borrowed(directory);
    }
    let mut path = directory.to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(below);
    Cow::Owned(path)
}

/// A path's directory and its name in it. The path is absolute and simple, as the plan's are.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) | None => (b"/", path.strip_prefix(b"/").unwrap_or(path)),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(guest: &str, read_only: bool) -> PathGrant {
        moved(guest, guest, read_only)
    }

    fn moved(host: &str, guest: &str, read_only: bool) -> PathGrant {
        let bytes = |text: &str| text.as_bytes().to_vec().into();
        PathGrant { host: bytes(host), guest: bytes(guest), read_only }
    }

    fn directory(host: &str, guest: &str, read_only: bool) -> DirectoryGrant {
        let bytes = |text: &str| text.as_bytes().to_vec().into();
        DirectoryGrant { host: bytes(host), guest: bytes(guest), read_only }
    }

    /// A line for each preopen: `GUEST=HOST`, the access to all of it, and its entries.
    fn lines(directories: &[DirectoryGrant], paths: &[PathGrant]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let word = |access| if access == Access::Read { "ro" } else { "rw" };
        let entry = |entry: &&PathGrant| {
            let name = text(split(&entry.guest).1);
            format!(" {name}:{}", word(Access::of(entry.read_only)))
        };
        view(directories, paths)
            .iter()
            .map(|seen| {
                let others = seen.others.map_or("none", word);
                let entries: String = seen.entries.iter().map(entry).collect();
                format!("{}={} {others}{entries}", text(seen.guest), text(&seen.host))
            })
            .collect()
    }

    #[test]
    fn paths_in_one_directory_share_a_preopen() {
        let paths = [path("/tmp/out", false), path("/tmp/in.md", true), path("/a/b/c", true)];
        let seen = lines(&[directory("/data", "/data", false)], &paths);
        assert_eq!(
            seen,
            ["/data=/data rw", "/a/b=/a/b none c:ro", "/tmp=/tmp none out:rw in.md:ro"]
        );
        assert_eq!(lines(&[], &[path("/in", true)]), ["/=/ none in:ro"]);
    }

    #[test]
    fn what_is_covered_needs_nothing() {
        let outer = path("/w", false);
        let inner = [path("/w/a/in", true), outer, path("/w/out", false)];
        assert_eq!(lines(&[], &inner), ["/=/ none w:rw"]);
        let read = [path("/w", true), path("/w/a/in", true)];
        assert_eq!(lines(&[], &read), ["/=/ none w:ro"]);
        let flag = [directory("/w", "/w/", false)];
        assert_eq!(lines(&flag, &[path("/w/a/in", true)]), ["/w/=/w rw"]);
    }

    #[test]
    fn an_output_inside_of_an_input_hides_nothing() {
        let paths = [path("/w/a/out", false), path("/w", true)];
        assert_eq!(lines(&[], &paths), ["/=/ none w:ro", "/w/a=/w/a ro out:rw"]);
        let flag = [directory("/w", "/w", true)];
        assert_eq!(lines(&flag, &[path("/w/out", false)]), ["/w=/w ro out:rw"]);
        // The nearest counts, not the first.
        let flags = [directory("/", "/", false), directory("/w", "/w", true)];
        let seen = lines(&flags, &[path("/w/out", false)]);
        assert_eq!(seen, ["/=/ rw", "/w=/w ro out:rw"]);
    }

    #[test]
    fn what_has_another_place_stays() {
        let elsewhere = moved("/argo/inputs/artifacts/in", "/tmp/in", true);
        let flag = [directory("/data", "/tmp", false)];
        assert_eq!(lines(&flag, std::slice::from_ref(&elsewhere)), ["/tmp=/data rw in:ro"]);
        let root = [directory("/data", ".", true)];
        assert_eq!(lines(&root, &[path("/a/in", true)]), [".=/data ro", "/a=/data/a ro in:ro"]);
    }

    #[test]
    fn a_name_is_not_a_prefix() {
        let flag = [directory("/w", "/w", false)];
        let seen = lines(&flag, &[path("/work/in", true)]);
        assert_eq!(seen, ["/w=/w rw", "/work=/work none in:ro"]);
    }
}
