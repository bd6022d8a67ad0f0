//! Core dumps, `no_new_privs` and capabilities: what the process gives up of its own.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use crate::{Layer, Profile};

/// The capabilities that a runner keeps if it has them.
///
/// A step that runs as root has root's access to the files it is granted: it writes into an
/// artifact directory that a container of another user made, as a native program in that pod would.
/// Whoever wants less runs the pod as another user. Everything else that root can do, a module
/// cannot ask for: it has no way to change owners or modes, to make devices, or to kill. Landlock
/// and the grants themselves bound where the access counts.
const FILE_ACCESS: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::FOWNER);

/// Sees to it that the process's memory lands in no file, and that no neighbour with the same user
/// id can read or trace it.
///
/// The process can still open its own `/proc/self/fd/N`, also as a user that is not root (seen on
/// Linux 6.18): the kernel lets a process look at itself.
pub(crate) fn forbid_core_dumps() -> Layer {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    Layer::from_result("cannot be turned off", limited.and(hidden))
}

/// Sees to it that executing a program gains nothing. Landlock and seccomp ask for it.
pub(crate) fn gain_none() -> Layer {
    Layer::from_result("refused", set_no_new_privs(true))
}

/// Drops every capability but those for file access, and those too in the compiler, whose one
/// directory is its own.
pub(crate) fn drop_capabilities(profile: Profile) -> Layer {
    let keep = match profile {
        Profile::Preview1 | Profile::Wasix => FILE_ACCESS,
        Profile::Compiler => CapabilitySet::empty(),
    };
    Layer::from_result("cannot be dropped", reduce(keep))
}

fn reduce(keep: CapabilitySet) -> rustix::io::Result<()> {
    let has = capabilities(None)?;
    if has.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set()?;
    }
    let kept = has.permitted.intersection(keep);
    let reduced = CapabilitySets {
        effective: kept,
        permitted: kept,
        // The ambient set goes with it: the kernel keeps it within this one.
        inheritable: CapabilitySet::empty(),
    };
    if (has.effective, has.permitted, has.inheritable)
        == (reduced.effective, reduced.permitted, reduced.inheritable)
    {
        return Ok(());
    }
    set_capabilities(None, reduced)
}

/// Only who has `CAP_SETPCAP` may do this; for anybody else `no_new_privs` amounts to the same.
fn empty_bounding_set() -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // The kernel is older than this capability.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
