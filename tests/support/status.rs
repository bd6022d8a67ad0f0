//! What `warmstep-agent status --output json` says, as far as tests ask.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How the agent is doing.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// How many modules are compiled, by tier.
    pub modules: BTreeMap<String, u64>,
    /// What their files take, in bytes.
    pub bytes: u64,
    /// Steps that wait for their module now.
    pub waiting: u64,
    /// What is made warm before a step asks.
    pub prewarm: Prewarm,
    /// Counts since the agent started.
    pub counts: Counts,
    /// The last steps, oldest first.
    pub recent: Vec<Record>,
}

/// What is made warm before a step asks.
#[derive(Clone, Debug, Deserialize)]
pub struct Prewarm {
    /// How watching the API server goes.
    pub kubernetes: String,
    /// How many objects and files want something.
    pub objects: usize,
    /// What is wanted.
    pub modules: Vec<Wanted>,
    /// What is asked for and cannot be.
    pub problems: Vec<Problem>,
}

impl Prewarm {
    /// The state of a module; empty where nobody wants it.
    pub fn state(&self, module: &str) -> &str {
        self.modules.iter().find(|one| one.module == module).map_or("", |one| &one.state)
    }
}

/// A module that is wanted warm.
#[derive(Clone, Debug, Deserialize)]
pub struct Wanted {
    /// The module.
    pub module: String,
    /// `waiting`, `warming`, `warm` or `failed`.
    pub state: String,
    /// The SHA-256 of its Wasm.
    pub digest: Option<String>,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// Who wants it.
    pub wanted_by: Vec<String>,
}

/// Something that an object asks for and that cannot be.
#[derive(Clone, Debug, Deserialize)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// Counts since the agent started.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Counts {
    /// Steps that were lent their module.
    pub lent: u64,
    /// Those of them that found it compiled.
    pub hits: u64,
    /// Steps that were refused, or failed before they ran.
    pub refused: u64,
    /// Steps that were told to come back later.
    pub busy: u64,
    /// Steps that ended without a word.
    pub died: u64,
}

/// One step. Times are microseconds; 0 where there was nothing to do.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    /// The module as its author wrote it.
    pub module: String,
    /// The SHA-256 of its Wasm, without `sha256:`.
    pub digest: String,
    /// `hit` or `miss`.
    pub cache: String,
    /// The tier that ran.
    pub tier: String,
    /// Asking the registry what the reference means.
    pub resolve_us: u64,
    /// Getting the Wasm.
    pub pull_us: u64,
    /// Compiling it.
    pub compile_us: u64,
    /// From the step's arrival until it was lent its module.
    pub lend_us: u64,
    /// From the runner's start until the module could run.
    pub load_us: u64,
    /// From the module's first instruction to its end.
    pub run_us: u64,
    /// From the step's arrival to its end.
    pub total_us: u64,
    /// The exit code; `None` when the step died without a word.
    pub code: Option<u8>,
    /// Why it ended, where that was not the module's own choice.
    pub reason: Option<String>,
}
