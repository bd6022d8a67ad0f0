//! What this process tells the agent on stderr: one JSON object a line.

use serde::Serialize;

use crate::inspect::Summary;

/// A line for the agent.
#[derive(Serialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum Report<'a> {
    /// What the module is and asks for. The first line, once that is known.
    Module {
        /// `module.name` of each import; long names are cut.
        imports: &'a [String],
        /// Whether it exports a function `_start`.
        exports_start: bool,
        /// How many linear memories it has, imported ones included.
        memories: u32,
        /// How many functions it defines.
        functions: u32,
        /// Whether its functions have names.
        has_names: bool,
    },
    /// The kernel, or the container's profile, refuses layers of this process's jail.
    Jail {
        /// Which, and why.
        missing: String,
    },
    /// So many of the compiler's own steps are done.
    Progress {
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
    /// The compiler could not do its work, whatever the module is.
    Broken {
        /// Why, in one line.
        reason: String,
    },
    /// The module cannot be compiled.
    Failed {
        /// Why, in one line.
        reason: String,
    },
}

impl<'a> Report<'a> {
    /// The line about a module.
    pub(crate) fn module(summary: &'a Summary) -> Self {
        Self::Module {
            imports: &summary.imports,
            exports_start: summary.exports_start,
            memories: summary.memories,
            functions: summary.functions,
            has_names: summary.has_names,
        }
    }

    /// Prints the line. A reader that is gone is no reason to stop: the artifact counts.
    pub(crate) fn print(&self) {
        if let Ok(mut line) = serde_json::to_string(self) {
            use std::io::Write;
            line.push('\n');
            // One write a line, so that no two threads' lines are mixed.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }
}

/// Messages from the compiler may span lines; a report's reason does not.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
