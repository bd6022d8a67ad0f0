//! A real registry (Debian's `docker-registry`) for tests, and what to push to it.
//!
//! Needs `docker-registry` and `setpriv`; the crates serde_json, sha2, hex and tempfile. Other
//! crates' tests may include this file with `#[path]`.

#![allow(dead_code, reason = "every test binary uses another part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::Digest as _;
use tempfile::TempDir;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const WASM_LAYER: &str = "application/wasm";
pub(crate) const OLD_CONFIG: &str = "application/vnd.wasm.config.v1+json";
pub(crate) const OLD_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// How long a registry may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// `sha256:…` of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

/// A valid core module of `size` bytes or a few more, different for each `seed`: the header and
/// one custom section named "x" whose content does not compress.
pub(crate) fn module(seed: u64, size: usize) -> Vec<u8> {
    let mut content = vec![1, b'x'];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while content.len() + 14 < size || content.len() < 10 {
        // xorshift64, Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    let mut bytes = b"\0asm\x01\0\0\0\0".to_vec();
    let mut rest = content.len();
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        rest >>= 7;
        bytes.push(if rest == 0 { low } else { low | 0x80 });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&content);
    bytes
}

/// A descriptor of `bytes`.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

/// An OCI manifest with one configuration and any layers.
pub(crate) fn manifest(config: (&str, &[u8]), layers: &[(&str, &[u8])]) -> Value {
    let layers: Vec<_> = layers.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config.0, config.1),
        "layers": layers,
    })
}

/// How a registry is started. The default is anonymous, over plain HTTP, with a store of its own.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// Users may pull with this name and password only (HTTP Basic).
    pub(crate) user: Option<(&'a str, &'a str)>,
    /// Certificate chain and key, as PEM files: then it speaks HTTPS.
    pub(crate) tls: Option<(&'a Path, &'a Path)>,
    /// Tokens from this server are wanted.
    pub(crate) token: Option<Token<'a>>,
    /// The store of another registry: what is pushed to the one can be pulled from the other.
    pub(crate) store: Option<&'a Path>,
}

/// The token server a registry trusts.
pub(crate) struct Token<'a> {
    pub(crate) realm: &'a str,
    pub(crate) service: &'a str,
    pub(crate) issuer: &'a str,
    /// A PEM file with the certificates of its keys.
    pub(crate) certificates: &'a Path,
}

/// A `docker-registry` on a free loopback port. The process ends with this value, and with the
/// thread that started it.
pub(crate) struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    store: PathBuf,
    _directory: TempDir,
}

impl Registry {
    /// An anonymous registry over plain HTTP.
    pub(crate) fn anonymous() -> Self {
        Self::start(&Options::default())
    }

    pub(crate) fn start(options: &Options<'_>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = match options.store {
            Some(store) => store.to_owned(),
            None => directory.path().join("store"),
        };
        let configuration = directory.path().join("config.yml");
        let text = configure(options, &store, directory.path());
        std::fs::write(&configuration, text).expect("the configuration is written");
        // setpriv becomes the registry: the process id stays, and the kernel ends it should this
        // thread die without unwinding.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv starts docker-registry");
        let host = match listening(&mut child) {
            Ok(host) => host,
            Err(log) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("docker-registry does not listen:\n{log}");
            }
        };
        Self { child, host, store, _directory: directory }
    }

    /// Where it keeps what is pushed.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// Pushes a module in the CNCF form; gives the manifest's digest.
    pub(crate) fn push(&self, repository: &str, tag: &str, module: &[u8]) -> String {
        let config = config_of(module);
        self.push_artifact(repository, tag, (WASM_CONFIG, &config), &[(WASM_LAYER, module)])
    }

    /// Pushes anything with one manifest; gives the manifest's digest.
    pub(crate) fn push_artifact(
        &self,
        repository: &str,
        tag: &str,
        config: (&str, &[u8]),
        layers: &[(&str, &[u8])],
    ) -> String {
        self.push_blob(repository, config.1);
        for (_, bytes) in layers {
            self.push_blob(repository, bytes);
        }
        self.push_manifest(repository, tag, &manifest(config, layers))
    }

    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) {
        let start = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[]);
        assert_eq!(start.status, 202, "an upload starts: {}", start.head);
        let location = start.header("location").expect("an upload has a location");
        let path = location.split_once(self.host.as_str()).map_or(location, |(_, path)| path);
        let path = format!("{path}&digest={}", digest(bytes));
        let done = self.request("PUT", &path, "application/octet-stream", bytes);
        assert_eq!(done.status, 201, "an upload ends: {}", done.head);
    }

    /// Pushes a manifest or an index; gives its digest.
    pub(crate) fn push_manifest(&self, repository: &str, tag: &str, manifest: &Value) -> String {
        let kind = manifest["mediaType"].as_str().expect("a manifest has a media type");
        let bytes = manifest.to_string();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let done = self.request("PUT", &path, kind, bytes.as_bytes());
        assert_eq!(done.status, 201, "a manifest is put: {}\n{}", done.head, done.body);
        digest(bytes.as_bytes())
    }

    /// Removes a blob behind the registry's back.
    pub(crate) fn lose_blob(&self, bytes: &[u8]) {
        let hash = digest(bytes);
        let hash = hash.trim_start_matches("sha256:");
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hash}/data", &hash[..2]);
        std::fs::remove_file(self.store.join(path)).expect("the blob is there");
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Response {
        let mut stream = TcpStream::connect(&self.host).expect("the registry listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the head is sent");
        stream.write_all(body).expect("the body is sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer comes");
        Response::parse(&answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration blob of the CNCF form.
pub(crate) fn config_of(module: &[u8]) -> Vec<u8> {
    json!({
        "created": "2024-09-25T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip1",
        "layerDigests": [digest(module)],
    })
    .to_string()
    .into_bytes()
}

fn configure(options: &Options<'_>, store: &Path, directory: &Path) -> String {
    let mut http = json!({ "addr": "127.0.0.1:0", "secret": "of a test" });
    if let Some((certificate, key)) = options.tls {
        http["tls"] = json!({ "certificate": certificate, "key": key });
    }
    let mut configuration = json!({
        "version": 0.1,
        "log": { "level": "info", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": store } },
        "http": http,
    });
    if let Some((user, password)) = options.user {
        let path = directory.join("htpasswd");
        configuration["auth"] =
            json!({ "htpasswd": { "realm": "a registry for tests", "path": path } });
        std::fs::write(&path, htpasswd(user, password)).expect("htpasswd is written");
    }
    if let Some(token) = &options.token {
        configuration["auth"] = json!({ "token": {
            "realm": token.realm,
            "service": token.service,
            "issuer": token.issuer,
            "rootcertbundle": token.certificates,
        }});
    }
    // YAML is a superset of JSON.
    configuration.to_string()
}

fn htpasswd(user: &str, password: &str) -> Vec<u8> {
    // -B: the registry knows bcrypt only; -C 4: quick rather than strong.
    let output = Command::new("htpasswd")
        .args(["-B", "-C", "4", "-b", "-n", user, password])
        .output()
        .expect("htpasswd runs");
    assert!(output.status.success(), "htpasswd succeeds");
    output.stdout
}

/// Waits until the registry says where it listens; goes on reading so that it is never blocked.
fn listening(child: &mut Child) -> Result<String, String> {
    let stderr = child.stderr.take().expect("stderr is piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut log = String::new();
    while let Ok(line) = receiver.recv_timeout(PATIENCE) {
        if let Some((_, rest)) = line.split_once("listening on ") {
            let host: String =
                rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
            return Ok(host);
        }
        log.push_str(&line);
        log.push('\n');
    }
    Err(log)
}

struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.expect("an answer has a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
