//! Flags, environment and a TOML file become one validated value. Nothing here touches the system.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use warmstep_registry::RegistryConfig;

use crate::arguments::ServeArguments;

/// What the agent runs with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The socket on which steps are handed over.
    pub(crate) socket: PathBuf,
    /// The directory of the cache.
    pub(crate) cache: PathBuf,
    /// The same directory through a read-only mount, from which modules are lent.
    pub(crate) lend_from: Option<PathBuf>,
    /// The runner's binary.
    pub(crate) runner: PathBuf,
    /// The binary of the runner for WASIX.
    pub(crate) wasix_runner: PathBuf,
    /// The compiler's binary.
    pub(crate) compiler: PathBuf,
    /// How modules are compiled.
    pub(crate) tiers: Tiers,
    /// How long a tag stays what it was, before the registry is asked again.
    pub(crate) tag_ttl: Duration,
    /// How long steps that wait are still served after SIGTERM.
    pub(crate) drain: Duration,
    /// How lines are logged.
    pub(crate) log_format: LogFormat,
    /// Bounds on everything that comes from outside.
    pub(crate) limits: Limits,
    /// What steps may ask for.
    pub(crate) policy: Policy,
    /// How registries are reached.
    pub(crate) registries: RegistryConfig,
    /// A directory whose modules are made warm.
    pub(crate) modules_dir: Option<PathBuf>,
    /// How the API server is reached, other than as from a pod.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The node's name in Kubernetes Events, where it was given.
    node: Option<String>,
    /// What is made warm before a step asks.
    pub(crate) prewarm: Prewarm,
}

/// How modules are compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tiers {
    /// Compiled fast for the step that waits, and again with effort in the background.
    #[default]
    BaselineFirst,
    /// Compiled once, with effort.
    OptimizedOnly,
}

/// How lines are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one object a line.
    Json,
}

/// Bounds on everything that comes from outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// The memory of a step that names none: its linear memories and tables together.
    pub(crate) memory: ByteSize,
    /// The most memory a step may ask for.
    pub(crate) memory_max: ByteSize,
    /// The time of a step that names none; zero for no limit.
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
    /// The most time a step may ask for; zero for no limit.
    #[serde(with = "humantime_serde")]
    pub(crate) timeout_max: Duration,
    /// The largest module, in bytes of Wasm.
    pub(crate) module_bytes: ByteSize,
    /// The largest manifest of a registry.
    pub(crate) manifest_bytes: ByteSize,
    /// The time to find out what a reference means.
    #[serde(with = "humantime_serde")]
    pub(crate) resolve: Duration,
    /// The time to pull a module.
    #[serde(with = "humantime_serde")]
    pub(crate) pull: Duration,
    /// The time to connect to a registry.
    #[serde(with = "humantime_serde")]
    pub(crate) connect: Duration,
    /// The longest silence of a registry.
    #[serde(with = "humantime_serde")]
    pub(crate) idle: Duration,
    /// How many connections may be open, running steps included: each costs a descriptor.
    pub(crate) connections: usize,
    /// How many steps may wait for their module at once; more are told to come back.
    pub(crate) waiting: usize,
    /// How many of them may be of one pod.
    pub(crate) waiting_per_pod: usize,
    /// How many modules are pulled at once.
    pub(crate) pulls: usize,
    /// How many modules are compiled at once; each compiler uses every processor.
    pub(crate) compiles: usize,
    /// The most memory one compilation may take.
    pub(crate) compile_memory: ByteSize,
    /// The most time one compilation may take.
    #[serde(with = "humantime_serde")]
    pub(crate) compile_time: Duration,
    /// The most memory that sealed copies of modules may take, where there is no read-only mount.
    pub(crate) lend_memory: ByteSize,
    /// The most that the cache's files may take on the disk.
    pub(crate) cache: ByteSize,
    /// The most modules in the cache.
    pub(crate) cache_modules: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let registry = warmstep_registry::Limits::default();
        Self {
            memory: ByteSize::mib(512),
            memory_max: ByteSize::gib(4),
            timeout: Duration::ZERO,
            timeout_max: Duration::ZERO,
            module_bytes: ByteSize::b(registry.module_bytes),
            manifest_bytes: ByteSize::b(registry.manifest_bytes),
            resolve: registry.resolve,
            pull: registry.pull,
            connect: registry.connect,
            idle: registry.idle,
            connections: 4096,
            waiting: 1024,
            waiting_per_pod: 256,
            pulls: 4,
            compiles: 1,
            compile_memory: ByteSize::gib(4),
            compile_time: Duration::from_secs(300),
            lend_memory: ByteSize::gib(1),
            cache: ByteSize::gib(10),
            cache_modules: 10_000,
        }
    }
}

impl Limits {
    /// Those that a registry is held to.
    fn of_registries(&self) -> warmstep_registry::Limits {
        warmstep_registry::Limits {
            module_bytes: self.module_bytes.as_u64(),
            manifest_bytes: self.manifest_bytes.as_u64(),
            resolve: self.resolve,
            pull: self.pull,
            connect: self.connect,
            idle: self.idle,
            ..warmstep_registry::Limits::default()
        }
    }
}

/// What steps may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Policy {
    /// References that may run: `registry/repository` with `*` for any run of characters.
    pub(crate) allow: Vec<String>,
    /// Whether a module may be a file of the step's pod.
    pub(crate) files: bool,
    /// Whether a step runs only where its jail has all its layers.
    pub(crate) whole_jail: bool,
    /// Whether modules that need WASIX may run.
    pub(crate) wasix: bool,
    /// Addresses that may be granted: `host:port` with `*` for any run of characters.
    pub(crate) network: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        let all = || vec!["*".to_owned()];
        Self { allow: all(), files: true, whole_jail: false, wasix: true, network: all() }
    }
}

/// What is made warm before a step asks, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Prewarm {
    /// Whether the API server is watched for annotated objects; unset: in a pod with a token.
    pub(crate) kubernetes: Option<bool>,
    /// How many modules are made warm at once.
    pub(crate) parallel: usize,
    /// Over how long the nodes of a cluster spread the first pull of a module.
    #[serde(with = "humantime_serde")]
    pub(crate) jitter: Duration,
    /// How often a warm module is looked after: a tag that has moved is warmed anew.
    #[serde(with = "humantime_serde")]
    pub(crate) recheck: Duration,
    /// The most objects that are heeded.
    pub(crate) objects: usize,
    /// The most modules that are kept warm.
    pub(crate) modules: usize,
    /// The most that prewarmed modules may take on the disk before no more are added; unset: half
    /// of `limits.cache`.
    pub(crate) room: Option<ByteSize>,
}

impl Default for Prewarm {
    fn default() -> Self {
        Self {
            kubernetes: None,
            parallel: 2,
            jitter: Duration::from_secs(10),
            recheck: Duration::from_secs(900),
            objects: 2000,
            modules: 500,
            room: None,
        }
    }
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    socket: Option<PathBuf>,
    cache: Option<PathBuf>,
    lend_from: Option<PathBuf>,
    runner: Option<PathBuf>,
    wasix_runner: Option<PathBuf>,
    compiler: Option<PathBuf>,
    tiers: Option<Tiers>,
    #[serde(with = "humantime_serde")]
    tag_ttl: Option<Duration>,
    #[serde(with = "humantime_serde")]
    drain: Option<Duration>,
    log_format: Option<LogFormat>,
    docker_config: Option<PathBuf>,
    modules_dir: Option<PathBuf>,
    limits: Limits,
    prewarm: Prewarm,
    policy: Policy,
    registry: std::collections::BTreeMap<String, warmstep_registry::HostConfig>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is not what is expected.
    #[error("configuration: {0}")]
    File(String),
    /// A value makes no sense.
    #[error("configuration: {name} {reason}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
}

fn value(name: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { name, reason: reason.into() }
}

impl Config {
    /// Merges flags (and the environment, which clap reads) over the file's text over the defaults.
    /// `beside` is the directory of the agent's own binary, where its parts are looked for.
    pub(crate) fn new(
        arguments: &ServeArguments,
        file: &str,
        beside: &std::path::Path,
    ) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(file).map_err(|error| file_error(&error, file))?;
        let default = |path: &str| PathBuf::from(path);
        let part = |flag: &Option<PathBuf>, set: Option<PathBuf>, name: &str| {
            flag.clone().or(set).unwrap_or_else(|| beside.join(name))
        };
        let registries = RegistryConfig {
            hosts: file.registry,
            docker_config: arguments.docker_config.clone().or(file.docker_config),
            limits: file.limits.of_registries(),
            ..RegistryConfig::default()
        };
        let config = Self {
            socket: arguments
                .socket
                .clone()
                .or(file.socket)
                .unwrap_or_else(|| default(warmstep_wire::DEFAULT_SOCKET)),
            cache: arguments
                .cache
                .clone()
                .or(file.cache)
                .unwrap_or_else(|| default(crate::arguments::DEFAULT_CACHE)),
            lend_from: arguments.lend_from.clone().or(file.lend_from),
            runner: part(&arguments.runner, file.runner, "warmstep-run"),
            wasix_runner: part(&arguments.wasix_runner, file.wasix_runner, "warmstep-run-wasix"),
            compiler: part(&arguments.compiler, file.compiler, "warmstep-compile"),
            tiers: arguments.tiers.or(file.tiers).unwrap_or_default(),
            tag_ttl: file.tag_ttl.unwrap_or(Duration::from_secs(300)),
            drain: arguments.drain.or(file.drain).unwrap_or(Duration::from_secs(25)),
            log_format: arguments.log_format.or(file.log_format).unwrap_or_default(),
            limits: file.limits,
            policy: file.policy,
            registries,
            modules_dir: arguments.modules_dir.clone().or(file.modules_dir),
            kubeconfig: arguments.kubeconfig.clone(),
            node: arguments.node.clone(),
            prewarm: Prewarm {
                kubernetes: arguments.kubernetes.or(file.prewarm.kubernetes),
                ..file.prewarm
            },
        };
        config.check()?;
        Ok(config)
    }

    /// The node's name in Kubernetes Events.
    pub(crate) fn node(&self) -> String {
        self.node
            .clone()
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    /// The most bytes of prewarmed modules before no more are added.
    pub(crate) fn prewarm_room(&self) -> u64 {
        self.prewarm.room.map_or(self.limits.cache.as_u64() / 2, |room| room.as_u64())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        if let Some(path) = self.modules_dir.as_ref().filter(|path| !path.is_absolute()) {
            let reason = format!("must be an absolute path, not {}", path.display());
            return Err(value("modules_dir", reason));
        }
        for (name, path) in [("socket", &self.socket), ("cache", &self.cache)] {
            if !path.is_absolute() {
                return Err(value(
                    name,
                    format!("must be an absolute path, not {}", path.display()),
                ));
            }
        }
        for (name, number) in [
            ("limits.connections", limits.connections),
            ("limits.waiting", limits.waiting),
            ("limits.waiting_per_pod", limits.waiting_per_pod),
            ("limits.pulls", limits.pulls),
            ("limits.compiles", limits.compiles),
            ("limits.cache_modules", limits.cache_modules),
            ("prewarm.parallel", self.prewarm.parallel),
            ("prewarm.objects", self.prewarm.objects),
            ("prewarm.modules", self.prewarm.modules),
        ] {
            if number == 0 {
                return Err(value(name, "must be at least 1"));
            }
        }
        if limits.memory > limits.memory_max {
            return Err(value("limits.memory", "must not be more than limits.memory_max"));
        }
        if !limits.timeout_max.is_zero()
            && (limits.timeout.is_zero() || limits.timeout > limits.timeout_max)
        {
            return Err(value(
                "limits.timeout",
                "must be set, and not be more than limits.timeout_max, where that is set",
            ));
        }
        if limits.compile_memory < ByteSize::mib(256) {
            return Err(value("limits.compile_memory", "must be at least 256MiB"));
        }
        if limits.compile_time < Duration::from_secs(1) {
            return Err(value("limits.compile_time", "must be at least 1s"));
        }
        Ok(())
    }
}

/// toml's own message spans lines; an operator's log wants one.
fn file_error(error: &toml::de::Error, text: &str) -> ConfigError {
    let line = error
        .span()
        .map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    ConfigError::File(match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
