//! `make suites`: the tests of Go's own standard library, built for WASI preview 1 and run as steps:
//! what they ask of files, clocks and the compilers is other people's idea of right.
//!
//! Each package is run as the baseline tier compiles it, and some of them again as the optimized tier
//! does. Arguments name packages, to run only those.
//!
//! Of the tests, Go itself skips what its port to WASI has not got (processes, pipes, signals, users),
//! and `-test.short` what takes long. Nothing else is skipped.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use warmstep_tests::{Agent, Ended, interrupt};

/// Chosen for the calls that they make (files, directories, clocks, polling), or for the code that
/// compilers make of them (numbers, tables, closures, text).
const PACKAGES: &[&str] = &[
    "os",
    "io",
    "io/fs",
    "io/ioutil",
    "bufio",
    "time",
    "syscall",
    "path",
    "path/filepath",
    "internal/poll",
    "testing/fstest",
    "archive/tar",
    "archive/zip",
    "compress/flate",
    "compress/gzip",
    "encoding/binary",
    "encoding/json",
    "encoding/xml",
    "hash/crc32",
    "crypto/sha256",
    "image/png",
    "bytes",
    "strings",
    "fmt",
    "context",
    "sync",
    "math",
    "math/big",
    "math/rand",
    "slices",
    "sort",
    "strconv",
    "unicode/utf8",
    "container/heap",
    "regexp",
    "log",
    "text/template",
    "html/template",
    "go/format",
];

/// Compiled with effort too, which takes three times as long: the code that asks most of a compiler.
const OPTIMIZED: &[&str] =
    &["time", "encoding/binary", "hash/crc32", "math", "math/big", "regexp", "sort", "strconv"];

/// Tests that fail, as package, test and reason. One that is here and passes is a failure.
const KNOWN: &[(&str, &str, &str)] = &[];

/// So many packages at once.
const TOGETHER: usize = 2;

/// How long a package may take, on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(300);

/// How much of a failed package's output is shown, in lines.
const SHOWN: usize = 60;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("suites: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    interrupt::watch()?;
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|one| !one.starts_with('-')).collect();
    let go = Go::find()?;
    let mut sums = Vec::new();
    for (tiers, packages) in [("baseline-first", PACKAGES), ("optimized-only", OPTIMIZED)] {
        let packages: Vec<&str> = packages
            .iter()
            .copied()
            .filter(|name| wanted.is_empty() || wanted.iter().any(|one| one == name))
            .collect();
        if packages.is_empty() {
            continue;
        }
        let before = Instant::now();
        let counts = suite(&go, tiers, &packages)?;
        println!("go: {tiers}: {counts}, {:.0?}", before.elapsed());
        sums.push(counts);
    }
    ensure!(!sums.is_empty(), "no package is called {wanted:?}");
    Ok(sums.iter().all(|counts| counts.bad == 0))
}

/// Runs packages through an agent of their own, [`TOGETHER`] at once.
fn suite(go: &Go, tiers: &str, packages: &[&str]) -> Result<Counts> {
    let agent = Agent::builder().setting(&format!("tiers = \"{tiers}\"")).start()?;
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(Counts::default()));
    let work = || -> Result<()> {
        while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
            let before = Instant::now();
            let ended = go.test(&agent, package).with_context(|| (*package).to_owned())?;
            let report = Report::read(package, &ended);
            println!("go: {package} ({tiers}): {}, {:.1?}", report.line(), before.elapsed());
            if !report.problems.is_empty() {
                println!("{}", end_of(&ended));
            }
            if let Ok(mut counts) = counts.lock() {
                counts.add(&report);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(work)).collect();
        // Each is joined, whatever the others say.
        let ends: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        for end in ends {
            match end {
                Ok(result) => result?,
                Err(_) => bail!("a worker panicked"),
            }
        }
        anyhow::Ok(())
    })?;
    counts.into_inner().context("a worker panicked")
}

/// Go, and a place for what it makes.
struct Go {
    root: PathBuf,
    scratch: TempDir,
}

impl Go {
    fn find() -> Result<Self> {
        let output = Command::new("go").args(["env", "GOROOT"]).output();
        let output = output.context("go is missing: install Go 1.26 or later")?;
        let root = String::from_utf8(output.stdout)?;
        let root = fs::canonicalize(root.trim()).context("go env GOROOT names no directory")?;
        Ok(Self { root, scratch: TempDir::with_prefix("warmstep-go-")? })
    }

    /// Builds a package's tests, and runs them in its directory, as Go's own runner for WASI does.
    fn test(&self, agent: &Agent, package: &str) -> Result<Ended> {
        // The guest's / is empty, but for what the tests look for; each package has its own.
        let place = TempDir::new_in(self.scratch.path())?;
        let (root, module) = (place.path().join("root"), place.path().join("test.wasm"));
        fs::create_dir_all(root.join("tmp"))?;
        fs::create_dir_all(root.join("etc"))?;
        // For the network that Go keeps in the module's memory.
        fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        self.build(package, &module)?;
        let sources = self.root.join("src").join(package);
        agent
            .step(&module)
            .directory(&root, "/")
            // They open /dev/null and look at it.
            .directory("/dev", "/dev")
            .readable(&self.root, utf8(&self.root)?)
            .flag("--env")
            .flag(format!("PWD={}", utf8(&sources)?))
            .arguments(["-test.short", "-test.v=test2json"])
            .deadline(DEADLINE)
            .run()
    }

    fn build(&self, package: &str, module: &Path) -> Result<()> {
        let mut command = Command::new("go");
        command.args(["test", "-c", "-o"]).arg(module).arg(package);
        command.current_dir(self.scratch.path()).stdin(Stdio::null());
        command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOFLAGS", ""), ("GOWORK", "off")]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && module.is_file(), "go test -c: {}", said.trim_end());
        Ok(())
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// What a package's tests said.
struct Report {
    passed: usize,
    skipped: usize,
    failed: BTreeSet<String>,
    problems: Vec<String>,
}

impl Report {
    fn read(package: &str, ended: &Ended) -> Self {
        let output = String::from_utf8_lossy(&ended.stdout);
        let (mut passed, mut skipped, mut failed) = (0, 0, BTreeSet::new());
        for line in output.lines() {
            // Marked with SYN, wherever in a line a test's own output has ended (cmd/test2json).
            let Some((_, said)) = line.rsplit_once('\u{16}') else { continue };
            let Some((how, test)) =
                said.trim_start().strip_prefix("--- ").and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            match how {
                "PASS" => passed += 1,
                "SKIP" => skipped += 1,
                "FAIL" => {
                    // Without its time; a failed subtest fails the test it is in.
                    let name = test.split([' ', '/']).next().unwrap_or(test);
                    failed.insert(name.to_owned());
                }
                _ => {}
            }
        }
        let mut report = Self { passed, skipped, failed, problems: Vec::new() };
        report.judge(package, ended.code, &output);
        report
    }

    /// Compares with [`KNOWN`]: neither more nor less may fail, and it must have come to its end.
    fn judge(&mut self, package: &str, code: i32, output: &str) {
        let known: Vec<_> = KNOWN.iter().filter(|known| known.0 == package).collect();
        for test in &self.failed {
            if !known.iter().any(|known| known.1 == test) {
                self.problems.push(format!("{test} fails"));
            }
        }
        for (_, test, reason) in known {
            if !self.failed.contains(*test) {
                self.problems.push(format!("{test} passes, and is listed: {reason}"));
            }
        }
        let (wanted, verdict) = if self.failed.is_empty() { (0, "PASS") } else { (1, "FAIL") };
        let last = output.lines().last().unwrap_or_default().trim_start_matches('\u{16}');
        if code != wanted || last != verdict || self.passed == 0 {
            self.problems.push(format!("it ended with {code} and {last:?}"));
        }
    }

    fn line(&self) -> String {
        let (passed, skipped, failed) = (self.passed, self.skipped, self.failed.len());
        let counts = format!("{passed} passed, {skipped} skipped by Go, {failed} failed");
        match self.problems.as_slice() {
            [] => format!("ok, {counts}"),
            problems => format!("FAILED, {counts}: {}", problems.join("; ")),
        }
    }
}

/// Over all packages.
#[derive(Default)]
struct Counts {
    packages: usize,
    bad: usize,
    passed: usize,
    skipped: usize,
    failed: usize,
}

impl Counts {
    fn add(&mut self, report: &Report) {
        self.packages += 1;
        self.bad += usize::from(!report.problems.is_empty());
        self.passed += report.passed;
        self.skipped += report.skipped;
        self.failed += report.failed.len();
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let good = self.packages - self.bad;
        let Self { packages, passed, skipped, failed, .. } = self;
        write!(out, "{good} of {packages} packages; {passed} tests passed, ")?;
        write!(out, "{skipped} were skipped by Go, {failed} failed")
    }
}

/// The last lines of what it wrote, standard error after standard output.
fn end_of(ended: &Ended) -> String {
    let all = [ended.stdout.as_slice(), ended.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&all).replace('\u{16}', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
