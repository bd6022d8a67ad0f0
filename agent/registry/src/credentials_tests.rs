//! Docker configurations in their shapes, and helpers that answer, fail, babble and hang.

use super::*;

async fn find(config: &str, host: &str) -> Result<Found, Fault> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    std::fs::write(&path, config).expect("written");
    Store::new(Some(path), Duration::from_secs(5)).snapshot().await.find(host).await
}

async fn password(config: &str, host: &str) -> Option<(String, String)> {
    match find(config, host).await.expect("readable").credential? {
        Credential::Password { user, password } => Some((user, password)),
        Credential::IdentityToken(_) => None,
    }
}

// "alice:open:sesame" and "bob:secret".
const TWO: &str = r#"{"auths":{
    "r.example:5000":{"auth":"YWxpY2U6b3BlbjpzZXNhbWU="},
    "https://index.docker.io/v1/":{"username":"bob","password":"secret"},
    "t.example":{"identitytoken":"refresh","auth":"PHRva2VuPjo="}}}"#;

#[tokio::test]
async fn entries_belong_to_their_host() {
    let alice = ("alice".to_owned(), "open:sesame".to_owned());
    assert_eq!(password(TWO, "r.example:5000").await, Some(alice));
    assert_eq!(password(TWO, "docker.io").await, Some(("bob".into(), "secret".into())));
    for other in ["r.example", "r.example:5001", "evil-r.example:5000", "example:5000"] {
        assert_eq!(password(TWO, other).await, None, "{other}");
    }
    let found = find(TWO, "t.example").await.expect("readable");
    assert!(
        matches!(found.credential, Some(Credential::IdentityToken(token)) if token == "refresh")
    );
}

#[tokio::test]
async fn what_is_missing_or_broken_is_said() {
    let none = Store::new(None, Duration::from_secs(1)).snapshot().await;
    let found = none.find("r.example").await.expect("no file is no fault");
    assert!(found.credential.is_none() && found.origin.contains("docker_config"));

    let found = find(TWO, "other.example").await.expect("readable");
    assert!(found.origin.contains("config.json has none for it"), "{}", found.origin);

    let gone = Store::new(Some("/nonexistent/config.json".into()), Duration::from_secs(1));
    let snapshot = gone.snapshot().await;
    let fault = snapshot.find("r.example").await.err().expect("gone").to_string();
    assert!(fault.contains("/nonexistent/config.json: No such file"), "{fault}");

    for broken in [
        "",
        "[]",
        "{",
        r#"{"auths":{"r.example":{"auth":"%"}}}"#,
        r#"{"auths":["sesame"]}"#,
        r#"{"auths":{"r.example":{"auth":"sesame"}}}"#,
        r#"{"credHelpers":"sesame"}"#,
        r#"{"credsStore":{"sesame":1}}"#,
    ] {
        let fault = find(broken, "r.example").await.err().expect(broken).to_string();
        assert!(fault.contains("config.json: ") && !fault.contains('\n'), "{fault}");
        assert!(!fault.contains("sesame"), "a secret is printed: {fault}");
    }
    let huge = format!("{{\"x\":\"{}\"}}", "y".repeat(2 << 20));
    let fault = find(&huge, "r.example").await.err().expect("huge").to_string();
    assert!(fault.contains("larger than"), "{fault}");
}

#[tokio::test]
async fn a_changed_file_has_another_fingerprint() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    let store = Store::new(Some(path.clone()), Duration::from_secs(1));
    std::fs::write(&path, "{}").expect("written");
    let before = store.snapshot().await.fingerprint();
    assert_eq!(before, store.snapshot().await.fingerprint());
    std::fs::write(&path, "{ }").expect("written");
    assert_ne!(before, store.snapshot().await.fingerprint());
}

#[test]
fn secrets_do_not_print() {
    let credential = Credential::Password { user: "alice".into(), password: "sesame".into() };
    assert!(!format!("{credential:?}").contains("sesame"));
}
