//! A module that does what a test tells it: calls a WASI function, reads or writes its memory.
//!
//! The test speaks to it over a socket that is one of its standard descriptors, so that the test
//! itself is written here, in Rust, and sees every error number and every byte.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use super::refuse::refusing;
use super::{Ended, Running, Step};

/// How long a call of the module may take before the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the memory begins that tests may use; before it are the puppet's own records.
const FREE: u32 = 4096;

/// The functions and their parameters: `i` for 32 bits, `I` for 64.
pub(crate) const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
    ("sock_accept", "iii"),
];

const POKE: u32 = 1000;
const PEEK: u32 = 1001;
const EXIT: u32 = 1002;

/// Which of its standard descriptors the puppet listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Strings {
    Stdin,
    Stdout,
}

/// A running puppet.
pub(crate) struct Puppet {
    strings: UnixStream,
    running: Option<Running>,
    free: u32,
}

impl Puppet {
    /// A puppet with one writable grant, at descriptor 3, named `/`.
    pub(crate) fn with(directory: &Path) -> Self {
        Self::start(|step| step.directory(directory, "/"))
    }

    /// A puppet of the current version, on its standard input.
    pub(crate) fn start(prepare: impl FnOnce(Step) -> Step) -> Self {
        Self::start_as("wasi_snapshot_preview1", Strings::Stdin, prepare)
    }

    /// A puppet with one writable grant, where a call of the kernel is refused.
    pub(crate) fn without(call: libc::c_long, errno: libc::c_int, directory: &Path) -> Self {
        Self::start_by("wasi_snapshot_preview1", Strings::Stdin, |step| {
            step.directory(directory, "/").start_with(|runner| refusing(runner, call, errno))
        })
    }

    /// A puppet of a version of preview 1.
    pub(crate) fn start_as(
        version: &str,
        strings: Strings,
        prepare: impl FnOnce(Step) -> Step,
    ) -> Self {
        Self::start_by(version, strings, |step| prepare(step).start())
    }

    fn start_by(version: &str, strings: Strings, start: impl FnOnce(Step) -> Running) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let step = Step::wasm(&wasm(version, strings));
        let theirs = Stdio::from(std::os::fd::OwnedFd::from(theirs));
        let step = match strings {
            Strings::Stdin => step.stdin(theirs),
            Strings::Stdout => step.stdout(theirs),
        };
        Self { strings: ours, running: Some(start(step)), free: FREE }
    }

    fn command(&mut self, operation: u32, arguments: &[u64]) {
        let mut record = [0; 80];
        record[..4].copy_from_slice(&operation.to_le_bytes());
        for (place, argument) in arguments.iter().enumerate() {
            record[8 + place * 8..16 + place * 8].copy_from_slice(&argument.to_le_bytes());
        }
        if let Err(error) = self.strings.write_all(&record) {
            self.died(&format!("does not listen: {error}"));
        }
    }

    /// Says what became of a puppet that should be there.
    fn died(&mut self, how: &str) -> ! {
        let mut running = self.running.take().expect("it was not waited for");
        let _ = running.child.kill();
        let ended = running.wait();
        panic!("the puppet {how}: {:?} {} {:?}", ended.status, ended.stderr, ended.outcome);
    }

    /// Calls a function; gives its error number.
    pub(crate) fn call(&mut self, name: &str, arguments: &[u64]) -> u16 {
        let place = FUNCTIONS.iter().position(|(known, _)| *known == name);
        let place = place.unwrap_or_else(|| panic!("{name} is no function of preview 1"));
        assert_eq!(FUNCTIONS[place].1.len(), arguments.len(), "{name}");
        self.command(u32::try_from(place).expect("there are few"), arguments);
        let mut answer = [0; 4];
        if let Err(error) = self.strings.read_exact(&mut answer) {
            self.died(&format!("did not answer to {name}: {error}"));
        }
        u16::try_from(u32::from_le_bytes(answer)).expect("an error number has 16 bits")
    }

    /// Calls a function that does not come back.
    pub(crate) fn call_without_answer(&mut self, name: &str, arguments: &[u64]) {
        let place = FUNCTIONS.iter().position(|(known, _)| *known == name).expect("it is known");
        self.command(u32::try_from(place).expect("there are few"), arguments);
    }

    /// The same as a result.
    pub(crate) fn done(&mut self, name: &str, arguments: &[u64]) -> Result<(), u16> {
        match self.call(name, arguments) {
            0 => Ok(()),
            error => Err(error),
        }
    }

    /// Writes into its memory.
    pub(crate) fn poke(&mut self, at: u32, bytes: &[u8]) {
        self.command(POKE, &[at.into(), bytes.len() as u64]);
        self.strings.write_all(bytes).expect("the puppet listens");
    }

    /// Reads from its memory.
    pub(crate) fn peek(&mut self, at: u32, length: usize) -> Vec<u8> {
        self.command(PEEK, &[at.into(), length as u64]);
        let mut bytes = vec![0; length];
        self.strings.read_exact(&mut bytes).expect("the puppet answers");
        bytes
    }

    /// Memory of its own for a test, zeroed.
    pub(crate) fn room(&mut self, length: usize) -> u32 {
        let at = self.free;
        self.free = (at + u32::try_from(length).expect("it is small") + 15) & !15;
        assert!(self.free < 64 << 16, "the puppet has 4 MiB");
        self.poke(at, &vec![0; length]);
        at
    }

    /// Puts bytes into its memory.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.room(bytes.len());
        self.poke(at, bytes);
        at
    }

    /// Forgets all memory handed out so far.
    pub(crate) fn forget(&mut self) {
        self.free = FREE;
    }

    /// Ends it, with a code.
    pub(crate) fn exit(mut self, code: u32) -> Ended {
        self.command(EXIT, &[code.into()]);
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        self.running.take().expect("it runs until it is waited for").wait()
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.running.as_ref().expect("it runs").child.id()
    }

    /// The connection on which it will send its outcome, and its process.
    pub(crate) fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("it runs")
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // A test that failed must not leave a process behind.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// The puppet's module, compiled once for each version.
fn wasm(version: &str, strings: Strings) -> Vec<u8> {
    type Known = OnceLock<std::sync::Mutex<std::collections::HashMap<(String, Strings), Vec<u8>>>>;
    static KNOWN: Known = OnceLock::new();
    let mut known = KNOWN.get_or_init(Default::default).lock().expect("no test panics in here");
    let key = (version.to_owned(), strings);
    let text = || wat::parse_str(text(version, strings)).expect("the puppet is valid");
    known.entry(key).or_insert_with(text).clone()
}

/// The puppet in the text format. A command is 80 bytes at 0: the operation, then its arguments
/// from 8 on. The buffers of its own reads and writes are at 96, their results at 104.
fn text(version: &str, strings: Strings) -> String {
    let fd = u32::from(strings == Strings::Stdout);
    let functions = || FUNCTIONS.iter().filter(|(name, _)| exists(version, name));
    let mut imports = String::new();
    let mut cases = String::new();
    for (name, parameters) in functions() {
        let place = FUNCTIONS.iter().position(|(known, _)| known == name).expect("it is in it");
        let types: Vec<_> =
            parameters.chars().map(|kind| if kind == 'i' { "i32" } else { "i64" }).collect();
        imports.push_str(&format!(
            "(import \"{version}\" \"{name}\" (func ${name} (param {}) (result i32)))\n",
            types.join(" ")
        ));
        let arguments: String = types
            .iter()
            .enumerate()
            .map(|(place, kind)| format!("({kind}.load (i32.const {}))", 8 + place * 8))
            .collect();
        cases.push_str(&format!(
            "(if (i32.eq (i32.load (i32.const 0)) (i32.const {place}))
               (then (i32.store (i32.const 112) (call ${name} {arguments}))
                     (call $send (i32.const 112) (i32.const 4)) (br $next)))\n"
        ));
    }
    format!(
        r#"(module
  {imports}
  (import "{version}" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 64)
  (func $move (param $write i32) (param $at i32) (param $left i32)
    (loop $more
      (if (i32.eqz (local.get $left)) (then (return)))
      (i32.store (i32.const 96) (local.get $at))
      (i32.store (i32.const 100) (local.get $left))
      (if (if (result i32) (local.get $write)
            (then (call $fd_write (i32.const {fd}) (i32.const 96) (i32.const 1) (i32.const 104)))
            (else (call $fd_read (i32.const {fd}) (i32.const 96) (i32.const 1) (i32.const 104))))
        (then (call $exit (i32.const 99))))
      (if (i32.eqz (i32.load (i32.const 104))) (then (call $exit (i32.const 98))))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 104))))
      (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 104))))
      (br $more)))
  (func $receive (param i32 i32) (call $move (i32.const 0) (local.get 0) (local.get 1)))
  (func $send (param i32 i32) (call $move (i32.const 1) (local.get 0) (local.get 1)))
  (func (export "_start")
    (loop $next
      (call $receive (i32.const 0) (i32.const 80))
      {cases}
      (if (i32.eq (i32.load (i32.const 0)) (i32.const {POKE}))
        (then (call $receive (i32.load (i32.const 8)) (i32.load (i32.const 16))) (br $next)))
      (if (i32.eq (i32.load (i32.const 0)) (i32.const {PEEK}))
        (then (call $send (i32.load (i32.const 8)) (i32.load (i32.const 16))) (br $next)))
      (if (i32.eq (i32.load (i32.const 0)) (i32.const {EXIT}))
        (then (call $exit (i32.load (i32.const 8)))))
      unreachable)))"#
    )
}

/// `sock_accept` came late: `wasi_unstable` does not have it.
fn exists(version: &str, name: &str) -> bool {
    name != "sock_accept" || version != "wasi_unstable"
}
