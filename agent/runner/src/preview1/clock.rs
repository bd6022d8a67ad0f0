//! The clocks.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

use super::Wasi;
use super::errno::{Errno, Result};

/// Linux's clock of a witx `clockid`.
pub(crate) fn clock(id: u32) -> Result<ClockId> {
    match id {
        0 => Ok(ClockId::Realtime),
        1 => Ok(ClockId::Monotonic),
        2 => Ok(ClockId::ProcessCPUTime),
        3 => Ok(ClockId::ThreadCPUTime),
        _ => Err(Errno::INVAL),
    }
}

/// Nanoseconds of a clock's time.
pub(crate) fn now(clock: ClockId) -> Result<u64> {
    nanoseconds(clock_gettime(clock))
}

fn nanoseconds(time: Timespec) -> Result<u64> {
    let seconds = u64::try_from(time.tv_sec).map_err(|_| Errno::OVERFLOW)?;
    let rest = u64::try_from(time.tv_nsec).map_err(|_| Errno::OVERFLOW)?;
    let whole = seconds.checked_mul(1_000_000_000).ok_or(Errno::OVERFLOW)?;
    whole.checked_add(rest).ok_or(Errno::OVERFLOW)
}

/// `clock_res_get`.
pub(crate) fn resolution(wasi: &mut Wasi, id: u32, result: u32) -> Result<()> {
    let resolution = nanoseconds(clock_getres(clock(id)?))?;
    wasi.memory()?.write_u64(result, resolution)
}

/// `clock_time_get`. The precision asked for is a hint that no clock of Linux needs.
pub(crate) fn time(wasi: &mut Wasi, id: u32, _precision: u64, result: u32) -> Result<()> {
    let now = now(clock(id)?)?;
    wasi.memory()?.write_u64(result, now)
}
