//! Layers of the jails that this node's kernel, or a container's profile, refuses: logged once,
//! shown in `status`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Whose jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Process {
    /// A step's.
    Step,
    /// The compiler's.
    Compiler,
}

impl Process {
    /// The word for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Step => "steps",
            Self::Compiler => "the compiler",
        }
    }
}

/// What is missing, as it was last told.
#[derive(Default)]
pub(crate) struct Layers(Mutex<BTreeMap<Process, String>>);

impl Layers {
    /// Notes what a process did without. It runs all the same, unless the policy says otherwise.
    pub(crate) fn note(&self, process: Process, missing: &str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.get(&process).is_none_or(|known| known != missing) {
            tracing::warn!(missing, "the jail of {} is not whole", process.name());
            noted.insert(process, missing.to_owned());
        }
    }

    /// What is missing.
    pub(crate) fn missing(&self) -> BTreeMap<Process, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
