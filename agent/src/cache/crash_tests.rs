//! What a stop or a broken disk at any moment leaves behind: never a wrong module.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;

use super::faults::{self, Fault};
use super::*;

/// Set for a child of this test: the cache to work on, and the change at which it is killed.
pub(super) const CHILD: &str = "WARMSTEP_CRASH_TEST";

const WASM: &[u8] = b"\0asm\x01\0\0\0";

/// What the lender says of files that were made.
pub(super) fn records(made: &Path) -> Vec<FileRecord> {
    let record = |name: &str| {
        let contents = std::fs::read(made.join(name)).ok()?;
        let bytes = contents.len() as u64;
        Some(FileRecord { name: name.to_owned(), bytes, digest: Digest::of(&contents) })
    };
    [MODULE_FILE, IMAGE_FILE].into_iter().filter_map(record).collect()
}

/// Brings Wasm into the cache and publishes two forms of it, the second over a first.
fn work(cache: &Cache) -> Result<(), CacheError> {
    let wasm = Digest::of(WASM);
    let mut made = cache.files().begin_wasm()?;
    made.write_all(WASM).unwrap();
    cache.files().publish_wasm(made, &wasm)?;
    for (tier, code) in
        [(Tier::Baseline, "quick"), (Tier::Optimized, "slow"), (Tier::Optimized, "slow")]
    {
        let made = cache.files().begin_module()?;
        std::fs::write(made.path().join(MODULE_FILE), code).unwrap();
        std::fs::write(made.path().join(IMAGE_FILE), "image").unwrap();
        let files = records(made.path());
        cache.publish(made, &wasm, (tier, Host::Preview1), 1, files)?;
    }
    cache.discard(&cache.key(&wasm, Tier::Baseline))?;
    Ok(())
}

/// A child of another test holds every descriptor of this process for the moment between its fork
/// and its exec, and with them the lock of a cache that was just closed.
pub(super) fn open(root: &Path) -> Cache {
    for _ in 0..500 {
        match Cache::open(root, "test".to_owned()) {
            Err(CacheError::Files(FilesError::Locked(_))) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", root.display())
}

/// Everything that the index names must be there, be this node's own, and be what was compiled.
pub(super) fn check(root: &Path) {
    let cache = open(root);
    let wasm = Digest::of(WASM);
    for (key, record) in cache.modules().unwrap() {
        assert_eq!(record.wasm, wasm);
        let manifest = cache.manifest(&key).unwrap();
        let code = if manifest.tier == Tier::Baseline { "quick" } else { "slow" };
        let directory = Files::module(root, &key);
        assert_eq!(std::fs::read_to_string(directory.join(MODULE_FILE)).unwrap(), code);
        assert_eq!(std::fs::read_to_string(directory.join(IMAGE_FILE)).unwrap(), "image");
        assert_eq!(manifest.file(MODULE_FILE).unwrap().digest, Digest::of(code.as_bytes()));
    }
    if let Some(mut file) = cache.files().open_wasm(&wasm).unwrap() {
        let (found, _) = copy_and_hash(&mut file, &mut std::io::sink(), u64::MAX).unwrap();
        assert_eq!(found, wasm);
    }
    assert_eq!(std::fs::read_dir(cache.files().tmp()).unwrap().count(), 0);
    work(&cache).unwrap();
    let (_, best) = cache.find(&wasm).unwrap().unwrap();
    assert_eq!(best.tier, Tier::Optimized);
}

/// How many changes of the disk the work makes.
pub(super) fn changes() -> usize {
    let directory = tempfile::tempdir().unwrap();
    faults::plan(None);
    work(&open(&directory.path().join("cache"))).unwrap();
    faults::reached()
}

/// Not a test of its own: the process that the tests kill.
#[test]
fn child() {
    let Ok(plan) = std::env::var(CHILD) else { return };
    let mut plan = plan.splitn(3, ' ');
    let mut next = || plan.next().unwrap();
    let (fault, number, root) = (next(), next().parse().unwrap(), PathBuf::from(next()));
    let fault = if fault == "cut" { Fault::Disaster(power_tests::cut) } else { Fault::Kill };
    faults::plan(Some((number, fault)));
    work(&open(&root)).unwrap();
}

pub(super) fn run_child(fault: &str, root: &Path, number: usize) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::crash_tests::child", "--test-threads=1"])
        .env(CHILD, format!("{fault} {number} {}", root.display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// C1: killed at every change of the disk, again and again on the same cache.
#[test]
fn a_kill_at_every_change_leaves_nothing_wrong() {
    let expected = changes() - changes_of_opening();
    assert!(expected > 20, "the work makes {expected} changes");
    for _ in 0..rounds("WARMSTEP_CRASH_ROUNDS", 2) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("cache");
        let mut reached = 0;
        while run_child("kill", &root, reached).wait().unwrap().signal() == Some(9) {
            check(&root);
            reached += 1;
        }
        assert!(reached >= expected, "killed at {reached} changes of {expected}");
    }
}

/// C2: killed at a random moment within 60 ms.
#[test]
fn a_kill_at_any_moment_leaves_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    for round in 0..rounds("WARMSTEP_KILL_ROUNDS", 50) {
        let mut child = run_child("kill", &root, usize::MAX);
        // Spread evenly over the time, whatever the number of rounds: no two runs are alike anyway.
        std::thread::sleep(std::time::Duration::from_micros(round * 7_919 % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        check(&root);
    }
}

/// C4: every change fails once, with a full and with a broken disk.
#[test]
fn an_error_at_every_change_publishes_nothing_wrong() {
    let changes = changes();
    for error in [Errno::NOSPC, Errno::IO] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("cache");
        drop(open(&root));
        for number in 0..changes - changes_of_opening() {
            let cache = open(&root);
            faults::plan(Some((number, Fault::Error(error))));
            let result = work(&cache);
            faults::plan(None);
            let reason = result.err().map(|error| error.to_string());
            assert!(reason.is_some(), "change {number} failed and nobody noticed");
            drop(cache);
            check(&root);
        }
    }
}

/// How many of the changes are those of opening a new cache: the secret's.
pub(super) fn changes_of_opening() -> usize {
    let directory = tempfile::tempdir().unwrap();
    faults::plan(None);
    drop(open(&directory.path().join("cache")));
    faults::reached()
}

/// C6: each file of the index garbled or gone.
#[test]
fn a_damaged_index_is_made_again_from_the_files() {
    let names = {
        let directory = tempfile::tempdir().unwrap();
        let cache = open(&directory.path().join("cache"));
        work(&cache).unwrap();
        cache.flush().unwrap();
        let index = cache.files().index();
        drop(cache);
        let names = std::fs::read_dir(index).unwrap();
        names.map(|file| file.unwrap().file_name()).collect::<Vec<_>>()
    };
    for name in &names {
        for garbled in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("cache");
            let cache = open(&root);
            work(&cache).unwrap();
            cache.flush().unwrap();
            let file = cache.files().index().join(name);
            drop(cache);
            match (file.is_dir(), garbled) {
                (true, _) => std::fs::remove_dir_all(&file).unwrap(),
                (false, true) => {
                    let length = std::fs::metadata(&file).unwrap().len().min(1 << 20);
                    std::fs::write(&file, vec![0xA5; usize::try_from(length).unwrap()]).unwrap();
                }
                (false, false) => std::fs::remove_file(&file).unwrap(),
            }
            let cache = open(&root);
            let found = cache.find(&Digest::of(WASM)).unwrap();
            assert!(found.is_some(), "{} {garbled}", name.display());
            drop(cache);
            check(&root);
        }
    }
}

/// C8: an entry under another's name is removed.
#[test]
fn an_entry_under_another_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    let (optimized, baseline) = {
        let cache = open(&root);
        work(&cache).unwrap();
        let wasm = Digest::of(WASM);
        (cache.key(&wasm, Tier::Optimized), cache.key(&wasm, Tier::Baseline))
    };
    std::fs::rename(Files::module(&root, &optimized), Files::module(&root, &baseline)).unwrap();
    let cache = open(&root);
    assert!(cache.modules().unwrap().is_empty());
    assert!(!Files::module(&root, &baseline).exists());
}

/// The counts of a soak come from the environment; CI's are shorter.
fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
