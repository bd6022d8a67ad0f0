//! Hot and cold starts by module, and work beside which a start is little.

use std::time::Duration;

use anyhow::Result;

use crate::rounds::{Timed, measure, to_the_end, to_the_first_line};
use crate::stand::{Runtime, Stand};
use crate::task::{self, Task};

/// From this size on, modules take part in fewer rounds: their starts take longer.
const LARGE: u64 = 10_000_000;

/// What one task took everywhere.
pub(crate) struct Figure {
    pub(crate) task: Task,
    pub(crate) timed: Vec<Timed>,
}

/// Starts of modules that were run before, to their ends.
pub(crate) fn hot(stand: &Stand, rounds: usize) -> Result<Vec<Figure>> {
    let one = |task: Task| {
        let rounds = if task.size < LARGE { rounds * 4 } else { rounds };
        eprintln!("bench: hot {}, {rounds} rounds", task.name);
        let mut subjects = stand.hot(&task)?;
        subjects.extend(stand.floors());
        // What the checks left in motion.
        std::thread::sleep(Duration::from_millis(500));
        let timed = measure(&mut subjects, rounds, to_the_end, |_| Ok(()))?;
        Ok(Figure { task, timed })
    };
    task::starts(stand.scratch())?.into_iter().map(one).collect()
}

/// Starts of modules that nobody has compiled, to the first line that they print.
pub(crate) fn cold(stand: &Stand, rounds: usize) -> Result<Vec<Figure>> {
    let one = |task: Task| {
        eprintln!("bench: cold {}, {rounds} rounds", task.name);
        let mut subjects = stand.cold(&task)?;
        let timed = measure(&mut subjects, rounds, to_the_first_line, |runtime| {
            // It compiles with effort what it has compiled in haste: not beside the others.
            stand.until_optimized()?;
            if runtime == Runtime::Warmstep { stand.forget(&task) } else { Ok(()) }
        })?;
        Ok(Figure { task, timed })
    };
    task::starts(stand.scratch())?.into_iter().map(one).collect()
}

/// Work in modules that were run before, to its end.
pub(crate) fn work(stand: &Stand, rounds: usize) -> Result<Vec<Figure>> {
    let one = |task: Task| {
        eprintln!("bench: work in {}, {rounds} rounds", task.name);
        let mut subjects = stand.hot(&task)?;
        // Once the module is loaded, its cache makes no difference to wasmtime.
        subjects.retain(|subject| subject.runtime != Runtime::WasmtimeCached);
        let timed = measure(&mut subjects, rounds, to_the_end, |_| Ok(()))?;
        Ok(Figure { task, timed })
    };
    task::work(stand.scratch())?.into_iter().map(one).collect()
}
