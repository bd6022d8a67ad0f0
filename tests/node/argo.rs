//! A step inside Argo: a directory stands for the pod's file system, with Argo's template in it, and
//! the real programs run there. What the template declares is there, and nothing else is.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use warmstep_tests::{Agent, modules, paths};

use crate::guests;

const SECRET: &str = "nobody's business";

/// What lies in a pod beside what a template declares.
const OTHERS: [&str; 7] = [
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/etc/secret",
    "/tmp/secret",
    "/tmp/in/../secret",
    "/work/other/secret",
    "/volume/secret",
    "/var/run/argo/template",
];

/// A pod's file system, on the node of an agent.
struct Pod {
    root: PathBuf,
    module: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
}

impl Pod {
    fn new(agent: &Agent, name: &str, module: &Path, template: &Value) -> Self {
        let root = agent.scratch().join(name);
        let pod = Self {
            root,
            module: module.to_owned(),
            // As Kubernetes and Argo would have it.
            environment: vec![
                ("ARGO_CONTAINER_NAME", "main"),
                ("ARGO_NODE_ID", "node-1"),
                ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
                ("PATH", "/"),
            ],
        };
        for path in OTHERS {
            pod.write(path.trim_start_matches("/tmp/in/.."), SECRET);
        }
        pod.write("/var/run/argo/template", &template.to_string());
        for directory in ["run/warmstep", "usr/local/lib"] {
            fs::create_dir_all(pod.root.join(directory)).unwrap();
        }
        fs::hard_link(agent.socket(), pod.at("/run/warmstep/agent.sock")).unwrap();
        fs::copy(paths::program("warmstep").unwrap(), pod.at("/warmstep")).unwrap();
        fs::copy(&pod.module, pod.at("/module.wasm")).unwrap();
        pod
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// `warmstep run FLAGS /module.wasm -- ARGUMENTS`, in the pod, after a preparation in the shell.
    fn run_after(&self, prepare: &str, flags: &[&str], arguments: &[&str]) -> Output {
        let script = format!("{prepare} root=$1; shift; exec chroot \"$root\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &script, "sh"]).arg(&self.root);
        command.args(["/warmstep", "run"]).args(flags).args(["/module.wasm", "--"]).args(arguments);
        let usual = std::env::var_os("PATH").unwrap();
        command.env_clear().env("PATH", usual);
        command.envs(self.environment.iter().filter(|(name, _)| *name != "PATH").copied());
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_after("", &[], arguments)
    }
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn render() -> Value {
    json!({
        "name": "render",
        "inputs": {"artifacts": [
            {"name": "page", "path": "/tmp/page.md"},
            {"name": "more", "path": "/work/none/more", "optional": true},
        ]},
        "outputs": {"artifacts": [{"name": "html", "path": "/tmp/out/page.html"}]},
        "container": {"name": "", "image": "warmstep", "resources": {}},
    })
}

#[test]
fn an_input_becomes_an_output() {
    let agent = Agent::builder().start().unwrap();
    let pod = Pod::new(&agent, "pod", &paths::module("markdown").unwrap(), &render());
    pod.write("/tmp/page.md", "# Hello\n");
    // A step can be tried again in the same place.
    for _ in 0..2 {
        let (code, out, err) = said(&pod.run(&["/tmp/page.md", "/tmp/out/page.html"]));
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(pod.read("/tmp/out/page.html").contains("<h1>Hello</h1>"));
    }
    for other in OTHERS {
        let (code, _, err) = said(&pod.run(&[other, "/tmp/out/page.html"]));
        assert_eq!(code, Some(1), "{other}: {err}");
        assert!(err.contains(other), "{other}: {err}");
        assert!(!pod.read("/tmp/out/page.html").contains(SECRET), "{other}");
        let (code, ..) = said(&pod.run(&["/tmp/page.md", other]));
        assert_eq!(code, Some(1), "{other}");
    }
    for place in ["/tmp/page.md", "/tmp/new", "/tmp/out/new", "/new"] {
        assert_eq!(said(&pod.run(&["/tmp/page.md", place])).0, Some(1), "{place}");
    }
    assert_eq!(pod.read("/tmp/secret"), SECRET);
    assert_eq!(pod.read("/tmp/page.md"), "# Hello\n");
}

/// An output that is a directory is made with the first file in it.
#[test]
fn a_file_in_an_output_that_is_a_directory() {
    let agent = Agent::builder().start().unwrap();
    let mut template = render();
    template["outputs"]["artifacts"][0]["path"] = json!("/pages");
    let pod = Pod::new(&agent, "pod", &paths::module("markdown").unwrap(), &template);
    pod.write("/tmp/page.md", "# Hello\n");
    let (code, out, err) = said(&pod.run(&["/tmp/page.md", "/pages/page.html"]));
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(pod.read("/pages/page.html").contains("<h1>Hello</h1>"));
    for other in OTHERS {
        assert_eq!(said(&pod.run(&[other, "/pages/page.html"])).0, Some(1), "{other}");
    }
}

/// Tries whatever a script can, and says what it found.
const THIEF: &str = r#"
import os, sys
print("environment", sorted(os.environ))
print("input", open("/tmp/in/page").read())
def works(what, action):
    try:
        print("REACHED", what, action())
    except BaseException:
        pass
others = sys.argv[1:]
for path in others + ["/etc", "/tmp", "/volume", "/work", "/var/run/secrets", "/proc/self/environ"]:
    works(path, lambda: open(path).read())
    works("write " + path, lambda: open(path, "w").write("stolen"))
    works("stat " + path, lambda: path not in ("/tmp", "/work") and os.stat(path) or 1 / 0)
    works("remove " + path, lambda: os.remove(path))
    works("rename " + path, lambda: os.rename(path, "/work/result"))
    works("link " + path, lambda: os.link(path, "/work/result"))
    works("symlink " + path, lambda: os.symlink(path, "/work/result"))
    works("list " + path, lambda: path not in ("/tmp", "/work") and os.listdir(path) or 1 / 0)
os.mkdir("/work/tree")
for target in ["other/secret", "../tmp/secret", "../../etc/secret"]:
    works("symlink " + target, lambda: os.symlink(target, "/work/result"))
    works("symlink up " + target, lambda: os.symlink("../" + target, "/work/tree/link"))
works("list /", lambda: os.listdir("/"))
print("listed", sorted(os.listdir("/tmp")), sorted(os.listdir("/work")))
works("network", lambda: __import__("socket").create_connection(("127.0.0.1", 80)))
works("change an input", lambda: os.write(os.open("/tmp/in/page", os.O_WRONLY), b"x"))
works("add to an input", lambda: open("/tmp/in/new", "w"))
os.mkdir("/work/tree/deep")
open("/work/tree/deep/file", "w").write("kept")
open("/work/result", "w").write("done")
"#;

#[test]
fn a_script_reaches_nothing_but_what_is_declared() {
    let agent = Agent::builder().start().unwrap();
    let template = json!({
        "name": "thief",
        "inputs": {"artifacts": [{"name": "in", "path": "/tmp/in"}]},
        "outputs": {
            "artifacts": [{"name": "tree", "path": "/work/tree"}],
            "parameters": [{"name": "result", "valueFrom": {"path": "/work/result"}}],
        },
        "script": {
            "name": "", "image": "warmstep", "resources": {}, "source": THIEF,
            "env": [
                {"name": "GREETING", "value": "hello"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "ABSENT",
                 "valueFrom": {"secretKeyRef": {"name": "x", "key": "k", "optional": true}}},
            ],
        },
    });
    let mut pod = Pod::new(&agent, "pod", &paths::module("python").unwrap(), &template);
    pod.environment.extend([("GREETING", "hello"), ("KEY", "the key")]);
    pod.write("/argo/staging/script", THIEF);
    pod.write("/tmp/in/page", "an input");
    let library = modules::python_library().unwrap();
    let prepare = format!("mount --bind '{}' \"$1/usr/local/lib\";", library.display());
    let flags = ["--dir", "/usr/local/lib:/usr/local/lib:ro"];
    let arguments: Vec<&str> = std::iter::once("/argo/staging/script").chain(OTHERS).collect();
    let (code, out, err) = said(&pod.run_after(&prepare, &flags, &arguments));
    assert_eq!(code, Some(0), "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        ["environment ['GREETING', 'KEY']", "input an input", "listed ['in'] ['tree']"],
        "{err}"
    );
    assert_eq!(pod.read("/work/result"), "done");
    assert_eq!(pod.read("/work/tree/deep/file"), "kept");
    for other in OTHERS.into_iter().filter(|other| !other.contains("..") && !other.contains("argo"))
    {
        assert_eq!(pod.read(other), SECRET);
    }
}

#[test]
fn a_template_that_makes_no_sense_grants_nothing() {
    let agent = Agent::builder().start().unwrap();
    let module = agent.scratch().join("m.wasm");
    fs::write(&module, guests::says("ran")).unwrap();
    let pod = Pod::new(&agent, "pod", &module, &render());
    assert_eq!(said(&pod.run(&[])).1, "ran\n");
    let output = |path: &str| {
        json!({"container": {}, "outputs": {"artifacts": [{"name": "x", "path": path}]}})
            .to_string()
    };
    for (template, words) in [
        ("{".to_owned(), "cannot understand this step's template at /var/run/argo/template"),
        (json!({"container": {}, "inputs": {"artifacts": {}}}).to_string(), "cannot understand"),
        (json!({"resource": {}}).to_string(), "has no container \"main\""),
        ("x".repeat(3 << 20), "longer than"),
        (output("/"), "must be of a file or directory"),
        (output("/var"), "would give the module /var/run/argo"),
        (output("/var/run/secrets/x"), "would give the module /var/run/secrets"),
        (output("/tmp/a\0b"), "cannot be granted"),
    ] {
        pod.write("/var/run/argo/template", &template);
        let (code, out, err) = said(&pod.run(&[]));
        assert_eq!((code, out.as_str()), (Some(126), ""), "{words}: {err}");
        assert!(err.starts_with("warmstep: ") && err.contains(words), "{words}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    // Where there is none, this is not Argo.
    fs::remove_file(pod.at("/var/run/argo/template")).unwrap();
    assert_eq!(said(&pod.run(&[])).1, "ran\n");
}

#[test]
fn an_output_on_a_read_only_root() {
    let agent = Agent::builder().start().unwrap();
    let pod = Pod::new(&agent, "pod", &paths::module("markdown").unwrap(), &render());
    pod.write("/tmp/page.md", "# Hello\n");
    let read_only = "mount --bind \"$1\" \"$1\"; mount -o remount,ro,bind \"$1\";";
    let arguments = ["/tmp/page.md", "/tmp/out/page.html"];
    let (code, _, err) = said(&pod.run_after(read_only, &[], &arguments));
    assert_eq!(code, Some(126), "{err}");
    assert!(err.contains("/tmp/out") && err.contains("mount a volume there"), "{err}");
    // With a volume for the output it works.
    fs::create_dir(pod.at("/tmp/out")).unwrap();
    let volume = format!("{read_only} mount -t tmpfs none \"$1/tmp/out\";");
    let (code, out, err) = said(&pod.run_after(&volume, &[], &arguments));
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn the_memory_of_the_container_bounds_that_of_the_module() {
    let tables = "[limits]\nmemory = \"64MiB\"\nmemory_max = \"96MiB\"";
    let agent = Agent::builder().tables(tables).start().unwrap();
    let run = |name: &str, limit: Option<&str>, mebibytes: u32, flags: &[&str]| {
        let module = agent.scratch().join("m.wasm");
        fs::write(&module, guests::grows(mebibytes)).unwrap();
        let mut template = json!({"container": {"resources": {}}});
        if let Some(limit) = limit {
            template["container"]["resources"] = json!({"limits": {"memory": limit}});
        }
        let pod = Pod::new(&agent, name, &module, &template);
        said(&pod.run_after("", flags, &[]))
    };
    // The node's default, without a limit.
    assert_eq!(run("a", None, 60, &[]).0, Some(0));
    assert_ne!(run("b", None, 70, &[]).0, Some(0));
    // Half of a small container's.
    assert_eq!(run("c", Some("64Mi"), 30, &[]).0, Some(0));
    assert_ne!(run("d", Some("64Mi"), 40, &[]).0, Some(0));
    // More than the node's default, and no more than the node allows, which refuses nobody.
    assert_eq!(run("e", Some("1Gi"), 90, &[]).0, Some(0));
    assert_ne!(run("f", Some("1Gi"), 100, &[]).0, Some(0));
    // What is asked for counts instead, and is refused where it is too much.
    assert_ne!(run("g", Some("1Gi"), 40, &["--memory", "32Mi"]).0, Some(0));
    let (code, _, err) = run("h", Some("1Gi"), 40, &["--memory", "1Gi"]);
    assert!(code == Some(126) && err.contains("limits.memory_max"), "{err}");
}

/// An agent of before would skip the single paths, and run the step without them.
#[test]
fn an_older_agent_is_not_asked() {
    let agent = Agent::builder().start().unwrap();
    let pod = Pod::new(&agent, "pod", &paths::module("markdown").unwrap(), &render());
    let listener = UnixListener::bind(pod.at("/run/warmstep/old.sock")).unwrap();
    let old = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = vec![0; 1024];
        let read = stream.read(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 426 x\r\nupgrade: warmstep/1\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let flags = ["--socket", "/run/warmstep/old.sock"];
    let (code, _, err) = said(&pod.run_after("", &flags, &["/tmp/page.md", "/tmp/out/page.html"]));
    let asked = old.join().unwrap();
    assert!(asked.contains("\r\nUpgrade: warmstep/1.1\r\n"), "{asked}");
    assert_eq!(code, Some(125), "{err}");
    assert!(err.contains("too old to grant single files"), "{err}");
}
