//! A registry that does what it is told, right or wrong, and remembers what it was asked.

#![allow(dead_code, reason = "every test binary uses another part of this")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::common::{digest, manifest};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// The head as it came.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What is answered. Every connection serves one request.
pub(crate) enum Reply {
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// A head, then bytes without end.
    Endless(Vec<u8>),
    /// Bytes, one at a time with a pause after each, then silence.
    Drip(Vec<u8>, Duration),
    /// Nothing at all.
    Silence,
}

/// An answer with a `Content-Length`.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let length = body.len().to_string();
    let mut all = vec![("Content-Length", length.as_str())];
    all.extend_from_slice(headers);
    let mut bytes = head(status, &all);
    bytes.extend_from_slice(body);
    Reply::Raw(bytes)
}

pub(crate) fn ok(body: &[u8]) -> Reply {
    reply(200, &[], body)
}

/// An answer that leads elsewhere.
pub(crate) fn redirect(status: u16, location: &str) -> Reply {
    reply(status, &[("Location", location)], b"")
}

/// A head alone.
pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// A server on loopback, which ends with this value.
pub(crate) struct Fake {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    sent: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Answers requests with what `handler` says.
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, handler).await
    }

    /// The same over TLS.
    pub(crate) async fn start_tls(
        tls: TlsAcceptor,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(tls), handler).await
    }

    async fn serve(
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let host = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicU64::new(0));
        let handler = Arc::new(handler);
        let connection = (Arc::clone(&seen), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let (seen, sent) = connection.clone();
                let handler = Arc::clone(&handler);
                let tls = tls.clone();
                connections.spawn(async move {
                    match tls {
                        Some(tls) => {
                            // A client that distrusts the certificate goes away here.
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &*handler, &seen, &sent).await;
                            }
                        }
                        None => answer(stream, &*handler, &seen, &sent).await,
                    }
                });
            }
        });
        Self { host, seen, sent, task }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what was asked so far.
    pub(crate) fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    /// How many bytes the client's side has taken so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Whether anybody has sent an `Authorization`.
    pub(crate) fn was_shown_credentials(&self) -> bool {
        self.seen().iter().any(|seen| seen.header("authorization").is_some())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: &(impl Fn(&Seen) -> Reply + Send + Sync),
    seen: &Mutex<Vec<Seen>>,
    sent: &AtomicU64,
) {
    let Some(request) = read_request(&mut stream).await else { return };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let mut write = async |bytes: &[u8]| {
        let written = stream.write_all(bytes).await;
        if written.is_ok() {
            sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        stream.flush().await.and(written)
    };
    match handler(&request) {
        Reply::Raw(bytes) => {
            let _ = write(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Endless(head) => {
            let piece = chunk(&[b'a'; 8192]);
            let mut going = write(&head).await.is_ok();
            while going {
                going = write(&piece).await.is_ok();
            }
        }
        Reply::Drip(bytes, pause) => {
            for byte in bytes {
                if write(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
            until_gone(&mut stream).await;
        }
        Reply::Silence => until_gone(&mut stream).await,
    }
}

async fn until_gone(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// One piece of a body with `Transfer-Encoding: chunked`.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut piece = format!("{:x}\r\n", bytes.len()).into_bytes();
    piece.extend_from_slice(bytes);
    piece.extend_from_slice(b"\r\n");
    piece
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut words = head.split(' ');
    let mut seen = Seen {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        head: head.clone(),
        body: String::new(),
    };
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    Some(seen)
}

/// A module as a registry keeps it.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub(crate) manifest: Vec<u8>,
    pub(crate) layer: Vec<u8>,
}

impl Artifact {
    /// `layer` in the CNCF form.
    pub(crate) fn new(layer: &[u8]) -> Self {
        let config = (super::common::WASM_CONFIG, &b"{}"[..]);
        let manifest = manifest(config, &[(super::common::WASM_LAYER, layer)]);
        Self { manifest: manifest.to_string().into_bytes(), layer: layer.to_vec() }
    }

    /// What an honest registry answers.
    pub(crate) fn serve(&self, seen: &Seen) -> Reply {
        if seen.target.contains("/manifests/") {
            reply(200, &[("Content-Type", super::common::MANIFEST)], &self.manifest)
        } else if seen.target.contains(&digest(&self.layer)) {
            ok(&self.layer)
        } else {
            reply(404, &[], b"")
        }
    }
}
