//! The cluster from outside: it makes the namespaces and the cgroups, waits until all is ready, and
//! leaves nothing behind when it ends.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use warmstep_tests::cluster::{Cluster, READY, STATE};
use warmstep_tests::program::Program;
use warmstep_tests::{cluster, install, interrupt, paths};

use crate::files::Files;
use crate::{cgroups, network};

/// How long everything may take to come up, on a busy machine.
const START: Duration = Duration::from_secs(300);

/// How long a keeper may take to clean up.
const STOP: Duration = Duration::from_secs(60);

/// Keeps a cluster until the process is told to end.
pub(crate) fn run() -> Result<()> {
    let _lock = lock()?.context("a cluster is running already: make cluster-down ends it")?;
    sweep()?;
    fs::create_dir_all(STATE)?;
    fs::write(cluster::keeper(), std::process::id().to_string())?;
    let kept = keep();
    let swept = sweep();
    unlock();
    kept.and(swept)
}

fn keep() -> Result<()> {
    let files = Files::new();
    fs::create_dir_all(files.at("logs"))?;
    bring_parts()?;
    cgroups::create()?;
    let mut inside = Program::start("cluster", namespaces()?, &files.log("cluster"))?;
    let init = inside.until(START, |program| child(program.pid()))?;
    let kept = until_told(&files, &mut inside, init);
    // `unshare` waits for it, deaf to SIGTERM; all that it has started ends with it.
    let _ = kill_process(init, Signal::KILL);
    kept
}

/// Waits until the cluster is ready, says so, and waits until this process is told to end.
fn until_told(files: &Files, inside: &mut Program, init: Pid) -> Result<()> {
    network::join(init)?;
    inside.until(START, |_| files.at(READY).exists().then_some(()))?;
    println!("ready: {}", cluster::kubeconfig().display());
    std::io::stdout().flush()?;
    loop {
        if !inside.is_running()? {
            bail!("the cluster ended by itself: see {}", files.log("cluster").display());
        }
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// `init` in namespaces of its own, killed with its parent.
fn namespaces() -> Result<Command> {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child=KILL"])
        .args(["--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .arg("init");
    Ok(command)
}

/// Brings what is missing of the parts: inside, there is no way to the rest of the world.
fn bring_parts() -> Result<()> {
    for part in ["etcd", "containerd", "versitygw", "argo", "kubernetes"] {
        paths::part(part)?;
    }
    paths::argo_module().map(drop)
}

/// The one child of a process.
fn child(process: Pid) -> Option<Pid> {
    let process = process.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

/// Starts a keeper that outlives this process, waits until it is ready, and installs everything.
pub(crate) fn up() -> Result<()> {
    let log = PathBuf::from(format!("{STATE}.log"));
    let file = File::create(&log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // SAFETY: between fork and exec one system call is made, nothing is allocated.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(Into::into));
    }
    let mut keeper = command.spawn()?;
    let deadline = Instant::now() + START;
    loop {
        if let Some(status) = keeper.try_wait()? {
            bail!("the cluster ended with {status}: {}", fs::read_to_string(&log)?.trim());
        }
        if cluster::ready() {
            break;
        }
        if interrupt::check().is_err() || Instant::now() > deadline {
            kill_process(Pid::from_child(&keeper), Signal::TERM)?;
            keeper.wait()?;
            bail!("the cluster did not come up: {}", fs::read_to_string(&log)?.trim());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    install::everything(&Cluster::start()?)?;
    println!("export KUBECONFIG={}", cluster::kubeconfig().display());
    println!("export PATH={}:$PATH", paths::part("kubernetes")?.display());
    Ok(())
}

/// Ends the cluster that runs, by its keeper's process id, and sweeps up after one that was killed.
pub(crate) fn down() -> Result<()> {
    let deadline = Instant::now() + STOP;
    loop {
        if let Some(_lock) = lock()? {
            sweep()?;
            let _ = fs::remove_file(format!("{STATE}.log"));
            unlock();
            return Ok(());
        }
        // It holds the lock, so its number is its own.
        let keeper = fs::read_to_string(cluster::keeper()).unwrap_or_default();
        if let Some(keeper) = keeper.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(keeper, Signal::TERM);
        }
        if Instant::now() > deadline {
            bail!("the cluster's keeper {keeper} does not end");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Removes what a cluster leaves: its cgroups, its files, and what of its network the kernel has
/// not removed yet. Its mounts and processes ended with their namespaces.
fn sweep() -> Result<()> {
    network::part()?;
    cgroups::remove()?;
    match fs::remove_dir_all(STATE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(STATE.to_owned())
        }
        _ => Ok(()),
    }
}

/// One cluster at a time: its addresses and its cgroup are fixed.
fn lock() -> Result<Option<File>> {
    let path = format!("{STATE}.lock");
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| path.clone())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Whoever held it may have removed the file meanwhile, and a lock on that is none.
        if fs::metadata(&path)
            .is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino()))
        {
            return Ok(Some(file));
        }
    }
}

/// Removes the lock's file; only whoever holds the lock may.
fn unlock() {
    let _ = fs::remove_file(format!("{STATE}.lock"));
}
