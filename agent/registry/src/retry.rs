//! Tries the places of a reference in turn, and again where a failure may pass.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::Registries;
use crate::error::{Fault, Kind, RegistryError};
use crate::reference::Reference;
use crate::source::Source;

/// The pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause of our own choice.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The longest that a registry's `Retry-After` is waited for here. Beyond it the one who asked is
/// told, and decides.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a limit of more years than a clock can count comes to.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is done at one place, and done again at the next if it fails.
///
/// A trait and no closure, because only so can the future be promised to move between threads.
pub(crate) trait Operation: Send {
    type Output: Send;

    fn run(&mut self, source: &Source) -> impl Future<Output = Result<Self::Output, Fault>> + Send;
}

/// The deadline of one operation.
#[derive(Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) what: &'static str,
    pub(crate) limit: &'static str,
    pub(crate) time: Duration,
}

impl Allowed {
    const fn over(self) -> Fault {
        Fault::Deadline { what: self.what, limit: self.limit, after: self.time }
    }
}

impl Registries {
    /// Runs `operation` on one place after the other until one succeeds.
    pub(crate) async fn try_sources<O: Operation>(
        &self,
        reference: &Reference,
        allowed: Allowed,
        mut operation: O,
    ) -> Result<O::Output, RegistryError> {
        let now = Instant::now();
        let deadline = now.checked_add(allowed.time).unwrap_or(now + FOR_EVER);
        let mut mirrors_failed = 0;
        let mut result = Err(allowed.over());
        for source in self.sources(reference) {
            if !source.is_mirror() {
                result = self.persist(&source, deadline, allowed, &mut operation).await;
                break;
            }
            // A slow mirror must leave time for what comes after it.
            let share = deadline.saturating_duration_since(Instant::now()) / 2;
            let attempt = timeout_at(Instant::now() + share, operation.run(&source)).await;
            match attempt.unwrap_or_else(|_| Err(allowed.over())) {
                // Another place would find the same file as full.
                Err(fault) if !matches!(fault, Fault::Sink(_)) => {
                    mirrors_failed += 1;
                    tracing::warn!(%reference, mirror = %source.host, reason = %fault, "mirror passed over");
                }
                done => {
                    result = done;
                    break;
                }
            }
        }
        result.map_err(|fault| RegistryError {
            reference: reference.to_string(),
            fault,
            mirrors_failed,
        })
    }

    /// Runs `operation` on the registry itself, again after failures that may pass.
    async fn persist<O: Operation>(
        &self,
        source: &Source,
        deadline: Instant,
        allowed: Allowed,
        operation: &mut O,
    ) -> Result<O::Output, Fault> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let fault = match timeout_at(deadline, operation.run(source)).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(fault)) => fault,
                Err(_) => return Err(allowed.over()),
            };
            let Kind::Temporary { retry_after } = fault.kind() else { return Err(fault) };
            let wait = retry_after.unwrap_or_else(|| jittered(pause));
            if attempt >= self.config.limits.attempts
                || wait > LONGEST_WAIT
                || Instant::now() + wait >= deadline
            {
                return Err(fault);
            }
            tracing::debug!(registry = %source.host, reason = %fault, ?wait, "will try again");
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(allowed.over())
    }
}

/// Between once and twice `pause`, so that the nodes of a cluster do not come back as one.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1024;
    pause + pause * u32::try_from(random).unwrap_or_default() / 1024
}
