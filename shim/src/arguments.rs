//! The command line. Written by hand on `lexopt`: with clap the shim was a quarter larger, and every
//! step started some 70 µs later.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt};
use warmstep_wire::{DEFAULT_SOCKET, SOCKET_VARIABLE};

use crate::flags::{self, Directory, FlagError, Variable};
use crate::quantity::{self, QuantityError};

/// The environment variable that says how long to wait for the agent.
const WAIT_VARIABLE: &str = "WARMSTEP_WAIT";

/// How long to wait for the agent unless told otherwise: a restart, an upgrade.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// What `warmstep --help` says.
const HELP: &str = "\
Runs WebAssembly modules as steps: the node's agent brings the module, this pod confines it.

Usage: warmstep run [OPTIONS] MODULE [-- ARGS...]
       warmstep version
       warmstep hold

`hold` does nothing until SIGTERM: a container that runs it keeps this image on its node.

Try 'warmstep run --help'.
";

/// What `warmstep run --help` says.
const RUN_HELP: &str = "\
Runs a module as this process and ends as the module ends.

Usage: warmstep run [OPTIONS] MODULE [-- ARGS...]

MODULE is oci://REGISTRY/NAME[:TAG][@sha256:...], or a path, or sha256:... of a module
that the agent has. Everything behind -- is for the module.

The module sees nothing but what these grant, each as often as needed:
      --dir HOST[:GUEST][:ro]  A directory, under the name GUEST (HOST as written, unless
                               given); ro makes it read-only. A colon cannot be part of
                               either path: grant \".\" from inside such a directory.
      --env NAME[=VALUE]       An environment variable; without a value, the one set here.
      --net HOST:PORT          An address to connect to.

Inside Argo, the step's template grants the inputs and outputs that it declares, and the
variables of the container's env; what is said here comes on top.

Options:
      --memory BYTES           The most memory of the module, such as 256Mi.
      --timeout TIME           The most time for the module, such as 30s or 1h30m.
      --socket PATH            The agent's socket [WARMSTEP_SOCKET]
                               [default: /run/warmstep/agent.sock].
      --wait TIME              How long to wait for an agent that is away or busy, 0 for
                               not at all [WARMSTEP_WAIT] [default: 60s].
  -q, --quiet                  Say nothing about waiting and progress.
  -h, --help                   Print this.

Exit codes: the module's own; 128+n for a signal, 134 for a trap; 124 timeout; 125 no
agent or an internal failure; 126 refused or cannot run; 127 module not found.
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Run a module.
    Run(Box<Run>),
    /// Wait for SIGTERM.
    Hold,
    /// Print the version of this program and of the protocol it speaks.
    Version,
    /// Print this.
    Help(&'static str),
}

/// What `warmstep run` is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The module as it was written.
    pub(crate) module: OsString,
    /// The module's arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Directories it may see.
    pub(crate) directories: Vec<Directory>,
    /// Environment variables it may see.
    pub(crate) environment: Vec<Variable>,
    /// Addresses it may connect to, each `HOST:PORT`.
    pub(crate) network: Vec<String>,
    /// The most memory it may have, in bytes.
    pub(crate) memory: Option<u64>,
    /// The most time it may run.
    pub(crate) timeout: Option<Duration>,
    /// The agent's socket.
    pub(crate) socket: PathBuf,
    /// How long to wait for the agent.
    pub(crate) wait: Duration,
    /// Whether waiting and progress are left unsaid.
    pub(crate) quiet: bool,
}

/// Why the command line makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// There is no command, or another one.
    #[error("there is no command {0:?}: see warmstep --help")]
    Command(OsString),
    /// There is nothing to run.
    #[error("no MODULE is named: see warmstep run --help")]
    NoModule,
    /// Something stands where nothing is expected.
    #[error("unexpected argument {0:?}: arguments of the module stand behind --")]
    Unexpected(OsString),
    /// An unknown flag, or one without its value.
    #[error("{0}: see warmstep run --help")]
    Flag(#[from] lexopt::Error),
    /// A flag's value, or that of the environment variable in its place, makes no sense.
    #[error("{flag}: {error}")]
    Value {
        /// The flag or the variable.
        flag: &'static str,
        /// What is wrong with it.
        error: FlagError,
    },
    /// An amount of memory makes no sense.
    #[error("--memory: {0}")]
    Memory(#[from] QuantityError),
}

/// Reads the arguments behind the program's name, and `variable`s where flags are missing.
///
/// # Errors
///
/// When they make no sense; the message is one line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_args(arguments);
    match parser.next()? {
        Some(Value(command)) if command == "run" => {
            let arguments = parser.raw_args()?.collect();
            run(arguments, variable)
        }
        Some(Value(command)) if command == "hold" => Ok(Command::Hold),
        Some(Value(command)) if command == "version" => Ok(Command::Version),
        Some(Value(command)) if command == "help" => Ok(Command::Help(HELP)),
        Some(Long("help") | Short('h')) => Ok(Command::Help(HELP)),
        Some(Long("version") | Short('V')) => Ok(Command::Version),
        Some(Value(command)) => Err(UsageError::Command(command)),
        Some(other) => Err(other.unexpected().into()),
        None => Err(UsageError::Command(OsString::new())),
    }
}

fn run(
    mut ours: Vec<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    // Split before anything is understood: nothing of the module's arguments is ever taken for ours.
    let arguments = match ours.iter().position(|argument| argument == "--") {
        Some(at) => ours.split_off(at).into_iter().skip(1).collect(),
        None => Vec::new(),
    };
    let mut flags = Flags::default();
    let mut parser = lexopt::Parser::from_args(ours);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("dir") => flags.directories.push(at("--dir", flags::directory(parser.value()?))?),
            Long("env") => flags.environment.push(at("--env", flags::variable(parser.value()?))?),
            Long("net") => {
                flags.network.push(at("--net", flags::address(&parser.value()?.string()?))?);
            }
            Long("memory") => flags.memory = Some(quantity::parse(&parser.value()?.string()?)?),
            Long("timeout") => {
                flags.timeout = Some(at("--timeout", flags::timeout(&parser.value()?.string()?))?);
            }
            Long("socket") => flags.socket = Some(parser.value()?),
            Long("wait") => {
                flags.wait = Some(at("--wait", flags::duration(&parser.value()?.string()?))?);
            }
            Long("quiet") | Short('q') => flags.quiet = true,
            Long("help") | Short('h') => return Ok(Command::Help(RUN_HELP)),
            Value(module) if flags.module.is_none() => flags.module = Some(module),
            Value(more) => return Err(UsageError::Unexpected(more)),
            other => return Err(other.unexpected().into()),
        }
    }
    flags.complete(arguments, variable)
}

/// The flags that were met.
#[derive(Default)]
struct Flags {
    module: Option<OsString>,
    directories: Vec<Directory>,
    environment: Vec<Variable>,
    network: Vec<String>,
    memory: Option<u64>,
    timeout: Option<Duration>,
    socket: Option<OsString>,
    wait: Option<Duration>,
    quiet: bool,
}

impl Flags {
    fn complete(
        self,
        arguments: Vec<OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, UsageError> {
        // An empty variable is one that somebody could not unset.
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let wait = match (self.wait, variable(WAIT_VARIABLE)) {
            (Some(wait), _) => wait,
            (None, Some(text)) => at(WAIT_VARIABLE, flags::duration(&text.string()?))?,
            (None, None) => DEFAULT_WAIT,
        };
        let socket = self.socket.or_else(|| variable(SOCKET_VARIABLE));
        Ok(Command::Run(Box::new(Run {
            module: self.module.ok_or(UsageError::NoModule)?,
            arguments,
            directories: self.directories,
            environment: self.environment,
            network: self.network,
            memory: self.memory,
            timeout: self.timeout,
            socket: socket.map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from),
            wait,
            quiet: self.quiet,
        })))
    }
}

fn at<T>(flag: &'static str, value: Result<T, FlagError>) -> Result<T, UsageError> {
    value.map_err(|error| UsageError::Value { flag, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &[&str]) -> Result<Command, UsageError> {
        parse(line.iter().map(OsString::from), |_| None)
    }

    fn told(line: &[&str]) -> Run {
        match command(line) {
            Ok(Command::Run(run)) => *run,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn complaint(line: &[&str]) -> String {
        command(line).expect_err("a complaint").to_string()
    }

    #[test]
    fn defaults() {
        let run = told(&["run", "m"]);
        assert_eq!(run.module, "m");
        assert_eq!(run.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!((run.wait, run.memory, run.timeout), (DEFAULT_WAIT, None, None));
        assert!(!run.quiet && run.arguments.is_empty() && run.directories.is_empty());
    }

    #[test]
    fn every_flag_before_and_behind_the_module() {
        let flags = "--dir /a:/b:ro --dir=c --env A --env B=1 --net h:1 --memory 1Mi --timeout 2s \
                     --socket /s --wait 3s -q";
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let before = told(&[&["run"][..], &flags, &["m"]].concat());
        let behind = told(&[&["run", "m"][..], &flags].concat());
        assert_eq!(before, behind);
        assert_eq!((before.directories.len(), before.environment.len()), (2, 2));
        assert_eq!(before.network, ["h:1"]);
        assert_eq!((before.memory, before.timeout), (Some(1 << 20), Some(Duration::from_secs(2))));
        assert_eq!((before.wait, before.quiet), (Duration::from_secs(3), true));
        assert_eq!(before.socket, PathBuf::from("/s"));
        // Every flag is in the help, and nothing that is in the help is unknown.
        let named = |word: &&str| word.starts_with("--") && word.len() > 2;
        let mut help: Vec<&str> = RUN_HELP.split_whitespace().filter(named).collect();
        help.sort_unstable();
        let mut known =
            ["dir", "env", "help", "memory", "net", "quiet", "socket", "timeout", "wait"];
        known.sort_unstable();
        assert_eq!(help, known.map(|name| format!("--{name}")));
    }

    #[test]
    fn what_is_behind_the_dashes_belongs_to_the_module() {
        let run = told(&["run", "m", "--", "--help", "--dir", "--", "-x", ""]);
        assert_eq!(run.arguments, ["--help", "--dir", "--", "-x", ""]);
        assert!(told(&["run", "m", "--"]).arguments.is_empty());
        assert!(complaint(&["run", "m", "x"]).contains("behind --"));
        assert!(complaint(&["run", "--", "m"]).contains("no MODULE"));
    }

    #[test]
    fn the_environment_stands_in_for_flags() {
        let variable = |name: &str| match name {
            SOCKET_VARIABLE => Some("/e".into()),
            WAIT_VARIABLE => Some("5s".into()),
            _ => None,
        };
        let line = |words: &str| {
            let words: Vec<OsString> = words.split_whitespace().map(Into::into).collect();
            match parse(words, variable) {
                Ok(Command::Run(run)) => (run.socket, run.wait),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(line("run m"), ("/e".into(), Duration::from_secs(5)));
        assert_eq!(line("run m --socket /f --wait 0"), ("/f".into(), Duration::ZERO));
        let run = parse(["run".into(), "m".into()], |_| Some(OsString::new()));
        assert!(matches!(run, Ok(Command::Run(run)) if run.wait == DEFAULT_WAIT));
        let wrong = parse(["run".into(), "m".into()], |_| Some("soon".into()));
        assert!(wrong.expect_err("not a time").to_string().starts_with("WARMSTEP_WAIT: "));
    }

    #[test]
    fn complaints_are_one_line_and_name_the_flag() {
        for (line, names) in [
            (&["run", "--dri", "/a", "m"][..], "'--dri'"),
            (&["run", "m", "--dir"], "'--dir'"),
            (&["run", "m", "--quiet=yes"], "'--quiet'"),
            (&["run", "m", "--dir", ":"], "--dir: a directory"),
            (&["run", "m", "--env", "=x"], "--env: an environment variable"),
            (&["run", "m", "--net", "h"], "--net: an address"),
            (&["run", "m", "--memory", "many"], "--memory: write"),
            (&["run", "m", "--timeout", "0"], "--timeout: it must"),
            (&["run", "m", "--wait", "x"], "--wait: "),
            (&["run"], "no MODULE"),
            (&["walk"], "\"walk\""),
            (&["-x"], "'-x'"),
            (&[], "warmstep --help"),
        ] {
            let said = complaint(line);
            assert!(said.contains(names) && !said.contains('\n'), "{line:?}: {said}");
        }
    }

    #[test]
    fn help_and_version() {
        for line in [&["--help"][..], &["-h"], &["help"]] {
            assert_eq!(command(line).expect("help"), Command::Help(HELP));
        }
        assert_eq!(command(&["run", "--help"]).expect("help"), Command::Help(RUN_HELP));
        for line in [&["version"][..], &["--version"], &["-V"]] {
            assert_eq!(command(line).expect("version"), Command::Version);
        }
        assert_eq!(command(&["hold"]).expect("hold"), Command::Hold);
        assert!(RUN_HELP.contains(DEFAULT_SOCKET) && RUN_HELP.contains(WAIT_VARIABLE));
    }
}
