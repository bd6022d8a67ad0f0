//! What ten Pythons take that sleep at the same time, and what of it they share.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use warmstep_tests::figures::Quartiles;

use crate::stand::{Runtime, Stand};
use crate::task;

/// How many sleep.
pub(crate) const SLEEPERS: usize = 10;

/// What one process takes, by `/proc/PID/smaps`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    /// Pages that it uses, shared or not.
    resident: u64,
    /// The same, but of what n processes share only an n-th.
    proportional: u64,
    /// Pages that it alone has, and has written to.
    private_dirty: u64,
    /// Pages of code that it uses.
    code: u64,
    /// Those of them that other processes use too.
    shared_code: u64,
}

/// What each of the processes of one runtime takes, in MiB.
pub(crate) struct Memory {
    pub(crate) runtime: Runtime,
    pub(crate) resident: Quartiles,
    pub(crate) proportional: Quartiles,
    pub(crate) private_dirty: Quartiles,
    pub(crate) code: Quartiles,
    pub(crate) shared_code: Quartiles,
}

/// Measures one runtime after the other.
pub(crate) fn measure(stand: &Stand) -> Result<Vec<Memory>> {
    let (awake, asleep) = task::sleeper()?;
    stand.hot_step(&awake)?;
    let mut runtimes = vec![Runtime::Warmstep];
    runtimes.extend(stand.wasmtime.as_ref().map(|_| Runtime::WasmtimePrecompiled));
    runtimes.extend(stand.wasmer.as_ref().map(|_| Runtime::WasmerCached));
    let command = |runtime| match (runtime, &stand.wasmtime, &stand.wasmer) {
        (Runtime::WasmtimePrecompiled, Some(wasmtime), _) => wasmtime.precompiled(&asleep),
        (Runtime::WasmerCached, _, Some(wasmer)) => Ok(wasmer.cached(&asleep)),
        _ => stand.known_step(&asleep),
    };
    let mut found = Vec::new();
    for runtime in runtimes {
        eprintln!("bench: {SLEEPERS} sleeping Pythons, {}", runtime.label());
        let start = |_| Sleeper::start(command(runtime)?).context(runtime.label());
        let sleepers = (0..SLEEPERS).map(start).collect::<Result<Vec<Sleeper>>>()?;
        let taken: Result<Vec<Taken>> = sleepers.iter().map(Sleeper::taken).collect();
        let taken = taken?;
        let of = |part: fn(&Taken) -> u64| Quartiles::of(taken.iter().map(part).map(mebibytes));
        found.push(Memory {
            runtime,
            resident: of(|taken| taken.resident),
            proportional: of(|taken| taken.proportional),
            private_dirty: of(|taken| taken.private_dirty),
            code: of(|taken| taken.code),
            shared_code: of(|taken| taken.shared_code),
        });
    }
    Ok(found)
}

#[allow(clippy::cast_precision_loss, reason = "less than 2^53 bytes")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// A process that said that it sleeps; killed when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut sleeper = Self(command.spawn()?);
        let stdout = sleeper.0.stdout.as_mut().context("it has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "asleep\n", "it says {line:?} instead of falling asleep");
        Ok(sleeper)
    }

    fn taken(&self) -> Result<Taken> {
        let path = format!("/proc/{}/smaps", self.0.id());
        let text = fs::read_to_string(&path).context(path)?;
        let taken = taken(&text);
        // What has ended has an empty one.
        ensure!(taken.resident > 0, "a sleeper has ended");
        Ok(taken)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sums up what proc_pid_smaps(5) describes: a line with the mapping's permissions, then lines with
/// its counts in kB.
fn taken(smaps: &str) -> Taken {
    let mut taken = Taken::default();
    let mut executable = false;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        if !first.ends_with(':') {
            executable = second.contains('x');
            continue;
        }
        let Ok(count) = second.parse::<u64>() else { continue };
        let bytes = count * 1024;
        match first {
            "Rss:" => {
                taken.resident += bytes;
                taken.code += if executable { bytes } else { 0 };
            }
            "Pss:" => taken.proportional += bytes,
            "Private_Dirty:" => taken.private_dirty += bytes,
            "Shared_Clean:" | "Shared_Dirty:" if executable => taken.shared_code += bytes,
            _ => {}
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_summed_up() {
        let smaps = "\
55d0-55e0 r-xp 00000000 fe:00 1234   /memfd:warmstep-module (deleted)
Size:                 64 kB
Rss:                  40 kB
Pss:                  10 kB
Shared_Clean:          0 kB
Shared_Dirty:         36 kB
Private_Dirty:         4 kB
VmFlags: rd ex mr
7f00-7f10 rw-p 00000000 00:00 0
Rss:                   8 kB
Pss:                   8 kB
Shared_Clean:          4 kB
Private_Dirty:         8 kB
";
        let expected = Taken {
            resident: 48 * 1024,
            proportional: 18 * 1024,
            private_dirty: 12 * 1024,
            code: 40 * 1024,
            shared_code: 36 * 1024,
        };
        assert_eq!(taken(smaps), expected);
    }
}
