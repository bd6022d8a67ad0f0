//! The last steps of this node and how they went, for `status`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How many steps are remembered.
const MOST: usize = 256;

/// One step. Times are microseconds; 0 where there was nothing to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// The module as its author wrote it.
    pub(crate) module: String,
    /// The SHA-256 of its Wasm.
    pub(crate) digest: String,
    /// `hit` when a compiled form was there, else `miss`.
    pub(crate) cache: String,
    /// The tier that ran.
    pub(crate) tier: String,
    /// Asking the registry what the reference means.
    pub(crate) resolve_us: u64,
    /// Getting the Wasm.
    pub(crate) pull_us: u64,
    /// Compiling it.
    pub(crate) compile_us: u64,
    /// From the step's arrival until it was lent its module.
    pub(crate) lend_us: u64,
    /// From the runner's start until the module could run.
    pub(crate) load_us: u64,
    /// From the module's first instruction to its end.
    pub(crate) run_us: u64,
    /// From the step's arrival to its end.
    pub(crate) total_us: u64,
    /// Processor time of the step's process.
    pub(crate) cpu_us: u64,
    /// Its largest resident set, in bytes.
    pub(crate) peak_memory: u64,
    /// The exit code; `None` when the step died without a word.
    pub(crate) code: Option<u8>,
    /// Why it ended, where that was not the module's own choice.
    pub(crate) reason: Option<String>,
}

/// Counts since the agent started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Steps that were lent their module.
    pub(crate) lent: u64,
    /// Those of them that found it compiled.
    pub(crate) hits: u64,
    /// Steps that were refused, or failed before they ran.
    pub(crate) refused: u64,
    /// Steps that were told to come back later.
    pub(crate) busy: u64,
    /// Steps that ended without a word: killed, or out of memory.
    pub(crate) died: u64,
}

/// The last steps, and the counts.
#[derive(Default)]
pub(crate) struct Recent {
    steps: Mutex<VecDeque<StepRecord>>,
    lent: AtomicU64,
    hits: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    died: AtomicU64,
}

impl Recent {
    /// Notes that a step was lent its module.
    pub(crate) fn lent(&self, hit: bool) {
        self.lent.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(u64::from(hit), Ordering::Relaxed);
    }

    /// Notes that a step was told to come back later.
    pub(crate) fn busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a step will not run.
    pub(crate) fn refused(&self, step: StepRecord) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.push(step);
    }

    /// Notes how a step ended.
    pub(crate) fn ended(&self, step: StepRecord) {
        self.died.fetch_add(u64::from(step.code.is_none()), Ordering::Relaxed);
        self.push(step);
    }

    fn push(&self, step: StepRecord) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() == MOST {
            steps.pop_front();
        }
        steps.push_back(step);
    }

    /// The last steps, oldest first.
    pub(crate) fn steps(&self) -> Vec<StepRecord> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The counts.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            lent: self.lent.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
            died: self.died.load(Ordering::Relaxed),
        }
    }
}
