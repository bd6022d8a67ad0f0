//! The jail of a running compiler, looked at from outside. What the jail itself does is tested in
//! its own package.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A compiler that waits for its module. It is ended when this is dropped.
struct Waiting(Child);

impl Waiting {
    fn start(out: &std::path::Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_warmstep-compile"))
            .arg("--out")
            .arg(out)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }

    /// A field of its `/proc/PID/status`.
    fn status(&self, field: &str) -> String {
        let path = format!("/proc/{}/status", self.0.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap_or_else(|| panic!("no {field}")).trim().to_owned()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_is_confined_before_it_reads() {
    let out = tempfile::tempdir().expect("there is room");
    let compiler = Waiting::start(out.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while compiler.status("Seccomp") != "2" {
        assert!(Instant::now() < deadline, "it is not confined");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(compiler.status("NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(compiler.status(set), "0000000000000000", "{set}");
    }
    // A neighbour who is not root is not even told.
    if rustix::process::geteuid().is_root() {
        let open = std::fs::read_dir(format!("/proc/{}/fd", compiler.0.id())).expect("it runs");
        let mut open: Vec<_> = open.map(|entry| entry.expect("an entry").file_name()).collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
        let environment = std::fs::read(format!("/proc/{}/environ", compiler.0.id()));
        assert!(environment.expect("it runs").iter().all(|byte| *byte == 0));
    }
}
