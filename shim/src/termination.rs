//! The last words of a step that did not run: one line on stderr, and for Kubernetes.

use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Kubernetes shows what is written here as the container's message (`terminationMessagePath`).
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The longest reason, in bytes: the kubelet keeps 4 KiB of a message.
const MAX_REASON: usize = 2048;

/// Why no module ran, and the exit code that says so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One of [`warmstep_wire::exit`], or what the agent says.
    pub(crate) code: u8,
    /// For the person who reads the step's log.
    pub(crate) reason: String,
}

impl Failure {
    /// Tells everyone who may listen; the result is the exit code.
    pub(crate) fn report(&self) -> u8 {
        let line = one_line(&self.reason);
        say(format_args!("{line}"));
        record(Path::new(TERMINATION_LOG), &line);
        self.code
    }
}

/// Says something on stderr. Nobody may be there to hear it, which is no reason to fail.
pub(crate) fn say(what: std::fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("warmstep: {what}\n").as_bytes());
}

/// Writes the termination message, where there is a place for it. The file is never created: on
/// anything but a pod it would be litter.
fn record(path: &Path, line: &str) {
    // Not blocking: whatever else is there, it must not hold the step.
    let flags =
        OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) {
        let _ = std::fs::File::from(file).write_all(format!("warmstep: {line}\n").as_bytes());
    }
}

/// Makes one printable line of a text that may come from elsewhere: what could move the cursor,
/// change the terminal or reorder the line is replaced.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_REASON));
    for c in text.trim().chars() {
        if line.len() >= MAX_REASON {
            line.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => line.push(' '),
            c if c.is_control() || reorders(c) => line.push('\u{fffd}'),
            c => line.push(c),
        }
    }
    line
}

/// Whether a character changes the direction of those after it (Unicode's UAX 9).
fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_harmless_line() {
        for (text, line) in [
            ("plain: ünïcode", "plain: ünïcode"),
            (" two\nlines\r\n", "two lines"),
            ("\u{1b}[31mred\u{1b}[0m\u{7}", "\u{fffd}[31mred\u{fffd}[0m\u{fffd}"),
            ("\u{9b}2J\u{202e}txet\0", "\u{fffd}2J\u{fffd}txet\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(one_line(text), line, "{text:?}");
        }
        let long = one_line(&"ä".repeat(MAX_REASON));
        assert!(long.len() <= MAX_REASON + '…'.len_utf8() && long.ends_with('…'));
    }

    #[test]
    fn the_termination_log_is_replaced_never_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("termination-log");
        record(&path, "nothing");
        assert!(!path.exists());
        std::fs::write(&path, "a longer message from an earlier process").expect("a file");
        record(&path, "gone");
        assert_eq!(std::fs::read_to_string(&path).expect("a message"), "warmstep: gone\n");
    }

    #[test]
    fn a_termination_log_that_is_a_pipe_holds_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("a pipe");
        record(&path, "unheard");
    }
}
