//! Loads a compiled module, and gives it the memory that was taken out of it.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::Mmap;
use wasmer::sys::Tunables;
use wasmer::sys::vm::{
    MemoryError, MemoryStyle, TableStyle, VMConfig, VMGlobal, VMGlobalDefinition, VMMemory,
    VMMemoryDefinition, VMTable, VMTableDefinition,
};
use wasmer::{DeserializeError, Engine, GlobalType, MemoryType, Module, TableType};

use crate::Image;

/// How ELF files begin.
const ELF: [u8; 4] = *b"\x7fELF";

/// Up to this many bytes, a file is copied rather than mapped.
const SMALL: i64 = 64 * 1024;

/// A compiled module cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be mapped.
    #[error("cannot map the compiled module: {0}")]
    Map(#[from] std::io::Error),
    /// It is not what wasmer makes of a module.
    #[error("cannot load the compiled module: {0}")]
    Deserialize(#[from] DeserializeError),
}

/// Loads a compiled module from its file, which may be of either of wasmer's forms.
///
/// The ELF form is mapped: only the pages that are used are read, and every process shares them.
/// wasmer opens such a file by its path, which is here one of `/proc`. Where that is not possible
/// (there is no `/proc`, the file is on a `noexec` mount), its bytes are copied instead.
///
/// # Errors
///
/// When the file is not what wasmer made of a module, for this machine and this version.
///
/// # Safety
///
/// - The bytes become code: the file is one that this node's own compiler wrote.
/// - Nobody changes it for as long as the module lives.
pub unsafe fn load(engine: &Engine, module: BorrowedFd<'_>) -> Result<Module, LoadError> {
    if is_large_elf(module)? {
        let path = format!("/proc/self/fd/{}", module.as_raw_fd());
        // SAFETY: the caller vouches for the file, and this path leads to no other.
        let loaded = unsafe { Module::deserialize_from_file(engine, path) };
        if let Ok(module) = loaded {
            return Ok(module);
        }
    }
    // SAFETY: the caller sees to it that the file does not change.
    let mapped = unsafe { Mmap::map(&File::from(module.try_clone_to_owned()?))? };
    // Bytes that are taken over are not copied, as those of a slice would be.
    let bytes = Bytes::from_owner(mapped);
    // SAFETY: the caller vouches for the file.
    Ok(unsafe { Module::deserialize(engine, bytes)? })
}

/// Whether it is an ELF file, and mapping it is worth it: wasmer then opens a path of `/proc` three
/// times and finds the sections by some hundred reads, which takes as long as copying [`SMALL`] bytes.
fn is_large_elf(module: BorrowedFd<'_>) -> Result<bool, LoadError> {
    let size = rustix::fs::fstat(module).map_err(std::io::Error::from)?.st_size;
    let mut magic = [0; ELF.len()];
    let read = rustix::io::pread(module, &mut magic, 0).map_err(std::io::Error::from)?;
    Ok(size > SMALL && read == ELF.len() && magic == ELF)
}

/// Other tunables, and an image for the first memory that they create.
///
/// The image is there before wasmer applies what data segments the module has kept, and before the
/// module's start function.
pub struct Backed<T> {
    inner: T,
    image: Mutex<Option<Arc<Image>>>,
}

impl<T> Backed<T> {
    /// Tunables for one instance of the module that the image was taken out of.
    ///
    /// # Safety
    ///
    /// - The first memory that is created is the module's own first one, and its instance the only
    ///   one that is made with these tunables.
    /// - Nobody changes the image's file for as long as the memory lives.
    pub unsafe fn new(inner: T, image: Option<Arc<Image>>) -> Self {
        Self { inner, image: Mutex::new(image) }
    }

    fn image(&self) -> Option<Arc<Image>> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T: Tunables> Tunables for Backed<T> {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        self.inner.memory_style(memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.inner.table_style(table)
    }

    fn create_host_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
    ) -> Result<VMMemory, MemoryError> {
        self.inner.create_host_memory(ty, style)
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        vm_definition_location: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        // SAFETY: the caller's promise is passed on.
        let memory = unsafe { self.inner.create_vm_memory(ty, style, vm_definition_location)? };
        if let Some(image) = self.image() {
            // SAFETY: creating the memory has filled its definition in.
            let definition = unsafe { vm_definition_location.as_ref() };
            let (base, length) = (definition.base, definition.current_length);
            let base = NonNull::new(base).ok_or_else(|| {
                MemoryError::Generic("the memory that the image is for has no place".to_owned())
            })?;
            // SAFETY: the memory is new: whole pages, mapped by wasmer, and known to nobody yet. It
            // is reserved at its full size and so never moves; and its pages go with it.
            unsafe { image.map_into(base, length) }
                .map_err(|error| MemoryError::Generic(error.to_string()))?;
        }
        Ok(memory)
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.inner.create_host_table(ty, style)
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        vm_definition_location: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.create_vm_table(ty, style, vm_definition_location) }
    }

    fn create_global(&self, ty: GlobalType) -> Result<VMGlobal, String> {
        self.inner.create_global(ty)
    }

    unsafe fn create_vm_global(
        &self,
        ty: GlobalType,
        vm_definition_location: NonNull<VMGlobalDefinition>,
    ) -> Result<VMGlobal, String> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.create_vm_global(ty, vm_definition_location) }
    }

    fn vmconfig(&self) -> &VMConfig {
        self.inner.vmconfig()
    }
}
