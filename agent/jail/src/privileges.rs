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
pub(crate) fn drop_capabilities(profile: Profile, no_new_privs: bool) -> Layer {
    let keep = match profile {
        Profile::Preview1 | Profile::Wasix => FILE_ACCESS,
        Profile::Compiler => CapabilitySet::empty(),
    };
    let bounded = if no_new_privs { Ok(()) } else { empty_bounding_set() };
    Layer::from_result("cannot be dropped", bounded.and_then(|()| reduce(keep)))
}

fn reduce(keep: CapabilitySet) -> rustix::io::Result<()> {
    let has = capabilities(None)?;
    let kept = has.permitted.intersection(keep);
    // The ambient set goes with the inheritable one: the kernel keeps it within that.
    let none = CapabilitySet::empty();
    let reduced = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
    if has == reduced { Ok(()) } else { set_capabilities(None, reduced) }
}

/// Sees to it that not even executing a program as root brings a capability back.
///
/// `no_new_privs` does that already, and for users who may not do this too; the 41 calls took 40 µs,
/// half of what the whole jail took.
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
