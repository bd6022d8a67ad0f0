//! What a cold step waits for: a bar on a terminal, a few plain lines in a log, nothing when hot.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use warmstep_wire::message::Phase;

use crate::signals;
use crate::termination::{one_line, say};

/// The shortest time between two lines of one phase.
const LINE_PAUSE: Duration = Duration::from_secs(2);

/// The longest time between two lines of one phase that reports progress at all.
const LINE_SILENCE: Duration = Duration::from_secs(10);

/// Shows progress until the module runs.
pub(crate) struct Progress {
    module: String,
    display: Display,
}

enum Display {
    Quiet,
    Bar(Option<(Phase, ProgressBar)>),
    Lines(Lines),
}

impl Progress {
    /// Nothing is shown before the first [`Progress::update`].
    pub(crate) fn new(module: &str, quiet: bool) -> Self {
        let display = if quiet {
            Display::Quiet
        } else if std::io::stderr().is_terminal() {
            Display::Bar(None)
        } else {
            Display::Lines(Lines::default())
        };
        Self { module: one_line(module), display }
    }

    /// The agent says how far it is; `total` is 0 while unknown.
    pub(crate) fn update(&mut self, phase: Phase, done: u64, total: u64) {
        match &mut self.display {
            Display::Quiet => {}
            Display::Bar(shown) => show(shown, &self.module, phase, done, total),
            Display::Lines(lines) => {
                if let Some(line) = lines.next(Instant::now(), phase, done, total) {
                    say(format_args!("{} {}{line}", verb(phase), self.module));
                }
            }
        }
    }

    /// Takes a bar off the terminal: the module runs, or there is something else to say.
    pub(crate) fn clear(&mut self) {
        if let Display::Bar(shown) = &mut self.display
            && let Some((_, bar)) = shown.take()
        {
            bar.finish_and_clear();
            signals::bar_is_visible(false);
        }
    }
}

fn show(
    shown: &mut Option<(Phase, ProgressBar)>,
    module: &str,
    phase: Phase,
    done: u64,
    total: u64,
) {
    if shown.as_ref().is_none_or(|(before, _)| *before != phase) {
        if let Some((_, old)) = shown.take() {
            old.finish_and_clear();
        }
        signals::bar_is_visible(true);
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(phase, 0));
        bar.set_message(format!("{} {module}", verb(phase)));
        *shown = Some((phase, bar));
    }
    let Some((_, bar)) = shown else { return };
    if total > 0 && bar.length() != Some(total) {
        bar.set_style(style(phase, total));
        bar.set_length(total);
    }
    bar.set_position(done);
}

fn style(phase: Phase, total: u64) -> ProgressStyle {
    let template = match (phase, total) {
        (Phase::Pull, 0) => "{msg} {bytes}",
        (_, 0) => "{msg}",
        (Phase::Pull, _) => "{msg} [{bar:24}] {bytes}/{total_bytes}",
        (Phase::Resolve | Phase::Compile, _) => "{msg} [{bar:24}] {percent}%",
    };
    let style = ProgressStyle::with_template(template);
    style.map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
}

fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "resolving",
        Phase::Pull => "pulling",
        Phase::Compile => "compiling",
    }
}

/// Decides which progress is worth a line in a log that somebody keeps.
#[derive(Default)]
struct Lines {
    last: Option<Line>,
}

struct Line {
    phase: Phase,
    at: Instant,
    quarter: u64,
}

impl Lines {
    /// What to say behind the module's name, if it is time to say something: a new phase at once; a
    /// new quarter, but not every moment; and a sign of life.
    fn next(&mut self, now: Instant, phase: Phase, done: u64, total: u64) -> Option<String> {
        let quarter = u64::try_from(u128::from(done) * 4 / u128::from(total.max(1))).unwrap_or(4);
        let due = match &self.last {
            Some(last) if last.phase == phase => {
                let silence = now.saturating_duration_since(last.at);
                let further = total > 0 && quarter > last.quarter;
                silence >= LINE_SILENCE || (silence >= LINE_PAUSE && further)
            }
            _ => true,
        };
        if !due {
            return None;
        }
        self.last = Some(Line { phase, at: now, quarter });
        Some(amount(phase, done, total))
    }
}

fn amount(phase: Phase, done: u64, total: u64) -> String {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    match (phase, done, total) {
        (_, 0, _) => String::new(),
        (Phase::Pull, _, 0) => format!(": {}", HumanBytes(done)),
        (Phase::Pull, ..) => format!(": {} of {}", HumanBytes(done), HumanBytes(total)),
        (_, _, 0) => String::new(),
        _ => format!(": {}%", percent.min(100)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_a_phase_and_then_not_too_many() {
        let mut lines = Lines::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mib = 1 << 20;
        assert_eq!(lines.next(at(0), Phase::Resolve, 0, 0), Some(String::new()));
        assert_eq!(lines.next(at(0), Phase::Pull, 0, 8 * mib), Some(String::new()));
        // A quarter, but too soon; then late enough; then late, but no new quarter.
        assert_eq!(lines.next(at(1), Phase::Pull, 2 * mib, 8 * mib), None);
        let line = Some(": 2.00 MiB of 8.00 MiB".into());
        assert_eq!(lines.next(at(2), Phase::Pull, 2 * mib, 8 * mib), line);
        assert_eq!(lines.next(at(5), Phase::Pull, 3 * mib, 8 * mib), None);
        assert!(lines.next(at(12), Phase::Pull, 3 * mib, 8 * mib).is_some());
        assert_eq!(lines.next(at(12), Phase::Compile, 0, 0), Some(String::new()));
        assert_eq!(lines.next(at(14), Phase::Compile, 50, 100), Some(": 50%".into()));
    }

    #[test]
    fn without_a_total_there_are_signs_of_life_only() {
        let mut lines = Lines::default();
        let start = Instant::now();
        let said = (0..60)
            .filter(|n| {
                let now = start + Duration::from_secs(*n);
                lines.next(now, Phase::Pull, n << 20, 0).is_some()
            })
            .count();
        assert_eq!(said, 6);
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut lines = Lines::default();
        let now = Instant::now();
        assert!(lines.next(now, Phase::Compile, u64::MAX, 1).is_some());
        assert_eq!(amount(Phase::Compile, u64::MAX, 1), ": 100%");
        assert_eq!(amount(Phase::Compile, u64::MAX, u64::MAX), ": 100%");
    }
}
