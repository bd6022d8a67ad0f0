//! The API for the operator, on a socket in the cache's directory, which no pod can see.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use warmstep_registry::Digest;

use crate::admission;
use crate::cache::{Bounds, Tier};
use crate::flight::Watcher;
use crate::layers::Process;
use crate::peer::Client;
use crate::prewarm;
use crate::recent::{Counts, StepRecord};
use crate::session::Shared;

/// The socket's name in the cache's directory.
pub(crate) const SOCKET: &str = "admin.sock";

/// The longest request that is read, in bytes: thousands of references.
const MAX_REQUEST: usize = 1024 * 1024;

/// How long a client may take to send its request's headers.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// How the agent is doing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The agent's version.
    pub(crate) version: String,
    /// The socket on which it serves steps.
    pub(crate) socket: String,
    /// How many modules it has compiled, by tier.
    pub(crate) modules: BTreeMap<String, u64>,
    /// What their files take, in bytes.
    pub(crate) bytes: u64,
    /// Steps that wait for their module now.
    pub(crate) waiting: usize,
    /// Layers of the jails that the kernel or the container's profile refuses, by process.
    pub(crate) missing_layers: BTreeMap<Process, String>,
    /// What is made warm before a step asks.
    pub(crate) prewarm: prewarm::Status,
    /// Counts since it started.
    pub(crate) counts: Counts,
    /// The last steps, oldest first.
    pub(crate) recent: Vec<StepRecord>,
}

/// One module in the cache.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Module {
    /// The SHA-256 of its Wasm.
    pub(crate) digest: Digest,
    /// What is known to mean it.
    pub(crate) references: Vec<String>,
    /// How it was compiled.
    pub(crate) tier: Tier,
    /// What its files take, in bytes.
    pub(crate) bytes: u64,
    /// When a step last ran it, in seconds since 1970.
    pub(crate) used: u64,
}

/// Modules that are named in a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// References or digests.
    pub(crate) modules: Vec<String>,
}

/// How small the cache is to become.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shrink {
    /// The most bytes that stay; the agent's own limits without it.
    pub(crate) bytes: Option<u64>,
}

/// How one named module fared.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fared {
    /// The module as it was named.
    pub(crate) module: String,
    /// The SHA-256 of its Wasm, where that is known.
    pub(crate) digest: Option<Digest>,
    /// What was done, in one word.
    pub(crate) done: Option<String>,
    /// Why nothing was done.
    pub(crate) error: Option<String>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, stream: UnixStream) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(shared, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an administration connection ended early");
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => said(status(&shared)),
        (&Method::GET, "/v1/modules") => said(modules(&shared)),
        (&Method::POST, "/v1/gc") => match read(request).await {
            Ok(shrink) => said(gc(&shared, &shrink).await),
            Err(reason) => text(StatusCode::BAD_REQUEST, reason),
        },
        (&Method::POST, "/v1/prewarm") => match read(request).await {
            Ok(named) => stream(prewarm(shared, named)),
            Err(reason) => text(StatusCode::BAD_REQUEST, reason),
        },
        (&Method::POST, "/v1/remove") => match read(request).await {
            Ok(named) => said(Ok(remove(&shared, named))),
            Err(reason) => text(StatusCode::BAD_REQUEST, reason),
        },
        _ => text(StatusCode::NOT_FOUND, "no such call".to_owned()),
    }
}

fn status(shared: &Shared) -> Result<Status, String> {
    let records = shared.pipeline.modules().map_err(|error| error.to_string())?;
    let mut modules = BTreeMap::new();
    let mut bytes = 0;
    for (_, record) in records {
        *modules.entry(record.tier.name().to_owned()).or_default() += 1;
        bytes += record.bytes;
    }
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        socket: shared.live.get().socket.display().to_string(),
        modules,
        bytes,
        waiting: shared.waiting.taken(),
        missing_layers: shared.layers.missing(),
        prewarm: shared.prewarmer.status(),
        counts: shared.recent.counts(),
        recent: shared.recent.steps(),
    })
}

fn modules(shared: &Shared) -> Result<Vec<Module>, String> {
    let mut references: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    let known = shared.pipeline.cache().references().map_err(|error| error.to_string())?;
    for (name, record) in known {
        references.entry(record.wasm).or_default().push(name);
    }
    let records = shared.pipeline.modules().map_err(|error| error.to_string())?;
    let mut modules: Vec<Module> = records
        .into_iter()
        .map(|(_, record)| Module {
            digest: record.wasm,
            references: references.get(&record.wasm).cloned().unwrap_or_default(),
            tier: record.tier,
            bytes: record.bytes,
            used: record.used,
        })
        .collect();
    modules.sort_by(|a, b| (&a.references, a.digest).cmp(&(&b.references, b.digest)));
    Ok(modules)
}

/// Makes modules ready, all at once; each is told of when it is done.
fn prewarm(shared: Arc<Shared>, named: Named) -> mpsc::Receiver<Fared> {
    let (sender, receiver) = mpsc::channel(16);
    for module in named.modules {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        tokio::spawn(async move {
            let fared = prewarm_one(&shared, module).await;
            // The client may be gone; the module is warm all the same.
            let _ = sender.send(fared).await;
        });
    }
    receiver
}

async fn prewarm_one(shared: &Shared, module: String) -> Fared {
    let failed = |error: String| Fared {
        module: module.clone(),
        digest: None,
        done: None,
        error: Some(error),
    };
    let source = match admission::source(&module, 0, &shared.live.get().policy) {
        Ok(source) => source,
        Err(denied) => return failed(denied.to_string()),
    };
    let (watcher, _told) = Watcher::new();
    match shared.pipeline.prepare(Client::OPERATOR, source, None, &watcher).await {
        Ok((ready, _)) => {
            let done = if ready.hit { "warm" } else { "warmed" };
            Fared { module, digest: Some(ready.wasm), done: Some(done.to_owned()), error: None }
        }
        Err(error) => failed(error.to_string()),
    }
}

fn remove(shared: &Shared, named: Named) -> Vec<Fared> {
    named.modules.into_iter().map(|module| remove_one(shared, module)).collect()
}

fn remove_one(shared: &Shared, module: String) -> Fared {
    let removed = meant(shared, &module).and_then(|digest| {
        match shared.pipeline.remove(&digest).map_err(|error| error.to_string())? {
            Some(_) => Ok(digest),
            None => Err("it is not in the cache".to_owned()),
        }
    });
    match removed {
        Ok(digest) => {
            Fared { module, digest: Some(digest), done: Some("removed".to_owned()), error: None }
        }
        Err(error) => Fared { module, digest: None, done: None, error: Some(error) },
    }
}

/// Removes what was used least recently, and says what.
async fn gc(shared: &Shared, shrink: &Shrink) -> Result<Vec<Fared>, String> {
    let limits = &shared.live.get().limits;
    let bounds = Bounds {
        bytes: shrink.bytes.unwrap_or(limits.cache.as_u64()),
        modules: limits.cache_modules,
    };
    let removed = shared.pipeline.evict(bounds).await.map_err(|error| error.to_string())?;
    let fared = |digest: Digest| Fared {
        module: digest.to_string(),
        digest: Some(digest),
        done: Some("removed".to_owned()),
        error: None,
    };
    Ok(removed.into_iter().map(fared).collect())
}

/// The module that a name means, as far as the cache knows: nothing is asked of a registry.
fn meant(shared: &Shared, module: &str) -> Result<Digest, String> {
    if module.starts_with("sha256:") {
        return module.parse().map_err(|error: warmstep_registry::DigestError| error.to_string());
    }
    let reference: warmstep_registry::Reference =
        module.parse().map_err(|error| format!("it is not a reference: {error}"))?;
    let known = shared.pipeline.cache().reference(&reference.to_string());
    match known.map_err(|error| error.to_string())? {
        Some((record, _)) => Ok(record.wasm),
        None => Err("it is not in the cache".to_owned()),
    }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    let body = Limited::new(request.into_body(), MAX_REQUEST);
    let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn said<T: Serialize>(answer: Result<T, String>) -> Response<Body> {
    let body =
        answer.and_then(|answer| serde_json::to_vec(&answer).map_err(|error| error.to_string()));
    match body {
        Ok(json) => Response::new(Full::from(json).boxed_unsync()),
        Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, reason),
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// One JSON object a line, each when it is there.
fn stream(receiver: mpsc::Receiver<Fared>) -> Response<Body> {
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let fared = receiver.recv().await?;
        let mut line = serde_json::to_vec(&fared).unwrap_or_default();
        line.push(b'\n');
        Some((Ok(Frame::data(Bytes::from(line))), receiver))
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)))
}
