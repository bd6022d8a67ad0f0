//! Challenges and token answers, honest and otherwise.

use super::*;

fn challenge(values: &[&str]) -> Option<Challenge> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(WWW_AUTHENTICATE, value.parse().expect("a header"));
    }
    parse(&headers)
}

#[test]
fn finds_the_best_challenge() {
    let bearer = r#"Bearer realm="https://auth.example/token",service="r.example",scope="a b""#;
    for values in [
        &[bearer][..],
        &[r#"Basic realm="x""#, bearer],
        &[r#"Basic realm="x", bearer Realm="https://auth.example/token", Service=r.example"#],
    ] {
        let Some(Challenge::Bearer { realm, service }) = challenge(values) else {
            panic!("{values:?}")
        };
        assert_eq!(realm, "https://auth.example/token");
        assert_eq!(service.as_deref(), Some("r.example"));
    }
    assert!(matches!(challenge(&[r#"BASIC realm="x""#]), Some(Challenge::Basic)));
    assert!(matches!(challenge(&["Bearer x=y", r#"Basic realm="x""#]), Some(Challenge::Basic)));
    for values in
        [&[][..], &[""], &["Negotiate"], &["Bearer"], &["=,=,\""], &["Digest realm=\"x\""]]
    {
        assert!(challenge(values).is_none(), "{values:?}");
    }
}

#[test]
fn reads_tokens_and_refuses_what_is_no_header() {
    let (header, lifetime) = read_token(br#"{"token":"abc","expires_in":300}"#).expect("a token");
    assert_eq!((header.to_str().expect("text"), lifetime.as_secs()), ("Bearer abc", 300));
    assert!(header.is_sensitive(), "it must not be printed");
    let (header, lifetime) = read_token(br#"{"access_token":"x","token":""}"#).expect("a token");
    assert_eq!((header.to_str().expect("text"), lifetime), ("Bearer x", DEFAULT_LIFETIME));

    for bad in [
        &br#"{"token":"a\r\nHost: other"}"#[..],
        br#"{"token":"a\u0000"}"#,
        br#"{"token":""}"#,
        br#"{"token":7}"#,
        br#"{"token":"a","expires_in":-1}"#,
        b"{}",
        b"",
        b"null",
    ] {
        assert!(read_token(bad).is_none(), "{}", bad.escape_ascii());
    }
}

#[test]
fn remembers_only_for_the_same_config_and_not_without_end() {
    let remembered = Remembered::default();
    let scope = |n: usize| Scope { origin: "https://r.example".into(), repository: n.to_string() };
    let header = HeaderValue::from_static("Bearer x");
    let config = Digest::of(b"one");
    let hour = Duration::from_secs(3600);

    remembered.put(&scope(0), config, &header, hour);
    assert_eq!(remembered.get(&scope(0), config), Some(header.clone()));
    assert_eq!(remembered.get(&scope(0), Digest::of(b"two")), None, "a rotated config");
    assert_eq!(remembered.get(&scope(1), config), None, "another repository");
    remembered.put(&scope(2), config, &header, Duration::ZERO);
    assert_eq!(remembered.get(&scope(2), config), None, "expired");
    remembered.put(&scope(3), config, &header, Duration::from_secs(u64::MAX));
    assert!(remembered.get(&scope(3), config).is_some(), "an absurd lifetime");

    for n in 0..10 * MAX_REMEMBERED {
        remembered.put(&scope(n), config, &header, hour);
    }
    let held = remembered.entries.lock().expect("not poisoned").len();
    assert!(held <= MAX_REMEMBERED, "{held}");
}
