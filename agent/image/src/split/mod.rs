//! Takes a module apart: Wasm that compiles to little more than code, and the image of the rest.
//!
//! What may be taken out without anybody noticing:
//!
//! - An active data segment of the module's own first memory, at a constant offset, within the
//!   memory's first size. It is applied before anything of the module runs, and empty from then on:
//!   an empty segment in its place means the same to `memory.init` and `data.drop`. Where the module
//!   has no data count section, neither instruction can be there, and the segment goes altogether.
//! - Segments are applied in their order. So the first one of that memory which must stay keeps
//!   everything after it in its place as well: it might lie over it.
//! - Custom sections mean nothing to the module. Only the names of functions are of use later, and
//!   offsets in the code, which therefore stays where it is in the file.
//!
//! What stays: passive segments, offsets that are computed or imported, segments out of bounds
//! (instantiation must fail), memories that are imported, shared or of 64 bits, memories but the
//! first.

mod contents;
mod plan;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use wasm_encoder::{ConstExpr, DataSection, Section};
use wasmparser::{BinaryReaderError, DataSectionReader, Parser, Payload};

use crate::format::{HEADER, Head, RUN, Run};
use crate::split::contents::Contents;
use crate::split::plan::Plan;

/// The custom section that tells a dynamic linker what a module needs. It is small, and whoever
/// links modules at run time reads it.
const DYLINK: &str = "dylink.0";

/// Custom sections before the code stay up to this length, in bytes: without them, it would move.
const SMALL_CUSTOM: u64 = 4096;

/// The module could not be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// It is not valid.
    #[error("the module is not valid: {0}")]
    Invalid(#[from] BinaryReaderError),
}

/// A module, taken apart.
#[derive(Debug)]
pub struct Split {
    /// The module without what is in the image.
    pub wasm: Vec<u8>,
    /// What was taken out, if that is anything.
    pub image: Option<NewImage>,
}

/// An image that is to be written.
#[derive(Debug)]
pub struct NewImage {
    head: Vec<u8>,
    names: Vec<u8>,
    runs: Vec<Run>,
    contents: Contents,
}

/// Takes a valid module apart.
///
/// # Errors
///
/// When it is not valid after all.
pub fn split(wasm: &[u8]) -> Result<Split, SplitError> {
    let plan = Plan::of(wasm, rustix::param::page_size())?;
    let stripped = strip(wasm, &plan)?;
    Ok(Split { wasm: stripped, image: NewImage::new(plan) })
}

/// Copies the module, section by section, without what the plan takes out.
///
/// Code stays where it is in the file: backtraces and debuggers speak of its offsets.
fn strip(wasm: &[u8], plan: &Plan) -> Result<Vec<u8>, SplitError> {
    let mut stripped = Vec::with_capacity(wasm.len());
    let (mut end, mut before_code) = (0, true);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        let contents = match &payload {
            Payload::Version { range, .. } => range.clone(),
            payload => match payload.as_section() {
                Some((_, contents)) => contents,
                None => continue,
            },
        };
        // With its header, as it was written: lengths may be padded.
        let whole = end..contents.end;
        end = contents.end;
        match &payload {
            Payload::CustomSection(section) => {
                let small = whole.end - whole.start <= SMALL_CUSTOM;
                if section.name() == DYLINK || (before_code && small) {
                    stripped.extend(bytes(wasm, whole));
                }
            }
            Payload::DataSection(section) => {
                let data = data_section(wasm, section, plan)?;
                if !data.is_empty() {
                    data.append_to(&mut stripped);
                }
            }
            payload => {
                before_code &= !matches!(payload, Payload::CodeSectionStart { .. });
                stripped.extend(bytes(wasm, whole));
            }
        }
    }
    Ok(stripped)
}

/// The data section with empty segments where something was taken out.
fn data_section(
    wasm: &[u8],
    section: &DataSectionReader<'_>,
    plan: &Plan,
) -> Result<DataSection, BinaryReaderError> {
    let mut data = DataSection::new();
    let taken = plan.taken.iter().copied().chain(std::iter::repeat(false));
    for (segment, taken) in section.clone().into_iter().zip(taken) {
        let segment = segment?;
        if !taken {
            data.raw(bytes(wasm, segment.range));
        } else if plan.counted {
            data.active(0, &ConstExpr::i32_const(0), []);
        }
    }
    Ok(data)
}

impl NewImage {
    fn new(plan: Plan) -> Option<Self> {
        let Plan { contents, names, memory, .. } = plan;
        let pieces = contents.as_ref().map(Contents::runs).unwrap_or_default();
        if pieces.is_empty() && names.is_empty() {
            return None;
        }
        let contents = contents.unwrap_or_else(|| Contents::new(rustix::param::page_size()));
        let page = contents.page();
        let names_at = (HEADER + pieces.len() * RUN) as u64;
        let names_length = names.len() as u64;
        let mut file = (names_at + names_length).next_multiple_of(page);
        let place = |(memory, length)| {
            let run = Run { memory, file, length };
            file += length;
            run
        };
        let runs: Vec<Run> = pieces.into_iter().map(place).collect();
        // Names alone are for any memory.
        let memory = if runs.is_empty() { 0 } else { memory };
        let head = Head { page, memory, names: (names_at, names_length), runs: runs.clone() };
        Some(Self { head: head.encode(), names, runs, contents })
    }

    /// Writes the image to an empty file. Pages of zeros become holes.
    ///
    /// # Errors
    ///
    /// As `pwrite(2)` and `ftruncate(2)`.
    pub fn write(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        write_at(file, &self.head, 0)?;
        write_at(file, &self.names, self.head.len() as u64)?;
        let mut end = (self.head.len() + self.names.len()) as u64;
        for run in &self.runs {
            for (at, page) in self.contents.pages(run.memory, run.length) {
                write_at(file, page, run.file + (at - run.memory))?;
            }
            end = run.file + run.length;
        }
        Ok(rustix::fs::ftruncate(file, end)?)
    }
}

fn write_at(file: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The bytes of a range that the parser found in the same module.
fn bytes(wasm: &[u8], range: Range<u64>) -> &[u8] {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    wasm.get(within(range.start)..within(range.end)).unwrap_or_default()
}
