//! Where modules come from: registries in all their forms, files that only the caller sees, the
//! cache itself.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use warmstep_tests::{Agent, Form, Registry};

use crate::guests;

#[test]
fn both_forms_by_tag_and_by_digest() {
    let registry = Registry::start().unwrap();
    let agent = Agent::builder().registry(&registry).start().unwrap();
    for (form, name) in [(Form::Cncf, "cncf"), (Form::Older, "older")] {
        let pushed = registry.push(name, "1.0", form, guests::says(name)).unwrap();
        for reference in [&pushed.reference, &pushed.pinned, &pushed.digest] {
            let ended = agent.step(reference).run().unwrap();
            assert_eq!(ended.out(), format!("{name}\n"), "{reference}: {}", ended.err());
        }
    }
    assert_eq!(agent.status().unwrap().counts.hits, 4, "one compile a module");
}

/// A module that is a file of the pod needs no path that the agent could open.
#[test]
fn a_file_that_only_the_caller_sees() {
    let agent = Agent::builder().start().unwrap();
    let module = agent.scratch().join("m.wasm");
    fs::write(&module, guests::says("private")).unwrap();
    let step = agent.step("/mnt/hidden.wasm").command().unwrap();
    let script = format!(
        "mount -t tmpfs none /mnt && cp {} /mnt/hidden.wasm && exec \"$0\" \"$@\"",
        module.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .arg(step.get_program())
        .args(step.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "private\n", "{said}");
    assert!(!std::path::Path::new("/mnt/hidden.wasm").exists());
}

#[test]
fn a_private_registry_opens_to_docker_s_credentials_alone() {
    let registry = Registry::with_password("ada", "pass word").unwrap();
    let pushed = registry.push("private/x", "1", Form::Cncf, guests::says("secret")).unwrap();
    let agent = Agent::builder().registry(&registry).start().unwrap();
    let ended = agent.step(&pushed.reference).run().unwrap();
    assert_eq!(ended.code, 126, "{}", ended.err());
    assert!(ended.err().contains("denied access (401)"), "{}", ended.err());
    drop(agent);
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("config.json");
    // base64 of `ada:pass word`.
    let auths = serde_json::json!({"auths": {registry.host(): {"auth": "YWRhOnBhc3Mgd29yZA=="}}});
    fs::write(&config, auths.to_string()).unwrap();
    let agent = Agent::builder()
        .registry(&registry)
        .argument("--docker-config")
        .argument(config.display().to_string())
        .start()
        .unwrap();
    assert_eq!(agent.step(&pushed.reference).run().unwrap().out(), "secret\n");
}

#[test]
fn plain_http_only_where_the_configuration_says_so() {
    let registry = Registry::start().unwrap();
    let pushed = registry.push("x", "1", Form::Cncf, guests::says("x")).unwrap();
    let agent =
        Agent::builder().tables(&format!("[registry.\"{}\"]", registry.host())).start().unwrap();
    let ended = agent.step(&pushed.reference).run().unwrap();
    assert_eq!(ended.code, 125, "{}", ended.err());
    assert!(ended.err().contains("plain_http"), "{}", ended.err());
}

#[test]
fn a_mirror_stands_in_for_its_registry() {
    let registry = Registry::start().unwrap();
    let pushed = registry.push("team/x", "1", Form::Cncf, guests::says("mirrored")).unwrap();
    let agent = Agent::builder()
        .registry(&registry)
        .tables(&format!("[registry.\"origin.invalid\"]\nmirrors = [\"{}\"]", registry.host()))
        .start()
        .unwrap();
    let ended = agent.step("oci://origin.invalid/team/x:1").run().unwrap();
    assert_eq!(ended.out(), "mirrored\n", "{}", ended.err());
    assert_eq!(agent.last_record(1).unwrap().digest, pushed.digest);
}

#[test]
fn a_tag_is_asked_for_again_when_its_time_is_over() {
    let registry = Registry::start().unwrap();
    let first = registry.push("x", "1", Form::Cncf, guests::says("first")).unwrap();
    let agent = Agent::builder().registry(&registry).setting("tag_ttl = '3s'").start().unwrap();
    assert_eq!(agent.step(&first.reference).run().unwrap().out(), "first\n");
    registry.push("x", "1", Form::Cncf, guests::says("second")).unwrap();
    assert_eq!(agent.step(&first.reference).run().unwrap().out(), "first\n", "still good");
    std::thread::sleep(Duration::from_millis(4100));
    assert_eq!(agent.step(&first.reference).run().unwrap().out(), "second\n");
    // S3: what was pinned stays what it was, whatever happens to the tag.
    assert_eq!(agent.step(&first.pinned).run().unwrap().out(), "first\n");
    // A registry that is away harms nobody who was there before.
    drop(registry);
    std::thread::sleep(Duration::from_millis(4100));
    let ended = agent.step(&first.reference).run().unwrap();
    assert_eq!(ended.out(), "second\n", "{}", ended.err());
}
