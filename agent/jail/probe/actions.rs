//! What the probe tries once it is confined, and the measurement of what confining costs.

use std::ffi::{CString, c_long};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::attacks;

/// Tries the action of this name.
pub(crate) fn run(action: &str, arguments: &[String], parent: u32) -> io::Result<()> {
    let argument = |nth: usize| {
        arguments.get(nth).map(String::as_str).ok_or_else(|| io::Error::other("too few arguments"))
    };
    match action {
        "nothing" => Ok(()),
        "call" => call(arguments),
        "attack" => attacks::attack(argument(0)?, parent),
        "wait" => wait(),
        "sleep" => sleep(argument(0)?),
        "audit" => audit(),
        "threads" => threads(),
        "raise" => raise(argument(0)?),
        "abort" => std::process::abort(),
        "handle" => handle(),
        "allocate" => allocate(),
        "read" => std::fs::read(argument(0)?).map(drop),
        "list" => std::fs::read_dir(argument(0)?).map(drop),
        "write" => std::fs::write(argument(0)?, b"written"),
        "truncate" => truncate(argument(0)?),
        "mkdir" => Ok(rustix::fs::mkdirat(CWD, argument(0)?, Mode::RWXU)?),
        "unlink" => Ok(rustix::fs::unlinkat(CWD, argument(0)?, AtFlags::empty())?),
        "rename" => rename(argument(0)?, argument(1)?),
        "link" => std::fs::hard_link(argument(0)?, argument(1)?),
        "touch" => touch(argument(0)?),
        "reopen" => reopen(argument(0)?),
        "connect" => connect(argument(0)?),
        "ask" => ask(argument(0)?),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        other => Err(io::Error::other(format!("no such action: {other}"))),
    }
}

/// Makes one system call; `self` among its arguments is this process's id.
fn call(arguments: &[String]) -> io::Result<()> {
    let mut numbers = [0; 7];
    for (number, text) in numbers.iter_mut().zip(arguments) {
        *number = match text.as_str() {
            "self" => c_long::from(std::process::id()),
            text => text.parse::<i64>().map_err(io::Error::other)?,
        };
    }
    let [call, a, b, c, d, e, f] = numbers;
    // SAFETY: the tests choose arguments with which no call touches this process's memory: addresses
    // of -1, descriptors of -1.
    let result = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for the end of stdin, so that the process can be looked at.
fn wait() -> io::Result<()> {
    println!("ready");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// Waits for a time, so that the process can be stopped and continued meanwhile: in `ppoll` as a
/// preview 1 host does, or for a lock as threads do.
fn sleep(how: &str) -> io::Result<()> {
    println!("ready");
    io::stdout().flush()?;
    let time = Duration::from_millis(400);
    match how {
        "poll" => {
            let time = rustix::time::Timespec::try_from(time).map_err(io::Error::other)?;
            rustix::event::poll(&mut [], Some(&time))?;
        }
        _ => std::thread::park_timeout(time),
    }
    Ok(())
}

/// Prints the open descriptors and the environment as the process itself sees them.
fn audit() -> io::Result<()> {
    let open = (0..4096).filter(|descriptor| {
        // SAFETY: asks for a number's flags, whether it is open or not.
        unsafe { libc::fcntl(*descriptor, libc::F_GETFL) != -1 }
    });
    let open: Vec<String> = open.map(|descriptor: i32| descriptor.to_string()).collect();
    println!("descriptors {}", open.join(" "));
    println!("variables {}", std::env::vars_os().count());
    Ok(())
}

/// Prints the environment that the process was started with, as its memory has it now.
pub(crate) fn environment(mut memory: std::fs::File) -> ExitCode {
    let mut bytes = Vec::new();
    if memory.read_to_end(&mut bytes).is_err() {
        return ExitCode::from(2);
    }
    println!("{}", String::from_utf8_lossy(&bytes).replace('\0', "."));
    ExitCode::SUCCESS
}

/// Starts threads with names, waits for them, and has them allocate.
fn threads() -> io::Result<()> {
    let started: Result<Vec<_>, _> = (0..4)
        .map(|nth| {
            let work =
                move || (0..64).map(|size| vec![1_u8; size << 12].len() + nth).sum::<usize>();
            std::thread::Builder::new().name(format!("worker {nth}")).spawn(work)
        })
        .collect();
    for thread in started? {
        thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
    }
    std::thread::available_parallelism().map(drop)
}

fn raise(signal: &str) -> io::Result<()> {
    let signal = signal.parse().map_err(io::Error::other)?;
    // SAFETY: sends a signal to this process; what it does is the test's business.
    match unsafe { libc::raise(signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

static HANDLED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    HANDLED.store(true, Ordering::Relaxed);
}

/// Handles a signal and returns from the handler.
fn handle() -> io::Result<()> {
    // SAFETY: the handler only stores into an atomic.
    unsafe { libc::signal(libc::SIGUSR1, note as *const () as libc::sighandler_t) };
    raise(&libc::SIGUSR1.to_string())?;
    if HANDLED.load(Ordering::Relaxed) { Ok(()) } else { Err(io::Error::other("not handled")) }
}

/// Allocates, grows and gives back, small and large.
fn allocate() -> io::Result<()> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for size in [64, 4 << 10, 300 << 10, 40 << 20] {
        let mut block = vec![1_u8; size];
        block.resize(size * 2, 2);
        blocks.push(block);
    }
    for block in &mut blocks {
        block.truncate(10);
        block.shrink_to_fit();
    }
    Ok(())
}

fn truncate(path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    // Without write access, which is a case of its own in the kernel.
    let flags = libc::O_RDONLY | libc::O_TRUNC;
    // SAFETY: the path ends with NUL.
    let opened = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags) };
    if opened == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(opened) });
    Ok(())
}

/// As a host renames; std uses a call that takes no directories.
fn rename(from: &str, to: &str) -> io::Result<()> {
    Ok(rustix::fs::renameat(CWD, from, CWD, to)?)
}

fn touch(path: &str) -> io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())?)
}

/// Opens a file of its own once more through `/proc`.
fn reopen(path: &str) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::openat(CWD, again, OFlags::RDONLY, Mode::empty())?;
    Ok(())
}

fn address(port: &str) -> io::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], port.parse().map_err(io::Error::other)?)))
}

fn connect(port: &str) -> io::Result<()> {
    TcpStream::connect(address(port)?)?.write_all(b"hello")
}

/// Sends a datagram and receives it back, as a question to a name server would be.
fn ask(port: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.connect(address(port)?)?;
    socket.send(b"hello")?;
    socket.recv(&mut [0; 16]).map(drop)
}

/// Runs in a child: confines it and makes the call of a number with every argument -1.
///
/// Prints each number from the first to the last argument that did not end the child with SIGSYS.
pub(crate) fn sweep(arguments: &[String], confine: impl Fn() -> bool) -> ExitCode {
    let numbers: Result<Vec<c_long>, _> = arguments.iter().map(|number| number.parse()).collect();
    let Ok([first, last]) = numbers.as_deref() else { return ExitCode::from(2) };
    for number in *first..=*last {
        // Asking for the number's parts makes it possible to sweep the foreign ranges too.
        let status = in_child(|| {
            if !confine() {
                return 2;
            }
            // SAFETY: as in `call`.
            unsafe { libc::syscall(number, -1, -1, -1, -1, -1, -1) };
            0
        });
        if !(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS) {
            println!("{number}");
        }
    }
    ExitCode::SUCCESS
}

/// Confines so many children, each in turn, and prints the least, the middle and the largest time
/// that it took, in microseconds.
pub(crate) fn bench(arguments: &[String], confine: impl Fn() -> bool) -> ExitCode {
    let Some(count) = arguments.first().and_then(|count| count.parse().ok()) else {
        return ExitCode::from(2);
    };
    let mut times: Vec<u64> = (0..count).filter_map(|_: usize| time_once(&confine)).collect();
    times.sort_unstable();
    let (Some(least), Some(most)) = (times.first(), times.last()) else {
        return ExitCode::FAILURE;
    };
    println!("{least} {} {most}", times[times.len() / 2]);
    ExitCode::SUCCESS
}

fn time_once(confine: impl Fn() -> bool) -> Option<u64> {
    let (mut reader, writer) = std::io::pipe().ok()?;
    // The child's stdout is the pipe: the jail closes what it does not know.
    let status = in_child(|| {
        if rustix::stdio::dup2_stdout(&writer).is_err() {
            return 2;
        }
        let start = Instant::now();
        let confined = confine();
        let taken = start.elapsed().as_micros();
        let told = rustix::io::write(rustix::stdio::stdout(), taken.to_string().as_bytes());
        if confined && told.is_ok() { 0 } else { 2 }
    });
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).ok()?;
    (status == 0).then(|| text.parse().ok()).flatten()
}

/// Runs a function in a forked child and returns how that ended. The function's result is the
/// child's exit code.
fn in_child(function: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the probe has one thread, so its child can do what it likes.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = function();
        // SAFETY: ends the child without running what the parent registered.
        unsafe { libc::_exit(code) };
    }
    let mut status = -1;
    // SAFETY: waits for the child that was just made.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    status
}
