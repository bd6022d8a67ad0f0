//! The compiled forms of modules: how they are made, replaced by better ones, and given up.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use warmstep_registry::Digest;

use super::{Pipeline, StepError, blocking, microseconds};
use crate::cache::{Bounds, CacheError, Key, ModuleRecord, Tier};
use crate::compile::CompileError;
use crate::config::Tiers;
use crate::flight::Watcher;
use crate::host::Host;
use crate::peer::Client;

/// How long the step that has waited for a baseline form runs before a better one is made: low as
/// its priority is, a compiler on every processor slows its neighbours down.
const HEAD_START: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Compiles a module, once however many steps want it, and says how long that took.
    pub(super) async fn compile(
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
        let tier = match self.live.get().tiers {
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

    /// Compiles a module that no step waits for: once, with effort. A step that comes meanwhile does
    /// not wait for it, but for a baseline form of its own.
    pub(super) async fn compile_in_background(&self, wasm: Digest) -> Result<(), StepError> {
        let Ok(_slot) = self.upgrades.acquire().await else { return Ok(()) };
        if !self.has_optimized(&wasm)? {
            let (watcher, _) = Watcher::new();
            let compiled = self.compile_tier(wasm, Tier::Optimized, true, &watcher).await;
            // Not remembered against steps: at this priority a good module may run out of time.
            compiled.map_err(Compiling::into_step)?;
        }
        self.give_up_baseline(&wasm)?;
        Ok(())
    }

    fn has_optimized(&self, wasm: &Digest) -> Result<bool, CacheError> {
        self.cache.contains(&self.cache.key(wasm, Tier::Optimized))
    }

    /// Removes the baseline form where the optimized one is there. Says whether there was one.
    fn give_up_baseline(&self, wasm: &Digest) -> Result<bool, CacheError> {
        let baseline = self.cache.key(wasm, Tier::Baseline);
        let there = self.cache.contains(&baseline)?;
        if there {
            self.lender.release(&baseline);
            self.cache.discard(&baseline)?;
        }
        Ok(there)
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
        let opened = blocking(move || {
            let files = cache.files();
            Ok::<_, CacheError>((files.open_unchecked_wasm(&wasm)?, files.begin_module()?))
        });
        let not_found = || {
            Compiling::Step(StepError::NotFound(format!(
                "{wasm} is not in the cache: name the module by its reference"
            )))
        };
        let (Some(file), made) = opened.await? else { return Err(not_found()) };
        let again = file.try_clone().map_err(|error| StepError::Internal(error.to_string()))?;
        let cache = Arc::clone(&self.cache);
        let config = self.live.get();
        // The compiler takes whatever comes: it need not wait until that is known to be the module.
        let (is_wasm, host) = tokio::join!(
            blocking(move || cache.files().is_wasm(&wasm, &again).map_err(CacheError::from)),
            self.compiler.compile(file, tier, made.path(), background, &config.limits, watcher),
        );
        if !is_wasm? {
            return Err(not_found());
        }
        let host = host?;
        let took = microseconds(began.elapsed());
        self.publish(made, wasm, (tier, host), took).await?;
        tracing::info!(%wasm, tier = tier.name(), ?host, took_us = took, "compiled");
        let limits = &self.live.get().limits;
        let bounds = Bounds { bytes: limits.cache.as_u64(), modules: limits.cache_modules };
        if let Err(error) = self.evict(bounds).await {
            tracing::warn!(%error, "the cache stays over its bounds");
        }
        Ok(took)
    }

    /// Publishes what the compiler has made, and lends it from now on.
    async fn publish(
        &self,
        made: TempDir,
        wasm: Digest,
        form: (Tier, Host),
        took: u64,
    ) -> Result<(), StepError> {
        let (cache, lender) = (Arc::clone(&self.cache), Arc::clone(&self.lender));
        blocking(move || {
            // The disk has its work while the processor has its own.
            let (synced, taken) = std::thread::scope(|scope| {
                let synced = scope.spawn(|| cache.files().sync(made.path()));
                let taken = lender.take(made.path());
                (synced.join().unwrap_or_else(|panic| resume_unwind(panic)), taken)
            });
            synced.map_err(CacheError::from)?;
            let (files, taken) = taken?;
            let key = cache.publish(made, &wasm, form, took, files)?;
            lender.keep(&key, form.1, taken);
            Ok::<_, StepError>(())
        })
        .await
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
            tokio::time::sleep(HEAD_START).await;
            let Ok(_slot) = this.upgrades.acquire().await else { return };
            // It may have been made warm meanwhile.
            if this.has_optimized(&wasm).is_ok_and(|there| there) {
                if let Err(error) = this.give_up_baseline(&wasm) {
                    tracing::warn!(%wasm, %error, "the baseline form stays");
                }
                return;
            }
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
        if self.give_up_baseline(wasm)? { Ok(()) } else { self.remove(wasm).map(drop) }
    }

    /// Takes up again what an earlier agent did not come to: modules without an optimized form.
    pub(crate) fn resume_upgrades(self: &Arc<Self>) -> Result<(), CacheError> {
        for (key, record) in self.cache.modules()? {
            let ours = key == self.cache.key(&record.wasm, Tier::Baseline);
            if ours && self.live.get().tiers == Tiers::BaselineFirst {
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
