//! Makes wanted modules warm: so many at once, each when its time comes, and again after a failure.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use tokio::task::JoinSet;
use warmstep_registry::Digest;

use super::object::{Kind, Object};
use super::wants::News;
use super::{Prewarmer, dice, memory};
use crate::admission::{self, Source};
use crate::pipeline::RECALLED;
use crate::uses::Use;

/// How long there is nothing to do at most, before it is looked again.
const IDLE: Duration = Duration::from_secs(3600);

/// How long after a failed write of the memory it is tried again.
const REWRITE: Duration = Duration::from_secs(30);

type Attempt = (String, Result<(Digest, Use), String>);

/// Works until the agent ends.
pub(super) async fn run(this: Arc<Prewarmer>) {
    let mut attempts: JoinSet<Attempt> = JoinSet::new();
    let mut logged = BTreeSet::new();
    loop {
        say(&this, &mut logged);
        let written = remember(&this).await;
        while attempts.len() < this.live.get().prewarm.parallel {
            let Some(module) = this.wants().begin(Instant::now()) else { break };
            let this = Arc::clone(&this);
            attempts.spawn(async move {
                let result = attempt(&this, &module).await;
                (module, result)
            });
        }
        let next = this.wants().next().unwrap_or_else(|| Instant::now() + IDLE);
        let next = if written { next } else { next.min(Instant::now() + REWRITE) };
        let full = attempts.len() >= this.live.get().prewarm.parallel;
        tokio::select! {
            Some(ended) = attempts.join_next(), if !attempts.is_empty() => match ended {
                Ok((module, result)) => end(&this, &module, result),
                Err(error) => tracing::error!(%error, "an attempt to prewarm failed"),
            },
            () = this.work.notified() => {}
            () = tokio::time::sleep_until(next.into()), if !full => {}
        }
    }
}

/// Logs what has failed since, each reason once. The API server is told elsewhere, when it is there.
fn say(this: &Prewarmer, logged: &mut BTreeSet<(Object, String)>) {
    let news = this.wants().news();
    let key = |one: &News| (one.object.clone(), one.said.clone());
    let keys: BTreeSet<_> = news.iter().map(key).collect();
    logged.retain(|key| keys.contains(key));
    for one in &news {
        if logged.insert(key(one)) {
            tracing::warn!(object = %one.object, reason = one.said, "not everything is prewarmed");
        }
        if one.object.kind == Kind::File {
            this.wants().told(one);
        }
    }
    // Not without news: whoever tells them wakes us.
    if !this.wants().news().is_empty() {
        this.news.notify_one();
    }
}

/// Writes down what is wanted, if that has changed.
async fn remember(this: &Arc<Prewarmer>) -> bool {
    let Some(memory) = this.wants().memory() else { return true };
    let cache = Arc::clone(this.pipeline.shared_cache());
    let saved = tokio::task::spawn_blocking(move || memory::save(cache.files(), memory)).await;
    match saved
        .map_err(|error| error.to_string())
        .and_then(|saved| saved.map_err(|e| e.to_string()))
    {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(error, "what is prewarmed cannot be written down; it is tried again");
            this.wants().memory_lost();
            false
        }
    }
}

fn end(this: &Prewarmer, module: &str, result: Result<(Digest, Use), String>) {
    let prewarm = this.live.get();
    let recheck = prewarm.prewarm.recheck.max(prewarm.tag_ttl + Duration::from_secs(1));
    // Held until the module is pinned, so that it is not evicted in between.
    let (result, _in_use) = match result {
        Ok((digest, in_use)) => (Ok(digest), Some(in_use)),
        Err(reason) => (Err(reason), None),
    };
    this.wants().end(module, result, Instant::now(), recheck, dice());
    this.act();
}

async fn attempt(this: &Prewarmer, module: &str) -> Result<(Digest, Use), String> {
    has_room(this, module)?;
    let (source, file) = if module.starts_with('/') {
        (Source::File, Some(open(Path::new(module))?))
    } else {
        let policy = this.live.get().policy.clone();
        (admission::source(module, 0, &policy).map_err(|denied| denied.to_string())?, None)
    };
    let warmed = this.pipeline.warm(source, file).await;
    warmed.map_err(|error| {
        let reason = error.to_string();
        // The same failure, told a second time, is no news.
        reason.strip_suffix(RECALLED).unwrap_or(&reason).to_owned()
    })
}

/// Whether another module may be pinned: what is pinned is never evicted, and the disk has an end.
fn has_room(this: &Prewarmer, module: &str) -> Result<(), String> {
    if this.wants().is_pinned(module) {
        return Ok(());
    }
    let room = this.live.get().prewarm_room();
    let pinned = this.wants().pinned();
    let taken: u64 = pinned.iter().map(|wasm| this.pipeline.cache().bytes_of(wasm)).sum();
    if taken < room {
        return Ok(());
    }
    Err(format!(
        "the room for prewarmed modules on this node, {}, is used up (prewarm.room)",
        bytesize::ByteSize::b(room)
    ))
}

/// Opens a file of `modules_dir`. A link is followed: a ConfigMap's files are links. Nothing waits
/// for a pipe's other end; what is no regular file is refused later.
fn open(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| format!("the file cannot be opened: {error}"))
}
