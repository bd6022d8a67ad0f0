//! What is wanted, as `status` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use warmstep_registry::Digest;

use super::wants::{Module, State, Wants};

/// A module as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The module in its one spelling.
    pub(crate) module: String,
    /// `waiting`, `warming`, `warm` or `failed`.
    pub(crate) state: String,
    /// The SHA-256 of its Wasm, where that is known.
    pub(crate) digest: Option<Digest>,
    /// Why the last attempt failed.
    pub(crate) reason: Option<String>,
    /// Who wants it.
    pub(crate) wanted_by: Vec<String>,
}

impl Wants {
    /// Every module, for `status`. `is_there` says whether one is still compiled.
    pub(crate) fn report(&self, is_there: impl Fn(&Digest) -> bool) -> Vec<Report> {
        let mut wanted_by: BTreeMap<&String, Vec<String>> = BTreeMap::new();
        for (object, asked) in &self.objects {
            for name in &asked.modules {
                wanted_by.entry(name).or_default().push(object.to_string());
            }
        }
        wanted_by
            .into_iter()
            .map(|(name, wanted_by)| {
                let module = self.modules.get(name);
                let digest = module.and_then(|module| module.digest);
                let (state, reason) = match module {
                    None => ("failed", Some("beyond prewarm.modules".to_owned())),
                    Some(Module { state: State::Failed(reason), .. }) => {
                        ("failed", Some(reason.clone()))
                    }
                    Some(Module { running: true, state: State::Waiting, .. }) => ("warming", None),
                    _ if digest.is_some_and(|digest| is_there(&digest)) => ("warm", None),
                    Some(_) => ("waiting", None),
                };
                Report { module: name.clone(), state: state.to_owned(), digest, reason, wanted_by }
            })
            .collect()
    }

    /// What objects ask for that cannot be, each with its object.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let problems = self.objects.iter().flat_map(|(object, asked)| {
            asked.problems.iter().map(|problem| (object.to_string(), problem.clone()))
        });
        problems.collect()
    }
}
