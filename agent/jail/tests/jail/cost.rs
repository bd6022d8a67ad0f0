//! What entering the jail costs: a runner adds 0.6 ms to a program that does nothing, all in all.

use crate::probe::{End, Probe};

/// In microseconds, for the middle of many: far more than was ever seen, for CI's machines are
/// shared, and far less than a linear filter or a close for each possible descriptor would take.
const MOST: u64 = 1000;

#[test]
fn entering_is_quick() {
    let granted = tempfile::tempdir().expect("a temporary directory");
    for profile in ["preview1", "wasix", "compiler"] {
        let end = Probe::new(&["--profile", profile, "--read-write"])
            .with(granted.path())
            .run(&["bench", "200"]);
        let End::Done(times) = end else { panic!("{profile}: {end:?}") };
        println!("{profile}: least, middle, most in microseconds: {times}");
        let middle: Option<u64> = times.split(' ').nth(1).and_then(|time| time.parse().ok());
        assert!(middle.is_some_and(|middle| middle < MOST), "{profile}: {times}");
    }
}
