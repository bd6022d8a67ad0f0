//! The functions on the process: its arguments, its environment, its end.

use super::Wasi;
use super::errno::{Errno, Result};
use warmstep_host::ending;

/// A list of strings for the module, each ended by a NUL.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Strings {
    /// Adds one string, given in parts.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        // A plan is far shorter than 4 GiB.
        self.starts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
    }
}

/// `args_sizes_get` and `environ_sizes_get`.
pub(crate) fn sizes(
    wasi: &mut Wasi,
    list: fn(&Wasi) -> &Strings,
    count: u32,
    size: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    let list = list(wasi);
    let length = |length: usize| u32::try_from(length).map_err(|_| Errno::OVERFLOW);
    memory.write_u32(count, length(list.starts.len())?)?;
    memory.write_u32(size, length(list.bytes.len())?)
}

/// `args_get` and `environ_get`: the pointers at `table`, the strings at `strings`.
pub(crate) fn strings(
    wasi: &mut Wasi,
    list: fn(&Wasi) -> &Strings,
    table: u32,
    strings: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    let list = list(wasi);
    memory.write(strings, &list.bytes)?;
    let mut at = table;
    for start in &list.starts {
        memory.write_u32(at, strings + start)?;
        at = at.checked_add(4).ok_or(Errno::FAULT)?;
    }
    Ok(())
}

/// `proc_exit`. Linux keeps eight bits of an exit code, as it would of a native program's.
pub(crate) fn exit(code: u32) {
    let [low, ..] = code.to_le_bytes();
    ending::finish(low, None)
}

/// `proc_raise`: ends the process as the signal would, or does nothing where nothing is what the
/// signal does to a process that does not handle it.
pub(crate) fn raise(signal: u32) -> Result<()> {
    let (number, name) = match signal {
        0 | 16 | 17 | 22 | 27 => return Ok(()),
        1 => (1, "SIGHUP"),
        2 => (2, "SIGINT"),
        3 => (3, "SIGQUIT"),
        4 => (4, "SIGILL"),
        5 => (5, "SIGTRAP"),
        6 => (6, "SIGABRT"),
        7 => (7, "SIGBUS"),
        8 => (8, "SIGFPE"),
        9 => (9, "SIGKILL"),
        10 => (10, "SIGUSR1"),
        11 => (11, "SIGSEGV"),
        12 => (12, "SIGUSR2"),
        13 => (13, "SIGPIPE"),
        14 => (14, "SIGALRM"),
        15 => (15, "SIGTERM"),
        23 => (24, "SIGXCPU"),
        24 => (25, "SIGXFSZ"),
        25 => (26, "SIGVTALRM"),
        26 => (27, "SIGPROF"),
        28 => (29, "SIGPOLL"),
        29 => (30, "SIGPWR"),
        30 => (31, "SIGSYS"),
        // Nothing could make a step that stopped itself go on.
        18..=21 => return Err(Errno::NOTSUP),
        _ => return Err(Errno::INVAL),
    };
    ending::finish(128 + number, Some(&format!("the module raised {name}")))
}

/// `sched_yield`.
pub(crate) fn sched_yield() {
    rustix::thread::sched_yield();
}
