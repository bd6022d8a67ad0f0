//! How much memory a module may have: all its linear memories and tables together.
//!
//! wasmer asks a [`Tunables`] for each memory and table. Ours counts what they take, and wraps the
//! memories so that growing one counts too. A table that can grow, and a memory that threads share,
//! is counted at once with the most it may become, since wasmer asks nobody when it grows.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmer::sys::vm::{
    ExpectedValue, LinearMemory, MemoryError, MemoryStyle, TableStyle, ThreadConditions, VMConfig,
    VMMemory, VMMemoryDefinition, VMSharedMemory, VMTable, VMTableDefinition, WaiterError,
};
use wasmer::sys::{BaseTunables, Tunables};
use wasmer::{MemoryType, Pages, TableType};

use crate::ending;

/// The bytes of one element of a table.
const ELEMENT: u64 = 8;

/// A table without a maximum of its own may grow to this part of the whole limit.
const TABLE_PART: u64 = 16;

/// The most elements that wasmer lets a table have.
const MOST_ELEMENTS: u64 = 128 * 1024 * 1024;

/// A shared memory leaves this part of what is there for tables.
const SHARED_LEAVES: u64 = 16;

/// How many tables one instance has. Instances of further threads are counted once a thread: it
/// holds one at a time.
static TABLES_OF_AN_INSTANCE: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    /// How many tables this thread has made.
    static TABLES: Cell<usize> = const { Cell::new(0) };
}

/// Says how many tables an instance of the module has, where there will be many, a thread each.
pub fn tables_of_an_instance(count: usize) {
    TABLES_OF_AN_INSTANCE.store(count, Ordering::Relaxed);
}

/// How deep the module's calls may go, in bytes of stack. Code of the baseline tier keeps all its
/// values there, and takes several times what optimized code takes: what a native program's main
/// thread has, 8 MiB, was too little for what optimized code does in it. It is taken from the system
/// as it is used.
const STACK: usize = 32 * 1024 * 1024;

/// The memory of one module: what it has, and what it may have.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes, or none where that is 0.
    pub fn new(limit: u64) -> Arc<Self> {
        let limit = if limit == 0 { u64::MAX } else { limit };
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Takes bytes out of the budget, if they are there.
    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        let fits = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !fits {
            self.complain();
        }
        fits
    }

    /// Says, if the module fails, that its memory ended here.
    fn complain(&self) {
        let limit = size(self.limit);
        ending::complain(format!(
            "the module needs more memory than its limit of {limit} (see --memory)"
        ));
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A number of bytes as a person would say it.
fn size(count: u64) -> String {
    const MEBI: u64 = 1024 * 1024;
    match count {
        _ if count >= MEBI && count.is_multiple_of(MEBI) => format!("{} MiB", count / MEBI),
        _ if count.is_multiple_of(1024) => format!("{} KiB", count / 1024),
        _ => format!("{count} bytes"),
    }
}

/// Where the module's own memories are, in their order, for the host functions.
#[derive(Clone, Debug, Default)]
pub struct Memories(Arc<Mutex<Vec<Definition>>>);

#[derive(Clone, Copy, Debug)]
struct Definition(NonNull<VMMemoryDefinition>);

// SAFETY: it points into the one instance, which never moves, and is read by the host of preview 1,
// which has one thread.
unsafe impl Send for Definition {}

impl Memories {
    /// The first byte and the length of a memory.
    pub fn extent(&self, index: usize) -> Option<(*mut u8, usize)> {
        let memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Definition(definition) = *memories.get(index)?;
        // SAFETY: wasmer keeps the definition of an instance's memory up to date, at this place,
        // for as long as the instance lives, which is as long as the process.
        let definition = unsafe { definition.as_ref() };
        Some((definition.base, definition.current_length))
    }

    fn push(&self, definition: NonNull<VMMemoryDefinition>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Definition(definition));
    }
}

/// wasmer's own tunables, within a budget.
pub struct Limits {
    base: BaseTunables,
    budget: Arc<Budget>,
    memories: Memories,
    config: VMConfig,
}

impl Limits {
    /// Counts against `budget`, and notes each of the module's memories in `memories`.
    pub fn new(budget: Arc<Budget>, memories: Memories) -> Self {
        let config = VMConfig { wasm_stack_size: Some(STACK) };
        Self { base: BaseTunables::new(), budget, memories, config }
    }

    fn take_memory(&self, ty: &MemoryType) -> Result<(), MemoryError> {
        if self.budget.take(pages(ty.minimum)) {
            return Ok(());
        }
        let max_allowed = u32::try_from(self.budget.limit >> 16).unwrap_or(u32::MAX);
        Err(MemoryError::MinimumMemoryTooLarge {
            min_requested: ty.minimum,
            max_allowed: Pages(max_allowed),
        })
    }

    /// The type of a shared memory with the most it may become, which is counted at once.
    fn take_shared(&self, ty: &MemoryType) -> Result<MemoryType, MemoryError> {
        let left = self.budget.left();
        let most = u32::try_from((left - left / SHARED_LEAVES) >> 16).unwrap_or(u32::MAX);
        let maximum = ty.maximum.unwrap_or(Pages::max_value()).0.min(most).max(ty.minimum.0);
        let maximum = Pages(maximum);
        self.take_memory(&MemoryType { minimum: maximum, ..*ty })?;
        Ok(MemoryType { maximum: Some(maximum), ..*ty })
    }

    /// The type of a table with the most it may become, which is counted at once.
    fn take_table(&self, ty: &TableType) -> Result<TableType, String> {
        let part = (self.budget.limit / TABLE_PART / ELEMENT).min(MOST_ELEMENTS);
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        let maximum = ty.maximum.map_or(part, |maximum| maximum.min(part)).max(ty.minimum);
        if counted_before() || self.budget.take(u64::from(maximum) * ELEMENT) {
            Ok(TableType { maximum: Some(maximum), ..*ty })
        } else {
            Err("the table is too large".to_owned())
        }
    }

    fn within(&self, memory: VMMemory) -> VMMemory {
        let counted_whole = memory.ty().shared;
        VMMemory(Box::new(Limited { memory, budget: Arc::clone(&self.budget), counted_whole }))
    }
}

/// Whether this thread makes a table in the place of one that its last instance had.
fn counted_before() -> bool {
    let made = TABLES.get();
    TABLES.set(made.saturating_add(1));
    made >= TABLES_OF_AN_INSTANCE.load(Ordering::Relaxed)
}

fn pages(pages: Pages) -> u64 {
    u64::from(pages.0) << 16
}

impl Tunables for Limits {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        self.base.memory_style(memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
    ) -> Result<VMMemory, MemoryError> {
        if ty.shared {
            let ty = self.take_shared(ty)?;
            return Ok(self.within(self.base.create_host_memory(&ty, style)?));
        }
        self.take_memory(ty)?;
        Ok(self.within(self.base.create_host_memory(ty, style)?))
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        vm_definition_location: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        let ty = if ty.shared { self.take_shared(ty)? } else { *ty };
        if !ty.shared {
            self.take_memory(&ty)?;
        }
        // SAFETY: the caller's promise is passed on.
        let memory = unsafe { self.base.create_vm_memory(&ty, style, vm_definition_location)? };
        self.memories.push(vm_definition_location);
        Ok(self.within(memory))
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.base.create_host_table(&self.take_table(ty)?, style)
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        vm_definition_location: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        let ty = self.take_table(ty)?;
        // SAFETY: the caller's promise is passed on.
        unsafe { self.base.create_vm_table(&ty, style, vm_definition_location) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.config
    }
}

/// A memory whose growth counts.
#[derive(Debug)]
struct Limited {
    memory: VMMemory,
    budget: Arc<Budget>,
    /// Whether all that it may become was counted when it was made.
    counted_whole: bool,
}

impl LinearMemory for Limited {
    fn ty(&self) -> MemoryType {
        self.memory.ty()
    }

    fn size(&self) -> Pages {
        self.memory.size()
    }

    fn style(&self) -> MemoryStyle {
        self.memory.style()
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        if self.counted_whole {
            return self.memory.grow(delta).inspect_err(|_| self.budget.complain());
        }
        if !self.budget.take(pages(delta)) {
            let current = self.memory.size();
            return Err(MemoryError::CouldNotGrow { current, attempted_delta: delta });
        }
        self.memory.grow(delta).inspect_err(|_| self.budget.give_back(pages(delta)))
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.memory.vmmemory()
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        self.memory.0.try_clone()
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        self.memory.0.copy()
    }

    fn as_shared(&self) -> Result<VMSharedMemory, MemoryError> {
        self.memory.as_shared()
    }

    unsafe fn do_wait(
        &mut self,
        at: u32,
        expected: ExpectedValue,
        timeout: Option<Duration>,
    ) -> Result<u32, WaiterError> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.memory.do_wait(at, expected, timeout) }
    }

    fn do_notify(&mut self, at: u32, count: u32) -> u32 {
        self.memory.do_notify(at, count)
    }

    fn thread_conditions(&self) -> Option<&ThreadConditions> {
        self.memory.thread_conditions()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn() {
        let budget = Budget::new(3 << 16);
        assert!(budget.take(2 << 16));
        assert!(!budget.take(2 << 16));
        assert!(budget.take(1 << 16));
        assert!(!budget.take(u64::MAX));
    }

    #[test]
    fn a_size_is_said_in_the_largest_unit_that_fits() {
        assert_eq!(size(256 << 20), "256 MiB");
        assert_eq!(size(192 << 10), "192 KiB");
        assert_eq!(size(1000), "1000 bytes");
    }
}
