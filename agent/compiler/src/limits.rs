//! What this process may take, set before it reads a byte of the module.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::memory;
use crate::report::Report;

/// How often the processor time is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// So many seconds after its own limit the kernel ends a process that did not end itself.
const GRACE: u64 = 5;

/// Limits what this process may take: `memory` in bytes, `cpu` in seconds of processor time, all
/// threads together. Core dumps are off: one of a hostile module's compilation helps nobody.
///
/// At the limit of memory the process ends with a report; to have one at the other, see [`watch`].
pub(crate) fn set(memory: Option<u64>, cpu: Option<u64>) -> io::Result<()> {
    limit(Resource::Core, 0)?;
    if let Some(bytes) = memory {
        memory::complain_beyond(bytes);
        // What can be written to, which is what costs the node. The address space would also count
        // what glibc and wasmer reserve and never touch: 128 MiB a thread.
        limit(Resource::Data, bytes)?;
    }
    if let Some(seconds) = cpu {
        limit(Resource::Cpu, seconds.saturating_add(GRACE))?;
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(())
}

/// Ends the process with a report when it has taken so many seconds of processor time.
pub(crate) fn watch(seconds: u64) -> io::Result<()> {
    let over = i64::try_from(seconds).unwrap_or(i64::MAX);
    let wait = move || {
        while clock_gettime(ClockId::ProcessCPUTime).tv_sec < over {
            std::thread::sleep(LOOK);
        }
        let reason = format!(
            "compiling the module takes more than {seconds} seconds of processor time \
             (limits.compile_time)"
        );
        Report::Failed { reason }.print();
        std::process::exit(1);
    };
    std::thread::Builder::new().name("clock".to_owned()).spawn(wait)?;
    Ok(())
}
