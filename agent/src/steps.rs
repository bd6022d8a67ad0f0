//! The API for pods: `POST /v1/steps`, upgraded to frames, and a health check. Nothing else.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use warmstep_wire::{PROTOCOL, PROTOCOL_WITH_PATHS, STEPS_PATH};

use crate::session::{self, Shared};

/// How long a client may take to send its request's headers.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// The most that is read of a request's headers, in bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, stream: UnixStream) {
    let (handed, upgraded) = tokio::sync::oneshot::channel();
    let handed = Mutex::new(Some(handed));
    let service = service_fn(|request| {
        let response = answer(request, &handed);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
        return;
    }
    let Ok(upgrade) = upgraded.await else { return };
    match upgrade.await.map_err(|error| error.to_string()).and_then(take_back) {
        Ok(stream) => session::serve(shared, stream).await,
        Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
    }
}

fn answer(
    mut request: Request<Incoming>,
    handed: &Mutex<Option<tokio::sync::oneshot::Sender<OnUpgrade>>>,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, STEPS_PATH) => {}
        (_, STEPS_PATH) => return say(StatusCode::METHOD_NOT_ALLOWED, "steps are posted"),
        (&Method::GET, "/healthz") => return say(StatusCode::OK, "ok"),
        _ => return say(StatusCode::NOT_FOUND, "there is only POST /v1/steps and GET /healthz"),
    }
    let asked = request.headers().get(UPGRADE).map(HeaderValue::as_bytes);
    let spoken = [PROTOCOL, PROTOCOL_WITH_PATHS];
    let Some(protocol) = spoken.into_iter().find(|known| asked == Some(known.as_bytes())) else {
        let mut response = say(
            StatusCode::UPGRADE_REQUIRED,
            &format!("this agent speaks {PROTOCOL}: use a shim of the same major version"),
        );
        let spoken = HeaderValue::from_static("warmstep/1, warmstep/1.1");
        response.headers_mut().insert(UPGRADE, spoken);
        return response;
    };
    let Some(handed) = handed.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return say(StatusCode::BAD_REQUEST, "a connection carries one step");
    };
    // A receiver that is gone has given the connection up.
    let _ = handed.send(hyper::upgrade::on(&mut request));
    let mut response = say(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn say(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

/// The plain socket behind an upgraded connection. Bytes that came too early are refused: their
/// descriptors are lost.
fn take_back(upgraded: Upgraded) -> Result<UnixStream, String> {
    let parts = upgraded
        .downcast::<TokioIo<UnixStream>>()
        .map_err(|_| "the connection is of an unknown kind".to_owned())?;
    if parts.read_buf.is_empty() {
        Ok(parts.io.into_inner())
    } else {
        Err("the shim sent its step before it was told to".to_owned())
    }
}
