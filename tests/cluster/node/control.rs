//! What tests ask of the cluster: `stop NAME` and `start NAME`, a line each, on a unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Result, bail};
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
        _ => bail!("{line:?} is no request"),
    };
    match done {
        Ok(()) => writeln!(stream, "ok")?,
        Err(error) => writeln!(stream, "{}", format!("{error:#}").replace('\n', " "))?,
    }
    Ok(())
}
