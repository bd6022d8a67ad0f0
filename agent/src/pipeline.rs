//! The way of a step's module, on one page: identify it, find it compiled, or fetch and compile it.
//!
//! Each part does one thing and none calls another; what follows what is decided here.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use warmstep_registry::{Digest, Kind, Reference, Registries, RegistryError};
use warmstep_wire::exit;

use crate::admission::Source;
use crate::cache::{Bounds, Cache, CacheError, Key, ModuleRecord, Tier};
use crate::compile::{CompileError, Compiler};
use crate::config::{Config, Tiers};
use crate::failures::Failures;
use crate::fair::Fair;
use crate::fetch::{self, FetchError, Wanted};
use crate::flight::{Flights, Lost, Watcher};
use crate::lend::{LendError, Lendable, Lender};
use crate::peer::Client;
use crate::uses::{Use, Uses};

/// How often a module may vanish between being found and being lent, before that is an error: it
/// is evicted, or replaced by a better form.
const ATTEMPTS: usize = 3;

/// A step's module cannot be lent.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// There is no such module.
    #[error("{0}")]
    NotFound(String),
    /// The module cannot run.
    #[error("{0}")]
    Refused(String),
    /// Warmstep, or something that it needs, failed.
    #[error("{0}")]
    Internal(String),
}

impl StepError {
    /// The exit code of the shim.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotFound(_) => exit::NOT_FOUND,
            Self::Refused(_) => exit::REFUSED,
            Self::Internal(_) => exit::INTERNAL,
        }
    }
}

impl From<RegistryError> for StepError {
    fn from(error: RegistryError) -> Self {
        // Without the reference, which the step's own message names.
        let fault = error.fault().to_string();
        match error.kind() {
            Kind::NotFound => Self::NotFound(fault),
            Kind::Refused => Self::Refused(fault),
            Kind::Temporary { .. } | Kind::Internal => Self::Internal(fault),
        }
    }
}

impl From<CacheError> for StepError {
    fn from(error: CacheError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<FetchError> for StepError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Registry(error) => error.into(),
            FetchError::File(reason) => Self::Refused(reason),
            FetchError::NotFound(reason) => Self::NotFound(reason),
            FetchError::Cache(error) => error.into(),
            FetchError::Failed(reason) => Self::Internal(reason),
        }
    }
}

impl From<Lost> for StepError {
    fn from(_: Lost) -> Self {
        Self::Internal("the agent failed over this module: see its log".to_owned())
    }
}

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
    config: Arc<Config>,
    cache: Arc<Cache>,
    registries: Arc<Registries>,
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
        config: Arc<Config>,
        cache: Arc<Cache>,
        registries: Registries,
        compiler: Arc<Compiler>,
        lender: Lender,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache,
            registries: Arc::new(registries),
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
            config,
        })
    }

    /// The cache.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
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
        if let Some(reason) = self.failures.recall(&wanted.wasm) {
            return Err(StepError::Refused(format!("{reason} (tried a short while ago)")));
        }
        let wasm = wanted.wasm;
        times.pull = self.fetch(client, wanted, watcher).await?;
        times.compile = self.compile(client, wasm, watcher).await?;
        let ready = self.find(&wasm, false).await?;
        let gone = || StepError::Internal("the module was removed while it was made".to_owned());
        Ok((ready.ok_or_else(gone)?, times))
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
                let most = self.config.limits.module_bytes.as_u64();
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
            && (reference.digest().is_some() || *age < self.config.tag_ttl.as_secs())
        {
            return Ok(Wanted::referenced(record.wasm, reference.clone()));
        }
        let this = Arc::clone(self);
        let asked = reference.clone();
        let resolved = self
            .resolving
            .join(reference.to_string(), watcher, |watcher| async move {
                watcher.tell(warmstep_wire::message::Phase::Resolve, 0, 0);
                Ok(fetch::resolve(&this.registries, &this.cache, &asked).await?)
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
                let most = this.config.limits.module_bytes.as_u64();
                fetch::fetch(&this.registries, &this.cache, wanted, most, &watcher).await?;
                Ok(microseconds(began.elapsed()))
            })
            .await?
    }

    /// Compiles a module, once however many steps want it, and says how long that took.
    async fn compile(
        self: &Arc<Self>,
        client: Client,
        wasm: Digest,
        watcher: &Watcher,
    ) -> Result<u64, StepError> {
        let this = Arc::clone(self);
        self.compiling
            .join(wasm, watcher, |watcher| async move {
                let slot = this.compiles.acquire(client).await;
                let tier = this.compile_for_a_step(wasm, &watcher).await?;
                drop(slot);
                if tier.0 == Tier::Baseline {
                    this.upgrade(wasm);
                }
                Ok(tier.1)
            })
            .await?
    }

    /// Compiles with as much effort as a step may wait for.
    async fn compile_for_a_step(
        &self,
        wasm: Digest,
        watcher: &Watcher,
    ) -> Result<(Tier, u64), StepError> {
        let tier = match self.config.tiers {
            Tiers::BaselineFirst => Tier::Baseline,
            Tiers::OptimizedOnly => Tier::Optimized,
        };
        match self.compile_tier(wasm, tier, false, watcher).await {
            Ok(took) => Ok((tier, took)),
            Err(Compiling::Compiler(error @ CompileError::Module(_))) => {
                self.failures.remember(wasm, &error.to_string());
                Err(StepError::Refused(error.to_string()))
            }
            Err(Compiling::Compiler(error)) => Err(StepError::Internal(error.to_string())),
            Err(Compiling::Step(error)) => Err(error),
        }
    }

    async fn compile_tier(
        &self,
        wasm: Digest,
        tier: Tier,
        background: bool,
        watcher: &Watcher,
    ) -> Result<u64, Compiling> {
        let began = Instant::now();
        let cache = Arc::clone(&self.cache);
        let opened =
            blocking(move || Ok((cache.files().open_wasm(&wasm)?, cache.files().begin_module()?)));
        let (Some(file), made) = opened.await? else {
            return Err(Compiling::Step(StepError::NotFound(format!(
                "{wasm} is not in the cache: name the module by its reference"
            ))));
        };
        self.compiler.compile(file, tier, made.path(), background, watcher).await?;
        let took = microseconds(began.elapsed());
        let cache = Arc::clone(&self.cache);
        blocking(move || cache.publish(made, &wasm, tier, took)).await?;
        tracing::info!(%wasm, tier = tier.name(), took_us = took, "compiled");
        let limits = &self.config.limits;
        let bounds = Bounds { bytes: limits.cache.as_u64(), modules: limits.cache_modules };
        if let Err(error) = self.evict(bounds).await {
            tracing::warn!(%error, "the cache stays over its bounds");
        }
        Ok(took)
    }

    /// Removes what is over the bounds, but nothing that is in use. Says what was removed.
    pub(crate) async fn evict(&self, bounds: Bounds) -> Result<Vec<Digest>, StepError> {
        let (cache, uses) = (Arc::clone(&self.cache), self.uses.clone());
        let removed = blocking(move || cache.evict(bounds, |wasm| uses.contains(wasm))).await?;
        for wasm in &removed {
            tracing::info!(%wasm, "evicted");
            self.release(wasm);
        }
        Ok(removed)
    }

    fn release(&self, wasm: &Digest) {
        for tier in [Tier::Baseline, Tier::Optimized] {
            self.lender.release(&self.cache.key(wasm, tier));
        }
    }

    /// Compiles a module again, with effort, when nothing else wants the processors.
    pub(crate) fn upgrade(self: &Arc<Self>, wasm: Digest) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _in_use = this.uses.begin(wasm);
            let Ok(_slot) = this.upgrades.acquire().await else { return };
            let (watcher, _) = Watcher::new();
            match this.compile_tier(wasm, Tier::Optimized, true, &watcher).await {
                Ok(_) => {
                    if let Err(error) = this.replace_baseline(&wasm) {
                        tracing::warn!(%wasm, %error, "the baseline form stays");
                    }
                }
                Err(error) => {
                    let error = error.into_step();
                    tracing::warn!(%wasm, %error, "the module stays at its baseline form");
                }
            }
        });
    }

    /// The optimized form is there. Unless the module was removed meanwhile, it is all of it.
    fn replace_baseline(&self, wasm: &Digest) -> Result<(), CacheError> {
        let baseline = self.cache.key(wasm, Tier::Baseline);
        if self.cache.contains(&baseline)? {
            self.lender.release(&baseline);
            self.cache.discard(&baseline)
        } else {
            self.remove(wasm).map(drop)
        }
    }

    /// Takes up again what an earlier agent did not come to: modules without an optimized form.
    pub(crate) fn resume_upgrades(self: &Arc<Self>) -> Result<(), CacheError> {
        for (key, record) in self.cache.modules()? {
            let ours = key == self.cache.key(&record.wasm, Tier::Baseline);
            if ours && self.config.tiers == Tiers::BaselineFirst {
                self.upgrade(record.wasm);
            }
        }
        Ok(())
    }

    /// Removes a module from the cache. Steps that run it keep what they have.
    pub(crate) fn remove(&self, wasm: &Digest) -> Result<Option<u64>, CacheError> {
        self.release(wasm);
        self.failures.forget(wasm);
        self.cache.remove(wasm)
    }

    /// Every compiled form in the cache.
    pub(crate) fn modules(&self) -> Result<Vec<(Key, ModuleRecord)>, CacheError> {
        self.cache.modules()
    }
}

/// Why one tier did not come to be.
enum Compiling {
    Compiler(CompileError),
    Step(StepError),
}

impl Compiling {
    fn into_step(self) -> StepError {
        match self {
            Self::Compiler(error) => StepError::Refused(error.to_string()),
            Self::Step(error) => error,
        }
    }
}

impl From<CompileError> for Compiling {
    fn from(error: CompileError) -> Self {
        Self::Compiler(error)
    }
}

impl From<StepError> for Compiling {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

/// Does what waits for a disk where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, StepError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(StepError::Internal(format!("the agent failed: {error}"))),
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
