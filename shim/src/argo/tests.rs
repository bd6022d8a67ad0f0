//! Templates as Argo 4.0.5 writes them (`templates/`, made with its own types), and others.

use std::os::unix::fs::PermissionsExt;

use super::*;

const CONTAINER: &str = include_str!("templates/container.json");
const SCRIPT_TEMPLATE: &str = include_str!("templates/script.json");
const SET: &str = include_str!("templates/set.json");

/// A folder that stands for the pod's file system.
struct Pod {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, &'static str)>,
}

impl Pod {
    fn new(environment: &[(&'static str, &'static str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for directory in ["tmp", "data", "workspace"] {
            std::fs::create_dir(folder.path().join(directory)).expect("mkdir");
        }
        Self { folder, environment: environment.to_vec() }
    }

    fn lookup(&self, name: &OsStr) -> Option<OsString> {
        self.environment.iter().find(|(known, _)| name == *known).map(|(_, value)| value.into())
    }

    /// A template with its paths moved into the folder.
    fn moved(&self, template: &str) -> Template {
        let mut text = template.to_owned();
        for root in ["/tmp/", "/work/", "/data/", "/workspace/"] {
            let path = self.folder.path().to_str().expect("a path");
            text = text.replace(&format!("\"{root}"), &format!("\"{path}{root}"));
        }
        serde_json::from_str(&text).expect("a template")
    }

    fn granted(&self, template: &str, limit: Option<u64>) -> Result<Grants, ArgoError> {
        grants(&self.moved(template), limit, |name| self.lookup(name))
    }

    /// A line for each path, `ro` or `rw`, and its name in the folder.
    fn paths(&self, grants: &Grants) -> Vec<String> {
        let root = self.folder.path().to_str().expect("a path");
        let line = |grant: &warmstep_wire::message::PathGrant| {
            assert_eq!(grant.host, grant.guest);
            let path = String::from_utf8_lossy(&grant.host).into_owned();
            let word = if grant.read_only { "ro" } else { "rw" };
            format!("{word} {}", path.strip_prefix(root).unwrap_or(&path))
        };
        grants.paths.iter().map(line).collect()
    }
}

fn variables(grants: &Grants) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |variable: &warmstep_wire::message::Variable| {
        format!("{}={}", text(&variable.name), text(&variable.value))
    };
    grants.environment.iter().map(line).collect()
}

/// What Kubernetes and Argo add to the environment of `main`.
const ADDED: [(&str, &str); 6] = [
    ("ARGO_CONTAINER_NAME", "main"),
    ("ARGO_NODE_ID", "x"),
    ("ARGO_DEADLINE", "0001-01-01T00:00:00Z"),
    ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ("PATH", "/bin"),
    ("HOME", "/"),
];

#[test]
fn a_container_template_grants_what_it_declares() {
    let mut pod = Pod::new(&ADDED);
    pod.environment.extend([("TITLE", "Hello"), ("API_KEY", "the secret's value")]);
    let granted = pod.granted(CONTAINER, None).expect("granted");
    // The optional input's directory is not there; the output's was made.
    let expected = ["ro /tmp/page.md", "rw /tmp/out/page.html", "rw /tmp/words"];
    assert_eq!(pod.paths(&granted), expected);
    assert!(pod.folder.path().join("tmp/out").is_dir());
    assert!(!pod.folder.path().join("work").exists());
    assert_eq!(variables(&granted), ["TITLE=Hello", "API_KEY=the secret's value"]);
    assert_eq!(granted.usual_memory, Some(192 << 20));
    assert!(granted.directories.is_empty() && granted.network.is_empty());
}

#[test]
fn a_script_template_grants_its_script_and_what_is_changed_in_place() {
    // Where Argo stages a script, there is a directory for it.
    let pod = Pod::new(&ADDED);
    let granted = pod.granted(SCRIPT_TEMPLATE, None).expect("granted");
    let expected: &[&str] = match Path::new("/argo/staging").is_dir() {
        true => &["rw /data/orders.csv", "ro /argo/staging/script"],
        false => &["rw /data/orders.csv"],
    };
    assert_eq!(pod.paths(&granted), expected);
    assert_eq!((granted.usual_memory, variables(&granted).len()), (None, 0));
    let template = pod.moved(SCRIPT_TEMPLATE);
    assert!(template.choose("main").expect("main").has_script);
    let empty = SCRIPT_TEMPLATE.replace("print(\\\"\\u003chello \\u0026 bye\\u003e\\\")\\n", "");
    assert!(!pod.moved(&empty).choose("main").expect("main").has_script);
}

#[test]
fn each_container_of_a_set_has_its_own_variables() {
    let all = [("A", "1"), ("B", "2"), ("C", "3")];
    for (name, variable, paths, memory) in [
        ("a", "A=1", 2, None),
        ("main", "B=2", 2, Some(32 << 20)),
        // What runs beside the step has no part in its work.
        ("beside", "C=3", 0, None),
    ] {
        let mut pod = Pod::new(&all);
        pod.environment.push(("ARGO_CONTAINER_NAME", name));
        let granted = pod.granted(SET, None).expect("granted");
        assert_eq!(variables(&granted), [variable], "{name}");
        assert_eq!(granted.paths.len(), paths, "{name}");
        assert_eq!(granted.usual_memory, memory, "{name}");
    }
    for (template, name) in
        [(SET, "c"), (CONTAINER, "wait"), (SCRIPT_TEMPLATE, "a"), ("{}", "main")]
    {
        let mut pod = Pod::new(&[]);
        pod.environment.push(("ARGO_CONTAINER_NAME", name));
        let error = pod.granted(template, None).expect_err("no such container");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn the_tighter_limit_counts() {
    let pod = Pod::new(&ADDED);
    for (limit, usual) in [(Some(128 << 20), 64), (Some(1 << 30), 192)] {
        let granted = pod.granted(CONTAINER, limit).expect("granted");
        assert_eq!(granted.usual_memory, Some(usual << 20));
    }
    let granted = pod.granted(SCRIPT_TEMPLATE, Some(1 << 30)).expect("granted");
    assert_eq!(granted.usual_memory, Some(960 << 20));
}

#[test]
fn an_output_whose_directory_cannot_be_made() {
    let pod = Pod::new(&ADDED);
    std::fs::write(pod.folder.path().join("tmp/out"), "a file").expect("a file");
    let said = pod.granted(CONTAINER, None).expect_err("no directory").to_string();
    assert!(said.contains("/tmp/out") && said.contains("mount a volume there"), "{said}");
}

#[test]
fn what_cannot_be_granted_is_said() {
    let pod = Pod::new(&ADDED);
    let outputs = |path: &str| {
        format!(
            r#"{{"container":{{}},"outputs":{{"artifacts":[{{"name":"x","path":"{path}"}}]}}}}"#
        )
    };
    for (path, words) in [
        ("/", "must be of a file or directory"),
        ("/..", "must be of a file or directory"),
        ("/proc/self/environ", "would give the module /proc"),
        ("/var/run/secrets/kubernetes.io/serviceaccount/token", "declare a path apart"),
        ("/var/run/argo", "declare a path apart"),
    ] {
        let said = pod.granted(&outputs(path), None).expect_err(path).to_string();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn files_that_are_no_template() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("template");
    let read = || granted(&path, |_| None);
    assert!(read().expect("this is not Argo").is_none());
    let beyond = path.join("template");
    for text in [
        "",
        "null",
        "[]",
        "{",
        "{}x",
        r#"{"container":[]}"#,
        r#"{"container":{"env":[{"value":"nameless"}]}}"#,
        r#"{"container":{"env":{"A":"1"}}}"#,
        r#"{"container":{},"container":{}}"#,
        r#"{"inputs":{"artifacts":[{"path":["/tmp"]}]},"container":{}}"#,
        r#"{"outputs":{"artifacts":"/tmp"},"container":{}}"#,
    ] {
        std::fs::write(&path, text).expect("a file");
        let said = read().expect_err(text).to_string();
        assert!(said.contains("cannot understand this step's template at /"), "{text}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    assert!(granted(&beyond, |_| None).expect("a file is no directory").is_none());
    let deep = format!("{}{}", r#"{"x":"#.repeat(100_000), "}".repeat(100_000));
    std::fs::write(&path, deep).expect("a file");
    assert!(matches!(read(), Err(ArgoError::Form { .. })));
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    std::fs::write(&path, long).expect("a file");
    assert!(matches!(read(), Err(ArgoError::Size(_))));
    std::fs::remove_file(&path).expect("unlink");
    std::fs::create_dir(&path).expect("mkdir");
    assert!(matches!(read(), Err(ArgoError::Read { .. })));
    std::fs::remove_dir(&path).expect("rmdir");
    let (kind, mode) = (rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("a pipe");
    assert!(matches!(read(), Err(ArgoError::Read { .. })), "nobody waits for a pipe");
}

#[test]
fn a_template_that_may_not_be_read() {
    if rustix::process::geteuid().is_root() {
        return; // Who may read everything has nothing to see here.
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("template");
    std::fs::write(&path, CONTAINER).expect("a file");
    let nobody = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&path, nobody).expect("permissions");
    assert!(matches!(granted(&path, |_| None), Err(ArgoError::Read { .. })));
}

/// Go writes an empty list as null where it does not leave it out.
#[test]
fn what_is_null_is_empty() {
    let pod = Pod::new(&[]);
    for text in [
        r#"{"inputs":null,"outputs":null,"container":{"env":null,"resources":null}}"#,
        r#"{"inputs":{"artifacts":null},"outputs":{"parameters":[{"name":"x"}]},"container":{}}"#,
        r#"{"outputs":{"parameters":[{"valueFrom":{"path":""}}]},"script":{"source":""}}"#,
        r#"{"container":{"resources":{"limits":{"memory":"lots"}}},"sidecars":null}"#,
    ] {
        let granted = pod.granted(text, None).expect("granted");
        assert_eq!(granted, Grants::default(), "{text}");
    }
}
