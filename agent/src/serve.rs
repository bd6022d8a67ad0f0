//! Wiring: the parts are made, the sockets bound, and SIGTERM drains.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use warmstep_registry::Registries;

use crate::admin;
use crate::arguments::ServeArguments;
use crate::cache::Cache;
use crate::compile::Compiler;
use crate::config::Config;
use crate::layers::Layers;
use crate::lend::Lender;
use crate::listener::Listener;
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::prewarm::Prewarmer;
use crate::recent::Recent;
use crate::reload::{self, Origin};
use crate::room::Room;
use crate::session::Shared;
use crate::{steps, telemetry};

/// The steps' socket is for every user in every pod that is given its directory.
const STEPS_MODE: u32 = 0o666;

/// The operator's socket is for the agent's own user.
const ADMIN_MODE: u32 = 0o600;

/// How long a failed `accept` waits: with no descriptors left, trying again at once only burns.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves steps until SIGTERM or SIGINT.
pub(crate) async fn serve(arguments: ServeArguments) -> Result<()> {
    let own = std::env::current_exe().context("cannot find the agent's own binary")?;
    let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
    let origin = Origin { arguments, beside };
    let text = origin.read()?;
    let (exchange, live) = Live::new(origin.config(&text)?);
    let config = live.get();
    telemetry::start(config.log_format);
    raise_descriptor_limit();
    let shared = prepare(live).await?;
    let admin_listener = Listener::bind(&config.cache.join(admin::SOCKET), ADMIN_MODE).await?;
    let listener = Listener::bind(&config.socket, STEPS_MODE).await?;
    let connections = Arc::new(Semaphore::new(config.limits.connections));
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), socket = %config.socket.display(),
        cache = %config.cache.display(), "serving"
    );
    tokio::spawn(reload::run(origin, text, exchange, Arc::clone(&shared)));
    tokio::select! {
        () = accept_steps(&listener, &shared, &connections) => {}
        () = accept_admin(&admin_listener, &shared) => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    // From here on shims find no agent, and wait for the next one.
    drop(listener);
    drain(&shared).await;
    shared.pipeline.cache().flush()?;
    tracing::info!("ended");
    Ok(())
}

/// Takes all the descriptors that this process may have: every running step costs one, and many a
/// system starts its services with 1,024 for the sake of programs that still use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files stays as it was");
    }
}

async fn prepare(live: Live) -> Result<Arc<Shared>> {
    let config = live.get();
    let layers = Arc::new(Layers::default());
    let compiler = Compiler::new(&config.compiler, Arc::clone(&layers));
    let identity = compiler.identity().await?;
    let cache = Cache::open(&config.cache, identity)?;
    let lender = Lender::new(
        &config.runner,
        wasix_runner(&config),
        &config.cache,
        config.lend_from.as_deref(),
        config.limits.lend_memory.as_u64(),
    )?;
    let registries = Registries::new(config.registries.clone())?;
    let pipeline =
        Pipeline::new(live.clone(), Arc::new(cache), registries, Arc::new(compiler), lender);
    pipeline.resume_upgrades()?;
    Ok(Arc::new(Shared {
        waiting: Room::new(config.limits.waiting, config.limits.waiting_per_pod),
        recent: Recent::default(),
        layers,
        prewarmer: Prewarmer::start(&live, &pipeline),
        pipeline,
        live,
    }))
}

/// The runner for WASIX, if it is there: whether such modules may run is a policy, which can change.
fn wasix_runner(config: &Config) -> Option<&Path> {
    let runner = config.wasix_runner.as_path();
    if runner.exists() {
        return Some(runner);
    }
    tracing::warn!(runner = %runner.display(), "there is no runner for WASIX: such modules are refused");
    None
}

async fn accept_steps(listener: &Listener, shared: &Arc<Shared>, connections: &Arc<Semaphore>) {
    loop {
        // Taken before `accept`: beyond the limit, connections wait in the kernel's queue.
        let Ok(room) = Arc::clone(connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let shared = Arc::clone(shared);
                tokio::spawn(async move {
                    steps::serve(shared, stream).await;
                    drop(room);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a step's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_admin(listener: &Listener, shared: &Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok(stream) => drop(tokio::spawn(admin::serve(Arc::clone(shared), stream))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an administration connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits for the steps that wait for their modules. Those that run do not need the agent.
async fn drain(shared: &Shared) {
    tracing::info!(waiting = shared.waiting.taken(), "draining");
    let drained = tokio::time::timeout(shared.live.get().drain, shared.waiting.emptied()).await;
    if drained.is_err() {
        let waiting = shared.waiting.taken();
        tracing::warn!(waiting, "the drain is over: what still waits asks the next agent");
    }
}
