//! Confines the runner: to the descriptors it was lent, the directories it was granted, and the
//! calls that a preview 1 host makes.

use std::os::fd::{AsFd, BorrowedFd};

use warmstep_jail::{Confinement, JailError, Network, Profile, enter};

use crate::preview1::Grant;
use crate::{ending, signals};

/// Enters the jail. Whatever is opened later is beneath a grant.
///
/// `lent` is what is still to be used beside the grants and the process's end; wasmer opens it once
/// more. A layer that the kernel or the container's profile refuses is an error where `whole` says
/// so; otherwise the outcome tells of it.
pub(crate) fn confine(
    lent: &[BorrowedFd<'_>],
    grants: &[Grant],
    whole: bool,
) -> Result<(), JailError> {
    let mut keep = lent.to_vec();
    keep.extend(ending::descriptors());
    let granted = |read_only| -> Vec<BorrowedFd<'_>> {
        let those = grants.iter().filter(|grant| grant.read_only == read_only);
        those.map(|grant| grant.directory.as_fd()).collect()
    };
    let mut read_only = granted(true);
    read_only.extend(lent);
    let confinement = Confinement {
        keep: &keep,
        read_only: &read_only,
        read_write: &granted(false),
        network: Network::None,
        profile: Profile::Preview1,
        demand_all: whole,
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
