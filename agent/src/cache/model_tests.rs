//! C12: any operations in any order, with restarts between them, against a model that is a map; and
//! what ten thousand modules cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::crash_tests::open;
use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Publish(u8, Tier),
    Discard(u8, Tier),
    Remove(u8),
    Refer(u8, u8),
    Evict(usize),
    Restart,
    LoseTheIndex,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let tier = prop_oneof![Just(Tier::Baseline), Just(Tier::Optimized)];
    let module = 0..4_u8;
    let operation = prop_oneof![
        4 => (module.clone(), tier.clone()).prop_map(|(m, t)| Operation::Publish(m, t)),
        2 => (module.clone(), tier).prop_map(|(m, t)| Operation::Discard(m, t)),
        1 => module.clone().prop_map(Operation::Remove),
        1 => (module.clone(), module).prop_map(|(m, r)| Operation::Refer(m, r)),
        1 => (0..4_usize).prop_map(Operation::Evict),
        1 => Just(Operation::Restart),
        1 => Just(Operation::LoseTheIndex),
    ];
    proptest::collection::vec(operation, 1..25)
}

/// What the cache must hold.
#[derive(Default)]
struct Model {
    forms: BTreeMap<(Digest, &'static str), Vec<u8>>,
    references: BTreeMap<String, Digest>,
}

fn digest(module: u8) -> Digest {
    Digest::of(&[module])
}

fn apply(operation: &Operation, cache: &mut Option<Cache>, model: &mut Model, root: &Path) {
    let open_cache = cache.as_ref().unwrap();
    match operation {
        Operation::Publish(module, tier) => {
            let made = open_cache.files().begin_module().unwrap();
            let code = vec![*module; 100 + usize::from(*module)];
            std::fs::write(made.path().join(MODULE_FILE), &code).unwrap();
            let files = super::crash_tests::records(made.path());
            let form = (*tier, Host::Preview1);
            open_cache.publish(made, &digest(*module), form, 1, files).unwrap();
            model.forms.insert((digest(*module), tier.name()), code);
        }
        Operation::Discard(module, tier) => {
            open_cache.discard(&open_cache.key(&digest(*module), *tier)).unwrap();
            model.forms.remove(&(digest(*module), tier.name()));
        }
        Operation::Remove(module) => {
            let freed = open_cache.remove(&digest(*module)).unwrap();
            let before = model.forms.len();
            model.forms.retain(|(wasm, _), _| *wasm != digest(*module));
            model.references.retain(|_, wasm| *wasm != digest(*module));
            assert_eq!(freed.is_some(), model.forms.len() < before);
        }
        Operation::Refer(module, name) => {
            let (name, wasm) = (format!("r/{name}:1"), digest(*module));
            open_cache.note_reference(&name, wasm, 1, String::new()).unwrap();
            model.references.insert(name, wasm);
        }
        Operation::Evict(modules) => {
            let bounds = Bounds { bytes: u64::MAX, modules: *modules };
            for wasm in open_cache.evict(bounds, |_| false).unwrap() {
                model.forms.retain(|(other, _), _| *other != wasm);
                model.references.retain(|_, other| *other != wasm);
            }
            let mut left: Vec<Digest> = model.forms.keys().map(|(wasm, _)| *wasm).collect();
            left.dedup();
            assert!(left.len() <= *modules);
        }
        Operation::Restart => {
            open_cache.flush().unwrap();
            drop(cache.take());
            *cache = Some(open(root));
        }
        Operation::LoseTheIndex => {
            let index = open_cache.files().index();
            drop(cache.take());
            std::fs::remove_dir_all(index).unwrap();
            *cache = Some(open(root));
            // Only what the registries know is lost with it.
            model.references.clear();
        }
    }
}

fn compare(cache: &Cache, model: &Model, root: &Path) {
    let mut found = BTreeMap::new();
    for (key, record) in cache.modules().unwrap() {
        let manifest = cache.manifest(&key).unwrap();
        let code = std::fs::read(Files::module(root, &key).join(MODULE_FILE)).unwrap();
        assert_eq!(manifest.file(MODULE_FILE).unwrap().digest, Digest::of(&code));
        found.insert((record.wasm, record.tier.name()), code);
    }
    assert_eq!(found, model.forms);
    let references: BTreeMap<String, Digest> =
        cache.references().unwrap().into_iter().map(|(name, record)| (name, record.wasm)).collect();
    assert_eq!(references, model.references);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_cache_is_a_map(operations in operations()) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("cache");
        let mut cache = Some(open(&root));
        let mut model = Model::default();
        for operation in &operations {
            apply(operation, &mut cache, &mut model, &root);
            compare(cache.as_ref().unwrap(), &model, &root);
        }
    }
}

#[test]
fn ten_thousand_modules_are_found_within_a_millisecond() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory.path().join("cache"));
    let record = |wasm| ModuleRecord { wasm, tier: Tier::Optimized, bytes: 1, used: 1 };
    let all: Vec<Digest> =
        (0..10_000_u32).map(|number| Digest::of(&number.to_le_bytes())).collect();
    for wasm in &all {
        cache.index.put_module(&cache.key(wasm, Tier::Optimized), &record(*wasm)).unwrap();
    }
    cache.flush().unwrap();
    let mut times: Vec<Duration> = all
        .iter()
        .map(|wasm| {
            let began = Instant::now();
            assert!(cache.find(wasm).unwrap().is_some());
            began.elapsed()
        })
        .collect();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(1), "{p99:?}");
}
