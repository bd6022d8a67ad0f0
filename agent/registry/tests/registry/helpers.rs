//! Credential helpers: programs found on PATH, which answer, fail, babble and hang.
//!
//! PATH belongs to the whole process, so the test runs itself again with one of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use warmstep_registry::{Kind, RegistryConfig};

use super::common::{Options, Registry, module};
use super::{config, pull, refused_with, registries};

/// Scripts by the name of their helper. The server's name is on their stdin.
const HELPERS: &[(&str, &str)] = &[
    (
        "good",
        r#"read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"alice\",\"Secret\":\"sesame\"}""#,
    ),
    ("wrong", r#"echo '{"Username":"alice","Secret":"wrong"}'"#),
    ("token", r#"echo '{"Username":"<token>","Secret":"refresh"}'"#),
    ("none", "echo 'credentials not found in native keychain'; exit 1"),
    ("fails", "echo 'the vault is sealed'; exit 1"),
    ("silent", "exit 3"),
    ("garbage", "echo 'not JSON: sesame'"),
    ("endless", "while :; do echo sesame; done"),
    ("half", "echo 'sesame'; kill -9 $$"),
    ("both", "echo '{\"Username\":\"alice\",\"Secret\":\"sesame\"}'; exit 1"),
    // The sleeper holds stdout open after its parent has gone.
    ("hangs", "sleep 1234.5 & sleep 1234.5"),
];

#[test]
fn helpers_are_asked_with_a_deadline() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, script) in HELPERS {
        let path = directory.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    }
    let path = std::env::var("PATH").expect("a PATH");
    let output = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "helpers::with_helpers_on_path", "--ignored", "--nocapture"])
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "the inner test");
}

#[tokio::test]
#[ignore = "run by helpers_are_asked_with_a_deadline, with PATH set"]
async fn with_helpers_on_path() {
    let open = Registry::anonymous();
    open.push("a", "1", &module(1, 1000));
    let registry = Registry::start(&Options {
        user: Some(("alice", "sesame")),
        store: Some(open.store()),
        ..Options::default()
    });
    let host = registry.host.as_str();
    let text = format!("{host}/a:1");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    let mut config = RegistryConfig { docker_config: Some(path.clone()), ..config(&[host]) };
    config.limits.credential_helper = Duration::from_secs(1);
    let registries = registries(config);

    write(&path, &json!({ "credHelpers": { host: "good" } }));
    pull(&registries, &text).await.expect("the host's helper");
    write(&path, &json!({ "credsStore": "good", "auths": { host: {} } }));
    pull(&registries, &text).await.expect("the helper for all");
    write(&path, &json!({ "credsStore": "wrong", "credHelpers": { host: "good" } }));
    pull(&registries, &text).await.expect("the host's helper goes first");

    for (helper, word, kind) in [
        ("wrong", "password of alice from docker-credential-wrong, named in", Kind::Refused),
        ("token", "it wants a user and a password", Kind::Refused),
        ("none", "docker-credential-none, named in", Kind::Refused),
        ("fails", "docker-credential-fails failed: the vault is sealed", Kind::Internal),
        ("silent", "docker-credential-silent failed: exit status: 3", Kind::Internal),
        ("garbage", "answered something other than credentials", Kind::Internal),
        ("endless", "answered something other than credentials", Kind::Internal),
        ("half", "docker-credential-half failed: signal: 9", Kind::Internal),
        ("both", "docker-credential-both failed: exit status: 1", Kind::Internal),
        ("hangs", "no answer within 1s", Kind::Internal),
        ("missing", "put it on the agent's PATH", Kind::Internal),
        ("../../bin/sh", "is not the name of a credential helper", Kind::Internal),
    ] {
        write(&path, &json!({ "credHelpers": { host: helper } }));
        let start = Instant::now();
        let error = refused_with(&registries, &text, word).await;
        assert_eq!(error.kind(), kind, "{helper}");
        assert!(!error.to_string().contains("sesame"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(3), "{helper}: {:?}", start.elapsed());
    }
    assert!(!is_running("1234.5"), "what a helper has started ends with it");
}

fn write(path: &Path, document: &serde_json::Value) {
    std::fs::write(path, document.to_string()).expect("written");
}

/// Whether a process has this argument.
fn is_running(argument: &str) -> bool {
    std::thread::sleep(Duration::from_millis(200));
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes.flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    })
}
