//! A step to send.

use warmstep_wire::message::{DirectoryGrant, PathGrant, Step, Variable};

/// A step with something in every field.
pub(crate) fn step() -> Step {
    Step {
        module: "oci://registry.example/tools/m:1".into(),
        arguments: vec![b"-x".to_vec().into(), b"".to_vec().into(), b"\xff".to_vec().into()],
        environment: vec![Variable { name: b"A".to_vec().into(), value: b"1=2".to_vec().into() }],
        directories: vec![DirectoryGrant {
            host: b"/data/in".to_vec().into(),
            guest: b"in".to_vec().into(),
            read_only: true,
        }],
        network: vec!["example.org:443".into(), "[::1]:80".into()],
        memory: Some(256 << 20),
        timeout: Some(30_000),
        paths: vec![PathGrant {
            host: b"/argo/inputs/artifacts/page".to_vec().into(),
            guest: b"/tmp/page.md".to_vec().into(),
            read_only: true,
        }],
        usual_memory: Some(192 << 20),
    }
}
