//! Confines a runner: to the descriptors it was lent, the directories it was granted, and the calls
//! that its kind of host makes.

use std::os::fd::{AsFd, BorrowedFd};

use warmstep_jail::{Confinement, enter};
pub use warmstep_jail::{JailError, Network, Profile};

use crate::grants::Grants;
use crate::view::Access;
use crate::{ending, signals};

/// Enters the jail. Whatever is opened later is beneath a grant.
///
/// `lent` is what is still to be used beside the grants and the process's end; wasmer opens it once
/// more. A layer that the kernel or the container's profile refuses is an error where `whole_jail` says
/// so; otherwise the outcome tells of it.
///
/// # Errors
///
/// When there is a second thread, or a demanded layer does not hold.
pub fn confine(
    lent: &[BorrowedFd<'_>],
    grants: &Grants,
    network: Network<'_>,
    profile: Profile,
    whole_jail: bool,
) -> Result<(), JailError> {
    let mut keep = lent.to_vec();
    keep.extend(ending::descriptors());
    let whole = |access| {
        let those = grants.preopens.iter().filter(|grant| grant.narrow.is_none());
        those.filter(move |grant| Access::of(grant.read_only) == access)
    };
    let granted = |access| -> Vec<BorrowedFd<'_>> {
        let rules = grants.rules.iter().filter(|(_, other)| *other == access);
        let rules = rules.map(|(found, _)| found.as_fd());
        whole(access).map(|grant| grant.directory.as_fd()).chain(rules).collect()
    };
    // A directory that is narrowed stays open, and is granted to nobody.
    for grant in &grants.preopens {
        let entries = grant.narrow.iter().flat_map(|narrow| &narrow.entries);
        keep.extend(entries.map(|entry| entry.place.0.as_fd()));
        keep.push(grant.directory.as_fd());
    }
    let mut read_only = granted(Access::Read);
    read_only.extend(lent);
    let confinement = Confinement {
        keep: &keep,
        read_only: &read_only,
        read_write: &granted(Access::Write),
        network,
        profile,
        demand_all: whole_jail,
    };
    // SAFETY: there is one thread, the environment is as the kernel passed it, and all descriptors
    // that are used later are among those that stay.
    let layers = unsafe { enter(&confinement)? };
    if let Some(missing) = layers.missing() {
        ending::without_layers(missing);
        // What the signals' outcomes say was written before this was known.
        signals::prepare();
    }
    Ok(())
}
