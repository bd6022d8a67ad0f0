//! Modules that could not be compiled, remembered for a while: a workflow that retries one must not
//! burn the node.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use warmstep_registry::Digest;

/// How long a failure is remembered. Long enough for a retry loop, short enough for a person.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How many are remembered: some hundred bytes each.
const MOST: usize = 1024;

/// What failed, why, and when.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<Digest, (Instant, String)>>);

impl Failures {
    /// Remembers why a module could not be compiled.
    pub(crate) fn remember(&self, wasm: Digest, reason: &str) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        if failures.len() >= MOST
            && let Some(oldest) =
                failures.iter().min_by_key(|(_, (since, _))| *since).map(|(wasm, _)| *wasm)
        {
            failures.remove(&oldest);
        }
        failures.insert(wasm, (Instant::now(), reason.to_owned()));
    }

    /// Why a module could not be compiled, if that was a short while ago.
    pub(crate) fn recall(&self, wasm: &Digest) -> Option<String> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, reason) = failures.get(wasm)?;
        (since.elapsed() < REMEMBERED).then(|| reason.clone())
    }

    /// Forgets a module's failure.
    pub(crate) fn forget(&self, wasm: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(wasm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number() {
        let failures = Failures::default();
        for number in 0..MOST + 10 {
            failures.remember(Digest::of(&number.to_le_bytes()), "too much");
        }
        assert_eq!(failures.0.lock().unwrap().len(), MOST);
        let last = Digest::of(&(MOST + 9).to_le_bytes());
        assert_eq!(failures.recall(&last).as_deref(), Some("too much"));
        failures.forget(&last);
        assert_eq!(failures.recall(&last), None);
    }
}
