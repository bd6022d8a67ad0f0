//! One step's connection: its frame in, progress and the lent descriptors out, its outcome in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minicbor::{Decode, Encode};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use warmstep_wire::exit;
use warmstep_wire::frame::{self, FrameError, Kind, Parser};
use warmstep_wire::message::{Outcome, Reply, Step};
use warmstep_wire::plan::Plan;

use crate::admission::{self, Source};
use crate::config::Policy;
use crate::flight::{Progress, Watcher};
use crate::layers::{Layers, Process};
use crate::lend;
use crate::live::Live;
use crate::peer::Client;
use crate::pipeline::{Pipeline, Ready, StepError, Times};
use crate::prewarm::Prewarmer;
use crate::recent::{Recent, StepRecord};
use crate::room::Room;

/// How long a shim may take to send its step, and to read a frame of ours.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// How often a waiting shim is told how far its module is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How often a shim is told something although nothing has changed: one that hears nothing for long
/// takes its agent for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// When a step comes back that there was no room for.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What every session shares.
pub(crate) struct Shared {
    /// The configuration in force.
    pub(crate) live: Live,
    /// The way of a step's module.
    pub(crate) pipeline: Arc<Pipeline>,
    /// The last steps.
    pub(crate) recent: Recent,
    /// Layers of the jails that do not hold here.
    pub(crate) layers: Arc<Layers>,
    /// Room for steps that wait for their module. Empty again when a drain is over.
    pub(crate) waiting: Room,
    /// What is made warm before a step asks.
    pub(crate) prewarmer: Arc<Prewarmer>,
}

/// Serves one step, from its frame to its outcome.
pub(crate) async fn serve(shared: Arc<Shared>, stream: UnixStream) {
    let began = Instant::now();
    let (step, descriptors) = match receive(&stream).await {
        Ok(received) => received,
        Err(error) => {
            tracing::debug!(%error, "a connection brought no step");
            return;
        }
    };
    let client = Client::of(&stream);
    let Some(room) = shared.waiting.enter(client) else {
        shared.recent.busy();
        let retry_after = u64::try_from(RETRY_AFTER.as_millis()).unwrap_or_default();
        let _ = send(&stream, &Reply::Busy { retry_after }, &[]).await;
        return;
    };
    let mut record = StepRecord { module: step.module.clone(), ..StepRecord::default() };
    let lent = lend(&shared, &stream, client, step, descriptors, &mut record).await;
    drop(room);
    record.lend_us = microseconds(began);
    match lent {
        Ok(Some(_in_use)) => {
            shared.recent.lent(record.cache == "hit");
            follow(&shared, &stream, &mut record).await;
            record.total_us = microseconds(began);
            shared.recent.ended(record);
        }
        Ok(None) => shared.recent.refused(record),
        Err(error) => {
            tracing::debug!(%error, module = %record.module, "a step left before it was served");
        }
    }
}

/// Answers a step: lends it its module, or says why not. What was lent is in use until the end.
async fn lend(
    shared: &Arc<Shared>,
    stream: &UnixStream,
    client: Client,
    step: Step,
    descriptors: Vec<OwnedFd>,
    record: &mut StepRecord,
) -> Result<Option<Ready>, FrameError> {
    let config = shared.live.get();
    let admitted = match admission::admit(step, descriptors.len(), &config.policy, &config.limits) {
        Ok(admitted) => admitted,
        Err(denied) => {
            return refuse(stream, record, denied.code(), denied.to_string()).await;
        }
    };
    let file = descriptors.into_iter().next();
    let mut plan = admitted.plan;
    let prepared = wait(shared, stream, client, admitted.source, file).await?;
    let (ready, times) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let reason = format!("module {}: {error}", plan.module);
            return refuse(stream, record, error.code(), reason).await;
        }
    };
    note(record, &ready, times);
    let runner = match runner(shared, &ready, &plan, &config.policy) {
        Ok(runner) => runner,
        Err(reason) => {
            let reason = format!("module {}: {reason}", plan.module);
            return refuse(stream, record, exit::REFUSED, reason).await;
        }
    };
    plan.digest = ready.wasm.to_string();
    hand_over(stream, runner, &plan, &ready).await?;
    Ok(Some(ready))
}

/// Prepares the module, and tells the shim how far that is. Ends when the shim leaves.
async fn wait(
    shared: &Arc<Shared>,
    stream: &UnixStream,
    client: Client,
    source: Source,
    file: Option<OwnedFd>,
) -> Result<Result<(Ready, Times), StepError>, FrameError> {
    let (watcher, mut told) = Watcher::new();
    let work = shared.pipeline.prepare(client, source, file, &watcher);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return Ok(result),
            error = gone(stream) => return Err(error),
            progress = next_progress(&mut told) => {
                let Progress { phase, done, total } = progress;
                send(stream, &Reply::Progress { phase, done, total }, &[]).await?;
                // Not more often than a person can read; the work itself goes on meanwhile.
                let pause = tokio::time::sleep(PROGRESS_INTERVAL);
                tokio::pin!(pause);
                tokio::select! {
                    biased;
                    result = &mut work => return Ok(result),
                    error = gone(stream) => return Err(error),
                    () = &mut pause => {}
                }
            }
        }
    }
}

async fn next_progress(told: &mut watch::Receiver<Option<Progress>>) -> Progress {
    loop {
        if let Ok(Err(_)) = tokio::time::timeout(KEEP_ALIVE, told.changed()).await {
            // The work holds the sender: it is about to end.
            std::future::pending::<()>().await;
        }
        if let Some(progress) = *told.borrow_and_update() {
            return progress;
        }
    }
}

/// Waits until the shim leaves, or says what it has no reason to say while it waits.
async fn gone(stream: &UnixStream) -> FrameError {
    let mut byte = [0];
    match stream.readable().await {
        // Nothing is expected: any byte is as good a reason as the end.
        Ok(()) => match stream.try_read(&mut byte) {
            Ok(0) => FrameError::Closed,
            Ok(_) => FrameError::Kind(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::future::pending().await,
            Err(error) => error.into(),
        },
        Err(error) => error.into(),
    }
}

/// The runner for a module, unless it is not allowed what it needs.
fn runner<'s>(
    shared: &'s Shared,
    ready: &Ready,
    plan: &Plan,
    policy: &Policy,
) -> Result<&'s OwnedFd, String> {
    let host = ready.lendable.host;
    admission::runs_on(host, plan, policy).map_err(|denied| denied.to_string())?;
    let missing = || "it needs a runner that this node does not have".to_owned();
    shared.pipeline.lender().runner(host).ok_or_else(missing)
}

async fn hand_over(
    stream: &UnixStream,
    runner: &OwnedFd,
    plan: &Plan,
    ready: &Ready,
) -> Result<(), FrameError> {
    let plan = lend::seal_plan(plan)?;
    let lendable = &ready.lendable;
    let mut descriptors = vec![runner.as_fd(), plan.as_fd(), lendable.module.as_fd()];
    descriptors.extend(lendable.image.as_ref().map(|image| image.as_fd()));
    send(stream, &Reply::Lend, &descriptors).await
}

async fn refuse(
    stream: &UnixStream,
    record: &mut StepRecord,
    code: u8,
    reason: String,
) -> Result<Option<Ready>, FrameError> {
    tracing::info!(module = %record.module, code, %reason, "a step is refused");
    record.code = Some(code);
    record.reason = Some(reason.clone());
    send(stream, &Reply::Refused { code, reason }, &[]).await?;
    Ok(None)
}

fn note(record: &mut StepRecord, ready: &Ready, times: Times) {
    record.digest = ready.wasm.to_string();
    record.cache = if ready.hit { "hit" } else { "miss" }.to_owned();
    record.tier = ready.tier.name().to_owned();
    record.resolve_us = times.resolve;
    record.pull_us = times.pull;
    record.compile_us = times.compile;
}

/// Waits for the end of a step that runs, however long that takes.
async fn follow(shared: &Shared, stream: &UnixStream, record: &mut StepRecord) {
    match read::<Outcome>(stream, Kind::Outcome).await {
        Ok((outcome, _)) => {
            record.code = Some(outcome.code);
            record.load_us = outcome.load;
            record.run_us = outcome.run;
            record.cpu_us = outcome.cpu;
            record.peak_memory = outcome.peak_memory;
            record.reason = outcome.reason;
            if let Some(missing) = &outcome.missing_layers {
                shared.layers.note(Process::Step, missing);
            }
        }
        Err(error) => {
            let module = &record.module;
            tracing::info!(%module, %error, "a step ended without a word");
        }
    }
}

async fn receive(stream: &UnixStream) -> Result<(Step, Vec<OwnedFd>), FrameError> {
    within_deadline(read(stream, Kind::Step)).await
}

/// Reads one frame. Never more than its own bytes, so that no descriptor is swallowed.
async fn read<T: for<'b> Decode<'b, ()>>(
    stream: &UnixStream,
    kind: Kind,
) -> Result<(T, Vec<OwnedFd>), FrameError> {
    let mut parser = Parser::new(kind);
    loop {
        stream.readable().await?;
        // One recvmsg a readiness: `try_io` clears it when there was nothing after all.
        let read = stream.try_io(Interest::READABLE, || match parser.read(stream.as_fd()) {
            Ok(()) => Ok(Ok(())),
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => Ok(Err(error)),
        });
        match read {
            Ok(result) => result?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(frame) = parser.take()? {
            return Ok(frame);
        }
    }
}

async fn send<T: Encode<()>>(
    stream: &UnixStream,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let bytes = frame::to_bytes(Kind::Reply, message, descriptors.len())?;
    let write = async {
        let mut sent = 0;
        while sent < bytes.len() {
            let riding = if sent == 0 { descriptors } else { &[] };
            sent += stream
                .async_io(Interest::WRITABLE, || {
                    frame::send_some(stream.as_fd(), &bytes[sent..], riding)
                })
                .await?;
        }
        Ok(())
    };
    within_deadline(write).await
}

async fn within_deadline<T>(
    work: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, FrameError> {
    tokio::time::timeout(FRAME_DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

fn microseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
