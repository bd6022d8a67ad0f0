//! `auto`: the modules that an object's own templates run through the shim. Pure, from the object.
//!
//! Whatever has a command or arguments is looked at, wherever in the object it is: containers,
//! scripts, container sets, sidecars, hooks and inline templates all look alike.

use serde_json::Value;

use super::annotation::Modules;

/// How deep is looked, in values within values: Argo's own templates are less than twenty deep.
const MAX_DEPTH: usize = 64;

/// The shim's program, whatever directory it is mounted in.
const SHIM: &str = "warmstep";

/// The shim's flags that have a value behind them.
const WITH_VALUE: [&str; 7] =
    ["--dir", "--env", "--net", "--memory", "--timeout", "--socket", "--wait"];

/// The shim's flags that stand alone.
const ALONE: [&str; 2] = ["--quiet", "-q"];

/// The modules that an object runs.
pub(crate) fn modules(object: &Value) -> Modules {
    let mut found = Modules::default();
    look(object, 0, &mut found);
    if found == Modules::default() {
        return Modules::problem(
            "auto: no template runs `warmstep run oci://…` as its command and arguments",
        );
    }
    found
}

fn look(value: &Value, depth: usize, found: &mut Modules) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| look(value, depth + 1, found)),
        Value::Object(fields) => {
            let mut line = words(fields.get("command"));
            line.extend(words(fields.get("args")));
            match module(&line) {
                Some(Ok(module)) => found.add(module),
                Some(Err(reason)) => found.refuse(reason),
                None => {}
            }
            fields.values().for_each(|value| look(value, depth + 1, found));
        }
        _ => {}
    }
}

fn words(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The module that a command line runs; nothing if it is not the shim's, or the module is a file,
/// which only the pod has.
fn module<'a>(line: &[&'a str]) -> Option<Result<&'a str, String>> {
    let (program, rest) = line.split_first()?;
    if program.rsplit('/').next() != Some(SHIM) {
        return None;
    }
    let (command, rest) = rest.split_first()?;
    if *command != "run" {
        return None;
    }
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(word) {
            words.next();
        } else if ALONE.contains(word) || WITH_VALUE.iter().any(|flag| is_set(word, flag)) {
            // Its value is part of it.
        } else if word.starts_with('-') {
            return (*word != "--").then(|| Err(format!("auto: the shim has no flag {word:.80}")));
        } else {
            let is_module =
                word.starts_with("oci://") || word.starts_with("sha256:") || word.contains("{{");
            return is_module.then_some(Ok(word));
        }
    }
    None
}

/// Whether this is `--flag=value`.
fn is_set(word: &str, flag: &str) -> bool {
    word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_of_a_template_is_looked_at() {
        let object = json!({"spec": {"templates": [
            {"container": {"command": ["/warmstep/warmstep", "run"],
                           "args": ["oci://r.example/a:1", "--", "oci://r.example/not:1"]}},
            {"script": {"command": ["warmstep"], "source": "print(1)",
                        "args": ["run", "--dir", "/a:/b:ro", "-q", "--memory=1Gi", "oci://r.example/b", "--"]}},
            {"containerSet": {"containers": [
                {"name": "main", "command": ["warmstep", "run", "oci://r.example/c:1"]}]}},
            {"dag": {"tasks": [{"inline": {"container": {
                "command": ["warmstep", "run", "oci://r.example/a:1"]}}}]}},
            {"container": {"image": "busybox", "command": ["sh", "-c", "warmstep run oci://r.example/z:1"]}},
            {"container": {"command": ["warmstep", "run", "./file.wasm"]}},
            {"container": {"command": ["warmstep", "version"]}},
            {"container": {"args": ["warmstep", "run", "oci://r.example/d:1"]}},
        ]}});
        let found = modules(&object);
        let mut names: Vec<&str> =
            found.modules.iter().filter_map(|name| name.strip_prefix("oci://r.example/")).collect();
        names.sort_unstable();
        assert_eq!(names, ["a:1", "b:latest", "c:1", "d:1"]);
        assert!(found.problems.is_empty(), "{found:?}");
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let run = |arguments: &[&str]| {
            modules(&json!({"spec": {"workflowSpec": {"templates": [{"container": {
                "command": ["warmstep", "run"], "args": arguments}}]}}}))
        };
        for (arguments, said) in [
            (&["oci://r.example/a:{{workflow.parameters.tag}}"][..], "a parameter has no value"),
            (&["{{inputs.parameters.module}}"], "a parameter has no value"),
            (&["--shiny", "oci://r.example/a:1"], "the shim has no flag --shiny"),
            (&["./a.wasm"], "no template runs"),
            (&["--", "oci://r.example/a:1"], "no template runs"),
            (&["--dir"], "no template runs"),
        ] {
            let found = run(arguments);
            assert!(found.modules.is_empty(), "{found:?}");
            assert!(found.problems[0].contains(said), "{arguments:?}: {found:?}");
        }
        assert!(modules(&json!({})).problems[0].contains("no template runs"));
    }

    #[test]
    fn what_is_too_deep_is_not_looked_at() {
        let mut object = json!({"command": ["warmstep", "run", "oci://r.example/a:1"]});
        for _ in 0..100 {
            object = json!({ "x": object });
        }
        assert!(modules(&object).modules.is_empty());
    }
}
