//! The agent's command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{LogFormat, Tiers};

/// Where the cache is unless told otherwise.
pub(crate) const DEFAULT_CACHE: &str = "/var/lib/warmstep";

/// Runs WebAssembly steps of a node: admits, pulls, compiles, caches and lends modules.
#[derive(Debug, Parser)]
#[command(name = "warmstep-agent", version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the agent's binary can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the steps of this node until SIGTERM.
    Serve(Box<ServeArguments>),
    /// List the modules in the running agent's cache.
    Ls(ClientArguments),
    /// Show how the running agent is doing.
    Status(ClientArguments),
    /// Pull and compile modules before the first step asks for them.
    Prewarm(ModulesArguments),
    /// Remove modules from the running agent's cache.
    Rm(ModulesArguments),
    /// Remove the least recently used modules from the running agent's cache.
    Gc(GcArguments),
}

/// Where the running agent is, and how to print what it says.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArguments {
    /// The agent's cache: its administration socket is there, out of the pods' sight.
    #[arg(long, value_name = "DIR", env = "WARMSTEP_CACHE", default_value = DEFAULT_CACHE)]
    pub(crate) cache: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Some modules, and where the running agent is.
#[derive(Debug, Args)]
pub(crate) struct ModulesArguments {
    #[command(flatten)]
    pub(crate) client: ClientArguments,
    /// The modules: `oci://registry/repository[:tag][@sha256:…]` or `sha256:…`.
    #[arg(required = true, value_name = "MODULE")]
    pub(crate) modules: Vec<String>,
}

/// How small the cache is to become, and where the running agent is.
#[derive(Debug, Args)]
pub(crate) struct GcArguments {
    #[command(flatten)]
    pub(crate) client: ClientArguments,
    /// Remove until the cache is no larger than this [default: the agent's own limits].
    #[arg(long, value_name = "SIZE")]
    pub(crate) to: Option<bytesize::ByteSize>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The flags of `serve`. What is not given comes from the file, then from the defaults.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeArguments {
    /// The configuration file, in TOML.
    #[arg(long, value_name = "FILE", env = "WARMSTEP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The socket on which steps are handed over [default: /run/warmstep/agent.sock].
    #[arg(long, value_name = "PATH", env = "WARMSTEP_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// The directory of the cache [default: /var/lib/warmstep].
    #[arg(long, value_name = "DIR", env = "WARMSTEP_CACHE")]
    pub(crate) cache: Option<PathBuf>,
    /// The cache's directory through a read-only mount, to lend from instead of sealed copies.
    #[arg(long, value_name = "DIR", env = "WARMSTEP_LEND_FROM")]
    pub(crate) lend_from: Option<PathBuf>,
    /// The runner's binary [default: warmstep-run beside this one].
    #[arg(long, value_name = "FILE", env = "WARMSTEP_RUNNER")]
    pub(crate) runner: Option<PathBuf>,
    /// The binary of the runner for WASIX [default: warmstep-run-wasix beside this one].
    #[arg(long, value_name = "FILE", env = "WARMSTEP_WASIX_RUNNER")]
    pub(crate) wasix_runner: Option<PathBuf>,
    /// The compiler's binary [default: warmstep-compile beside this one].
    #[arg(long, value_name = "FILE", env = "WARMSTEP_COMPILER")]
    pub(crate) compiler: Option<PathBuf>,
    /// How modules are compiled [default: baseline-first].
    #[arg(long, value_enum, env = "WARMSTEP_TIERS")]
    pub(crate) tiers: Option<Tiers>,
    /// A Docker `config.json` with the registries' credentials.
    #[arg(long, value_name = "FILE", env = "WARMSTEP_DOCKER_CONFIG")]
    pub(crate) docker_config: Option<PathBuf>,
    /// How long waiting steps are still served after SIGTERM [default: 25s].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, env = "WARMSTEP_DRAIN")]
    pub(crate) drain: Option<Duration>,
    /// A directory whose `*.wasm` files are made warm [default: none].
    #[arg(long, value_name = "DIR", env = "WARMSTEP_MODULES_DIR")]
    pub(crate) modules_dir: Option<PathBuf>,
    /// Whether the API server is watched for modules to make warm [default: in a pod with a token].
    #[arg(long, value_name = "BOOL", env = "WARMSTEP_KUBERNETES")]
    pub(crate) kubernetes: Option<bool>,
    /// How the API server is reached [default: as from a pod].
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The node's name in Kubernetes Events [default: the host's name].
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: Option<String>,
    /// How lines are logged [default: text].
    #[arg(long, value_enum, env = "WARMSTEP_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}
