//! WASI preview 1: `wasi_snapshot_preview1`, and `wasi_unstable` before it.
//!
//! Directly on Linux: a host function checks what the module gave it, asks the kernel, and writes
//! the answer into the module's memory. There is no runtime, no thread and no buffer between.

mod clock;
mod directory;
mod errno;
mod fd;
mod imports;
mod memory;
mod open;
mod path;
mod poll;
mod process;
mod random;
mod sock;
mod stdio;
mod table;
mod types;

use std::os::fd::BorrowedFd;

use warmstep_host::grants::Grant;
use warmstep_host::limits::Memories;

use self::errno::{Errno, Result};
use self::memory::GuestMemory;
use self::process::Strings;
use self::table::{Descriptor, Table};
use self::types::Rights;

pub(crate) use self::imports::{Imported, import};

/// Everything a module can reach through preview 1.
#[derive(Debug)]
pub(crate) struct Wasi {
    table: Table,
    /// Whether some directory is narrowed.
    narrowed: bool,
    arguments: Strings,
    environment: Strings,
    memories: Memories,
    /// Which of the module's memories it exports as `memory`.
    exported: Option<usize>,
}

impl Wasi {
    /// The process's own three descriptors, then the grants from number 3 on, in their order.
    pub(crate) fn new(grants: Vec<Grant>, memories: Memories, exported: Option<usize>) -> Self {
        let mut table = Table::default();
        let stdio = [(0, Rights::FD_READ), (1, Rights::FD_WRITE), (2, Rights::FD_WRITE)];
        let stdio = stdio.into_iter().map(|(number, rights)| {
            // SAFETY: nothing in this process closes the first three descriptors.
            Descriptor::stdio(unsafe { BorrowedFd::borrow_raw(number) }, rights)
        });
        let narrowed = grants.iter().any(|grant| grant.narrow.is_some());
        let grants = grants.into_iter().map(Descriptor::preopen);
        for descriptor in stdio.chain(grants) {
            // A plan has far fewer grants than the table has places.
            let _ = table.insert(descriptor);
        }
        Self {
            table,
            narrowed,
            arguments: Strings::default(),
            environment: Strings::default(),
            memories,
            exported,
        }
    }

    /// Adds an argument.
    pub(crate) fn argument(&mut self, argument: &[u8]) {
        self.arguments.push(&[argument]);
    }

    /// Adds an environment variable.
    pub(crate) fn variable(&mut self, name: &[u8], value: &[u8]) {
        self.environment.push(&[name, b"=", value]);
    }

    /// The module's memory as it is now. Without one, every pointer is wrong.
    fn memory(&self) -> Result<GuestMemory> {
        let (base, length) =
            self.exported.and_then(|index| self.memories.extent(index)).ok_or(Errno::FAULT)?;
        // SAFETY: the bytes belong to a memory of the one instance, which lives as long as the
        // process; nothing runs in it and nothing grows it while a host function runs.
        Ok(unsafe { GuestMemory::new(base, length) })
    }
}
