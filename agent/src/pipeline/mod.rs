//! The way of a step's module, on one page: identify it, find it compiled, or fetch and compile it.
//!
//! Each part does one thing and none calls another; what follows what is decided here.

mod error;
mod forms;

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use warmstep_registry::{Digest, Reference, Registries};

use crate::admission::Source;
use crate::cache::{Bounds, Cache, Key, Tier};
use crate::compile::Compiler;
use crate::config::Limits;
use crate::failures::Failures;
use crate::fair::Fair;
use crate::fetch::{self, Wanted};
use crate::flight::{Flights, Watcher};
use crate::lend::{LendError, Lendable, Lender};
use crate::live::Live;
use crate::peer::Client;
use crate::uses::{Use, Uses};
pub(crate) use error::StepError;

/// What is added to a failure that is remembered instead of tried again.
pub(crate) const RECALLED: &str = " (tried a short while ago)";

/// How often a module may vanish between being found and being lent, before that is an error: it
/// is evicted, or replaced by a better form.
const ATTEMPTS: usize = 3;

/// How long the parts took, in microseconds; 0 where there was nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// Asking the registry what the reference means.
    pub(crate) resolve: u64,
    /// Getting the Wasm.
    pub(crate) pull: u64,
    /// Compiling it.
    pub(crate) compile: u64,
}

/// A module that is ready to be lent.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The SHA-256 of its Wasm.
    pub(crate) wasm: Digest,
    /// How it was compiled.
    pub(crate) tier: Tier,
    /// Whether it was there already.
    pub(crate) hit: bool,
    /// Its descriptors.
    pub(crate) lendable: Lendable,
    /// Keeps the module from being evicted while a step runs it.
    _in_use: Use,
}

type Shared<T> = Result<T, StepError>;

/// The parts, and the work that is under way.
pub(crate) struct Pipeline {
    live: Live,
    cache: Arc<Cache>,
    registries: RwLock<Arc<Registries>>,
    compiler: Arc<Compiler>,
    lender: Arc<Lender>,
    failures: Failures,
    uses: Uses,
    resolving: Flights<String, Shared<Wanted>>,
    fetching: Flights<String, Shared<u64>>,
    compiling: Flights<Digest, Shared<u64>>,
    holding: Flights<Key, Result<Lendable, Arc<LendError>>>,
    pulls: Fair,
    compiles: Fair,
    upgrades: Semaphore,
}

impl Pipeline {
    /// Puts the parts together.
    pub(crate) fn new(
        live: Live,
        cache: Arc<Cache>,
        registries: Registries,
        compiler: Arc<Compiler>,
        lender: Lender,
    ) -> Arc<Self> {
        let config = live.get();
        Arc::new(Self {
            cache,
            registries: RwLock::new(Arc::new(registries)),
            compiler,
            lender: Arc::new(lender),
            failures: Failures::default(),
            uses: Uses::default(),
            resolving: Flights::new(),
            fetching: Flights::new(),
            compiling: Flights::new(),
            holding: Flights::new(),
            pulls: Fair::new(config.limits.pulls),
            compiles: Fair::new(config.limits.compiles),
            upgrades: Semaphore::new(1),
            live,
        })
    }

    /// The cache.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The cache, for work that outlives its caller.
    pub(crate) fn shared_cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// What is in use.
    pub(crate) fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Goes on with other limits, and with other registries where they have changed. What is under
    /// way ends as it began.
    pub(crate) fn take_over(self: &Arc<Self>, limits: &Limits, registries: Option<Registries>) {
        if let Some(registries) = registries {
            *self.registries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registries);
        }
        self.pulls.resize(limits.pulls);
        self.compiles.resize(limits.compiles);
        let this = Arc::clone(self);
        let bounds = Bounds { bytes: limits.cache.as_u64(), modules: limits.cache_modules };
        tokio::spawn(async move {
            if let Err(error) = this.evict(bounds).await {
                tracing::warn!(%error, "the cache stays over its bounds");
            }
        });
    }

    fn registries(&self) -> Arc<Registries> {
        Arc::clone(&self.registries.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is lent.
    pub(crate) fn lender(&self) -> &Lender {
        &self.lender
    }

    /// Makes a module ready: the page that sequences everything.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        client: Client,
        source: Source,
        file: Option<OwnedFd>,
        watcher: &Watcher,
    ) -> Result<(Ready, Times), StepError> {
        let mut times = Times::default();
        let began = Instant::now();
        let wanted = self.identify(&source, file, watcher).await?;
        times.resolve = microseconds(began.elapsed());
        let _in_use = self.uses.begin(wanted.wasm);
        if let Some(ready) = self.find(&wanted.wasm, true).await? {
            return Ok((ready, times));
        }
        self.recall(&wanted.wasm)?;
        let wasm = wanted.wasm;
        times.pull = self.fetch(client, wanted, watcher).await?;
        times.compile = self.compile(client, wasm, watcher).await?;
        let ready = self.find(&wasm, false).await?;
        let gone = || StepError::Internal("the module was removed while it was made".to_owned());
        Ok((ready.ok_or_else(gone)?, times))
    }

    /// Makes a module warm before a step asks: in the cache and compiled, with as much effort as
    /// there is, when nothing else wants the processors. It is in use until the caller lets go.
    pub(crate) async fn warm(
        self: &Arc<Self>,
        source: Source,
        file: Option<OwnedFd>,
    ) -> Result<(Digest, Use), StepError> {
        let (watcher, _) = Watcher::new();
        let wanted = self.identify(&source, file, &watcher).await?;
        let wasm = wanted.wasm;
        let in_use = self.uses.begin(wasm);
        if self.cache.find(&wasm)?.is_none() {
            self.recall(&wasm)?;
            self.fetch(Client::PREWARMER, wanted, &watcher).await?;
            self.compile_in_background(wasm).await?;
        }
        Ok((wasm, in_use))
    }

    /// Refuses what could not be compiled a short while ago.
    fn recall(&self, wasm: &Digest) -> Result<(), StepError> {
        match self.failures.recall(wasm) {
            Some(reason) => Err(StepError::Refused(reason + RECALLED)),
            None => Ok(()),
        }
    }

    /// Finds out which Wasm is meant.
    async fn identify(
        self: &Arc<Self>,
        source: &Source,
        file: Option<OwnedFd>,
        watcher: &Watcher,
    ) -> Result<Wanted, StepError> {
        match (source, file) {
            (Source::Reference(reference), _) => self.resolve(reference, watcher).await,
            (Source::Digest(digest), _) => Ok(Wanted::cached(*digest)),
            (Source::File, Some(file)) => {
                let most = self.live.get().limits.module_bytes.as_u64();
                Ok(fetch::identify_file(file, most).await?)
            }
            (Source::File, None) => {
                Err(StepError::Internal("no descriptor came with the step".to_owned()))
            }
        }
    }

    /// Asks the registry what a reference means, unless that is known well enough.
    async fn resolve(
        self: &Arc<Self>,
        reference: &Reference,
        watcher: &Watcher,
    ) -> Result<Wanted, StepError> {
        let known = self.cache.reference(&reference.to_string())?;
        if let Some((record, age)) = &known
            && (reference.digest().is_some() || *age < self.live.get().tag_ttl.as_secs())
        {
            return Ok(Wanted::referenced(record.wasm, reference.clone()));
        }
        let this = Arc::clone(self);
        let asked = reference.clone();
        let resolved = self
            .resolving
            .join(reference.to_string(), watcher, |watcher| async move {
                watcher.tell(warmstep_wire::message::Phase::Resolve, 0, 0);
                Ok(fetch::resolve(&this.registries(), &this.cache, &asked).await?)
            })
            .await?;
        match (resolved, known) {
            (Err(StepError::Internal(reason)), Some((record, _))) => {
                tracing::warn!(%reference, reason, "the registry is away: the tag stays what it was");
                Ok(Wanted::referenced(record.wasm, reference.clone()))
            }
            (resolved, _) => resolved,
        }
    }

    /// The best compiled form of a module, checked and ready to be lent.
    async fn find(self: &Arc<Self>, wasm: &Digest, hit: bool) -> Result<Option<Ready>, StepError> {
        for _ in 0..ATTEMPTS {
            let Some((key, record)) = self.cache.find(wasm)? else { return Ok(None) };
            match self.hold(key).await? {
                Ok(lendable) => {
                    self.cache.touch(&key, &record)?;
                    let _in_use = self.uses.begin(*wasm);
                    let tier = record.tier;
                    return Ok(Some(Ready { wasm: *wasm, tier, hit, lendable, _in_use }));
                }
                Err(reason) => {
                    tracing::warn!(%wasm, %reason, "a compiled module is not used: it is made again");
                    self.cache.discard(&key)?;
                }
            }
        }
        Ok(None)
    }

    async fn hold(
        self: &Arc<Self>,
        key: Key,
    ) -> Result<Result<Lendable, Arc<LendError>>, StepError> {
        if let Some(lendable) = self.lender.held(&key) {
            return Ok(Ok(lendable));
        }
        let (cache, lender) = (Arc::clone(&self.cache), Arc::clone(&self.lender));
        let (watcher, _) = Watcher::new();
        let work = |_| async move {
            let checked = tokio::task::spawn_blocking(move || {
                let manifest = cache
                    .manifest(&key)
                    .map_err(|reason| LendError::Changed(format!("manifest ({reason})")))?;
                lender.hold(&key, &manifest)
            });
            match checked.await {
                Ok(result) => result.map_err(Arc::new),
                Err(error) => Err(Arc::new(LendError::Changed(error.to_string()))),
            }
        };
        Ok(self.holding.join(key, &watcher, work).await?)
    }

    /// Gets the Wasm, once however many steps want it, and says how long that took.
    async fn fetch(
        self: &Arc<Self>,
        client: Client,
        wanted: Wanted,
        watcher: &Watcher,
    ) -> Result<u64, StepError> {
        let this = Arc::clone(self);
        // By its origin too: nobody waits for somebody else's registry.
        self.fetching
            .join(wanted.flight(), watcher, |watcher| async move {
                let _slot = this.pulls.acquire(client).await;
                let began = Instant::now();
                let most = this.live.get().limits.module_bytes.as_u64();
                fetch::fetch(&this.registries(), &this.cache, wanted, most, &watcher).await?;
                Ok(microseconds(began.elapsed()))
            })
            .await?
    }
}

/// Does what waits for a disk where waiting is allowed.
async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, StepError>
where
    T: Send + 'static,
    E: Send + 'static,
    StepError: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(StepError::Internal(format!("the agent failed: {error}"))),
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
