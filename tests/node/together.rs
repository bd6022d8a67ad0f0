//! Many callers of one cold module: one pull, one compile, and each sees how far it is.

use warmstep_tests::{Agent, Form, Registry};

use crate::guests;

/// O6.
#[test]
fn a_hundred_callers_of_one_cold_module() {
    let registry = Registry::start().unwrap();
    let wasm = guests::heavy(40_000, "together");
    let pushed = registry.push("heavy", "1", Form::Cncf, wasm).unwrap();
    let agent =
        Agent::builder().registry(&registry).setting("tiers = 'optimized-only'").start().unwrap();
    let steps: Vec<_> = (0..100).map(|_| agent.step(&pushed.reference).start().unwrap()).collect();
    let mut saw_progress = 0;
    for step in steps {
        let ended = step.wait().unwrap();
        assert_eq!((ended.code, ended.out().as_str()), (0, "together\n"), "{}", ended.err());
        saw_progress += usize::from(ended.err().contains("compiling"));
    }
    let status = agent.status().unwrap();
    // One that arrives when all is done has nothing to see; the rest has.
    let misses = usize::try_from(status.counts.lent - status.counts.hits).unwrap();
    assert!(misses > 50, "{misses} of 100 came before it was compiled");
    assert_eq!(saw_progress, misses);
    let blob = format!("GET /v2/heavy/blobs/{}", pushed.digest);
    assert_eq!(registry.requests(&blob).unwrap(), 1, "pulls");
    assert_eq!(agent.log().unwrap().matches(" compiled ").count(), 1, "compiles");
}
