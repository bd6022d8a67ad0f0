//! How the process ends: always here, with one outcome for the agent and one line for the user.
//!
//! A step ends from many places: the module's `proc_exit` deep inside it, a trap, a signal, a
//! failure before it ran. All call [`finish`] or, in a signal handler, [`finish_in_handler`], and
//! the process ends with `_exit`: the kernel frees memory faster than destructors would.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use minicbor::encode::write::Cursor;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::{SendFlags, send};
use rustix::time::{ClockId, clock_gettime};
use warmstep_wire::frame::{self, HEADER, Kind};
use warmstep_wire::message::Outcome;

/// Where Kubernetes looks for a container's last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The longest reason that is sent, in bytes; Kubernetes keeps 4096 of a termination log.
const REASON: usize = 1024;

/// Where the end is told.
#[derive(Debug)]
struct Ending {
    connection: OwnedFd,
    termination_log: Option<OwnedFd>,
    header: [u8; HEADER],
}

static ENDING: OnceLock<Ending> = OnceLock::new();
static COMPLAINT: OnceLock<String> = OnceLock::new();
static MISSING_LAYERS: OnceLock<String> = OnceLock::new();
/// The thread that ends the process, once there is one.
static ENDING_THREAD: AtomicI32 = AtomicI32::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);
static RUNNING: AtomicU64 = AtomicU64::new(0);
static BYTES_READ: AtomicU64 = AtomicU64::new(0);
static BYTES_WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Notes when the process started.
pub fn started() {
    STARTED.store(now(), Ordering::Relaxed);
}

/// Notes that the module's first instruction comes next.
pub fn running() {
    RUNNING.store(now(), Ordering::Relaxed);
}

/// Counts bytes that the module read.
pub fn count_read(bytes: u32) {
    BYTES_READ.fetch_add(u64::from(bytes), Ordering::Relaxed);
}

/// Counts bytes that the module wrote.
pub fn count_written(bytes: u32) {
    BYTES_WRITTEN.fetch_add(u64::from(bytes), Ordering::Relaxed);
}

/// Notes what the module was refused. It may be able to do without; if it fails, its user is told.
pub fn complain(complaint: String) {
    let _ = COMPLAINT.set(complaint);
}

/// Notes which layers of the jail do not hold: the agent tells the operator.
pub fn without_layers(missing: String) {
    let _ = MISSING_LAYERS.set(missing);
}

/// Keeps the connection to the agent, and opens the termination log before anything is confined.
pub fn prepare(connection: OwnedFd) {
    let mut header = [0; HEADER];
    if let Ok(frame) = frame::to_bytes(Kind::Outcome, &(), 0) {
        header.copy_from_slice(&frame[..HEADER]);
    }
    let ending = Ending { connection, termination_log: termination_log(), header };
    let _ = ENDING.set(ending);
}

/// What stays open until the end.
pub fn descriptors<'a>() -> impl Iterator<Item = BorrowedFd<'a>> {
    let ending = ENDING.get();
    let log = ending.and_then(|ending| ending.termination_log.as_ref());
    ending.map(|ending| &ending.connection).into_iter().chain(log).map(AsFd::as_fd)
}

/// The termination log, if it is there, writable, and a plain file.
fn termination_log() -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let log = rustix::fs::open(TERMINATION_LOG, flags | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&log).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(log)
}

/// Ends the process with an exit code, and a reason where it was not the module's own choice.
pub fn finish(code: u8, reason: Option<&str>) -> ! {
    let complaint = COMPLAINT.get().filter(|_| code != 0).map(String::as_str);
    let reason = match (reason, complaint) {
        (Some(reason), Some(complaint)) => Some(one_line(&format!("{reason}; {complaint}"))),
        (reason, complaint) => reason.or(complaint).map(one_line),
    };
    if is_first() {
        if let Some(reason) = &reason {
            say(reason);
        }
        tell(&mut outcome(code, reason));
    }
    leave(code)
}

/// The same from a signal handler: nothing is allocated, and `outcome` was made before.
pub fn finish_in_handler(outcome: &mut Outcome) -> ! {
    if is_first() {
        if let Some(reason) = &outcome.reason {
            say(reason);
        }
        tell(outcome);
    }
    leave(outcome.code)
}

/// Whether this is where the process ends first. Another thread that comes later waits for the first
/// one, which is about to end the process: there is one outcome.
fn is_first() -> bool {
    // SAFETY: it reads a number.
    let own = unsafe { libc::gettid() };
    match ENDING_THREAD.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => true,
        // A signal while this thread was ending the process.
        Err(first) if first == own => false,
        Err(_) => loop {
            static NEVER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let (wait, none) =
                (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, std::ptr::null::<()>());
            // SAFETY: it waits for a change of a word that never changes, in a handler too.
            unsafe { libc::syscall(libc::SYS_futex, NEVER.as_ptr(), wait, 0, none) };
        },
    }
}

/// An outcome whose numbers are still to come.
pub fn outcome(code: u8, reason: Option<String>) -> Outcome {
    Outcome {
        code,
        reason,
        load: 0,
        run: 0,
        cpu: 0,
        peak_memory: 0,
        bytes_read: 0,
        bytes_written: 0,
        missing_layers: MISSING_LAYERS.get().cloned(),
    }
}

/// A reason in one line, not too long.
fn one_line(reason: &str) -> String {
    let mut line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > REASON {
        let end = (0..=REASON).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(end);
    }
    line
}

/// One line on standard error and in the termination log.
fn say(reason: &str) {
    let mut line = [0_u8; REASON + 16];
    let mut length = 0;
    for part in ["warmstep: ", reason, "\n"] {
        let part = &part.as_bytes()[..part.len().min(line.len() - length)];
        line[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    let line = &line[..length];
    let stderr = rustix::stdio::stderr();
    // A reader that does not read must not keep the step alive.
    let soon = Timespec { tv_sec: 1, tv_nsec: 0 };
    if poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], Some(&soon)) == Ok(1) {
        let _ = rustix::io::write(stderr, line);
    }
    if let Some(log) = ENDING.get().and_then(|ending| ending.termination_log.as_ref()) {
        let _ = rustix::io::write(log, line);
    }
}

/// Sends the outcome to the agent, if it is still there. It fits into any socket's buffer, and is
/// not waited for.
fn tell(outcome: &mut Outcome) {
    let Some(ending) = ENDING.get() else { return };
    measure(outcome);
    let mut bytes = [0_u8; HEADER + 2 * REASON];
    let mut body = Cursor::new(&mut bytes[HEADER..]);
    if minicbor::encode(&*outcome, &mut body).is_err() {
        return;
    }
    let Ok(length) = u32::try_from(body.position()) else { return };
    bytes[..HEADER].copy_from_slice(&ending.header);
    bytes[HEADER - 4..HEADER].copy_from_slice(&length.to_le_bytes());
    let frame = &bytes[..HEADER + length as usize];
    let _ = send(ending.connection.as_fd(), frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// Fills in what the step took.
fn measure(outcome: &mut Outcome) {
    let (start, run, now) =
        (STARTED.load(Ordering::Relaxed), RUNNING.load(Ordering::Relaxed), now());
    let loaded = if run == 0 { now } else { run };
    outcome.load = loaded.saturating_sub(start) / 1000;
    outcome.run = now.saturating_sub(loaded) / 1000;
    outcome.bytes_read = BYTES_READ.load(Ordering::Relaxed);
    outcome.bytes_written = BYTES_WRITTEN.load(Ordering::Relaxed);
    // SAFETY: a `rusage` is plain numbers, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
            + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    outcome.cpu = micros(usage.ru_utime) + micros(usage.ru_stime);
    outcome.peak_memory = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn leave(code: u8) -> ! {
    // SAFETY: it ends the process, and nothing waits to be flushed.
    unsafe { libc::_exit(i32::from(code)) }
}
