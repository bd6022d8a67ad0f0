//! Rounds: in each, every program runs once, so that what disturbs the machine disturbs them alike.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use warmstep_tests::figures::Quartiles;
use warmstep_tests::interrupt;

use crate::stand::Runtime;

/// How long containerd cleans up after a container that has ended already.
const SETTLE: Duration = Duration::from_millis(200);

/// In which rounds a container runs: one in so many. It takes as long as a hundred steps.
const CONTAINER_EVERY: usize = 5;

/// A program to measure.
pub(crate) struct Subject {
    pub(crate) runtime: Runtime,
    command: Command,
}

impl Subject {
    pub(crate) fn new(runtime: Runtime, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { runtime, command }
    }

    fn takes_part(&self, round: usize) -> bool {
        self.runtime != Runtime::Container || round.is_multiple_of(CONTAINER_EVERY)
    }
}

/// What a program took in each round, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub(crate) runtime: Runtime,
    pub(crate) times: Vec<Option<f64>>,
}

impl Timed {
    /// Its times.
    pub(crate) fn time(&self) -> Quartiles {
        Quartiles::of(self.times.iter().copied().flatten())
    }

    /// Its times against those of another in the same rounds.
    pub(crate) fn ratio(&self, other: &Self) -> Quartiles {
        let pairs = self.times.iter().zip(&other.times);
        Quartiles::of(pairs.filter_map(|(mine, theirs)| Some((*mine)? / (*theirs)?)))
    }
}

/// Finds one program's times.
pub(crate) fn of(timed: &[Timed], runtime: Runtime) -> Option<&Timed> {
    timed.iter().find(|timed| timed.runtime == runtime)
}

/// Measures programs in so many rounds. `before` is called before each run.
pub(crate) fn measure(
    subjects: &mut [Subject],
    rounds: usize,
    take: fn(&mut Command) -> Result<Duration>,
    mut before: impl FnMut(Runtime) -> Result<()>,
) -> Result<Vec<Timed>> {
    let new = |subject: &Subject| Timed { runtime: subject.runtime, times: vec![None; rounds] };
    let mut timed: Vec<Timed> = subjects.iter().map(new).collect();
    for round in 0..rounds {
        // There and back again, so that nothing always runs in the wake of the same program.
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let subject = &mut subjects[index];
            if !subject.takes_part(round) {
                continue;
            }
            interrupt::check()?;
            before(subject.runtime)?;
            let took = take(&mut subject.command).context(subject.runtime.label())?;
            timed[index].times[round] = Some(took.as_secs_f64() * 1e3);
            if subject.runtime == Runtime::Container {
                thread::sleep(SETTLE);
            }
        }
    }
    Ok(timed)
}

/// From just before a program is started until it has ended.
pub(crate) fn to_the_end(command: &mut Command) -> Result<Duration> {
    let before = Instant::now();
    let status = command.status()?;
    let took = before.elapsed();
    ensure!(status.success(), "it ended with {status}");
    Ok(took)
}

/// From just before a program is started until it has printed a line.
pub(crate) fn to_the_first_line(command: &mut Command) -> Result<Duration> {
    let before = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().context("it has no output")?;
    let mut byte = [0];
    let read = loop {
        match stdout.read(&mut byte) {
            Ok(1) if byte[0] != b'\n' => {}
            read => break read,
        }
    };
    let took = before.elapsed();
    let status = child.wait()?;
    ensure!(read? == 1 && status.success(), "it ended with {status}, or without a line");
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let timed = |times: &[Option<f64>]| Timed { runtime: Runtime::Noop, times: times.to_vec() };
        let one = timed(&[Some(1.0), None, Some(30.0)]);
        let other = timed(&[Some(2.0), Some(1.0), Some(10.0)]);
        let ratio = one.ratio(&other);
        assert_eq!((ratio.low, ratio.high), (0.5, 0.5), "of two values the lower one");
        assert_eq!(Quartiles::of([0.5, 3.0]), ratio);
    }

    #[test]
    fn a_program_is_timed_to_its_line_and_to_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo; sleep 0.3"]);
        let first = to_the_first_line(&mut command).expect("a line");
        let all = to_the_end(&mut command).expect("an end");
        assert!(first < Duration::from_millis(300) && all >= Duration::from_millis(300));
        assert!(to_the_first_line(Command::new("false").arg("")).is_err());
        assert!(to_the_end(&mut Command::new("false")).is_err());
    }
}
