//! The page of results, as Markdown.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use comfy_table::Table;
use warmstep_tests::figures::{Quartiles, bytes, table, time};
use warmstep_tests::machine;

use crate::bars;
use crate::callers::Rates;
use crate::memory::{Memory, SLEEPERS, mebibytes};
use crate::node::Node;
use crate::rounds;
use crate::stand::{Runtime, Stand};
use crate::starts::Figure;

/// The order of columns.
const HOT: [Runtime; 6] = [
    Runtime::Warmstep,
    Runtime::WasmtimePrecompiled,
    Runtime::WasmtimeCached,
    Runtime::WasmerCached,
    Runtime::Container,
    Runtime::Noop,
];
const COLD: [Runtime; 3] = [Runtime::Warmstep, Runtime::WasmtimeUncached, Runtime::WasmerUncached];
const WORK: [Runtime; 3] = [Runtime::Warmstep, Runtime::WasmtimePrecompiled, Runtime::WasmerCached];
const RATES: [Runtime; 3] = [Runtime::Warmstep, Runtime::WasmtimePrecompiled, Runtime::Noop];

/// Everything that was measured.
pub(crate) struct Results {
    machine: String,
    versions: Vec<String>,
    date: String,
    rounds: usize,
    pub(crate) hot: Vec<Figure>,
    pub(crate) cold: Vec<Figure>,
    pub(crate) work: Vec<Figure>,
    pub(crate) callers: Vec<Rates>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) node: Option<Node>,
}

impl Results {
    /// Nothing measured yet, but where and with what it will be.
    pub(crate) fn new(stand: &Stand, rounds: usize) -> Result<Self> {
        Ok(Self {
            machine: machine::describe()?,
            versions: stand.versions()?,
            date: machine::date(),
            rounds,
            hot: Vec::new(),
            cold: Vec::new(),
            work: Vec::new(),
            callers: Vec::new(),
            memory: Vec::new(),
            node: None,
        })
    }

    /// Where, when and with what.
    pub(crate) fn measured(&self) -> String {
        format!("{}, on {}", self.date, self.machine)
    }
}

/// The whole page.
pub(crate) fn page(results: &Results) -> String {
    let mut page = introduction(results);
    let mut part = |title: &str, text: &str, table: Table| {
        // Writing to a String cannot fail.
        let _ = write!(page, "## {title}\n\n{text}\n\n{table}\n\n");
    };
    if !results.hot.is_empty() {
        part("Hot start", HOT_TEXT, times(&results.hot, &HOT));
        part("Hot start, warmstep against the others", RATIO_TEXT, ratios(&results.hot, &HOT));
    }
    if !results.cold.is_empty() {
        part("Cold start", COLD_TEXT, times(&results.cold, &COLD));
        part("Cold start, warmstep against the others", RATIO_TEXT, ratios(&results.cold, &COLD));
    }
    if !results.hot.is_empty() || !results.cold.is_empty() {
        part("What was promised", BARS_TEXT, promises(results));
    }
    if !results.work.is_empty() {
        part("Work", WORK_TEXT, times(&results.work, &WORK));
        part("Work, warmstep against the others", RATIO_TEXT, ratios(&results.work, &WORK));
    }
    if !results.callers.is_empty() {
        part("Steps per second", CALLERS_TEXT, rates(&results.callers));
    }
    if !results.memory.is_empty() {
        part("Memory of a step", &memory_text(), memory(&results.memory));
    }
    if let Some(figures) = &results.node {
        part("The agent", NODE_TEXT, node(figures));
    }
    page
}

const HOT_TEXT: &str = "\
From just before the program is started until it has ended, of a module that was run before. \
warmstep: the shim, an agent that has the module, and the runner; the module is named by its digest. \
The container runs the no-op program, not the module: it is what a container costs before it does \
anything (`ctr run --rm`, with containerd and runc), and so is the no-op alone for a process. \
Milliseconds.";
const RATIO_TEXT: &str = "Of the same round; below 1, warmstep is faster.";
const COLD_TEXT: &str = "\
From just before the program is started until the first line of output, of a module that nobody has \
compiled: warmstep's cache is emptied of it before each round, the others run without theirs. The \
module is a file for all of them. Milliseconds.";
const BARS_TEXT: &str = "warmstep's time against wasmtime's, the median of the ratios above.";
const WORK_TEXT: &str = "\
The markdown renderer on 9 MB; SQL over 100,000 rows in memory; a loop of 2,000,000 rounds in Python. \
Each compiled with effort beforehand, start included. Milliseconds.";
const CALLERS_TEXT: &str = "\
hello.wat, hot, by so many callers at once, each with its next step as soon as the last one has \
ended; for a second in each round.";
const NODE_TEXT: &str = "\
An agent of its own, whose modules were each brought and compiled by a step. The step is hot \
hello.wat, from start to exit.";

fn memory_text() -> String {
    format!(
        "{SLEEPERS} Pythons that sleep at the same time. What is shared with another process counts \
         whole in `resident` and in its share in `proportional`; `private, written` is what each \
         further step costs. MiB a process."
    )
}

fn introduction(results: &Results) -> String {
    format!(
        "# What Warmstep takes\n\n\
         Measured by `make bench` (BENCH_ROUNDS={}), {}.\n\n{}\n\n\
         Every figure is a median with its quartiles in brackets. In each round, every program runs \
         once, so that what disturbs the machine disturbs them alike, and ratios are those of the \
         same round.\n\n![Hot and cold starts](results.svg)\n\n",
        results.rounds,
        results.measured(),
        results.versions.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n"),
    )
}

fn times(figures: &[Figure], columns: &[Runtime]) -> Table {
    let columns = measured(figures, columns);
    let mut header = vec!["module", "Wasm"];
    header.extend(columns.iter().map(|runtime| runtime.label()));
    let mut table = table(&header);
    for figure in figures {
        let mut row = vec![figure.task.name.to_owned(), bytes(figure.task.size)];
        row.extend(columns.iter().map(|runtime| {
            let timed = rounds::of(&figure.timed, *runtime);
            timed.map_or_else(nothing, |timed| figures_of(timed.time()))
        }));
        table.add_row(row);
    }
    table
}

fn ratios(figures: &[Figure], columns: &[Runtime]) -> Table {
    let columns: Vec<Runtime> =
        measured(figures, columns).into_iter().filter(|r| *r != Runtime::Warmstep).collect();
    let mut header = vec!["module"];
    header.extend(columns.iter().map(|runtime| runtime.label()));
    let mut table = table(&header);
    for figure in figures {
        let mine = rounds::of(&figure.timed, Runtime::Warmstep);
        let mut row = vec![figure.task.name.to_owned()];
        row.extend(columns.iter().map(|runtime| {
            let pair = mine.zip(rounds::of(&figure.timed, *runtime));
            pair.map_or_else(nothing, |(mine, other)| figures_of(mine.ratio(other)))
        }));
        table.add_row(row);
    }
    table
}

/// The columns that have something in them.
fn measured(figures: &[Figure], columns: &[Runtime]) -> Vec<Runtime> {
    let there = |runtime: &Runtime| {
        figures.iter().any(|figure| rounds::of(&figure.timed, *runtime).is_some())
    };
    columns.iter().copied().filter(there).collect()
}

fn promises(results: &Results) -> Table {
    let mut table = table(&["", "at most", "measured", ""]);
    for bar in bars::all(&results.hot, &results.cold) {
        let found = bar.found.map_or_else(nothing, |found| format!("{found:.2}"));
        table.add_row([bar.what.to_owned(), bar.wanted.to_string(), found, bar.verdict().into()]);
    }
    table
}

fn rates(callers: &[Rates]) -> Table {
    let mut header = vec!["callers"];
    let there = |runtime: &Runtime| callers.iter().any(|rates| rates.rate(*runtime).is_some());
    let columns: Vec<Runtime> = RATES.into_iter().filter(there).collect();
    header.extend(columns.iter().map(|runtime| runtime.label()));
    header.push("warmstep : wasmtime");
    let mut table = table(&header);
    for rates in callers {
        let mut row = vec![rates.callers.to_string()];
        let rate = |runtime: &Runtime| rates.rate(*runtime).map_or_else(nothing, figures_of);
        row.extend(columns.iter().map(rate));
        let ratio = rates.ratio(Runtime::Warmstep, Runtime::WasmtimePrecompiled);
        row.push(ratio.map_or_else(nothing, figures_of));
        table.add_row(row);
    }
    table
}

fn memory(memory: &[Memory]) -> Table {
    let mut table =
        table(&["", "private, written", "proportional", "resident", "code", "code, shared"]);
    for taken in memory {
        let Memory { runtime, private_dirty, proportional, resident, code, shared_code } = taken;
        let mut row = vec![runtime.label().to_owned()];
        row.extend(
            [private_dirty, proportional, resident, code, shared_code].map(|q| figures_of(*q)),
        );
        table.add_row(row);
    }
    table
}

fn node(node: &Node) -> Table {
    let mut table = table(&["", "resident", "a step"]);
    let mebibytes = |bytes| format!("{:.1} MiB", mebibytes(bytes));
    let step = |quartiles| format!("{} ms", figures_of(quartiles));
    table.add_row(["idle, just started".to_owned(), mebibytes(node.fresh), step(node.alone)]);
    let many = format!("with {} modules", node.modules);
    table.add_row([many.clone(), mebibytes(node.filled), step(node.step)]);
    table.add_row([format!("{many}, restarted"), mebibytes(node.restarted), nothing()]);
    table
}

/// Median and quartiles, with as many digits as were measured.
fn figures_of(Quartiles { low, median, high }: Quartiles) -> String {
    let digits = match median {
        ..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{median:.digits$} ({low:.digits$}-{high:.digits$})")
}

fn nothing() -> String {
    "-".to_owned()
}

/// A time in milliseconds, for the plot.
pub(crate) fn shown(milliseconds: f64) -> String {
    time(Duration::from_secs_f64(milliseconds / 1e3))
}
