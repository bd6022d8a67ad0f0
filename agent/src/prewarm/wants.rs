//! What is wanted warm, by whom, and how far each module is: pure, from what objects ask for and how
//! attempts end. What to do next follows from it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use warmstep_registry::Digest;

use super::annotation::Modules;
use super::object::{Kind, Object};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What one object asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Tells an object from an earlier one of its name, and a file from what it was.
    pub(crate) identity: String,
    /// Modules in their one spelling, or the path of a file.
    pub(crate) modules: Vec<String>,
    /// Why something that it asks for cannot be.
    pub(crate) problems: Vec<String>,
    /// What has been said about it, as an event or in the log: not again while it stays the same.
    #[serde(default)]
    pub(crate) said: BTreeSet<String>,
}

impl Asked {
    /// What a new look at an object found.
    pub(crate) fn new(identity: String, modules: Modules) -> Self {
        Self {
            identity,
            modules: modules.modules,
            problems: modules.problems,
            said: BTreeSet::new(),
        }
    }
}

/// Bounds on what may be wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most objects.
    pub(crate) objects: usize,
    /// The most modules.
    pub(crate) modules: usize,
}

/// How far a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is known yet.
    Waiting,
    /// It is compiled.
    Warm,
    /// The last attempt failed.
    Failed(String),
}

/// A module that is wanted.
#[derive(Debug)]
pub(super) struct Module {
    /// How far it is.
    pub(super) state: State,
    /// What it was last known to be. This is pinned, also while an attempt fails.
    pub(super) digest: Option<Digest>,
    /// Whether an attempt runs now.
    pub(super) running: bool,
    failures: u32,
    /// When to look after it next.
    next: Instant,
}

/// Something that an object should be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// The object.
    pub(crate) object: Object,
    /// Its identity, to tell it from a later one of its name.
    pub(crate) identity: String,
    /// What to say.
    pub(crate) said: String,
}

/// What the next start of the agent has to know.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Every object and what it asks for.
    pub(crate) objects: Vec<(Object, Asked)>,
    /// What the modules were last known to be.
    pub(crate) digests: BTreeMap<String, Digest>,
}

/// Everything that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    pub(super) objects: BTreeMap<Object, Asked>,
    pub(super) modules: BTreeMap<String, Module>,
    /// Objects that there was no room for.
    ignored: BTreeSet<Object>,
    /// Whether [`Wants::memory`] has changed since it was last taken.
    changed: bool,
}

impl Wants {
    /// Goes on from an earlier start. `when` says when each module is first looked after.
    pub(crate) fn restore(memory: Memory, mut when: impl FnMut() -> Instant) -> Self {
        let mut wants = Self { objects: memory.objects.into_iter().collect(), ..Self::default() };
        let everything = Bounds { objects: usize::MAX, modules: usize::MAX };
        wants.settle(everything, &mut when);
        for (name, digest) in memory.digests {
            if let Some(module) = wants.modules.get_mut(&name) {
                module.digest = Some(digest);
            }
        }
        wants.changed = false;
        wants
    }

    /// What the next start has to know, if that has changed.
    pub(crate) fn memory(&mut self) -> Option<Memory> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let digests = self
            .modules
            .iter()
            .filter_map(|(name, module)| module.digest.map(|digest| (name.clone(), digest)));
        let objects = self.objects.iter().map(|(object, asked)| (object.clone(), asked.clone()));
        Some(Memory { objects: objects.collect(), digests: digests.collect() })
    }

    /// It could not be written: it has to be tried again.
    pub(crate) fn memory_lost(&mut self) {
        self.changed = true;
    }

    /// Notes what an object asks for now. Says whether there was room for it.
    pub(crate) fn ask(
        &mut self,
        object: Object,
        mut asked: Asked,
        bounds: Bounds,
        mut when: impl FnMut() -> Instant,
    ) -> bool {
        match self.objects.get(&object) {
            Some(before) if before.identity == asked.identity => {
                asked.said = before.said.clone();
                if *before == asked {
                    return true;
                }
            }
            Some(before) => {
                // A file that is another one now, or a new object: what it names is looked at again.
                for name in &before.modules {
                    if let Some(module) = self.modules.get_mut(name) {
                        module.next = when();
                        module.failures = 0;
                    }
                }
            }
            None if self.objects.len() >= bounds.objects => {
                // So many are remembered; a name more or less does not matter beyond.
                if self.ignored.len() < bounds.objects {
                    self.ignored.insert(object);
                }
                return false;
            }
            None => {}
        }
        self.ignored.remove(&object);
        self.objects.insert(object, asked);
        self.settle(bounds, &mut when);
        true
    }

    /// An object is gone, or asks for nothing any more.
    pub(crate) fn forget(&mut self, object: &Object) {
        self.ignored.remove(object);
        if self.objects.remove(object).is_some() {
            self.settle(Bounds { objects: usize::MAX, modules: usize::MAX }, &mut Instant::now);
        }
    }

    /// These are all the objects of a kind: others are gone.
    pub(crate) fn only(&mut self, kind: Kind, there: &BTreeSet<Object>) {
        let gone: Vec<Object> = self
            .objects
            .keys()
            .chain(&self.ignored)
            .filter(|object| object.kind == kind && !there.contains(*object))
            .cloned()
            .collect();
        for object in gone {
            self.forget(&object);
        }
    }

    /// Brings the modules into agreement with the objects. What nobody wants any more is dropped,
    /// and its digest with it.
    fn settle(&mut self, bounds: Bounds, when: &mut dyn FnMut() -> Instant) {
        self.changed = true;
        let wanted: HashSet<&String> =
            self.objects.values().flat_map(|asked| &asked.modules).collect();
        self.modules.retain(|name, _| wanted.contains(name));
        for name in wanted {
            if self.modules.len() >= bounds.modules {
                break;
            }
            self.modules.entry(name.clone()).or_insert_with(|| Module {
                state: State::Waiting,
                digest: None,
                running: false,
                failures: 0,
                next: when(),
            });
        }
    }

    /// A module whose time has come; from now on an attempt at it runs.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<String> {
        let due = self.modules.iter_mut().filter(|(_, module)| !module.running);
        let (name, module) = due.min_by_key(|(_, module)| module.next)?;
        if module.next > now {
            return None;
        }
        module.running = true;
        Some(name.clone())
    }

    /// When the next module's time comes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.modules.values().filter(|module| !module.running).map(|module| module.next).min()
    }

    /// An attempt has ended. `recheck` is when to look again after a success; `dice` is from 0 to 1.
    pub(crate) fn end(
        &mut self,
        name: &str,
        result: Result<Digest, String>,
        now: Instant,
        recheck: Duration,
        dice: f64,
    ) {
        // It may be wanted no more.
        let Some(module) = self.modules.get_mut(name) else { return };
        module.running = false;
        match result {
            Ok(digest) => {
                self.changed |= module.digest != Some(digest) || module.state != State::Warm;
                module.digest = Some(digest);
                module.failures = 0;
                module.state = State::Warm;
                module.next = now + recheck.mul_f64(1.0 + dice / 2.0);
                for asked in self.objects.values_mut() {
                    asked.said.retain(|said| !about(said, name));
                }
            }
            Err(reason) => {
                module.state = State::Failed(reason);
                let pause =
                    FIRST_PAUSE.saturating_mul(1 << module.failures.min(10)).min(LONGEST_PAUSE);
                module.failures += 1;
                module.next = now + pause.mul_f64(0.75 + dice / 2.0);
            }
        }
    }

    /// What has to stay in the cache.
    pub(crate) fn pinned(&self) -> HashSet<Digest> {
        self.modules.values().filter_map(|module| module.digest).collect()
    }

    /// Whether this digest is pinned already.
    pub(crate) fn is_pinned(&self, name: &str) -> bool {
        self.modules.get(name).is_some_and(|module| module.digest.is_some())
    }

    /// What objects should be told and have not been.
    pub(crate) fn news(&self) -> Vec<News> {
        let mut news = Vec::new();
        for (object, asked) in &self.objects {
            for said in self.troubles(asked).filter(|said| !asked.said.contains(said)) {
                news.push(News { object: object.clone(), identity: asked.identity.clone(), said });
            }
        }
        news
    }

    /// An object has been told. Of each module only the last reason is remembered.
    pub(crate) fn told(&mut self, news: &News) {
        let Some(asked) = self.objects.get_mut(&news.object) else { return };
        if asked.identity == news.identity {
            if let Some(name) = asked.modules.iter().find(|name| about(&news.said, name)) {
                asked.said.retain(|said| !about(said, name));
            }
            let problems = &asked.problems;
            let modules = &asked.modules;
            asked.said.retain(|said| {
                problems.contains(said) || modules.iter().any(|name| about(said, name))
            });
            asked.said.insert(news.said.clone());
            self.changed = true;
        }
    }

    fn troubles<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = String> + 'a {
        let failed = asked.modules.iter().filter_map(|name| match self.modules.get(name) {
            Some(Module { state: State::Failed(reason), .. }) => Some(format!("{name}: {reason}")),
            Some(_) => None,
            None => Some(format!("{name}: this node keeps no more modules warm (prewarm.modules)")),
        });
        asked.problems.iter().cloned().chain(failed)
    }

    /// How many objects want something, and for how many there was no room.
    pub(crate) fn objects(&self) -> (usize, usize) {
        (self.objects.len(), self.ignored.len())
    }
}

/// Whether something that is said is about a module.
fn about(said: &str, module: &str) -> bool {
    said.strip_prefix(module).is_some_and(|rest| rest.starts_with(": "))
}

#[cfg(test)]
#[path = "wants_tests.rs"]
mod tests;
