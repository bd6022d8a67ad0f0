//! Figures: how repeated measurements are summed up, and how they are shown.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// The middle of a distribution, and where its quarters end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// A quarter is below this.
    pub low: f64,
    /// Half is below this.
    pub median: f64,
    /// A quarter is above this.
    pub high: f64,
}

impl Quartiles {
    /// Those of some values: NaN when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| {
            values.get((values.len().saturating_sub(1)) * quarter / 4).copied().unwrap_or(f64::NAN)
        };
        Self { low: at(1), median: at(2), high: at(3) }
    }

    /// Median and quartiles, with two decimals.
    pub fn spread(self) -> String {
        let Self { low, median, high } = self;
        format!("{median:.2} ({low:.2}-{high:.2})")
    }
}

/// A time with three figures at most: more were not measured.
pub fn time(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    match milliseconds {
        0.0 => "-".to_owned(),
        ..9.995 => format!("{milliseconds:.2} ms"),
        9.995..99.95 => format!("{milliseconds:.1} ms"),
        99.95..999.5 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// A size in decimal units, as file sizes are given.
pub fn bytes(count: u64) -> String {
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

/// An empty table as Markdown, so that what a terminal shows is what a page has. All columns but
/// the first are for figures.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles() {
        let found = Quartiles::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(found, Quartiles { low: 2.0, median: 3.0, high: 4.0 });
        assert!(Quartiles::of([]).median.is_nan());
    }

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
