//! The steps of `examples/`, as the tests and the demo run them: each in a fresh directory, and
//! each checked against what it must print and write.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::agent::Agent;
use crate::step::{Ended, Step};
use crate::{modules, paths};

/// One example.
#[derive(Clone, Copy)]
pub struct Example {
    /// The name for people.
    pub name: &'static str,
    /// The name of its module, as [`wasm`] knows it.
    pub module: &'static str,
    /// Grants, arguments and input, in an empty directory that is the step's own.
    prepare: fn(Step, &Path) -> Result<Step>,
    /// Whether it did what it must, given the same directory.
    check: fn(&Ended, &Path) -> Result<()>,
}

/// All of them.
pub const ALL: [Example; 7] = [
    Example { name: "hello.wat", module: "hello.wat", prepare: plain, check: says_hello },
    Example { name: "hello", module: "hello", prepare: plain, check: says_hello },
    Example { name: "markdown", module: "markdown", prepare: readme, check: rendered_readme },
    Example { name: "sample", module: "markdown", prepare: sample, check: rendered_sample },
    Example { name: "sqlite", module: "sqlite", prepare: orders, check: summed_orders },
    Example { name: "python", module: "python", prepare: report, check: reported },
    Example { name: "ruby", module: "ruby", prepare: primes, check: printed_primes },
];

/// The bytes of an example's module.
///
/// # Errors
///
/// When it is missing.
pub fn wasm(module: &str) -> Result<Vec<u8>> {
    if module == "hello.wat" { modules::smallest_hello() } else { modules::read(module) }
}

impl Example {
    /// Runs it on an agent, with its module under any name the agent knows, and checks what it did.
    ///
    /// # Errors
    ///
    /// When it cannot be run, or did something else than it must.
    pub fn run(&self, agent: &Agent, module: &str) -> Result<Ended> {
        self.run_by(Step::run, agent, module)
    }

    /// As [`Example::run`], with another way to run the step.
    ///
    /// # Errors
    ///
    /// As [`Example::run`].
    pub fn run_by(
        &self,
        run: fn(Step) -> Result<Ended>,
        agent: &Agent,
        module: &str,
    ) -> Result<Ended> {
        let scratch = TempDir::with_prefix_in("step-", agent.scratch())?;
        let ended = run((self.prepare)(agent.step(module), scratch.path())?)?;
        (self.check)(&ended, scratch.path()).with_context(|| {
            format!("the example {} ended with {}: {}", self.name, ended.code, ended.err())
        })?;
        Ok(ended)
    }
}

fn plain(step: Step, _: &Path) -> Result<Step> {
    Ok(step)
}

fn says_hello(ended: &Ended, _: &Path) -> Result<()> {
    ends_with(ended, 0)?;
    same("the output", &ended.out(), &expected("hello/expected.txt")?)
}

/// The repository's README, from one directory into another.
fn readme(step: Step, scratch: &Path) -> Result<Step> {
    let (input, output) = (scratch.join("in"), scratch.join("out"));
    fs::create_dir(&input)?;
    fs::create_dir(&output)?;
    let readme = paths::root().join("README.md");
    fs::copy(&readme, input.join("README.md")).with_context(|| readme.display().to_string())?;
    let step = step.readable(input, "/in").directory(output, "/out");
    Ok(step.arguments(["/in/README.md", "/out/README.html"]))
}

/// The README's title is the title of the page.
fn rendered_readme(ended: &Ended, scratch: &Path) -> Result<()> {
    ends_with(ended, 0)?;
    let page = fs::read_to_string(scratch.join("out/README.html")).context("no page")?;
    let readme = fs::read_to_string(scratch.join("in/README.md"))?;
    let title = readme.lines().find_map(|line| line.strip_prefix("# ")).context("no title")?;
    ensure!(page.contains(&format!("<h1>{title}</h1>")), "the page has no title {title:?}");
    Ok(())
}

fn sample(step: Step, scratch: &Path) -> Result<Step> {
    let step = step.readable(paths::example("markdown"), "/in").directory(scratch, "/out");
    Ok(step.arguments(["/in/sample.md", "/out/sample.html"]))
}

fn rendered_sample(ended: &Ended, scratch: &Path) -> Result<()> {
    ends_with(ended, 0)?;
    let page = fs::read_to_string(scratch.join("sample.html")).context("no page")?;
    same("the page", &page, &expected("markdown/expected.html")?)
}

fn orders(step: Step, scratch: &Path) -> Result<Step> {
    let step =
        step.directory(scratch, "/data").stdin(fs::read(paths::example("sqlite/orders.sql"))?);
    Ok(step.arguments(["-batch", "-bail", "/data/orders.db"]))
}

fn summed_orders(ended: &Ended, scratch: &Path) -> Result<()> {
    ends_with(ended, 0)?;
    same("the output", &ended.out(), &expected("sqlite/expected.txt")?)?;
    let database = fs::read(scratch.join("orders.db")).context("no database")?;
    // https://www.sqlite.org/fileformat.html, "The Database Header".
    ensure!(database.starts_with(b"SQLite format 3\0"), "the database is none");
    Ok(())
}

fn report(step: Step, scratch: &Path) -> Result<Step> {
    let step = step
        .readable(modules::python_library()?, "/usr/local/lib")
        .readable(paths::example("python"), "/in")
        .directory(scratch, "/out");
    Ok(step.arguments(["/in/report.py", "/in/orders.csv", "/out/report.json"]))
}

fn reported(ended: &Ended, scratch: &Path) -> Result<()> {
    ends_with(ended, 0)?;
    same("the output", &ended.out(), &expected("python/expected.txt")?)?;
    let report = fs::read_to_string(scratch.join("report.json")).context("no report")?;
    same("the report", &report, &expected("python/expected.json")?)
}

fn primes(step: Step, _: &Path) -> Result<Step> {
    Ok(step.stdin(fs::read(paths::example("ruby/primes.rb"))?))
}

fn printed_primes(ended: &Ended, _: &Path) -> Result<()> {
    ends_with(ended, 3)?;
    same("the output", &ended.out(), &expected("ruby/expected.txt")?)
}

fn ends_with(ended: &Ended, code: i32) -> Result<()> {
    ensure!(ended.code == code, "it must end with {code}");
    Ok(())
}

fn same(what: &str, found: &str, expected: &str) -> Result<()> {
    if found != expected {
        bail!("{what} is\n{found}and not\n{expected}");
    }
    Ok(())
}

fn expected(name: &str) -> Result<String> {
    let path = paths::example(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}
