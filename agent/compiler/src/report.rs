//! What this process tells the agent on stderr: one JSON object a line.

use serde::Serialize;

/// A line for the agent.
#[derive(Serialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum Report {
    /// So many of the compiler's own steps are done.
    Progress {
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
    /// The module cannot be compiled.
    Failed {
        /// Why, in one line.
        reason: String,
    },
}

impl Report {
    /// Prints the line. A reader that is gone is no reason to stop: the artifact counts.
    pub(crate) fn print(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            use std::io::Write;
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}

/// Messages from the compiler may span lines; a report's reason does not.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
