//! Handing the step to the agent and following it until the agent lends what it needs.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use warmstep_wire::exit;
use warmstep_wire::frame::{self, FrameError, Kind};
use warmstep_wire::message::{Reply, Step};
use warmstep_wire::{PROTOCOL, PROTOCOL_WITH_PATHS};

use crate::progress::Progress;
use crate::socket::{self, ConnectError};
use crate::upgrade::{self, UpgradeError};
use crate::wait::{Exhausted, Patience};

/// How long the agent may leave a step's frame unread.
const SEND_DEADLINE: Duration = Duration::from_secs(10);

/// How long the agent may say nothing at all while it works: the longest compilation, and more.
const SILENCE: Duration = Duration::from_secs(900);

/// How often an agent may be lost while it prepares one step. A step that brings its agent down must
/// not do so for ever.
const MAX_LOSSES: u32 = 5;

/// HTTP's answer to a protocol that the server does not speak.
const UPGRADE_REQUIRED: u16 = 426;

/// The runner, the plan and the module: without one of them there is nothing to become.
const MIN_LENT: usize = 3;

/// What the agent lends.
#[derive(Debug)]
pub(crate) struct Loan {
    /// The connection, on which the runner reports how the step ended.
    pub(crate) connection: UnixStream,
    /// The program to become.
    pub(crate) runner: OwnedFd,
    /// What the program works on, in the order it expects.
    pub(crate) rest: Vec<OwnedFd>,
}

/// Why the step was not lent anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    /// The step does not fit in a frame.
    #[error(
        "the step's arguments and environment take {0} bytes, more than the {most} that are \
         allowed: hand large input over in a file",
        most = frame::MAX_BODY
    )]
    TooLarge(usize),
    /// The agent refuses the step.
    #[error("{reason}")]
    Refused {
        /// The exit code it wants.
        code: u8,
        /// Its reason.
        reason: String,
    },
    /// No agent came in time.
    #[error(
        "no agent at {path}{after}: {why}; check that warmstep-agent runs on this node and that its \
         socket's directory is mounted here, or name the socket with --socket or {variable}",
        path = path.display(),
        after = After(*waited),
        variable = warmstep_wire::SOCKET_VARIABLE
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// What the last attempt met.
        why: String,
    },
    /// The agent had no time for the step.
    #[error("the agent is busy{after}: try again later, or wait longer with --wait", after = After(*.0))]
    Busy(Duration),
    /// The agent is lost again and again.
    #[error("the agent was lost {MAX_LOSSES} times while it prepared this step: its log says why")]
    Lost,
    /// There is something at the socket that waiting does not turn into an agent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Whoever answers is not an agent that this shim can talk to.
    #[error("{} is not the socket of an agent for {protocol}: {error}", path.display(), protocol = warmstep_wire::PROTOCOL)]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// What it answered.
        error: UpgradeError,
    },
    /// The agent would skip the step's single paths.
    #[error(
        "the agent at {} is too old to grant single files, as the template of this step asks for: \
         upgrade warmstep-agent on this node",
        .0.display()
    )]
    TooOld(PathBuf),
    /// The agent stopped talking.
    #[error("the agent has not said anything for {0:?}: its log says why")]
    Silent(Duration),
    /// The agent's frames make no sense.
    #[error("the agent and this shim do not understand each other: {0}")]
    Frame(FrameError),
    /// The agent lends too little.
    #[error("the agent lends {0} descriptors, not a runner, a plan and a module")]
    Lent(usize),
}

impl HandoverError {
    /// The exit code that says so.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::TooLarge(_) => exit::REFUSED,
            _ => exit::INTERNAL,
        }
    }
}

/// ` after 60s`, or nothing when there was no wait.
struct After(Duration);

impl std::fmt::Display for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_millis() {
            0 => Ok(()),
            1..1000 => write!(f, " after {}ms", self.0.as_millis()),
            _ => write!(f, " after {}s", self.0.as_secs()),
        }
    }
}

/// A step, ready to be sent as often as it takes.
#[derive(Debug)]
pub(crate) struct Handover<'a> {
    socket: &'a Path,
    protocol: &'static str,
    frame: Vec<u8>,
    file: Option<&'a File>,
}

/// How an attempt ended that did not end the step.
enum Setback {
    /// There is no agent, or it is leaving.
    Away { why: String, retry_after: Option<Duration> },
    /// There was an agent, and it had the step.
    Lost { why: String },
    /// There is an agent, and it is at its limit.
    Busy { retry_after: Duration },
    /// Another attempt would end the same way.
    Final(HandoverError),
}

impl<'a> Handover<'a> {
    /// Prepares a step, and the module if it is a file, for the agent behind `socket`.
    ///
    /// # Errors
    ///
    /// When the step is larger than a frame may be.
    pub(crate) fn new(
        socket: &'a Path,
        step: &Step,
        file: Option<&'a File>,
    ) -> Result<Self, HandoverError> {
        let frame = frame::to_bytes(Kind::Step, step, file.iter().len()).map_err(|e| match e {
            FrameError::Length(length) => HandoverError::TooLarge(length),
            other => HandoverError::Frame(other),
        })?;
        let protocol = if step.paths.is_empty() { PROTOCOL } else { PROTOCOL_WITH_PATHS };
        Ok(Self { socket, protocol, frame, file })
    }

    /// Asks until the agent lends or refuses, or the patience is over. Asking again is harmless
    /// until something was lent.
    ///
    /// # Errors
    ///
    /// When there is no loan.
    pub(crate) fn until_lent(
        &self,
        patience: &mut Patience,
        progress: &mut Progress,
    ) -> Result<Loan, HandoverError> {
        let mut losses = 0;
        loop {
            let result = self.attempt(patience, progress);
            progress.clear();
            let why;
            let waited = match result {
                Ok(loan) => return Ok(loan),
                Err(Setback::Final(error)) => return Err(error),
                Err(Setback::Busy { retry_after }) => {
                    patience.busy(retry_after).map_err(|Exhausted(t)| HandoverError::Busy(t))?;
                    continue;
                }
                Err(Setback::Away { why: reason, retry_after }) => {
                    why = reason;
                    patience.away(retry_after)
                }
                Err(Setback::Lost { why: reason }) => {
                    losses += 1;
                    if losses == MAX_LOSSES {
                        return Err(HandoverError::Lost);
                    }
                    why = reason;
                    patience.away(None)
                }
            };
            waited.map_err(|Exhausted(waited)| HandoverError::NoAgent {
                path: self.socket.into(),
                waited,
                why,
            })?;
        }
    }

    fn attempt(&self, patience: &mut Patience, progress: &mut Progress) -> Result<Loan, Setback> {
        let connection = socket::connect(self.socket).map_err(|error| match error.may_pass() {
            true => Setback::Away { why: error.to_string(), retry_after: None },
            false => Setback::Final(error.into()),
        })?;
        upgrade::upgrade(&connection, self.protocol).map_err(|error| self.not_upgraded(error))?;
        patience.connected();
        self.send(&connection)?;
        let lent = follow(&connection, patience, progress)?;
        loan(connection, lent)
    }

    fn not_upgraded(&self, error: UpgradeError) -> Setback {
        match error {
            UpgradeError::Cut => Setback::Away { why: error.to_string(), retry_after: None },
            UpgradeError::Unavailable { reason, retry_after } => {
                Setback::Away { why: reason, retry_after }
            }
            UpgradeError::Status { status: UPGRADE_REQUIRED, .. }
                if self.protocol == PROTOCOL_WITH_PATHS =>
            {
                Setback::Final(HandoverError::TooOld(self.socket.into()))
            }
            error => Setback::Final(HandoverError::Stranger { path: self.socket.into(), error }),
        }
    }

    fn send(&self, connection: &UnixStream) -> Result<(), Setback> {
        let lost = |error: std::io::Error| Setback::Lost { why: error.to_string() };
        connection.set_write_timeout(Some(SEND_DEADLINE)).map_err(lost)?;
        let file = self.file.map(AsFd::as_fd);
        match frame::send_bytes(connection, &self.frame, file.as_slice()) {
            Ok(()) => Ok(()),
            // An agent that refuses a step need not have read all of it: its reply decides.
            Err(error) if hung_up(&error) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(Setback::Final(HandoverError::Silent(SEND_DEADLINE)))
            }
            Err(error) => Err(Setback::Final(HandoverError::Frame(error.into()))),
        }
    }
}

/// Reads replies until one of them ends the step's wait.
fn follow(
    connection: &UnixStream,
    patience: &mut Patience,
    progress: &mut Progress,
) -> Result<Vec<OwnedFd>, Setback> {
    let lost = |error: std::io::Error| Setback::Lost { why: error.to_string() };
    connection.set_read_timeout(Some(SILENCE)).map_err(lost)?;
    loop {
        match frame::receive(connection, Kind::Reply).map_err(not_received)? {
            (Reply::Progress { phase, done, total }, _) => {
                patience.progressing();
                progress.update(phase, done, total);
            }
            (Reply::Refused { code, reason }, _) => {
                return Err(Setback::Final(HandoverError::Refused { code, reason }));
            }
            (Reply::Busy { retry_after }, _) => {
                return Err(Setback::Busy { retry_after: Duration::from_millis(retry_after) });
            }
            (Reply::Lend, descriptors) => return Ok(descriptors),
        }
    }
}

fn not_received(error: FrameError) -> Setback {
    match error {
        FrameError::Closed => Setback::Lost { why: error.to_string() },
        FrameError::Io(cause) => match cause.kind() {
            ErrorKind::WouldBlock => Setback::Final(HandoverError::Silent(SILENCE)),
            ErrorKind::UnexpectedEof => Setback::Lost { why: "the connection was cut".into() },
            _ if hung_up(&cause) => Setback::Lost { why: "the connection was cut".into() },
            _ => Setback::Final(HandoverError::Frame(FrameError::Io(cause))),
        },
        other => Setback::Final(HandoverError::Frame(other)),
    }
}

/// Whether the other side is gone, rather than the socket broken.
fn hung_up(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Makes a loan of a connection and what came over it; the runner gets a socket without timeouts.
fn loan(connection: UnixStream, lent: Vec<OwnedFd>) -> Result<Loan, Setback> {
    let count = lent.len();
    let mut lent = lent.into_iter();
    let runner = match lent.next() {
        Some(runner) if count >= MIN_LENT => runner,
        _ => return Err(Setback::Final(HandoverError::Lent(count))),
    };
    connection
        .set_read_timeout(None)
        .and_then(|()| connection.set_write_timeout(None))
        .map_err(|error| Setback::Final(HandoverError::Frame(error.into())))?;
    Ok(Loan { connection, runner, rest: lent.collect() })
}
