//! The jail of a process that handles a hostile module: the runner, and the compiler.
//!
//! [`enter`] is called once, at the process's start, before it reads a byte that somebody else
//! chose. It sanitises first, then jails: every descriptor that was not asked for is closed, the
//! environment is wiped, core dumps are off, no privilege can be gained and those that are not
//! needed are given up; then Landlock leaves nothing of the file system but the granted
//! directories, and seccomp nothing of the kernel but the calls in [`seccomp::CALLS`].
//!
//! A kernel or a container's own profile may refuse a layer. The step then runs with the others,
//! and [`Layers`] says which are missing and why, unless the caller demands them all.
//!
//! What a refused call does: seccomp kills the process with SIGSYS, for a runner that makes a call
//! it never makes was taken over, and an error code would only help whoever took it. The kernel logs
//! the kill (audit type 1326). Landlock answers EACCES, for a module may well ask for a file that it
//! cannot have.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("the jail knows the system calls of Linux on x86_64 and aarch64 only");

mod descriptors;
mod environment;
mod grants;
mod layers;
mod privileges;
pub mod seccomp;

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

pub use crate::layers::{Layer, Layers};

/// What the process may still do once it is confined.
#[derive(Clone, Copy, Debug)]
pub struct Confinement<'a> {
    /// Descriptors that stay open, beside stdin, stdout, stderr and the granted ones.
    pub keep: &'a [BorrowedFd<'a>],
    /// Directories, or single files, beneath which everything can be read. `O_PATH` will do.
    pub read_only: &'a [BorrowedFd<'a>],
    /// Directories, or single files, beneath which everything can be read, made, changed and
    /// removed.
    pub read_write: &'a [BorrowedFd<'a>],
    /// What the process may reach over the network.
    pub network: Network<'a>,
    /// Which calls the process needs.
    pub profile: Profile,
    /// Whether a layer that does not hold is an error.
    pub demand_all: bool,
}

/// What the process may reach over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network<'a> {
    /// Nothing: it cannot even make a socket.
    None,
    /// TCP connections to these ports, and datagrams. To which hosts is beyond the kernel's means:
    /// the caller checks that. Name resolution over TCP needs port 53 in the list.
    Connect(&'a [u16]),
}

/// Which calls the process needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The host of a preview 1 module: one thread, and never a network of its own.
    Preview1,
    /// The host of a WASIX module: threads, an event loop, and sockets where a network is granted.
    Wasix,
    /// The compiler: threads and files, and never a network.
    Compiler,
}

/// The process could not be confined as asked. It may be confined in part, and should end.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// Other threads would stay outside of the jail.
    #[error("the process has {0} threads: a jail is entered before there is a second one")]
    Threads(u32),
    /// A layer does not hold although all are demanded.
    #[error("every layer of the jail is demanded, and {layer} does not hold: {reason}")]
    Demanded {
        /// The layer's name, as in [`Layers::each`].
        layer: &'static str,
        /// Why it does not hold.
        reason: String,
    },
}

/// Confines this process for the rest of its life.
///
/// It takes about a tenth of a millisecond, most of it the kernel's own compilation of the seccomp
/// filter; `tests/jail.rs` measures it.
///
/// # Errors
///
/// When the process has more than one thread, or when a layer does not hold although all are
/// demanded. The process is then confined in part only.
///
/// # Safety
///
/// - Nothing that is used later owns a descriptor which `confinement` does not name: they are
///   closed, and their numbers will be given to others.
/// - No environment variable was set from memory that cannot be written (`putenv` of a constant):
///   the variables are overwritten. What the kernel and `std::env::set_var` store can be written.
/// - No other thread uses the environment. Other threads are refused where they can be seen.
pub unsafe fn enter(confinement: &Confinement<'_>) -> Result<Layers, JailError> {
    if let Some(threads) = threads() {
        return Err(JailError::Threads(threads));
    }
    // rustix asks the kernel, or /proc, about the machine when it first has to know: not later.
    rustix::param::page_size();
    let demand = |layer: &'static str, state: Layer| match state {
        Layer::Missing(reason) if confinement.demand_all => {
            Err(JailError::Demanded { layer, reason })
        }
        state => Ok(state),
    };
    // SAFETY: the caller vouches for the descriptors that are closed.
    let descriptors = unsafe { descriptors::close_others(confinement) };
    // SAFETY: there is one thread, and the caller vouches for the variables' memory.
    unsafe { environment::wipe() };
    let descriptors = demand("descriptors", descriptors)?;
    let core_dumps = demand("core dumps", privileges::forbid_core_dumps())?;
    let no_new_privs = demand("no_new_privs", privileges::gain_none())?;
    let capabilities = privileges::drop_capabilities(confinement.profile, no_new_privs.holds());
    Ok(Layers {
        descriptors,
        core_dumps,
        no_new_privs,
        capabilities: demand("capabilities", capabilities)?,
        landlock: demand("landlock", grants::restrict(confinement))?,
        seccomp: demand("seccomp", seccomp::install(confinement))?,
    })
}

/// How many threads this process has, if more than one. Where neither the call nor `/proc` can tell,
/// the caller's word counts.
fn threads() -> Option<u32> {
    // To unshare memory is to do nothing for a process with one thread, and an error for others. It
    // takes a fiftieth of the time that a look into /proc does.
    // SAFETY: nothing is changed in either case.
    if unsafe { libc::unshare(libc::CLONE_VM) } == 0 {
        return None;
    }
    // The call fails for other reasons too, most of all because a container's profile refuses it.
    // A directory has a link from its parent, one from itself and one from each subdirectory: here,
    // one for each thread.
    let task = statx(CWD, "/proc/self/task", AtFlags::empty(), StatxFlags::NLINK).ok()?;
    Some(task.stx_nlink.saturating_sub(2)).filter(|threads| *threads > 1)
}
