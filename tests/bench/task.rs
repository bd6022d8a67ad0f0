//! What is run: a module, its arguments and its grants, in words that every runtime has its own for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use warmstep_tests::{examples, modules, paths};

/// How often the sample is repeated for the renderer's work: 9 MB.
const SAMPLES: usize = 30_000;

/// Some 10 million additions and multiplications of Python's.
const LOOP: &str = "\
total = 0
for i in range(2_000_000):
    total += i * i % 7
print(total)";

/// Inserts, an index, joins and an aggregation over 100,000 rows.
const QUERIES: &str = "\
pragma temp_store = memory;
create table line(id integer primary key, customer integer, item text, cents integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
  insert into line select i, i * 7919 % 5003, 'item ' || i % 97, i * 31 % 10007 from n;
create index by_customer on line(customer);
select count(*), sum(a.cents + b.cents) from line a join line b
  on a.customer = b.customer and a.id < b.id where a.item = b.item;
select item, sum(cents) as total from line group by item order by total desc limit 3;";

/// A directory of the host that the module sees.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) host: PathBuf,
    pub(crate) guest: &'static str,
    pub(crate) writable: bool,
}

/// A module and what it is to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// The name for people.
    pub(crate) name: &'static str,
    /// The Wasm.
    pub(crate) wasm: PathBuf,
    /// Its size, in bytes.
    pub(crate) size: u64,
    pub(crate) arguments: Vec<String>,
    pub(crate) grants: Vec<Grant>,
    /// What it prints, where that is known beforehand.
    pub(crate) output: Option<String>,
}

impl Task {
    fn new(name: &'static str, wasm: PathBuf) -> Result<Self> {
        let size = fs::metadata(&wasm).with_context(|| wasm.display().to_string())?.len();
        Ok(Self { name, wasm, size, arguments: Vec::new(), grants: Vec::new(), output: None })
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    fn granted(mut self, host: PathBuf, guest: &'static str, writable: bool) -> Self {
        self.grants.push(Grant { host, guest, writable });
        self
    }

    fn printing(mut self, output: impl Into<String>) -> Self {
        self.output = Some(output.into());
        self
    }
}

/// The least that each module can do: what remains is its start. Files go into `scratch`.
pub(crate) fn starts(scratch: &Path) -> Result<Vec<Task>> {
    let smallest = scratch.join("smallest.wasm");
    fs::write(&smallest, examples::wasm("hello.wat")?)?;
    let hello = fs::read_to_string(paths::example("hello/expected.txt"))?;
    Ok(vec![
        Task::new("hello.wat", smallest)?.printing(hello.as_str()),
        Task::new("hello", paths::module("hello")?)?.printing(hello.as_str()),
        markdown(&paths::example("markdown"), scratch)?,
        sqlite("select 1")?.printing("1\n"),
        python("print(1)")?.printing("1\n"),
        Task::new("ruby", paths::module("ruby")?)?.with(&["-e", "puts 1"]).printing("1\n"),
    ])
}

/// Work beside which a start is little. Files go into `scratch`.
pub(crate) fn work(scratch: &Path) -> Result<Vec<Task>> {
    let input = scratch.join("samples");
    fs::create_dir_all(&input)?;
    let sample = fs::read_to_string(paths::example("markdown/sample.md"))?;
    fs::write(input.join("sample.md"), sample.repeat(SAMPLES))?;
    Ok(vec![markdown(&input, scratch)?, sqlite(QUERIES)?, python(LOOP)?])
}

/// Python, once awake and once asleep, having said so.
pub(crate) fn sleeper() -> Result<(Task, Task)> {
    // It waits for the end of an input that stays open; this build knows no `time.sleep`.
    let asleep = python("import sys; print('asleep', flush=True); sys.stdin.read()")?;
    Ok((python("print(1)")?, asleep))
}

fn python(program: &str) -> Result<Task> {
    let task = Task::new("python", paths::module("python")?)?.with(&["-c", program]);
    Ok(task.granted(modules::python_library()?, "/usr/local/lib", false))
}

fn sqlite(queries: &str) -> Result<Task> {
    Ok(Task::new("sqlite", paths::module("sqlite")?)?.with(&["-batch", ":memory:", queries]))
}

fn markdown(input: &Path, scratch: &Path) -> Result<Task> {
    let output = scratch.join("pages");
    fs::create_dir_all(&output)?;
    let task = Task::new("markdown", paths::module("markdown")?)?;
    let task = task.with(&["/in/sample.md", "/out/sample.html"]);
    Ok(task.granted(input.to_owned(), "/in", false).granted(output, "/out", true))
}
