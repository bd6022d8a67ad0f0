//! Closes every descriptor that was not asked for, such as one that a container runtime forgot
//! (CVE-2024-21626).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::process::{Resource, getrlimit};

use crate::{Confinement, Layer};

/// How far the last resort looks when the limit on descriptors is higher or missing: container
/// runtimes set it to a thousand million, and that many closes take a minute.
const LAST_RESORT: RawFd = 1 << 20;

/// Closes all but stdin, stdout, stderr and what `confinement` names.
///
/// # Safety
///
/// Nothing that is used later owns one of the descriptors that are closed.
pub(crate) unsafe fn close_others(confinement: &Confinement<'_>) -> Layer {
    let keep = kept(confinement);
    // SAFETY: the caller vouches for what is closed, here and below.
    if unsafe { close_ranges(&keep) }.is_ok() {
        return Layer::Holds;
    }
    match listed() {
        Ok(open) => {
            // SAFETY: as above.
            unsafe { close_each(open.into_iter(), &keep) };
            Layer::Holds
        }
        Err(_) => {
            let end = limit();
            // SAFETY: as above.
            unsafe { close_each(3..end, &keep) };
            Layer::Missing(format!(
                "neither close_range nor /proc/self/fd works here, so only those below {end} are \
                 closed"
            ))
        }
    }
}

/// The descriptors that stay, in order and each once.
fn kept(confinement: &Confinement<'_>) -> Vec<RawFd> {
    let Confinement { keep, read_only, read_write, .. } = confinement;
    let named = [*keep, *read_only, *read_write].into_iter().flatten().map(AsRawFd::as_raw_fd);
    let mut kept: Vec<RawFd> = [0, 1, 2].into_iter().chain(named).collect();
    kept.sort_unstable();
    kept.dedup();
    kept
}

/// Closes what lies between the kept ones with `close_range` (Linux 5.9).
///
/// # Safety
///
/// As for [`close_others`].
unsafe fn close_ranges(keep: &[RawFd]) -> io::Result<()> {
    let mut first: libc::c_uint = 0;
    for kept in keep.iter().filter_map(|kept| libc::c_uint::try_from(*kept).ok()) {
        if first < kept {
            // SAFETY: the caller vouches for what is closed.
            unsafe { close_range(first, kept - 1) }?;
        }
        first = kept + 1;
    }
    // SAFETY: as above.
    unsafe { close_range(first, libc::c_uint::MAX) }
}

/// # Safety
///
/// Nothing that is used later owns a descriptor from `first` to `last`.
unsafe fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: the call takes three numbers; what it closes, the caller vouches for.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The open descriptors, as `/proc` lists them. The one with which they are listed is among them,
/// and closed already.
fn listed() -> io::Result<Vec<RawFd>> {
    std::fs::read_dir("/proc/self/fd")?
        .map(|entry| {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            number.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        })
        .collect()
}

/// One more than the highest number that a descriptor can have, as far as is known.
fn limit() -> RawFd {
    let limit = getrlimit(Resource::Nofile).maximum;
    limit
        .and_then(|limit| RawFd::try_from(limit).ok())
        .map_or(LAST_RESORT, |limit| limit.min(LAST_RESORT))
}

/// # Safety
///
/// As for [`close_others`].
unsafe fn close_each(open: impl Iterator<Item = RawFd>, keep: &[RawFd]) {
    for descriptor in open.filter(|open| keep.binary_search(open).is_err()) {
        // SAFETY: the caller vouches for what is closed. One that is not open is no harm.
        unsafe { libc::close(descriptor) };
    }
}
