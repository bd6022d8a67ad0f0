//! The tables, as Markdown: what a terminal shows is what README has.

use std::fs;

use anyhow::{Context, Result};
use comfy_table::Table;
use warmstep_tests::figures::{bytes, table, time};
use warmstep_tests::paths;

use crate::floor::Floor;
use crate::steps::Figure;

/// What each step took.
pub(crate) fn steps(figures: &[Figure]) -> Table {
    let mut table = table(&[
        "step",
        "Wasm",
        "cold: pull",
        "compile",
        "load",
        "run",
        "total",
        "hot: load",
        "run",
        "total",
    ]);
    for Figure { name, size, cold, hot, .. } in figures {
        let mut row = vec![(*name).to_owned(), bytes(u64::try_from(*size).unwrap_or(u64::MAX))];
        row.extend([cold.pull, cold.compile, cold.load, cold.run, cold.total].map(time));
        row.extend([hot.load, hot.run, hot.total].map(time));
        table.add_row(row);
    }
    table
}

/// The floor, and what Warmstep's own parts cost.
pub(crate) fn floor(floor: &Floor, resident: u64) -> Result<Table> {
    let mut table = table(&["from start to exit", "time", "against the no-op"]);
    for program in &floor.programs {
        table.add_row([
            program.name.clone(),
            format!("{} ms", program.time.spread()),
            program.ratio.spread(),
        ]);
    }
    for (label, name) in [("shim, size", "warmstep"), ("runner, size", "warmstep-run")] {
        let path = paths::program(name)?;
        let size = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        table.add_row([label.to_owned(), bytes(size), String::new()]);
    }
    table.add_row(["agent, idle, resident".to_owned(), bytes(resident), String::new()]);
    Ok(table)
}
