//! `jail-probe`: enters the jail as its arguments say, and then tries one thing.
//!
//! Exit code 0 means that the thing was done, 1 that the kernel answered with an error (its number
//! is printed), 2 that the probe was not understood or not confined. A signal speaks for itself.

mod actions;
mod attacks;
mod refusal;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::ExitCode;

use warmstep_jail::{Confinement, JailError, Layers, Network, Profile, enter};

/// What the command line asks for.
#[derive(Default)]
struct Options {
    profile: Option<Profile>,
    /// Whether the jail is left out, to see what an attack does without it.
    free: bool,
    demand_all: bool,
    read_only: Vec<File>,
    read_write: Vec<File>,
    ports: Option<Vec<u16>>,
    /// Descriptors by number, which whoever started the probe left open.
    keep: Vec<i32>,
    /// Calls that a container's profile would refuse.
    refused: Vec<String>,
    /// Whether a second thread is there before the jail.
    thread: bool,
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).rev().collect();
    let mut options = match parse(&mut arguments) {
        Ok(options) => options,
        Err(error) => return fail(&error.to_string()),
    };
    arguments.reverse();
    let (action, arguments) = match arguments.split_first() {
        Some((action, arguments)) => (action.as_str(), arguments),
        None => return fail("an action is missing"),
    };
    if action == "bench" {
        return actions::bench(arguments, || confine(&options).is_ok());
    }
    if action == "sweep" {
        return actions::sweep(arguments, || confine(&options).is_ok());
    }
    if options.thread {
        std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
    }
    let parent = std::os::unix::process::parent_id();
    // What is open stays open: neither a mode nor the jail is asked again.
    let environment = match File::open("/proc/self/environ") {
        Ok(environment) => environment,
        Err(error) => return fail(&error.to_string()),
    };
    if action == "environment" {
        options.keep.push(environment.as_raw_fd());
    }
    let layers = match confine(&options) {
        Ok(layers) => layers,
        Err(error) => return fail(&error.to_string()),
    };
    if action == "layers" {
        let missing = layers.and_then(|layers| layers.missing());
        println!("{}", missing.unwrap_or_else(|| "all hold".into()));
        return ExitCode::SUCCESS;
    }
    if action == "environment" {
        return actions::environment(environment);
    }
    // The jail has closed it.
    std::mem::forget(environment);
    match actions::run(action, arguments, parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.raw_os_error() {
            Some(number) => {
                println!("{number}");
                ExitCode::FAILURE
            }
            None => fail(&error.to_string()),
        },
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("jail-probe: {reason}");
    ExitCode::from(2)
}

fn confine(options: &Options) -> Result<Option<Layers>, JailError> {
    refusal::refuse(&options.refused).expect("the test's own filter loads");
    let Some(profile) = options.profile.filter(|_| !options.free) else { return Ok(None) };
    // SAFETY: whoever starts the probe says which descriptors are open.
    let kept = |number: &i32| unsafe { BorrowedFd::borrow_raw(*number) };
    let keep: Vec<BorrowedFd<'_>> = options.keep.iter().map(kept).collect();
    let read_only: Vec<BorrowedFd<'_>> = options.read_only.iter().map(AsFd::as_fd).collect();
    let read_write: Vec<BorrowedFd<'_>> = options.read_write.iter().map(AsFd::as_fd).collect();
    let confinement = Confinement {
        keep: &keep,
        read_only: &read_only,
        read_write: &read_write,
        network: options.ports.as_deref().map_or(Network::None, Network::Connect),
        profile,
        demand_all: options.demand_all,
    };
    // SAFETY: nothing but standard streams and the granted directories is used later, and nobody
    // has set a variable.
    unsafe { enter(&confinement) }.map(Some)
}

/// Takes the options off the end of the reversed arguments.
fn parse(arguments: &mut Vec<String>) -> io::Result<Options> {
    let mut options = Options::default();
    while let Some(option) = arguments.pop_if(|argument| argument.starts_with("--")) {
        let mut value = || arguments.pop().ok_or_else(|| io::Error::other("a value is missing"));
        match option.as_str() {
            "--profile" => {
                options.profile = Some(match value()?.as_str() {
                    "preview1" => Profile::Preview1,
                    "wasix" => Profile::Wasix,
                    "compiler" => Profile::Compiler,
                    other => return Err(io::Error::other(format!("no such profile: {other}"))),
                });
            }
            "--free" => options.free = true,
            "--thread" => options.thread = true,
            "--demand-all" => options.demand_all = true,
            "--read-only" => options.read_only.push(File::open(value()?)?),
            "--read-write" => options.read_write.push(File::open(value()?)?),
            "--memfd" => options.read_only.push(memfd()?),
            "--connect" => options.ports.get_or_insert_default().push(number(&value()?)?),
            "--keep" => options.keep.push(number(&value()?)?),
            "--refuse" => options.refused.push(value()?),
            other => return Err(io::Error::other(format!("no such option: {other}"))),
        }
    }
    Ok(options)
}

fn memfd() -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok(rustix::fs::memfd_create("granted", flags)?.into())
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("not a number: {text}")))
}
