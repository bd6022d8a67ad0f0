//! Where requests may go and where not, as tables.

use super::*;
use crate::config::HostConfig;

fn guard(hosts: &[(&str, bool)]) -> Guard {
    let hosts = hosts
        .iter()
        .map(|(host, plain_http)| {
            ((*host).to_owned(), HostConfig { plain_http: *plain_http, ..HostConfig::default() })
        })
        .collect();
    Guard::new(RegistryConfig { hosts, ..RegistryConfig::default() })
}

fn url(text: &str) -> Url {
    Url::parse(text).expect(text)
}

#[test]
fn addresses_that_no_registry_has() {
    let guard = guard(&[]);
    for address in [
        "169.254.169.254",
        "169.254.0.1",
        "168.63.129.16",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[fe80::1]",
        "[ff02::1]",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "[::ffff:169.254.169.254]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        // Other spellings of 169.254.169.254.
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.43518",
    ] {
        let direct = guard.first(&url(&format!("https://{address}/v2/")));
        assert!(matches!(direct, Err(Refusal::Address { .. })), "{address}: {direct:?}");
        let redirect =
            guard.next(&url("https://r.example/"), &url(&format!("https://{address}/latest/")));
        assert!(matches!(redirect, Err(Refusal::Address { .. })), "{address}: {redirect:?}");
    }
    for address in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "[2001:db8::1]", "[fd00::1]"] {
        assert_eq!(guard.first(&url(&format!("https://{address}/v2/"))), Ok(()), "{address}");
    }
}

#[test]
fn names_are_judged_by_what_they_resolve_to() {
    let guard = guard(&[("named.example:5000", false)]);
    let ip = |text: &str| text.parse::<IpAddr>().expect(text);
    assert!(guard.resolved("r.example", ip("169.254.169.254")).is_err());
    assert!(guard.resolved("r.example", ip("::ffff:169.254.169.254")).is_err());
    assert!(guard.resolved("r.example", ip("127.0.0.1")).is_err());
    assert!(guard.resolved("r.example", ip("::ffff:127.0.0.1")).is_err());
    assert!(guard.resolved("r.example", ip("::1")).is_err());
    assert!(guard.resolved("r.example", ip("10.1.2.3")).is_ok());
    assert!(guard.resolved("localhost", ip("127.0.0.1")).is_ok(), "its own name");
    assert!(guard.resolved("named.example", ip("127.0.0.1")).is_ok(), "the operator's word");
}

#[test]
fn redirects_keep_tls_and_leave_the_node_alone() {
    let guard = guard(&[("plain.example", true), ("127.0.0.1:7000", false)]);
    let check = |from: &str, to: &str| guard.next(&url(from), &url(to));

    assert_eq!(check("https://a.example/", "https://a.example/x"), Ok(()));
    assert_eq!(check("https://a.example/", "https://cdn.example/x"), Ok(()));
    assert_eq!(check("http://plain.example/", "https://cdn.example/x"), Ok(()));
    assert_eq!(check("http://a.example/", "http://plain.example/x"), Ok(()));
    assert_eq!(check("http://127.0.0.1:5000/", "https://127.0.0.1:6000/"), Ok(()));
    assert_eq!(check("https://a.example/", "https://127.0.0.1:7000/"), Ok(()), "named");

    let refused = [
        ("https://a.example/", "http://a.example/x", "undo its TLS"),
        ("https://a.example/", "http://plain.example/x", "undo its TLS"),
        ("http://plain.example/", "http://b.example/", "plain_http = true"),
        ("https://a.example/", "https://127.0.0.1/", "the node itself"),
        ("https://a.example/", "https://[::1]:10250/", "the node itself"),
        ("https://a.example/", "https://[::ffff:127.0.0.1]/", "the node itself"),
        ("https://a.example/", "https://localhost:10250/", "the node itself"),
        ("https://a.example/", "https://x.localhost./", "the node itself"),
        ("https://a.example/", "https://u:p@b.example/", "password"),
        ("https://a.example/", "https://u@a.example/", "password"),
        ("https://a.example/", "file:///etc/passwd", "neither https"),
        ("https://a.example/", "data:,x", "neither https"),
    ];
    for (from, to, word) in refused {
        let error = check(from, to).expect_err(to).to_string();
        assert!(error.contains(word), "{to}: {error}");
    }
}

#[test]
fn credentials_stay_at_their_origin() {
    let a = url("https://a.example/v2/");
    assert!(same_origin(&a, &url("https://a.example:443/else")));
    for other in ["http://a.example/", "https://a.example:444/", "https://b.a.example/", "data:,"] {
        assert!(!same_origin(&a, &url(other)), "{other}");
    }
    assert!(!same_origin(&url("data:,"), &url("data:,")));
}
