//! `poll_oneoff`: waits for clocks and descriptors.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::time::ClockId;

use super::Wasi;
use super::clock;
use super::errno::{Errno, Result};
use super::memory::{GuestMemory, number, number64};
use super::table::Table;
use super::types::{Abi, Rights};

/// The most subscriptions of one call: more than any module has descriptors.
const MOST: u32 = 4096;

/// The length of witx `event`, in bytes.
const EVENT: u32 = 32;

/// The longest single wait: what a signed number of seconds holds, and then some rounds more.
const LONGEST: u64 = i64::MAX as u64;

const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// witx `eventrwflags::fd_readwrite_hangup`.
const HANGUP: u16 = 1;

/// witx `subclockflags::subscription_clock_abstime`.
const ABSOLUTE: u16 = 1;

/// What the module waits for.
struct Subscription {
    userdata: u64,
    kind: u8,
    until: Until,
}

enum Until {
    /// It cannot be waited for; the event says why.
    Failed(Errno),
    /// A time of the monotonic clock, in nanoseconds.
    Time(u64),
    /// The descriptor at this place of the list that is polled.
    Ready(usize),
}

/// `poll_oneoff`.
pub(crate) fn oneoff(
    wasi: &mut Wasi,
    abi: Abi,
    (subscriptions, events): (u32, u32),
    count: u32,
    result: u32,
) -> Result<()> {
    if count == 0 || count > MOST {
        return Err(Errno::INVAL);
    }
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    memory.bytes(events, count * EVENT)?;
    let mut polled = Vec::new();
    let waits = read(&memory, &wasi.table, abi, subscriptions, count, &mut polled)?;
    let now = wait(&waits, &mut polled)?;
    let mut happened = 0;
    for wait in &waits {
        if let Some(event) = event(wait, now, &polled) {
            memory.write(events + happened * EVENT, &event)?;
            happened += 1;
        }
    }
    memory.write_u32(result, happened)
}

/// Reads witx `subscription`s: 48 bytes each, or 56 in `wasi_unstable`, whose clocks begin with an
/// identifier.
fn read<'t>(
    memory: &GuestMemory,
    table: &'t Table,
    abi: Abi,
    at: u32,
    count: u32,
    polled: &mut Vec<PollFd<'t>>,
) -> Result<Vec<Subscription>> {
    let size: u32 = if abi == Abi::Unstable { 56 } else { 48 };
    let records = memory.bytes(at, count * size)?;
    records
        .chunks_exact(size as usize)
        .map(|record| {
            let (userdata, kind) = (number64(record, 0), record[8]);
            let until = match kind {
                CLOCK => {
                    let clock = if abi == Abi::Unstable { &record[24..] } else { &record[16..] };
                    deadline(clock)
                }
                FD_READ | FD_WRITE => watch(table, number(record, 16), kind, polled),
                _ => return Err(Errno::INVAL),
            };
            Ok(Subscription { userdata, kind, until: until.unwrap_or_else(Until::Failed) })
        })
        .collect()
}

/// When a clock subscription is due. Only the clocks that run by themselves can be waited for.
fn deadline(clock: &[u8]) -> Result<Until> {
    let timeout = number64(clock, 8);
    let absolute = number(clock, 24) & u32::from(ABSOLUTE) != 0;
    let id = clock::clock(number(clock, 0))?;
    if !matches!(id, ClockId::Realtime | ClockId::Monotonic) {
        return Err(Errno::NOTSUP);
    }
    let left = if absolute { timeout.saturating_sub(clock::now(id)?) } else { timeout };
    Ok(Until::Time(clock::now(ClockId::Monotonic)?.saturating_add(left)))
}

fn watch<'t>(table: &'t Table, fd: u32, kind: u8, polled: &mut Vec<PollFd<'t>>) -> Result<Until> {
    let (needed, flags) = if kind == FD_READ {
        (Rights::FD_READ, PollFlags::IN)
    } else {
        (Rights::FD_WRITE, PollFlags::OUT)
    };
    let descriptor = table.get(fd)?;
    if descriptor.kind == FileType::Directory {
        return Err(Errno::BADF);
    }
    descriptor.require(Rights::POLL_FD_READWRITE)?;
    descriptor.require_asked(needed)?;
    polled.push(PollFd::new(descriptor, flags));
    Ok(Until::Ready(polled.len() - 1))
}

/// Waits until something happened, and says what time it is then.
fn wait(waits: &[Subscription], polled: &mut [PollFd<'_>]) -> Result<u64> {
    let failed = waits.iter().any(|wait| matches!(wait.until, Until::Failed(_)));
    let first = waits.iter().filter_map(|wait| match wait.until {
        Until::Time(at) => Some(at),
        _ => None,
    });
    let first = first.min();
    loop {
        let now = clock::now(ClockId::Monotonic)?;
        let left = match first {
            _ if failed => Some(0),
            Some(at) => Some(at.saturating_sub(now)),
            None => None,
        };
        let timeout = left.map(timespec);
        match poll(polled, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => {
                let now = clock::now(ClockId::Monotonic)?;
                if ready? > 0 || failed || first.is_some_and(|at| at <= now) {
                    return Ok(now);
                }
            }
        }
    }
}

fn timespec(nanoseconds: u64) -> Timespec {
    let nanoseconds = nanoseconds.min(LONGEST).cast_signed();
    Timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 }
}

/// The witx `event` of a subscription, if it happened.
fn event(wait: &Subscription, now: u64, polled: &[PollFd<'_>]) -> Option<[u8; EVENT as usize]> {
    let (error, bytes, flags) = match wait.until {
        Until::Failed(error) => (error, 0, 0),
        Until::Time(at) if at <= now => (Errno::SUCCESS, 0, 0),
        Until::Time(_) => return None,
        Until::Ready(place) => {
            let polled = &polled[place];
            let ready = polled.revents();
            if ready.is_empty() {
                return None;
            }
            let error = if ready.contains(PollFlags::NVAL) { Errno::BADF } else { Errno::SUCCESS };
            let flags = if ready.contains(PollFlags::HUP) { HANGUP } else { 0 };
            (error, if wait.kind == FD_READ { available(polled) } else { 0 }, flags)
        }
    };
    let mut record = [0; EVENT as usize];
    record[..8].copy_from_slice(&wait.userdata.to_le_bytes());
    record[8..10].copy_from_slice(&error.code().to_le_bytes());
    record[10] = wait.kind;
    record[16..24].copy_from_slice(&bytes.to_le_bytes());
    record[24..26].copy_from_slice(&flags.to_le_bytes());
    Some(record)
}

/// How many bytes can be read at once; at least 1 where something can be.
fn available(polled: &PollFd<'_>) -> u64 {
    let bytes = rustix::io::ioctl_fionread(polled.as_fd()).unwrap_or(0);
    if polled.revents().contains(PollFlags::IN) { bytes.max(1) } else { bytes }
}
