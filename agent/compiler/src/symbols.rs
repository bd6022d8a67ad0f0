//! Drops the symbol table of a native module.
//!
//! It names every function, and nobody asks for the names: the module's own are in the image. But
//! wasmer's loader reads the whole table, twice at every start: half a megabyte for Python.

use std::ops::Range;

use object::elf::{FileHeader64, SHT_STRTAB, SHT_SYMTAB, SectionHeader64};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{LittleEndian, U64};

type Header = FileHeader64<LittleEndian>;
type Section = SectionHeader64<LittleEndian>;

/// Drops the symbol table and its names, if the bytes are an ELF file of the kind that is made here.
/// A file that is not understood is left as it is.
pub(crate) fn drop(elf: &mut Vec<u8>) {
    let Some(Found { headers, end }) = find(elf) else { return };
    for header in headers {
        // A header of zeros is a section that is not there; the others keep their numbers.
        if let Some(header) = elf.get_mut(header) {
            header.fill(0);
        }
    }
    elf.truncate(end);
}

/// What to drop.
struct Found {
    /// Where the sections' headers are.
    headers: Vec<Range<usize>>,
    /// Where the rest of the file ends.
    end: usize,
}

fn find(elf: &[u8]) -> Option<Found> {
    let header = Header::parse(elf).ok()?;
    let sections = header.section_headers(LittleEndian, elf).ok()?;
    let symbols = sections.iter().position(|section| kind(section) == SHT_SYMTAB.0)?;
    let names = usize::try_from(sections[symbols].sh_link.get(LittleEndian)).ok()?;
    let ours = |number| number == symbols || number == names;
    // One table of names may serve both.
    let shared = header.shstrndx(LittleEndian, elf).ok()?;
    if kind(sections.get(names)?) != SHT_STRTAB.0 || u32::try_from(names) == Ok(shared) {
        return None;
    }
    let table = usize::try_from(header.e_shoff(LittleEndian)).ok()?;
    let place = |number: usize| {
        let start = table + number * size_of::<Section>();
        start..start + size_of::<Section>()
    };
    // What is kept ends before what is dropped begins, or the file keeps its length.
    let mut end = table + size_of_val(sections);
    let segments = header.program_headers(LittleEndian, elf).ok()?;
    let segments = segments.iter().map(|segment| (&segment.p_offset, &segment.p_filesz));
    let kept = sections.iter().enumerate().filter(|(number, _)| !ours(*number));
    let kept = kept.filter(|(_, section)| section.file_range(LittleEndian).is_some());
    let kept = kept.map(|(_, section)| (&section.sh_offset, &section.sh_size));
    for (offset, size) in segments.chain(kept) {
        end = end.max(sum(offset, size)?);
    }
    Some(Found { headers: vec![place(symbols), place(names)], end: end.min(elf.len()) })
}

fn kind(section: &Section) -> u32 {
    section.sh_type.get(LittleEndian).0
}

fn sum(offset: &U64<LittleEndian>, size: &U64<LittleEndian>) -> Option<usize> {
    let end = offset.get(LittleEndian).checked_add(size.get(LittleEndian))?;
    usize::try_from(end).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_elf_file_is_left_alone() {
        for bytes in [&b""[..], b"wasmer-universal", b"\x7fELF\x02\x01\x01", &[0x7f; 200]] {
            let mut same = bytes.to_vec();
            drop(&mut same);
            assert_eq!(same, bytes);
        }
    }
}
