//! The examples as steps: pushed to a registry, run cold and hot, compared with what they must
//! print and write.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use warmstep_tests::examples::{ALL, Example, wasm};
use warmstep_tests::{Agent, Form, Registry, modules, paths};

fn run(name: &str, form: Form) {
    let example: &Example = ALL.iter().find(|example| example.name == name).unwrap();
    let registry = Registry::start().unwrap();
    let pushed = registry.push(name, "latest", form, wasm(example.module).unwrap()).unwrap();
    let agent = Agent::builder().registry(&registry).start().unwrap();
    for (ended, cache) in [(1, "miss"), (2, "hit")] {
        example.run(&agent, &pushed.reference).unwrap();
        let record = agent.last_record(ended).unwrap();
        assert_eq!(record.cache, cache, "{record:?}");
        assert_eq!(record.module, pushed.reference);
        assert!(pushed.digest.ends_with(&record.digest), "{record:?}");
    }
}

#[test]
fn hello() {
    run("hello", Form::Cncf);
}

#[test]
fn smallest_hello() {
    run("hello.wat", Form::Older);
}

#[test]
fn markdown() {
    run("sample", Form::Older);
}

#[test]
fn sqlite() {
    run("sqlite", Form::Cncf);
}

#[test]
fn python() {
    run("python", Form::Cncf);
}

#[test]
fn ruby() {
    run("ruby", Form::Older);
}

/// What one step writes, the next one finds.
#[test]
fn sqlite_keeps_its_database() {
    let agent = Agent::builder().start().unwrap();
    let data = agent.scratch().join("data");
    fs::create_dir(&data).unwrap();
    let orders = fs::read(paths::example("sqlite/orders.sql")).unwrap();
    let step = agent
        .step(paths::module("sqlite").unwrap())
        .directory(&data, "/data")
        .arguments(["-batch", "-bail", "/data/orders.db"])
        .stdin(orders);
    assert_eq!(step.clone().run().unwrap().out(), "Grace|1|3500\nAda|2|560\n");
    assert_eq!(step.run().unwrap().out(), "Grace|2|7000\nAda|4|1120\n");
}

/// `sys.exit` decides how the step ends.
#[test]
fn python_ends_as_it_says() {
    let agent = Agent::builder().start().unwrap();
    let python = |script: &str| {
        let step = agent
            .step(paths::module("python").unwrap())
            .readable(modules::python_library().unwrap(), "/usr/local/lib");
        step.arguments(["-c", script]).run().unwrap()
    };
    assert_eq!(python("import sys; sys.exit(7)").code, 7);
    let failed = python("import sys; sys.exit('no orders today')");
    assert_eq!((failed.code, failed.err().contains("no orders today")), (1, true));
    let raised = python("open('/etc/passwd')");
    assert_eq!((raised.code, raised.err().contains("/etc/passwd")), (1, true));
}

/// A row that cannot be read is an exit code of the script's own, and the report is still written.
#[test]
fn python_rejects_rows() {
    let agent = Agent::builder().start().unwrap();
    let scratch = agent.scratch().join("step");
    fs::create_dir(&scratch).unwrap();
    fs::write(
        scratch.join("orders.csv"),
        "customer,product,pieces,price\nAda,x,1,2\nAda,y,one,2\n",
    )
    .unwrap();
    let ended = agent
        .step(paths::module("python").unwrap())
        .readable(modules::python_library().unwrap(), "/usr/local/lib")
        .readable(paths::example("python"), "/app")
        .directory(&scratch, "/data")
        .arguments(["/app/report.py", "/data/orders.csv", "/data/report.json"])
        .run()
        .unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (3, "1 customers, 2 in all, 1 rows rejected\n"));
    assert_eq!(
        fs::read_to_string(scratch.join("report.json")).unwrap(),
        "{\n  \"Ada\": \"2\"\n}\n"
    );
}
