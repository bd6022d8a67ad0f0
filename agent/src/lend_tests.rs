//! Tests of lending: what cannot be written, and what is not what was compiled.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cache::{Cache, Tier};

#[test]
fn a_sealed_copy_cannot_be_written_again() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"native code").unwrap();
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
    let (copy, digest) = seal_file(file, None, MemfdFlags::NOEXEC_SEAL).unwrap();
    assert_eq!(digest, Digest::of(b"native code"));
    assert!(rustix::io::write(&copy, b"x").is_err());
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let again = std::fs::OpenOptions::new().write(true).open(path);
    assert!(again.and_then(|mut file| file.write_all(b"x")).is_err());
}

/// Publishes what was made as the pipeline does.
fn publish(cache: &Cache, lender: &Lender, made: tempfile::TempDir, wasm: &Digest) -> (Key, Taken) {
    let (files, taken) = lender.take(made.path()).unwrap();
    let form = (Tier::Baseline, Host::Preview1);
    (cache.publish(made, wasm, form, 1, files).unwrap(), taken)
}

/// A cache with one entry, and what lends from it.
struct Entry {
    _directory: tempfile::TempDir,
    cache: Cache,
    lender: Lender,
    key: Key,
    module: PathBuf,
}

fn entry(contents: &[u8]) -> Entry {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    let cache = Cache::open(&root, "test".to_owned()).unwrap();
    let made = cache.files().begin_module().unwrap();
    std::fs::write(made.path().join(MODULE_FILE), contents).unwrap();
    std::fs::write(made.path().join(IMAGE_FILE), "image").unwrap();
    let runner = std::env::current_exe().unwrap();
    let lender = Lender::new(&runner, None, &root, None, u64::MAX).unwrap();
    let key = publish(&cache, &lender, made, &Digest::of(b"wasm")).0;
    let module = Files::module(&root, &key).join(MODULE_FILE);
    Entry { _directory: directory, cache, lender, key, module }
}

impl Entry {
    fn hold(&self) -> Result<Lendable, LendError> {
        self.lender.hold(&self.key, &self.cache.manifest(&self.key).unwrap())
    }
}

/// C5: ten thousand bits and lengths, and none of them is lent.
#[test]
fn what_was_changed_on_the_disk_is_not_lent() {
    let good: Vec<u8> = (0..=255_u8).cycle().take(2500).collect();
    let entry = entry(&good);
    assert!(entry.hold().is_ok());
    let write = |bytes: &[u8]| std::fs::write(&entry.module, bytes).unwrap();
    for position in 0..good.len() {
        let mut changed = good.clone();
        for bit in 0..3 {
            changed[position] = good[position] ^ (1 << ((position + bit * 3) % 8));
            write(&changed);
            let held = entry.hold();
            assert!(matches!(held, Err(LendError::Changed(_))), "byte {position}: {held:?}");
        }
        write(&good[..position]);
        assert!(matches!(entry.hold(), Err(LendError::Changed(_))), "{position} bytes");
    }
    write(&good);
    assert!(entry.hold().is_ok());
}

/// C9: what somebody else could change while it is lent.
#[test]
fn what_others_could_change_is_not_lent() {
    let entry = entry(b"code");
    let exposed = |what: &str| {
        let held = entry.hold();
        assert!(matches!(held, Err(LendError::Exposed(_))), "{what}: {held:?}");
    };
    let second = entry.module.with_file_name("second");
    std::fs::hard_link(&entry.module, &second).unwrap();
    exposed("a hard link");
    std::fs::remove_file(&second).unwrap();
    let mode = |mode| std::fs::set_permissions(&entry.module, PermissionsExt::from_mode(mode));
    mode(0o666).unwrap();
    exposed("a mode");
    mode(0o600).unwrap();
    assert!(entry.hold().is_ok());
    std::fs::rename(&entry.module, &second).unwrap();
    std::os::unix::fs::symlink(&second, &entry.module).unwrap();
    let held = entry.hold();
    assert!(matches!(held, Err(LendError::Io { .. })), "a symbolic link: {held:?}");
}

#[test]
fn copies_stay_within_their_memory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    let cache = Cache::open(&root, "test".to_owned()).unwrap();
    let runner = std::env::current_exe().unwrap();
    let lender = Lender::new(&runner, None, &root, None, 2500).unwrap();
    let mut keys = Vec::new();
    for number in 0..4_u8 {
        let made = cache.files().begin_module().unwrap();
        std::fs::write(made.path().join(MODULE_FILE), [number; 1000]).unwrap();
        let (key, taken) = publish(&cache, &lender, made, &Digest::of(&[number]));
        lender.keep(&key, Host::Preview1, taken);
        keys.push(key);
    }
    let held: Vec<bool> = keys.iter().map(|key| lender.held(key).is_some()).collect();
    assert_eq!(held, [false, false, true, true]);
}

#[test]
fn descriptors_stay_within_their_number() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    let cache = Cache::open(&root, "test".to_owned()).unwrap();
    let lender =
        Lender::new(&std::env::current_exe().unwrap(), None, &root, None, u64::MAX).unwrap();
    for number in 0..=MOST_HELD {
        let made = cache.files().begin_module().unwrap();
        std::fs::write(made.path().join(MODULE_FILE), number.to_le_bytes()).unwrap();
        let wasm = Digest::of(&number.to_le_bytes());
        let (key, _) = publish(&cache, &lender, made, &wasm);
        lender.hold(&key, &cache.manifest(&key).unwrap()).unwrap();
    }
    let first = cache.key(&Digest::of(&0_usize.to_le_bytes()), Tier::Baseline);
    assert!(lender.held(&first).is_none());
    assert_eq!(lender.held.lock().unwrap().len(), MOST_HELD);
}
