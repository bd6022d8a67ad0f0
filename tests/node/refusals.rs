//! Bad input: a clear error that names what failed and what to do, the design's exit code, and an
//! agent that goes on as if nothing had been.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use warmstep_tests::modules::from_text;
use warmstep_tests::push::{Config, ImageLayer};
use warmstep_tests::{Agent, Ended, Form, Registry};

use crate::guests;

/// One line, about this, with this code; and nothing ran.
fn refused(ended: &Ended, code: i32, said: &[&str]) {
    let error = ended.err();
    assert_eq!(ended.code, code, "{error}");
    assert_eq!(ended.out(), "", "{error}");
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("warmstep: "), "{error}");
    for word in said {
        assert!(last.contains(word), "{word:?} is not in {error:?}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

fn write(agent: &Agent, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = agent.scratch().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A canary: the agent is the same, and serves.
fn unharmed(agent: &Agent, canary: &Path) {
    let ended = agent.step(canary).run().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "canary\n"), "{}", ended.err());
    assert!(!agent.log().unwrap().contains("panicked"));
}

#[test]
fn files_that_are_no_modules() {
    let agent = Agent::builder().start().unwrap();
    let canary = write(&agent, "canary.wasm", guests::says("canary"));
    let hello = guests::says("hello");
    let component = b"\0asm\x0d\0\x01\0";
    let no_start = from_text("(module (func (export \"main\")))").unwrap();
    let unknown = from_text(
        "(module (import \"env\" \"launch_missiles\" (func)) (func (export \"_start\")))",
    )
    .unwrap();
    let unknown_function = from_text(
        "(module (import \"wasi_snapshot_preview1\" \"fd_teleport\" (func))
           (func (export \"_start\")))",
    )
    .unwrap();
    let wrong_type = from_text(
        "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i64)))
           (func (export \"_start\")))",
    )
    .unwrap();
    let cases: [(&str, &[u8], &[&str]); 10] = [
        ("empty.wasm", b"", &["empty.wasm", "is empty"]),
        ("text.wasm", b"(module)", &["text.wasm"]),
        ("elf.wasm", b"\x7fELF\x02\x01\x01\0", &["elf.wasm", "ELF"]),
        ("short.wasm", &hello[..hello.len() / 2], &["short.wasm"]),
        ("component.wasm", component, &["component", "wasm32-wasip1"]),
        ("garbage.wasm", b"\0asm\x01\0\0\0\xff\xff\xff\xff\xff", &["garbage.wasm"]),
        ("no_start.wasm", &no_start, &["_start"]),
        ("unknown.wasm", &unknown, &["env.launch_missiles"]),
        ("unknown_function.wasm", &unknown_function, &["wasi_snapshot_preview1.fd_teleport"]),
        ("wrong_type.wasm", &wrong_type, &["wasi_snapshot_preview1.proc_exit"]),
    ];
    for (name, bytes, said) in cases {
        let path = write(&agent, name, bytes);
        refused(&agent.step(&path).run().unwrap(), 126, said);
        // Remembered or not, the second answer is as good as the first.
        refused(&agent.step(&path).run().unwrap(), 126, said);
    }
    refused(&agent.step("./missing.wasm").run().unwrap(), 127, &["missing.wasm"]);
    refused(&agent.step(agent.scratch()).run().unwrap(), 126, &["not a regular file"]);
    unharmed(&agent, &canary);
}

#[test]
fn references_that_lead_nowhere() {
    let registry = Registry::start().unwrap();
    let hello = guests::says("hello");
    let pushed = registry.push("team/hello", "1", Form::Cncf, hello.clone()).unwrap();
    let agent = Agent::builder()
        .registry(&registry)
        .tables("[policy]\nallow = [\"127.0.0.1:*\"]\n[limits]\nmodule_bytes = '128KiB'")
        .start()
        .unwrap();
    let canary = write(&agent, "canary.wasm", guests::says("canary"));
    let host = registry.host();
    let wrong = format!("sha256:{}", "0".repeat(64));
    let at = |rest: &str| format!("oci://{host}/{rest}");
    let cases = [
        ("oci://".to_owned(), 126, vec!["oci://REGISTRY/NAME"]),
        (at("UPPER/case:1"), 126, vec!["UPPER/case"]),
        (at("team/hello:2"), 127, vec!["team/hello:2", "check"]),
        (at("nobody:1"), 127, vec!["nobody"]),
        (at(&format!("team/hello@{wrong}")), 127, vec!["team/hello"]),
        ("oci://ghcr.io/acme/x:1".to_owned(), 126, vec!["ghcr.io/acme/x", "policy.allow"]),
        ("oci://127.0.0.1:1/x:1".to_owned(), 125, vec!["127.0.0.1:1"]),
        (wrong.clone(), 127, vec![wrong.as_str(), "reference"]),
        ("sha256:beef".to_owned(), 126, vec!["64"]),
    ];
    for (module, code, said) in cases {
        refused(&agent.step(&module).run().unwrap(), code, &said);
    }
    let big = registry.push("big", "1", Form::Cncf, guests::heavy(4000, "big")).unwrap();
    refused(&agent.step(&big.reference).run().unwrap(), 126, &["big", "limits.module_bytes"]);
    let artifacts: [(&str, &str, Vec<u8>); 3] = [
        ("container", "application/vnd.oci.image.layer.v1.tar+gzip", hello),
        ("elf", "application/wasm", b"\x7fELF\x02\x01\x01\0".to_vec()),
        ("serialized", "application/wasm", b"wasmer-universal\0\0\0\0".to_vec()),
    ];
    for (name, layer, bytes) in artifacts {
        let config = json!({"architecture": "wasm", "os": "wasip1", "layerDigests": []});
        let config = config.to_string().into_bytes();
        let config = Config::new(config, "application/vnd.wasm.config.v0+json".to_owned(), None);
        let layer = ImageLayer::new(bytes, layer.to_owned(), None);
        let pushed = registry.push_layers(name, "1", config, vec![layer]).unwrap();
        refused(&agent.step(&pushed.reference).run().unwrap(), 126, &[name]);
    }
    assert_eq!(agent.step(&pushed.reference).run().unwrap().out(), "hello\n");
    unharmed(&agent, &canary);
}

#[test]
fn grants_that_cannot_be_given() {
    let agent = Agent::builder().start().unwrap();
    let canary = write(&agent, "canary.wasm", guests::says("canary"));
    let step = || agent.step(&canary);
    let missing = step().flag("--dir").flag("/nowhere/at/all").run().unwrap();
    refused(&missing, 126, &["/nowhere/at/all"]);
    let file = step().flag("--dir").flag(canary.as_os_str()).run().unwrap();
    refused(&file, 126, &["canary.wasm"]);
    refused(&step().flag("--env").flag("NOT_SET").run().unwrap(), 126, &["NOT_SET"]);
    let net = step().flag("--net").flag("example.org:443").run().unwrap();
    refused(&net, 126, &["example.org:443"]);
    let memory = step().flag("--memory").flag("100Gi").run().unwrap();
    refused(&memory, 126, &["limits.memory_max"]);
    unharmed(&agent, &canary);
}

#[test]
fn files_can_be_forbidden() {
    let agent = Agent::builder().tables("[policy]\nfiles = false").start().unwrap();
    let path = write(&agent, "m.wasm", guests::says("x"));
    refused(&agent.step(&path).run().unwrap(), 126, &["policy.files"]);
}

/// M2: a bomb costs its compiler, and is remembered.
#[test]
fn a_compile_bomb_is_stopped() {
    let agent = Agent::builder()
        .setting("tiers = 'optimized-only'")
        .tables("[limits]\ncompile_time = '1s'")
        .start()
        .unwrap();
    let canary = write(&agent, "canary.wasm", guests::says("canary"));
    let bomb = write(&agent, "bomb.wasm", guests::heavy(60_000, "boom"));
    refused(&agent.step(&bomb).run().unwrap(), 126, &["bomb.wasm", "limits.compile_time"]);
    let again = agent.step(&bomb).run().unwrap();
    refused(&again, 126, &["tried a short while ago"]);
    unharmed(&agent, &canary);
}
