//! The tables, as Markdown: what a terminal shows is what README has.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use warmstep_tests::paths;

use crate::floor::{Floor, Quartiles};
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
            format!("{} ms", spread(program.time)),
            spread(program.ratio),
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

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn spread(Quartiles { low, median, high }: Quartiles) -> String {
    format!("{median:.2} ({low:.2}-{high:.2})")
}

/// Three figures at most: more were not measured.
fn time(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    match milliseconds {
        0.0 => "-".to_owned(),
        ..9.995 => format!("{milliseconds:.2} ms"),
        9.995..99.95 => format!("{milliseconds:.1} ms"),
        99.95..999.5 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// In decimal units, as file sizes are given.
fn bytes(count: u64) -> String {
    match count {
        ..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{} kB", tenths(count, 100)),
        _ => format!("{} MB", tenths(count, 100_000)),
    }
}

/// `count` in units of ten tenths, rounded to one decimal.
fn tenths(count: u64, tenth: u64) -> String {
    let tenths = (count + tenth / 2) / tenth;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_figures_of_time() {
        let shown = [0, 123, 9_994, 9_996, 99_940, 99_960, 512_345, 999_600, 1_234_567];
        let shown: Vec<String> =
            shown.iter().map(|micros| time(Duration::from_micros(*micros))).collect();
        let expected = [
            "-", "0.12 ms", "9.99 ms", "10.0 ms", "99.9 ms", "100 ms", "512 ms", "1.00 s", "1.23 s",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn decimal_bytes() {
        let shown: Vec<String> =
            [134, 52_175, 999_960, 20_538_911].iter().map(|count| bytes(*count)).collect();
        assert_eq!(shown, ["134 B", "52.2 kB", "1000.0 kB", "20.5 MB"]);
    }
}
