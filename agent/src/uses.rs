//! Which modules are in use: being made ready, or run by a step. What is in use is not evicted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use warmstep_registry::Digest;

/// The modules in use, and how many times each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses(Arc<Mutex<HashMap<Digest, usize>>>);

/// One use of a module, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Use {
    uses: Uses,
    wasm: Digest,
}

impl Uses {
    /// Begins a use.
    pub(crate) fn begin(&self, wasm: Digest) -> Use {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(wasm).or_default() += 1;
        Use { uses: self.clone(), wasm }
    }

    /// Whether a module is in use now.
    pub(crate) fn contains(&self, wasm: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(wasm)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut uses = self.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = uses.get_mut(&self.wasm) {
            *count -= 1;
            if *count == 0 {
                uses.remove(&self.wasm);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_in_use_until_its_last_use_ends() {
        let (uses, wasm) = (Uses::default(), Digest::of(b"w"));
        let first = uses.begin(wasm);
        let second = uses.begin(wasm);
        drop(first);
        assert!(uses.contains(&wasm));
        drop(second);
        assert!(!uses.contains(&wasm));
    }
}
