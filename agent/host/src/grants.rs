//! Opens what the plan grants, before the jail closes.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use warmstep_wire::message::PathGrant;
use warmstep_wire::plan::Plan;

use crate::narrow::{Entry, Narrow};
use crate::view::{self, Access, Seen};

/// A directory of the pod, opened, and the name under which the module sees it.
#[derive(Debug)]
pub struct Grant {
    /// The directory.
    pub directory: OwnedFd,
    /// Its name for the module.
    pub name: Vec<u8>,
    /// Whether every change is refused.
    pub read_only: bool,
    /// The names that it is narrowed to, if it is.
    pub narrow: Option<Narrow>,
}

/// A granted directory cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the granted directory {path}: {error}")]
pub struct GrantError {
    /// The path in the pod.
    path: String,
    /// Why.
    error: Errno,
}

/// What is granted, opened.
#[derive(Debug, Default)]
pub struct Grants {
    /// The module's preopens.
    pub preopens: Vec<Grant>,
    /// What Landlock lets the process reach beside the preopens that are not narrowed.
    pub rules: Vec<(OwnedFd, Access)>,
}

/// Opens everything that the plan grants.
pub fn open(plan: &Plan) -> Result<Grants, GrantError> {
    let mut grants = Grants::default();
    for seen in view::view(&plan.directories, &plan.paths) {
        let grant = grants.preopen(&seen)?;
        grants.preopens.push(grant);
    }
    Ok(grants)
}

impl Grants {
    fn preopen(&mut self, seen: &Seen<'_>) -> Result<Grant, GrantError> {
        let name = seen.guest.to_vec();
        if seen.entries.is_empty() {
            let read_only = seen.others == Some(Access::Read);
            return Ok(Grant { directory: directory(&seen.host)?, name, read_only, narrow: None });
        }
        let entries = seen.entries.iter().map(|path| self.entry(path));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let narrow = Narrow { entries, others: seen.others };
        let directory = match (directory(&seen.host), seen.entries.first()) {
            // An outer grant says where it would be, but that does not exist.
            (Err(GrantError { error: Errno::NOENT, .. }), Some(path)) if !seen.granted => {
                directory(view::split(&path.host).0)?
            }
            (opened, _) => opened?,
        };
        if let (true, Some(access)) = (seen.granted, seen.others) {
            self.rules.push((self::directory(&seen.host)?, access));
        }
        Ok(Grant { directory, name, read_only: narrow.is_read_only(), narrow: Some(narrow) })
    }

    /// Opens the directory of an entry, and finds out what of it Landlock must let through.
    ///
    /// Its rules are about what exists. What does not yet can only be granted by granting its
    /// directory: there, the file system that the module sees is the layer that narrows.
    fn entry(&mut self, path: &PathGrant) -> Result<Entry, GrantError> {
        let (above, there) = view::split(&path.host);
        let directory = directory(above)?;
        let access = Access::of(path.read_only);
        let handle = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&directory, there, handle, Mode::empty()) {
            Ok(found) if is_link(&found) => {}
            Ok(found) => self.rules.push((found, access)),
            Err(Errno::NOENT) if access == Access::Write => {
                self.rules.push((self::directory(above)?, access));
            }
            // Whoever tries to open it learns why that cannot be.
            Err(_) => {}
        }
        let name = view::split(&path.guest).1.to_vec();
        Ok(Entry { name, access, place: (directory, there.to_vec()) })
    }
}

fn is_link(found: &OwnedFd) -> bool {
    let stat = rustix::fs::statat(found, c"", AtFlags::EMPTY_PATH);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn directory(host: &[u8]) -> Result<OwnedFd, GrantError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(host, flags, Mode::empty()) {
        // A directory that may be passed through but not listed is still a grant.
        Err(Errno::ACCESS) => rustix::fs::open(host, flags | OFlags::PATH, Mode::empty()),
        opened => opened,
    };
    opened.map_err(|error| GrantError { path: String::from_utf8_lossy(host).into_owned(), error })
}
