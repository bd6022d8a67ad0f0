//! What tests ask of the cluster, a line each, on a unix socket: `stop NAME` and `start NAME` for
//! its own programs, `kill NAME` for a process in a pod.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use warmstep_tests::{cluster, interrupt};

use crate::node::Node;

/// How often it looks whether the cluster is to end.
const SLICE: Duration = Duration::from_millis(100);

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until the process is told to end.
pub(crate) fn serve(node: &mut Node) -> Result<()> {
    let listener = UnixListener::bind(cluster::control())?;
    listener.set_nonblocking(true)?;
    loop {
        interrupt::check()?;
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(node, stream) {
                    eprintln!("cluster: control: {error:#}");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(SLICE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// One line in, `ok` or what went wrong out.
fn answer(node: &mut Node, mut stream: UnixStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let done = match line.trim().split_once(' ') {
        Some(("stop", name)) => node.stop(name),
        Some(("start", name)) => node.start(name),
        Some(("kill", name)) => kill(name),
        _ => bail!("{line:?} is no request"),
    };
    match done {
        Ok(()) => writeln!(stream, "ok")?,
        Err(error) => writeln!(stream, "{}", format!("{error:#}").replace('\n', " "))?,
    }
    Ok(())
}

/// Kills the one process of this name: all that runs in the PID namespace is the cluster's.
fn kill(name: &str) -> Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // Without its line feed, and cut to 15 bytes.
        let Ok(command) = std::fs::read_to_string(path.join("comm")) else { continue };
        if command.trim_end() == &name[..name.len().min(15)] {
            found.push(path);
        }
    }
    let [process] = found.as_slice() else { bail!("{} processes are called {name}", found.len()) };
    let number = process.file_name().and_then(|name| name.to_str()?.parse().ok());
    let process = number.and_then(Pid::from_raw).context("no number")?;
    Ok(kill_process(process, Signal::KILL)?)
}
