//! seccomp: which system calls exist for the process, and installing that.
//!
//! [`CALLS`] is the table, with the reason for each call beside it. It is compiled when this crate
//! is, so that a start costs nothing but the kernel's own work.

mod calls;
mod compile;

use std::io;

use libc::{sock_filter, sock_fprog};

pub use self::calls::CALLS;
use self::compile::{MAX_INSTRUCTIONS, Program, compile};
use crate::{Confinement, Layer, Network, Profile};

/// One row of the table: a system call, who may make it, and why.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name, as in `syscalls(2)`.
    pub name: &'static str,
    /// Its number on this architecture.
    pub number: u32,
    /// The lists that it is on.
    pub lists: Lists,
    /// What it gets.
    pub answer: Answer,
    /// What its arguments must be: all of it.
    pub checks: &'static [Check],
    /// Why it is there.
    pub reason: &'static str,
}

/// What a listed call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries it out, if its arguments pass the checks.
    Allow,
    /// The kernel says `ENOSYS`, as one without this call would.
    Absent,
}

/// A condition on one argument: its lower 32 bits, masked, are one of some values.
///
/// The upper half plays no part: the kernel itself takes these arguments as 32-bit integers, or
/// gives no meaning to their upper bits.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Which argument, from 0.
    pub argument: u8,
    /// The bits that are looked at.
    pub mask: u32,
    /// What they may be.
    pub allowed: Allowed,
}

/// What an argument may be.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// One of these.
    Values(&'static [u32]),
    /// This process's own id, which is filled in when the filter is installed.
    OwnProcess,
}

/// A set of allowlists: one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lists(u8);

impl Lists {
    /// The host of a preview 1 module.
    pub const PREVIEW1: Self = Self(1);
    /// The host of a WASIX module without a network.
    pub const WASIX: Self = Self(2);
    /// The host of a WASIX module with a network.
    pub const WASIX_NETWORK: Self = Self(4);
    /// The compiler.
    pub const COMPILER: Self = Self(8);

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

static PREVIEW1: Program = compile(CALLS, Lists::PREVIEW1);
static WASIX: Program = compile(CALLS, Lists::WASIX);
static WASIX_NETWORK: Program = compile(CALLS, Lists::WASIX_NETWORK);
static COMPILER: Program = compile(CALLS, Lists::COMPILER);

/// Leaves the process the calls of its list. Any other kills it.
pub(crate) fn install(confinement: &Confinement<'_>) -> Layer {
    // The own process's id has a place in the program, so it is copied.
    let mut instructions = [NOTHING; MAX_INSTRUCTIONS];
    let program = program(confinement.profile, confinement.network);
    let filter = program.for_process(std::process::id(), &mut instructions);
    Layer::from_result("refused", load(filter))
}

const NOTHING: sock_filter = sock_filter { code: 0, jt: 0, jf: 0, k: 0 };

/// The compiler has no network, whatever is granted; neither has preview 1, which can only use
/// sockets that it was started with.
fn program(profile: Profile, network: Network<'_>) -> &'static Program {
    match (profile, network) {
        (Profile::Preview1, _) => &PREVIEW1,
        (Profile::Wasix, Network::None) => &WASIX,
        (Profile::Wasix, Network::Connect(_)) => &WASIX_NETWORK,
        (Profile::Compiler, _) => &COMPILER,
    }
}

/// Hands the filter to the kernel.
///
/// `SPEC_ALLOW`: without it, kernels before 5.16 slow the process down with the mitigations of
/// speculative store bypass, which are for those who run hostile code in one process beside secrets;
/// this process has none, and Wasm that was compiled elsewhere gains nothing by them.
fn load(filter: &mut [sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    // SAFETY: the kernel copies `len` instructions from `filter`, which are there, and keeps neither
    // pointer.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A container's profile may refuse this call and not the older way to say the same.
    // SAFETY: as above.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(error) }
}
