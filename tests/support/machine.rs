//! The machine, in a line, and the day: figures without them mean little.

use std::fs;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result};

/// Processors, their model, memory and kernel.
///
/// # Errors
///
/// When the kernel does not say.
pub fn describe() -> Result<String> {
    let field = |path: &str, name: &str| -> Result<String> {
        let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
        Ok(value.unwrap_or("unknown").to_owned())
    };
    let model = field("/proc/cpuinfo", "model name")?;
    let kibibytes: u64 = field("/proc/meminfo", "MemTotal")?
        .trim_end_matches(" kB")
        .parse()
        .context("/proc/meminfo names no MemTotal")?;
    let kernel = rustix::system::uname();
    let threads = thread::available_parallelism()?;
    Ok(format!(
        "{threads} processors ({model}), {} GiB of memory, Linux {} {}",
        (kibibytes + 512 * 1024) / (1024 * 1024),
        kernel.release().to_string_lossy(),
        kernel.machine().to_string_lossy(),
    ))
}

/// Today, as `YYYY-MM-DD`.
pub fn date() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}
