//! The plot: every start as a dot on a scale of powers of ten, one row a module.
//!
//! It stands on light pages and on dark ones, so it has no background, and colours of middling
//! lightness.

use svg::Document;
use svg::node::element::{Circle, Group, Line, Rectangle, Style, Text};
use warmstep_tests::figures::{Quartiles, bytes};

use crate::report::{Results, shown};
use crate::rounds::{self, Timed};
use crate::stand::Runtime;
use crate::starts::Figure;

/// Pixels, as all lengths here.
const WIDTH: f64 = 860.0;
/// Where the scales begin and end; the names are to their left, the ratios to their right.
const LEFT: f64 = 166.0;
const RIGHT: f64 = 750.0;
const ROW: f64 = 38.0;
/// From the top of a panel to its first row, and from its last row to the next panel.
const HEAD: f64 = 66.0;
const FOOT: f64 = 44.0;

const STYLE: &str = "\
text { font: 13px system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif; \
fill: #7d8590 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 11px }
.name { font-weight: 600 }
.ours { fill: #e8590c; font-weight: 600 }
.grid { stroke: #7d8590; stroke-opacity: .3 }
.row { fill: #7d8590; fill-opacity: .07 }";

/// A plot of hot and cold starts.
pub(crate) fn draw(results: &Results) -> String {
    let mut document = Document::new().add(Style::new(STYLE));
    let mut top = 0.0;
    for (title, others, figures) in [
        ("Hot start, from start to exit", Runtime::WasmtimePrecompiled, &results.hot),
        ("Cold start, to the first line of output", Runtime::WasmtimeUncached, &results.cold),
    ] {
        if let Some(panel) = Panel::new(figures, others) {
            document = document.add(panel.draw(title, top));
            top += panel.height();
        }
    }
    let note = text(LEFT, top + 4.0, "small", "Dots are medians, bars quartiles.");
    document = document.add(note).add(text(LEFT, top + 20.0, "small", &results.measured()));
    document.set("viewBox", (0, 0, WIDTH, top + 32.0)).set("role", "img").to_string()
}

/// One scale with its rows.
struct Panel<'a> {
    figures: &'a [Figure],
    /// Against which the ratio is shown.
    other: Runtime,
    /// Powers of ten.
    low: f64,
    high: f64,
}

impl<'a> Panel<'a> {
    /// Nothing, where nothing was measured.
    fn new(figures: &'a [Figure], other: Runtime) -> Option<Self> {
        let all = figures.iter().flat_map(|figure| &figure.timed).map(Timed::time);
        let all: Vec<Quartiles> = all.filter(|time| time.median.is_finite()).collect();
        let low = all.iter().map(|time| time.low).reduce(f64::min)?;
        let high = all.iter().map(|time| time.high).reduce(f64::max)?;
        // Half a power is enough of a margin.
        let (low, high) = ((low.log10() * 2.0).floor() / 2.0, (high.log10() * 2.0).ceil() / 2.0);
        Some(Self { figures, other, low, high: high.max(low + 0.5) })
    }

    #[allow(clippy::cast_precision_loss, reason = "a handful of rows")]
    fn bottom(&self, top: f64) -> f64 {
        top + HEAD + self.figures.len() as f64 * ROW
    }

    fn height(&self) -> f64 {
        self.bottom(0.0) + FOOT
    }

    fn x(&self, milliseconds: f64) -> f64 {
        LEFT + (milliseconds.log10() - self.low) / (self.high - self.low) * (RIGHT - LEFT)
    }

    fn draw(&self, title: &str, top: f64) -> Group {
        let mut group = Group::new()
            .add(text(10.0, top + 18.0, "title", title))
            .add(self.legend(top + 44.0))
            .add(end(WIDTH - 10.0, top + 18.0, "small", "to wasmtime"));
        let mut middle = top + HEAD + ROW / 2.0;
        for index in 0..self.figures.len() {
            if index % 2 == 0 {
                group = group.add(rectangle("row", 0.0, middle - ROW / 2.0, WIDTH, ROW));
            }
            middle += ROW;
        }
        group = group.add(self.grid(top + HEAD, self.bottom(top)));
        middle = top + HEAD + ROW / 2.0;
        for figure in self.figures {
            group = group.add(self.row(figure, middle));
            middle += ROW;
        }
        group
    }

    fn legend(&self, y: f64) -> Group {
        let mut group = Group::new();
        let mut x = LEFT;
        for runtime in DRAWN {
            if self.figures.iter().all(|figure| rounds::of(&figure.timed, runtime).is_none()) {
                continue;
            }
            let label = runtime.label();
            group =
                group.add(dot(runtime, x + 5.0, y - 4.0)).add(text(x + 14.0, y, "small", label));
            // Letters are about this wide.
            x += 30.0 + label.chars().map(|_| 6.1).sum::<f64>();
        }
        group
    }

    fn grid(&self, top: f64, bottom: f64) -> Group {
        let mut group = Group::new();
        let mut power = self.low.ceil();
        while power <= self.high {
            let milliseconds = 10_f64.powf(power);
            let x = self.x(milliseconds);
            let line = Line::new().set("class", "grid").set("x1", x).set("x2", x);
            let label = Text::new(tick(milliseconds))
                .set("class", "small")
                .set("text-anchor", "middle")
                .set("x", x)
                .set("y", bottom + 16.0);
            group = group.add(line.set("y1", top).set("y2", bottom)).add(label);
            power += 1.0;
        }
        group
    }

    fn row(&self, figure: &Figure, y: f64) -> Group {
        let mut group = Group::new().add(text(10.0, y + 4.0, "name", figure.task.name)).add(end(
            LEFT - 12.0,
            y + 4.0,
            "small",
            &bytes(figure.task.size),
        ));
        for runtime in DRAWN.into_iter().rev() {
            let Some(timed) = rounds::of(&figure.timed, runtime) else { continue };
            let time = timed.time();
            if !time.median.is_finite() {
                continue;
            }
            group =
                group.add(self.spread(runtime, time, y)).add(dot(runtime, self.x(time.median), y));
        }
        if let Some(mine) = rounds::of(&figure.timed, Runtime::Warmstep) {
            let median = mine.time().median;
            let label = text(self.x(median), y - 9.0, "small ours", &shown(median));
            group = group.add(label.set("text-anchor", "middle"));
            if let Some(other) = rounds::of(&figure.timed, self.other) {
                let ratio = format!("{:.2}", mine.ratio(other).median);
                group = group.add(end(WIDTH - 10.0, y + 4.0, "ours", &ratio));
            }
        }
        group
    }

    fn spread(&self, runtime: Runtime, time: Quartiles, y: f64) -> Rectangle {
        let (low, high) = (self.x(time.low), self.x(time.high));
        let bar = Rectangle::new().set("x", low).set("y", y - 2.5).set("width", high - low);
        bar.set("height", 5.0).set("rx", 2.5).set("fill", colour(runtime)).set("fill-opacity", 0.45)
    }
}

/// In the order of the legend; the first is drawn last, above the others.
const DRAWN: [Runtime; 8] = [
    Runtime::Warmstep,
    Runtime::WasmtimePrecompiled,
    Runtime::WasmtimeCached,
    Runtime::WasmtimeUncached,
    Runtime::WasmerCached,
    Runtime::WasmerUncached,
    Runtime::Container,
    Runtime::Noop,
];

fn colour(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Warmstep => "#e8590c",
        Runtime::WasmtimePrecompiled | Runtime::WasmtimeUncached => "#1c7ed6",
        Runtime::WasmtimeCached => "#66b2ef",
        Runtime::WasmerCached | Runtime::WasmerUncached => "#9775fa",
        Runtime::Container => "#2f9e44",
        Runtime::Noop => "#868e96",
    }
}

/// A power of ten, with its unit.
fn tick(milliseconds: f64) -> String {
    if milliseconds < 1e3 {
        format!("{milliseconds} ms")
    } else {
        format!("{} s", milliseconds / 1e3)
    }
}

fn dot(runtime: Runtime, x: f64, y: f64) -> Circle {
    let radius = if runtime == Runtime::Warmstep { 5.5 } else { 4.5 };
    Circle::new().set("cx", x).set("cy", y).set("r", radius).set("fill", colour(runtime))
}

fn rectangle(class: &str, x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    let place = Rectangle::new().set("class", class).set("x", x).set("y", y);
    place.set("width", width).set("height", height)
}

fn text(x: f64, y: f64, class: &str, content: &str) -> Text {
    Text::new(content).set("class", class).set("x", x).set("y", y)
}

/// Text that ends at `x`.
fn end(x: f64, y: f64, class: &str, content: &str) -> Text {
    text(x, y, class, content).set("text-anchor", "end")
}
