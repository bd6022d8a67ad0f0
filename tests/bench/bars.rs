//! What Warmstep promises of its starts, and whether it keeps it.

use crate::rounds;
use crate::stand::Runtime;
use crate::starts::Figure;

/// A promise: a task's time against that of wasmtime, in the same rounds.
pub(crate) struct Bar {
    pub(crate) what: &'static str,
    /// At most.
    pub(crate) wanted: f64,
    /// The median; nothing where it was not measured.
    pub(crate) found: Option<f64>,
}

impl Bar {
    /// Whether it is kept, in a word.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.found {
            Some(found) if found <= self.wanted => "met",
            Some(_) => "not met",
            None => "not measured",
        }
    }
}

/// All of them. The precompiled module is the most that wasmtime can have ready beforehand.
pub(crate) fn all(hot: &[Figure], cold: &[Figure]) -> Vec<Bar> {
    let hot_against = |task| ratio(hot, task, Runtime::WasmtimePrecompiled);
    let bar = |what, wanted, found| Bar { what, wanted, found };
    vec![
        bar("hot hello.wat, against precompiled", 0.5, hot_against("hello.wat")),
        bar("hot hello, against precompiled", 0.5, hot_against("hello")),
        bar("hot sqlite, against precompiled", 0.6, hot_against("sqlite")),
        bar("hot python, against precompiled", 0.8, hot_against("python")),
        bar(
            "cold python, to its first line",
            0.5,
            ratio(cold, "python", Runtime::WasmtimeUncached),
        ),
    ]
}

fn ratio(figures: &[Figure], task: &str, other: Runtime) -> Option<f64> {
    let figure = figures.iter().find(|figure| figure.task.name == task)?;
    let mine = rounds::of(&figure.timed, Runtime::Warmstep)?;
    Some(mine.ratio(rounds::of(&figure.timed, other)?).median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let verdict = |found| Bar { what: "", wanted: 0.5, found }.verdict();
        assert_eq!([Some(0.5), Some(0.51), None].map(verdict), ["met", "not met", "not measured"]);
    }
}
