//! Bearer tokens: a real registry that checks signatures, and a token server that makes them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;
use warmstep_registry::{Kind, RegistryConfig};

use super::access::docker_config;
use super::common::{Options, Registry, Token, module};
use super::fake::{Fake, Reply, Seen, chunk, head, ok, redirect, reply};
use super::pki::{Authority, Identity};
use super::{config, pull, refused_with, registries};

const SERVICE: &str = "registry.test";
const ISSUER: &str = "tests";

/// A token that lets its bearer pull from `repository` (distribution project, "Docker Registry v2
/// authentication schema": a JWT signed with ES256, its certificate in the header).
fn token(signer: &Identity, repository: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(signer.der())] });
    let claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": SERVICE, "jti": "1",
        "iat": now - 10, "nbf": now - 10, "exp": now + 300,
        "access": [{ "type": "repository", "name": repository, "actions": ["pull"] }],
    });
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(header), encode(claims));
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, signer.pkcs8(), &random)
        .expect("a P-256 key");
    let signature = key.sign(&random, text.as_bytes()).expect("signed");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token server that knows alice by her password and by her refresh token.
async fn token_server(signer: Arc<Identity>) -> Fake {
    let alice = format!("Basic {}", STANDARD.encode("alice:sesame"));
    Fake::start(move |seen| {
        let by_password = seen.method == "GET"
            && seen.header("authorization") == Some(&alice)
            && seen.target.contains("scope=repository%3Ateam%2Fa%3Apull")
            && seen.target.contains("service=registry.test");
        let by_refresh = seen.method == "POST"
            && seen.body.contains("grant_type=refresh_token")
            && seen.body.contains("scope=repository%3Ateam%2Fa%3Apull")
            && seen.body.contains("refresh_token=of-alice");
        let token = token(&signer, "team/a");
        if by_password {
            ok(json!({ "token": token, "expires_in": 300 }).to_string().as_bytes())
        } else if by_refresh {
            ok(json!({ "access_token": token, "expires_in": 300 }).to_string().as_bytes())
        } else {
            reply(401, &[], br#"{"details":"incorrect username or password"}"#)
        }
    })
    .await
}

struct Tokens {
    _open: Registry,
    registry: Registry,
    server: Fake,
    wasm: Vec<u8>,
    directory: tempfile::TempDir,
    config: RegistryConfig,
    text: String,
}

/// A registry that wants tokens, and the server that gives them.
async fn tokens() -> Tokens {
    let authority = Authority::new();
    let signer = Arc::new(authority.sign("token-server.test"));
    let server = token_server(Arc::clone(&signer)).await;
    let open = Registry::anonymous();
    let wasm = module(1, 50_000);
    open.push("team/a", "1", &wasm);
    let registry = Registry::start(&Options {
        store: Some(open.store()),
        token: Some(Token {
            realm: &format!("http://{}/token", server.host),
            service: SERVICE,
            issuer: ISSUER,
            certificates: &authority.ca,
        }),
        ..Options::default()
    });
    let directory = tempfile::tempdir().expect("a directory");
    let config = RegistryConfig {
        docker_config: Some(directory.path().join("config.json")),
        ..config(&[&registry.host, &server.host])
    };
    let text = format!("{}/team/a:1", registry.host);
    Tokens { _open: open, registry, server, wasm, directory, config, text }
}

#[tokio::test]
async fn a_password_becomes_a_token_that_is_kept() {
    let tokens = tokens().await;
    let path = tokens.directory.path().join("config.json");
    let registries = registries(tokens.config.clone());

    docker_config(&path, &tokens.registry.host, "alice", "sesame");
    let (_, bytes) = pull(&registries, &tokens.text).await.expect("pulled");
    assert!(bytes == tokens.wasm);
    pull(&registries, &tokens.text).await.expect("pulled again");
    assert_eq!(tokens.server.seen().len(), 1, "one token for two manifests and two layers");

    docker_config(&path, &tokens.registry.host, "alice", "changed");
    let error = refused_with(&registries, &tokens.text, "password of alice").await;
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(tokens.server.seen().len(), 2, "another config, another token");

    std::fs::write(&path, r#"{"auths":{}}"#).expect("written");
    let error = refused_with(&registries, &tokens.text, "has none for it").await;
    assert_eq!(error.kind(), Kind::Refused);
    let last = tokens.server.seen().pop().expect("asked");
    assert_eq!(last.header("authorization"), None, "anonymous first asks for a token, too");
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let tokens = tokens().await;
    let path = tokens.directory.path().join("config.json");
    let registries = registries(tokens.config.clone());
    for (refresh, good) in [("of-alice", true), ("of-mallory", false)] {
        let entry = json!({ "auths": { &tokens.registry.host: { "identitytoken": refresh } } });
        std::fs::write(&path, entry.to_string()).expect("written");
        if good {
            let (_, bytes) = pull(&registries, &tokens.text).await.expect("pulled");
            assert!(bytes == tokens.wasm);
        } else {
            let error = refused_with(&registries, &tokens.text, "the identity token from").await;
            assert!(!error.to_string().contains(refresh), "{error}");
        }
    }
    assert!(tokens.server.seen().iter().all(|seen| seen.method == "POST"));
}

#[tokio::test]
async fn a_token_of_somebody_else_is_no_use() {
    let tokens = tokens().await;
    let forger = Arc::new(Authority::new().sign("token-server.test"));
    let forged = token(&forger, "team/a");
    let server = Fake::start(move |_| ok(json!({ "token": forged }).to_string().as_bytes())).await;
    let registry = Registry::start(&Options {
        store: Some(tokens.registry.store()),
        token: Some(Token {
            realm: &format!("http://{}/token", server.host),
            service: SERVICE,
            issuer: ISSUER,
            certificates: &Authority::new().ca,
        }),
        ..Options::default()
    });
    let registries = registries(config(&[&registry.host, &server.host]));
    let error = refused_with(&registries, &format!("{}/team/a:1", registry.host), "denied").await;
    assert_eq!(error.kind(), Kind::Refused);
}

/// Registry that asks for a token from `realm`, and a config with a password for it.
async fn asking(realm: &str) -> (Fake, RegistryConfig, tempfile::TempDir) {
    let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
    let fake = Fake::start(move |_| reply(401, &[("WWW-Authenticate", &challenge)], b"")).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    docker_config(&path, &fake.host, "alice", "sesame");
    let config = RegistryConfig { docker_config: Some(path), ..config(&[&fake.host]) };
    (fake, config, directory)
}

/// S8: the password follows the realm, so the realm must not lead astray.
#[tokio::test]
async fn a_realm_is_judged_before_a_password_is_sent() {
    let listener = Fake::start(|_| ok(b"{}")).await;
    let http = format!("http://{}/token", listener.host);
    for (realm, word) in [
        (http.as_str(), "plain_http = true"),
        ("http://169.254.169.254/latest/api/token", "plain_http = true"),
        ("https://169.254.169.254/token", "link-local or metadata"),
        ("https://[fd00:ec2::254]/token", "metadata"),
        ("https://0.0.0.0/token", "unspecified"),
        ("https://user@auth.example/", "user name"),
        ("file:///etc/passwd", "neither https nor http"),
        ("/token", "is none"),
        ("", "is none"),
    ] {
        let (fake, config, _directory) = asking(realm).await;
        refused_with(&registries(config), &format!("{}/a:1", fake.host), word).await;
        assert!(!fake.was_shown_credentials(), "{realm}");
    }
    assert!(listener.seen().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn a_hostile_token_server_gains_nothing() {
    let elsewhere = Fake::start(|_| ok(br#"{"token":"x"}"#)).await;
    let elsewhere_url = format!("http://{}/", elsewhere.host);
    type Handler = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;
    let endless = || Reply::Endless(head(200, &[("Transfer-Encoding", "chunked")]));
    let handlers: Vec<(&str, Handler)> = vec![
        ("no usable token", Box::new(|_| ok(br#"{"token":"a\r\nX-Injected: 1"}"#))),
        ("no usable token", Box::new(|_| ok(b"not JSON"))),
        ("no usable token", Box::new(move |_| endless())),
        ("no usable token", Box::new(|_| ok(&chunk(&vec![b' '; 1 << 20])))),
        ("no usable token", Box::new(move |_| redirect(307, &elsewhere_url))),
        ("answered 500", Box::new(|_| reply(500, &[], b""))),
        ("no answer within", Box::new(|_| Reply::Silence)),
    ];
    for (index, (word, handler)) in handlers.into_iter().enumerate() {
        let server = Fake::start(handler).await;
        let (fake, mut config, _directory) = asking(&format!("http://{}/t", server.host)).await;
        for host in [&server.host, &elsewhere.host] {
            config.hosts.insert(
                host.clone(),
                warmstep_registry::HostConfig {
                    plain_http: true,
                    ..warmstep_registry::HostConfig::default()
                },
            );
        }
        config.limits.attempts = 1;
        let text = format!("{}/a:1", fake.host);
        // A token server may redirect; then the registry refuses what comes of it.
        let word = if index == 4 { "denied" } else { word };
        refused_with(&registries(config), &text, word).await;
        assert!(server.sent() < 8 << 20, "an endless answer is cut: {} bytes", server.sent());
    }
    assert!(!elsewhere.seen().is_empty(), "the redirect was followed");
    assert!(!elsewhere.was_shown_credentials(), "without the password");
}
