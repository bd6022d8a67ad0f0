//! The image of a module: what is taken out of the Wasm before it is compiled, so that a start does
//! not cost more the larger a module is.
//!
//! A compiled module carries its data segments. Loading it reads them, checks them, copies them, and
//! instantiation copies them once more into the linear memory: most of what a heavy module's start
//! takes. So the compiler takes the first contents of the memory out ([`split`], feature `split`) and
//! writes them to an [`Image`], whose pages the runner maps copy-on-write into the new memory: a page
//! that is never touched costs nothing, one that is only read is shared by every step of the node.
//!
//! The names of functions go the same way, as only a backtrace needs them.
//!
//! The agent authenticates images as it does native code. They are read with care all the same.

#[cfg(all(feature = "split", target_endian = "big"))]
compile_error!("numbers in an image are little-endian, and so is the memory that it becomes");

mod format;
mod image;
#[cfg(feature = "load")]
pub mod load;
mod names;
#[cfg(feature = "split")]
pub mod split;

pub use crate::format::{FormatError, MAX_RUNS, Run};
pub use crate::image::{Image, ImageError};
pub use crate::names::Names;
