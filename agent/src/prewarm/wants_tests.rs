//! From what is asked to what is done: pulls, pins, pauses, and what is said once.

use proptest::prelude::*;

use super::*;

const ROOM: Bounds = Bounds { objects: 10, modules: 10 };
const RECHECK: Duration = Duration::from_secs(900);

fn object(name: &str) -> Object {
    Object { kind: Kind::ConfigMap, namespace: Some("team".to_owned()), name: name.to_owned() }
}

fn asked(modules: &[&str]) -> Asked {
    let modules = modules.iter().map(|name| (*name).to_owned()).collect();
    Asked { identity: "1".to_owned(), modules, ..Asked::default() }
}

fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

struct Clock(Instant);

impl Clock {
    fn ask(&self, wants: &mut Wants, name: &str, modules: &[&str]) {
        assert!(wants.ask(object(name), asked(modules), ROOM, || self.0));
    }

    /// Ends an attempt at the module whose turn it is.
    fn attempt(&self, wants: &mut Wants, result: Result<Digest, &str>) -> String {
        let name = wants.begin(self.0).expect("something is due");
        wants.end(&name, result.map_err(str::to_owned), self.0, RECHECK, 0.5);
        name
    }
}

fn states(wants: &Wants) -> Vec<(String, String)> {
    wants.report(|_| true).into_iter().map(|report| (report.module, report.state)).collect()
}

#[test]
fn what_is_asked_is_pulled_pinned_and_let_go() {
    let mut clock = Clock(Instant::now());
    let mut wants = Wants::default();
    clock.ask(&mut wants, "a", &["x", "y"]);
    clock.ask(&mut wants, "b", &["y"]);
    let first = clock.attempt(&mut wants, Ok(digest(1)));
    let second = clock.attempt(&mut wants, Ok(digest(2)));
    assert_ne!(first, second, "each is pulled once, however many want it");
    assert_eq!(wants.begin(clock.0), None);
    assert_eq!(wants.pinned(), HashSet::from([digest(1), digest(2)]));
    // The annotation moves from y to z: y stays, because another wants it.
    clock.ask(&mut wants, "a", &["x", "z"]);
    assert_eq!(wants.pinned().len(), 2);
    assert_eq!(clock.attempt(&mut wants, Ok(digest(3))), "z");
    wants.forget(&object("b"));
    assert_eq!(wants.report(|_| true).len(), 2);
    assert!(!wants.is_pinned("y"));
    // A tag that moves is noticed when it is looked after again, and the old digest let go.
    clock.0 += RECHECK * 2;
    let again = clock.attempt(&mut wants, Ok(digest(9)));
    assert!(wants.pinned().contains(&digest(9)));
    assert_eq!(wants.pinned().len(), 2, "{again} is another one now");
    wants.only(Kind::ConfigMap, &BTreeSet::new());
    assert!(wants.pinned().is_empty());
    assert_eq!(wants.next(), None);
}

#[test]
fn failures_pause_longer_and_longer_and_keep_what_was_pinned() {
    let mut clock = Clock(Instant::now());
    let mut wants = Wants::default();
    clock.ask(&mut wants, "a", &["x"]);
    clock.attempt(&mut wants, Ok(digest(1)));
    clock.0 += RECHECK * 2;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        clock.attempt(&mut wants, Err("gone"));
        let next = wants.next().unwrap();
        pauses.push((next - clock.0).as_secs());
        clock.0 = next;
    }
    assert_eq!(pauses[..4], [5, 10, 20, 40]);
    assert_eq!(pauses[11], 600);
    assert_eq!(wants.pinned(), HashSet::from([digest(1)]));
    assert_eq!(wants.report(|_| true)[0].reason.as_deref(), Some("gone"));
    clock.attempt(&mut wants, Ok(digest(1)));
    assert_eq!(states(&wants)[0].1, "warm");
    assert_eq!(wants.report(|_| false)[0].state, "waiting", "somebody removed it");
}

#[test]
fn a_failure_is_said_once_until_it_changes_or_was_mended() {
    let mut clock = Clock(Instant::now());
    let mut wants = Wants::default();
    clock.ask(&mut wants, "a", &["x"]);
    let say = |wants: &mut Wants| {
        let news = wants.news();
        news.iter().for_each(|one| wants.told(one));
        news.into_iter().map(|one| one.said).collect::<Vec<_>>()
    };
    for (result, said) in [
        (Err("gone"), vec!["x: gone"]),
        (Err("gone"), vec![]),
        (Err("denied"), vec!["x: denied"]),
        (Err("denied"), vec![]),
        (Ok(digest(1)), vec![]),
        (Err("denied"), vec!["x: denied"]),
    ] {
        clock.attempt(&mut wants, result);
        assert_eq!(say(&mut wants), said);
        clock.0 += RECHECK * 2;
    }
    // A restart says nothing again, a new object of the same name is told.
    let memory = wants.memory().unwrap();
    let mut wants = Wants::restore(memory, || clock.0);
    clock.attempt(&mut wants, Err("denied"));
    assert!(say(&mut wants).is_empty());
    let recreated = Asked { identity: "2".to_owned(), ..asked(&["x"]) };
    wants.ask(object("a"), recreated, ROOM, || clock.0);
    assert_eq!(say(&mut wants), ["x: denied"]);
    // What an object says wrongly is told in the same way.
    let wrong = Asked { problems: vec!["nonsense".to_owned()], ..asked(&[]) };
    wants.ask(object("b"), wrong, ROOM, || clock.0);
    assert_eq!(say(&mut wants), ["nonsense"]);
    assert!(say(&mut wants).is_empty());
}

#[test]
fn the_next_start_knows_what_this_one_did() {
    let clock = Clock(Instant::now());
    let mut wants = Wants::default();
    clock.ask(&mut wants, "a", &["x", "y"]);
    clock.attempt(&mut wants, Ok(digest(1)));
    let memory = wants.memory().unwrap();
    assert_eq!(wants.memory(), None, "nothing new since");
    let written = serde_json::to_vec(&memory).unwrap();
    let mut wants = Wants::restore(serde_json::from_slice(&written).unwrap(), || clock.0);
    assert_eq!(wants.pinned(), HashSet::from([digest(1)]), "pinned before anything is asked");
    assert_eq!(wants.objects().0, 1);
    // The API server is back, and the object is the same.
    clock.ask(&mut wants, "a", &["x", "y"]);
    assert_eq!(wants.memory(), None);
    assert_eq!(wants.pinned(), HashSet::from([digest(1)]));
}

#[test]
fn a_file_that_is_another_one_is_looked_at_again_at_once() {
    let clock = Clock(Instant::now());
    let mut wants = Wants::default();
    clock.ask(&mut wants, "a", &["/x"]);
    clock.attempt(&mut wants, Ok(digest(1)));
    assert_eq!(wants.begin(clock.0), None);
    let changed = Asked { identity: "2".to_owned(), ..asked(&["/x"]) };
    wants.ask(object("a"), changed, ROOM, || clock.0);
    assert_eq!(clock.attempt(&mut wants, Ok(digest(2))), "/x");
    assert_eq!(wants.pinned(), HashSet::from([digest(2)]));
}

#[test]
fn there_is_room_for_so_many_and_the_rest_is_said() {
    let bounds = Bounds { objects: 2, modules: 1 };
    let mut wants = Wants::default();
    let mut ask =
        |name: &str, module: &str| wants.ask(object(name), asked(&[module]), bounds, Instant::now);
    assert!(ask("a", "x"));
    assert!(ask("b", "y"));
    assert!(!ask("c", "z"));
    assert!(ask("a", "x"), "who is heeded already stays so");
    assert_eq!(wants.objects(), (2, 1));
    assert_eq!(wants.news().len(), 1, "{:?}", wants.news());
    assert!(wants.news()[0].said.contains("prewarm.modules"));
    wants.forget(&object("c"));
    assert_eq!(wants.objects(), (2, 0));
}

#[derive(Clone, Debug)]
enum Operation {
    Ask(u8, Vec<u8>),
    Forget(u8),
    Attempt(Option<u8>),
    Restart,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let modules = proptest::collection::vec(0..4_u8, 0..4);
    let operation = prop_oneof![
        3 => (0..3_u8, modules).prop_map(|(object, modules)| Operation::Ask(object, modules)),
        1 => (0..3_u8).prop_map(Operation::Forget),
        4 => proptest::option::of(0..4_u8).prop_map(Operation::Attempt),
        1 => Just(Operation::Restart),
    ];
    proptest::collection::vec(operation, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Against a model: what is pinned is what the wanted modules were last known to be.
    #[test]
    fn what_is_pinned_is_what_is_wanted(operations in operations()) {
        let mut now = Instant::now();
        let mut wants = Wants::default();
        let mut objects: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
        let mut known: BTreeMap<String, Digest> = BTreeMap::new();
        for operation in operations {
            now += RECHECK * 2;
            match operation {
                Operation::Ask(number, modules) => {
                    let modules: BTreeSet<String> =
                        modules.into_iter().map(|module| module.to_string()).collect();
                    let names: Vec<&str> = modules.iter().map(String::as_str).collect();
                    wants.ask(object(&number.to_string()), asked(&names), ROOM, || now);
                    objects.insert(number, modules);
                }
                Operation::Forget(number) => {
                    wants.forget(&object(&number.to_string()));
                    objects.remove(&number);
                }
                Operation::Attempt(result) => {
                    if let Some(name) = wants.begin(now) {
                        let result = result.map(digest).ok_or_else(|| "no".to_owned());
                        if let Ok(digest) = result {
                            known.insert(name.clone(), digest);
                        }
                        wants.end(&name, result, now, RECHECK, 0.0);
                    }
                }
                Operation::Restart => {
                    wants.memory_lost();
                    wants = Wants::restore(wants.memory().unwrap(), || now);
                }
            }
            known.retain(|name, _| objects.values().any(|modules| modules.contains(name)));
            prop_assert_eq!(wants.pinned(), known.values().copied().collect::<HashSet<_>>());
        }
    }
}
