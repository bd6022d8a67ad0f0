//! One HTTP exchange with a registry: guarded redirects, capped answers, deadlines.
//!
//! The client is hyper's. What is added here is what a registry's client must decide itself:
//! which redirect to follow, where credentials stop, and how much to read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue,
    LOCATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use url::Url;

use crate::config::{ConfigError, RegistryConfig};
use crate::dns::Resolver;
use crate::error::Fault;
use crate::failure;
use crate::guard::{Guard, authority, same_origin};
use crate::text::one_line;
use crate::tls;

/// Registries redirect once, to where the bytes are stored; those may redirect once more.
const MAX_REDIRECTS: usize = 5;

/// How much of an answer's head is read. Signed storage addresses take a few KiB.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// How much of an answer that is an error is read for its message.
const MAX_MESSAGE_BYTES: u64 = 16 << 10;

/// How long an unused connection is kept: enough from the manifest to its layer, and soon gone.
const KEEP_IDLE: Duration = Duration::from_secs(5);

type HttpClient = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// The clients: one for each set of certificate authorities.
pub(crate) struct Transport {
    machine: HttpClient,
    with_ca: BTreeMap<String, HttpClient>,
    guard: Arc<Guard>,
    /// The longest wait for an answer to start: connecting and then silence.
    answer: Duration,
    idle: Duration,
}

/// An answer, from wherever the redirects led.
pub(crate) struct Answer {
    /// `host[:port]` of who answered in the end.
    pub(crate) host: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Whether this came from where the request went first: only then may it be answered with
    /// credentials.
    pub(crate) at_origin: bool,
    body: Incoming,
    idle: Duration,
}

/// What a request asks for.
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a Url,
    pub(crate) accept: &'static str,
    pub(crate) authorization: Option<&'a HeaderValue>,
}

impl Transport {
    pub(crate) fn new(config: &RegistryConfig, guard: Arc<Guard>) -> Result<Self, ConfigError> {
        let resolver = Resolver::new(&config.dns_servers, Arc::clone(&guard))?;
        let connect = config.limits.connect;
        let mut with_ca = BTreeMap::new();
        for (host, settings) in &config.hosts {
            if let Some(path) = &settings.ca {
                let client = client(tls::with_ca(host, path)?, resolver.clone(), connect);
                with_ca.insert(host.clone(), client);
            }
        }
        let machine = client(tls::machine()?, resolver, connect);
        let idle = config.limits.idle;
        Ok(Self { machine, with_ca, guard, answer: connect.saturating_add(idle), idle })
    }

    /// Sends `GET` and follows redirects as the guard allows. Credentials go to the first origin
    /// and nowhere else, also when a later redirect leads back to it.
    pub(crate) async fn get(&self, ask: Ask<'_>) -> Result<Answer, Fault> {
        self.guard.first(ask.url)?;
        let mut url = ask.url.clone();
        let mut at_origin = true;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = request(Method::GET, &url, ask.accept, Full::default())?;
            if let Some(value) = ask.authorization.filter(|_| at_origin) {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            let mut answer = self.send(&url, request).await?;
            let Some(next) = redirect(&url, &answer)? else {
                answer.at_origin = at_origin;
                return Ok(answer);
            };
            self.guard.next(&url, &next)?;
            at_origin = at_origin && same_origin(&url, &next);
            url = next;
        }
        Err(protocol(ask.url, format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Sends a form with `POST`. A redirect is not followed: the form holds a secret.
    pub(crate) async fn post_form(&self, url: &Url, form: String) -> Result<Answer, Fault> {
        let mut request = request(Method::POST, url, "application/json", Full::from(form))?;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        self.send(url, request).await
    }

    async fn send(&self, url: &Url, request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        let host = authority(url);
        let client = self.with_ca.get(&host).unwrap_or(&self.machine);
        let response = match timeout(self.answer, client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failure::of_request(&host, url.scheme(), &error)),
            Err(_) => {
                let waited = humantime::format_duration(self.answer);
                let reason = format!("no answer within {waited} (limits.connect and limits.idle)");
                return Err(Fault::Unreachable { host, reason });
            }
        };
        let (parts, body) = response.into_parts();
        Ok(Answer {
            host,
            status: parts.status,
            headers: parts.headers,
            at_origin: true,
            body,
            idle: self.idle,
        })
    }
}

fn client(tls: rustls::ClientConfig, resolver: Resolver, connect: Duration) -> HttpClient {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    // The scheme is the guard's business; this connector carries TLS too.
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(connect));
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(KEEP_IDLE)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .build(connector)
}

fn request(
    method: Method,
    url: &Url,
    accept: &str,
    body: Full<Bytes>,
) -> Result<Request<Full<Bytes>>, Fault> {
    let mut uri = url.clone();
    uri.set_fragment(None);
    Request::builder()
        .method(method)
        .uri(uri.as_str())
        .header(USER_AGENT, concat!("warmstep/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, accept)
        .body(body)
        .map_err(|error| protocol(url, error.to_string()))
}

/// Where an answer redirects to, if it does.
fn redirect(from: &Url, answer: &Answer) -> Result<Option<Url>, Fault> {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok());
    next.map(Some).ok_or_else(|| protocol(from, "a redirect to nowhere".to_owned()))
}

fn protocol(url: &Url, reason: String) -> Fault {
    Fault::Protocol { host: authority(url), reason }
}

impl Answer {
    /// The header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The length of the body, where the answer says it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// Refuses a body that would have to be decompressed: a few bytes that become many are the
    /// oldest trick there is, and no encoding was asked for.
    pub(crate) fn check_identity(&self) -> Result<(), Fault> {
        match self.headers.get(CONTENT_ENCODING) {
            Some(value) if value != "identity" => Err(Fault::Encoded {
                host: self.host.clone(),
                encoding: one_line(&String::from_utf8_lossy(value.as_bytes()), 40),
            }),
            _ => Ok(()),
        }
    }

    /// The next piece of the body, or its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = match timeout(self.idle, self.body.frame()).await {
                Err(_) => return Err(Fault::Stalled { host: self.host.clone(), idle: self.idle }),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(failure::of_body(&self.host, &error)),
                Ok(Some(Ok(frame))) => frame,
            };
            // The other kind of frame is trailers, which say nothing we need.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, or nothing if it has more than `limit` bytes.
    pub(crate) async fn read(&mut self, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            if (bytes.len() + piece.len()) as u64 > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes))
    }

    /// This answer as the fault it is, with the registry's own words.
    pub(crate) async fn into_fault(mut self) -> Fault {
        let message = self.message().await;
        let retry_after = self.retry_after();
        Fault::Status { status: self.status.as_u16(), message, retry_after, host: self.host }
    }

    /// What the body says: the first message of an error document (OCI distribution
    /// specification, "Error codes"), or a short text as it is.
    pub(crate) async fn message(&mut self) -> String {
        let Ok(Some(body)) = self.read(MAX_MESSAGE_BYTES).await else { return String::new() };
        let document: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let first = document.as_ref().and_then(|document| document.pointer("/errors/0"));
        let text = match first {
            Some(error) => ["message", "code"]
                .iter()
                .filter_map(|field| error.get(field)?.as_str())
                .find(|text| !text.is_empty())
                .unwrap_or_default()
                .to_owned(),
            None if self.header("content-type").is_some_and(|kind| kind.contains("html")) => {
                String::new()
            }
            None => String::from_utf8_lossy(&body).into_owned(),
        };
        one_line(&text, 200)
    }

    /// `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = self.header(RETRY_AFTER.as_str())?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    }
}
