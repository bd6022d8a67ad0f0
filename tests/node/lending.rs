//! M10: whatever is lent cannot be rewritten, not by root, not from another mount and PID
//! namespace; neither from sealed copies nor from a read-only mount.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::OFlags;
use warmstep_tests::program::Program;
use warmstep_tests::push::sha256;
use warmstep_tests::{Agent, Step, paths};
use warmstep_wire::message::Reply;

use crate::{guests, raw};

/// Set for the attacker, a child of this test: the socket, and the module's digest.
const ATTACKER: &str = "WARMSTEP_ATTACKER";

fn contents(descriptor: &OwnedFd) -> String {
    let mut file = File::from(descriptor.try_clone().unwrap());
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    sha256(&bytes)
}

/// Tries every way in on one descriptor; says which let a byte through.
fn attack(name: &str, path: &str, descriptor: Option<&OwnedFd>) {
    let open = |flags: OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    };
    for flags in [OFlags::empty(), OFlags::TRUNC, OFlags::APPEND] {
        if let Ok(mut file) = open(flags) {
            let wrote = file.write_all(b"owned");
            assert!(wrote.is_err(), "{name}: written through {path} with {flags:?}");
            assert!(file.set_len(0).is_err(), "{name}: truncated through {path}");
            assert!(file.set_len(1 << 24).is_err(), "{name}: grown through {path}");
            let mapped = map_for_writing(&file);
            assert!(mapped.is_err(), "{name}: mapped for writing through {path}");
        }
    }
    if let Some(descriptor) = descriptor {
        assert!(rustix::io::write(descriptor, b"owned").is_err(), "{name}: written directly");
        let seals = rustix::fs::SealFlags::empty();
        let _ = rustix::fs::fcntl_add_seals(descriptor, seals);
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        assert!(rustix::fs::fallocate(descriptor, punch, 0, 4096).is_err(), "{name}: punched");
    }
}

fn map_for_writing(file: &File) -> rustix::io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: a new mapping at an address of the kernel's choice, which nothing refers to; it is
    // unmapped at once.
    unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let at = mmap(std::ptr::null_mut(), 4096, flags, MapFlags::SHARED, file, 0)?;
        munmap(at, 4096)
    }
}

/// Not a test of its own: the process that attacks, as root of other namespaces.
#[test]
fn attacker() {
    let Ok(target) = std::env::var(ATTACKER) else { return };
    let (socket, module) = target.split_once(' ').unwrap();
    let stream = raw::upgraded(Path::new(socket));
    let (reply, lent) = raw::ask(&stream, &raw::step(module), &[]);
    assert!(matches!(reply, Reply::Lend), "{reply:?}");
    assert!(lent.len() >= 3, "{} descriptors", lent.len());
    assert_eq!(std::process::id(), 1, "the attacker is the first of its PID namespace");
    for (descriptor, name) in lent.iter().zip(["runner", "plan", "module", "image"]) {
        let before = contents(descriptor);
        attack(name, &format!("/proc/self/fd/{}", descriptor.as_raw_fd()), Some(descriptor));
        assert_eq!(contents(descriptor), before, "{name} was rewritten");
    }
    attack_the_executable(Path::new(socket), module);
    println!("nothing gave way");
}

/// As in CVE-2019-5736: a way to the runner's file is kept, and written through when nothing
/// executes it any more.
fn attack_the_executable(socket: &Path, module: &str) {
    let step = Step::new(socket, module.as_ref()).start().unwrap();
    let path = format!("/proc/{}/exe", step.pid().as_raw_nonzero());
    let link = loop {
        let target = fs::read_link(&path).unwrap();
        if !target.ends_with("warmstep") {
            break target;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let kept = rustix::fs::open(&path, OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    attack("executing runner", &path, None);
    step.wait().unwrap();
    attack(
        &format!("runner {}", link.display()),
        &format!("/proc/self/fd/{}", kept.as_raw_fd()),
        None,
    );
}

fn run_attacker(socket: &Path, module: &str) {
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "lending::attacker", "--nocapture", "--test-threads=1"])
        .env(ATTACKER, format!("{} {module}", socket.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("nothing gave way"), "{said}\n{error}");
}

#[test]
fn sealed_copies_cannot_be_rewritten() {
    let agent = Agent::builder().start().unwrap();
    let path = agent.scratch().join("m.wasm");
    let wasm = guests::sleeper(500, 0);
    fs::write(&path, &wasm).unwrap();
    assert_eq!(agent.step(&path).run().unwrap().code, 0);
    run_attacker(&agent.socket(), &sha256(&wasm));
    assert_eq!(agent.step(&path).run().unwrap().code, 0);
}

/// The cache is mounted a second time, read-only, and the programs are on a read-only mount, as in
/// the DaemonSet. All of it is in a mount namespace of its own, which ends with the agent.
#[test]
fn files_on_a_read_only_mount_cannot_be_rewritten() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, socket) = (scratch.path(), scratch.path().join("agent.sock"));
    let wasm = guests::sleeper(500, 0);
    let module = root.join("m.wasm");
    fs::write(&module, &wasm).unwrap();
    let programs = paths::program("warmstep-agent").unwrap().parent().unwrap().to_owned();
    for directory in ["cache", "lend", "bin"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    let script = "mount --bind \"$1/cache\" \"$1/lend\" && mount -o remount,ro,bind \"$1/lend\" && \
                  mount --bind \"$2\" \"$1/bin\" && mount -o remount,ro,bind \"$1/bin\" && \
                  exec \"$1/bin/warmstep-agent\" serve --socket \"$1/agent.sock\" \
                  --cache \"$1/cache\" --lend-from \"$1/lend\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(root).arg(&programs);
    let mut agent = Program::start("warmstep-agent", command, &root.join("log")).unwrap();
    agent.until(Duration::from_secs(20), |_| socket_is_there(&socket).then_some(())).unwrap();
    assert_eq!(Step::new(&socket, module.as_os_str()).run().unwrap().code, 0);
    run_attacker(&socket, &sha256(&wasm));
    assert_eq!(Step::new(&socket, module.as_os_str()).run().unwrap().code, 0);
    // No copy was made: what is lent is the file itself.
    let descriptors = format!("/proc/{}/fd", agent.pid().as_raw_nonzero());
    let held: Vec<PathBuf> = fs::read_dir(descriptors)
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(held.iter().any(|path| path.starts_with(root.join("lend"))), "{held:?}");
    assert!(!held.iter().any(|path| path.to_string_lossy().contains("memfd")), "{held:?}");
}

fn socket_is_there(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[test]
fn a_directory_that_can_be_written_is_not_lent_from() {
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(paths::program("warmstep-agent").unwrap())
        .args(["serve", "--socket"])
        .arg(scratch.path().join("agent.sock"))
        .arg("--cache")
        .arg(scratch.path().join("cache"))
        .arg("--lend-from")
        .arg(scratch.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not on a read-only mount"), "{said}");
}
