//! Prewarming: what is wanted warm is pulled, compiled in the background and pinned before a step asks.
//!
//! ```text
//! watch (kube) ─┐                       ┌─▶ warm    attempts, one after another, with pauses
//! local (files) ┴─▶ wants (pure) ───────┼─▶ pins    what evict must not take
//!                                       ├─▶ memory  prewarm.json, for the next start
//!                                       └─▶ events  what failed, once
//! ```
//!
//! Nothing here is on a step's way. The API server may be away at any time: what was wanted then
//! stays wanted, pinned and warm, over restarts too, until the API server says otherwise.

mod annotation;
mod auto;
mod events;
mod local;
mod memory;
mod object;
mod outage;
mod report;
mod wants;
mod warm;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use warmstep_registry::Digest;

use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::uses::Use;
use object::{Kind, Object};
use report::Report;
use wants::{Asked, Bounds, Wants};

/// What is wanted, and everything that acts on it.
pub(crate) struct Prewarmer {
    live: Live,
    pipeline: Arc<Pipeline>,
    wants: Mutex<Wants>,
    pins: Mutex<HashMap<Digest, Use>>,
    /// Whether the API server is watched, and how that goes.
    watching: Mutex<String>,
    /// Something is to be done about a module.
    work: Notify,
    /// Something may have to be said to the API server.
    news: Notify,
}

/// How prewarming is doing, for `status`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// How watching the API server goes: `off`, `watching`, or why not.
    pub(crate) kubernetes: String,
    /// How many objects and files want something.
    pub(crate) objects: usize,
    /// How many more there was no room for.
    pub(crate) ignored: usize,
    /// What is wanted.
    pub(crate) modules: Vec<Report>,
    /// What is asked for and cannot be.
    pub(crate) problems: Vec<Problem>,
}

/// Something that an object asks for and that cannot be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// The object.
    pub(crate) object: String,
    /// Why.
    pub(crate) reason: String,
}

impl Prewarmer {
    /// Goes on from the last start, and begins to watch.
    pub(crate) fn start(live: &Live, pipeline: &Arc<Pipeline>) -> Arc<Self> {
        let config = live.get();
        let kubernetes = watch::is_wanted(&config);
        let mut memory = memory::load(pipeline.cache().files());
        memory.objects.retain(|(object, _)| match object.kind {
            Kind::File => config.modules_dir.is_some(),
            _ => kubernetes,
        });
        let jitter = config.prewarm.jitter;
        let wants = Wants::restore(memory, || Instant::now() + jitter.mul_f64(dice()));
        let this = Arc::new(Self {
            live: live.clone(),
            pipeline: Arc::clone(pipeline),
            wants: Mutex::new(wants),
            pins: Mutex::default(),
            watching: Mutex::new("off".to_owned()),
            work: Notify::new(),
            news: Notify::new(),
        });
        this.pin();
        tokio::spawn(warm::run(Arc::clone(&this)));
        tokio::spawn(local::run(Arc::clone(&this)));
        if kubernetes {
            tokio::spawn(watch::run(Arc::clone(&this)));
        }
        this
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watching(&self, how: impl Into<String>) {
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = how.into();
    }

    /// An object asks for this now.
    fn ask(&self, object: Object, asked: Asked) {
        let prewarm = self.live.get().prewarm.clone();
        let bounds = Bounds { objects: prewarm.objects, modules: prewarm.modules };
        let when = || Instant::now() + prewarm.jitter.mul_f64(dice());
        let mut wants = self.wants();
        let ignored = wants.objects().1;
        let has_room = wants.ask(object.clone(), asked, bounds, when);
        drop(wants);
        if !has_room && ignored == 0 {
            tracing::warn!(%object, most = prewarm.objects,
                "more objects want modules than are heeded (prewarm.objects)");
        }
        self.act();
    }

    /// An object is gone.
    fn forget(&self, object: &Object) {
        self.wants().forget(object);
        self.act();
    }

    /// These are all the objects of a kind.
    fn only(&self, kind: Kind, there: &BTreeSet<Object>) {
        self.wants().only(kind, there);
        self.act();
    }

    /// What follows from a change of what is wanted.
    fn act(&self) {
        self.pin();
        self.work.notify_one();
    }

    /// Makes the pins what they should be: evict takes nothing that is in use.
    fn pin(&self) {
        let wanted = self.wants().pinned();
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.retain(|wasm, _| wanted.contains(wasm));
        for wasm in wanted {
            pins.entry(wasm).or_insert_with(|| self.pipeline.uses().begin(wasm));
        }
    }

    /// How it is going.
    pub(crate) fn status(&self) -> Status {
        let cache = self.pipeline.cache();
        let is_there = |wasm: &Digest| cache.find(wasm).is_ok_and(|found| found.is_some());
        let wants = self.wants();
        let (objects, ignored) = wants.objects();
        let problems = wants.problems().into_iter();
        Status {
            kubernetes: self.watching.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            objects,
            ignored,
            modules: wants.report(is_there),
            problems: problems.map(|(object, reason)| Problem { object, reason }).collect(),
        }
    }
}

/// A number from 0 to 1, so that the nodes of a cluster do not all do the same at once.
fn dice() -> f64 {
    let mut bytes = [0; 4];
    // Without the kernel's random numbers nothing is spread; nothing else is lost.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// A pause that doubles from `first` to `most`, and is spread a little.
fn pause(failures: u32, first: Duration, most: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(most).mul_f64(0.75 + dice() / 2.0)
}
