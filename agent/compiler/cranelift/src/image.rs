//! Not upstream's: writes the whole ELF image of a module at once.
//!
//! Upstream makes an object file of each function, each with its own frame table and debug unit, and
//! has a linker put ten thousand of them together. Where functions refer to nothing but each other,
//! which is what nearly every module comes to, their addresses are known as soon as their sizes are,
//! and the image can be written down. What it holds is what `link_module` would leave in it and
//! wasmer's loader reads: one frame table, one debug unit that maps code to offsets in the Wasm,
//! the traps, and where each function begins. There are no symbols, and nothing to relocate.

use crate::lines::{ABBREVIATIONS, Debug};
use cranelift_codegen::{
    gimli::{
        RunTimeEndian, constants,
        write::{
            Address, EhFrame, EndianVec, Error as GimliError, FrameDescriptionEntry, FrameTable,
            Result as GimliResult, Writer,
        },
    },
    isa::TargetIsa,
};
use object::{
    Endianness, elf,
    write::elf::{FileHeader, ProgramHeader, SectionHeader, Writer as ElfWriter},
};
use wasmer_compiler::{
    EH_FRAME_SECTION_NAME, WASMER_FUNCTION_OFFSETS_SECTION_NAME, WASMER_MODULE_INFO_SECTION_NAME,
    WASMER_TRAP_FUNCTION_OFFSETS_SECTION_NAME, WASMER_TRAPS_SECTION_NAME,
    types::{
        function::{CompiledFunction, FunctionBody},
        relocation::{Relocation, RelocationKind, RelocationTarget},
    },
};
use wasmer_types::{
    CompileError, TrapInformation,
    entity::EntityRef,
    target::{Architecture, BinaryFormat, Triple},
};

/// What segments are aligned to.
const PAGE: usize = 4096;

/// What functions are aligned to: processors fetch this many bytes at once.
const FUNCTION_ALIGNMENT: usize = 32;

/// Between functions: `int3`.
const PADDING: u8 = 0xcc;

/// A function as the image holds it.
pub(crate) struct Function {
    pub(crate) function: CompiledFunction,
    pub(crate) fde: Option<FrameDescriptionEntry>,
    /// Its line program, from [`crate::lines::lines`].
    pub(crate) lines: Vec<u8>,
}

/// Whether images are written for a target.
pub(crate) fn is_for(triple: &Triple) -> bool {
    triple.architecture == Architecture::X86_64 && triple.binary_format == BinaryFormat::Elf
}

/// Whether a function refers to nothing but functions of its own module.
pub(crate) fn holds(relocations: &[Relocation]) -> bool {
    relocations.iter().all(|relocation| {
        matches!(relocation.reloc_target, RelocationTarget::LocalFunc(_))
            && matches!(
                relocation.kind,
                RelocationKind::PCRel4
                    | RelocationKind::X86CallPCRel4
                    | RelocationKind::X86CallPLTRel4
            )
    })
}

/// Writes the image.
pub(crate) fn write(
    isa: &dyn TargetIsa,
    module_info: &[u8],
    mut functions: Vec<Function>,
    call_trampolines: &[FunctionBody],
    dynamic_trampolines: &[FunctionBody],
) -> Result<Vec<u8>, CompileError> {
    let frames: Vec<_> = functions.iter_mut().map(|it| it.fde.take()).collect();
    let trampolines = call_trampolines.iter().chain(dynamic_trampolines);
    let bodies: Vec<&[u8]> = functions
        .iter()
        .map(|function| &function.function.body)
        .chain(trampolines)
        .map(|body| &body.body[..])
        .collect();
    let (starts, text) = lay_out(&bodies);
    let frames = frames.into_iter().zip(&starts);
    let frames = frames.filter_map(|(fde, &start)| Some((fde?, start)));
    // Each is work for a while, and every other processor has just become idle.
    let (eh_frame, (debug, (traps, trap_offsets))) = rayon::join(
        || eh_frame(isa, frames, text),
        || {
            (
                Debug::new(text, &functions, &starts),
                traps(
                    functions
                        .iter()
                        .map(|function| &function.function.frame_info.traps[..]),
                ),
            )
        },
    );
    let offsets: Vec<u8> = starts
        .iter()
        .flat_map(|&start| address(start).to_le_bytes())
        .collect();
    let mut image = emit(
        &Text {
            bodies: &bodies,
            starts: &starts,
            size: text,
        },
        &eh_frame?,
        [
            (WASMER_MODULE_INFO_SECTION_NAME, module_info),
            (WASMER_FUNCTION_OFFSETS_SECTION_NAME, &offsets),
            (WASMER_TRAP_FUNCTION_OFFSETS_SECTION_NAME, &trap_offsets),
            (WASMER_TRAPS_SECTION_NAME, &traps),
            (b".debug_abbrev", ABBREVIATIONS),
            (b".debug_info", &debug.info),
            (b".debug_line", &debug.line),
        ],
    )
    .map_err(codegen("cannot write the image"))?;
    let text = &mut image[PAGE..PAGE + text];
    for (function, &start) in functions.iter().zip(&starts) {
        relocate(text, start, &function.function.relocations, &starts)?;
    }
    // A hundred thousand small pieces of memory: whoever waits for the image does not wait for that.
    rayon::spawn(move || drop(functions));
    Ok(image)
}

/// Where a place in the text is in memory, and in the file: the headers' page is before it.
pub(crate) fn address(offset: usize) -> u64 {
    (PAGE + offset) as u64
}

fn codegen<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> CompileError {
    move |error| CompileError::Codegen(format!("{what}: {error}"))
}

/// The functions' code, one behind the other.
struct Text<'a> {
    bodies: &'a [&'a [u8]],
    starts: &'a [usize],
    size: usize,
}

/// Where each body begins, and how long the text is.
fn lay_out(bodies: &[&[u8]]) -> (Vec<usize>, usize) {
    let mut size = 0;
    let mut starts = Vec::with_capacity(bodies.len());
    for body in bodies {
        starts.push(size);
        size += body.len().next_multiple_of(FUNCTION_ALIGNMENT);
    }
    // A segment of nothing cannot be mapped.
    (starts, size.max(1))
}

impl Text<'_> {
    /// Writes all of it, with what is between functions.
    fn write(&self, writer: &mut ElfWriter<'_>) {
        let mut written = 0;
        for (body, &start) in self.bodies.iter().zip(self.starts) {
            pad(writer, start - written);
            writer.write(body);
            written = start + body.len();
        }
        pad(writer, self.size - written);
    }
}

fn pad(writer: &mut ElfWriter<'_>, size: usize) {
    writer.write(&[PADDING; FUNCTION_ALIGNMENT][..size]);
}

/// Resolves a function's references to others: `S + A - P`, where the text's own address cancels.
fn relocate(
    text: &mut [u8],
    start: usize,
    relocations: &[Relocation],
    starts: &[usize],
) -> Result<(), CompileError> {
    for relocation in relocations {
        let RelocationTarget::LocalFunc(target) = relocation.reloc_target else {
            unreachable!("`holds` has seen to it");
        };
        let place = start + relocation.offset as usize;
        let value = starts[target.index()] as i64 + relocation.addend - place as i64;
        let value = i32::try_from(value).map_err(codegen("the code is too large"))?;
        text[place..place + 4].copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}

/// The functions' traps, and where each function's begin.
fn traps<'a>(functions: impl Iterator<Item = &'a [TrapInformation]>) -> (Vec<u8>, Vec<u8>) {
    let (mut traps, mut offsets) = (Vec::new(), Vec::new());
    for function in functions {
        offsets.extend_from_slice(&(traps.len() as u64).to_le_bytes());
        traps.extend_from_slice(&(function.len() as u32).to_le_bytes());
        for trap in function {
            traps.extend_from_slice(&trap.code_offset.to_le_bytes());
            traps.extend_from_slice(&(trap.trap_code as u32).to_le_bytes());
        }
    }
    (traps, offsets)
}

/// Writes the frame table, which comes right behind the text's last page.
fn eh_frame(
    isa: &dyn TargetIsa,
    frames: impl Iterator<Item = (FrameDescriptionEntry, usize)>,
    text: usize,
) -> Result<Vec<u8>, CompileError> {
    let place = address(text.next_multiple_of(PAGE));
    let mut writer = FrameWriter {
        out: EndianVec::new(RunTimeEndian::Little),
        place,
        starts: vec![],
    };
    if let Some(mut cie) = isa.create_systemv_cie() {
        cie.fde_address_encoding = constants::DW_EH_PE_pcrel | constants::DW_EH_PE_sdata4;
        let mut table = FrameTable::default();
        let cie = table.add_cie(cie);
        for (fde, start) in frames {
            table.add_fde(cie, fde);
            writer.starts.push(start);
        }
        writer.starts.reverse();
        let mut section = EhFrame(writer);
        table
            .write_eh_frame(&mut section)
            .map_err(codegen("cannot write .eh_frame"))?;
        writer = section.0;
    }
    let mut bytes = writer.out.into_vec();
    // The terminator, as upstream writes it.
    bytes.extend_from_slice(&[0; 8]);
    Ok(bytes)
}

/// Writes frames, each of which refers to the start of its function.
struct FrameWriter {
    out: EndianVec<RunTimeEndian>,
    /// Where the table will be in memory.
    place: u64,
    /// The functions whose frames are still to come, the last one first.
    starts: Vec<usize>,
}

impl Writer for FrameWriter {
    type Endian = RunTimeEndian;

    fn endian(&self) -> Self::Endian {
        self.out.endian()
    }

    fn len(&self) -> usize {
        self.out.len()
    }

    fn write(&mut self, bytes: &[u8]) -> GimliResult<()> {
        self.out.write(bytes)
    }

    fn write_at(&mut self, offset: usize, bytes: &[u8]) -> GimliResult<()> {
        self.out.write_at(offset, bytes)
    }

    fn write_eh_pointer(
        &mut self,
        address: Address,
        encoding: constants::DwEhPe,
        size: u8,
    ) -> GimliResult<()> {
        if matches!(address, Address::Constant(_)) {
            return self.out.write_eh_pointer(address, encoding, size);
        }
        if encoding != constants::DW_EH_PE_pcrel | constants::DW_EH_PE_sdata4 {
            return Err(GimliError::UnsupportedPointerEncoding(encoding));
        }
        let start = self.starts.pop().ok_or(GimliError::InvalidAddress)?;
        let here = self.place + self.out.len() as u64;
        let distance = self::address(start) as i64 - here as i64;
        self.write_sdata(distance, 4)
    }
}

/// Writes the file: headers, code, frames, then what is only read when something goes wrong.
fn emit(
    text: &Text<'_>,
    eh_frame: &[u8],
    others: [(&[u8], &[u8]); 7],
) -> object::write::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = ElfWriter::new(Endianness::Little, true, &mut out);
    writer.reserve_null_section_index();
    let names = [&b".text"[..], EH_FRAME_SECTION_NAME].into_iter();
    let names: Vec<_> = names
        .chain(others.iter().map(|(name, _)| *name))
        .map(|name| {
            writer.reserve_section_index();
            writer.add_section_name(name)
        })
        .collect();
    // Wasmer's loader unwraps this table, even where there is nothing to relocate.
    writer.reserve_null_dynamic_symbol_index();
    writer.reserve_dynsym_section_index();
    writer.reserve_dynstr_section_index();
    writer.reserve_shstrtab_section_index();

    writer.reserve_file_header();
    writer.reserve_program_headers(2);
    writer.reserve_section_headers();
    // `address` counts on it.
    let text_at = writer.reserve(text.size as u64, PAGE as u64);
    debug_assert_eq!(text_at, PAGE as u64);
    let eh_frame_at = writer.reserve(eh_frame.len() as u64, PAGE as u64);
    let others_at = others.map(|(_, bytes)| writer.reserve(bytes.len() as u64, 8));
    writer.reserve_dynsym();
    writer.reserve_dynstr()?;
    writer.reserve_shstrtab()?;

    writer.write_file_header(&FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        e_type: elf::ET_DYN,
        e_machine: elf::EM_X86_64,
        e_entry: 0,
        e_flags: elf::FileFlags(0),
    })?;
    writer.write_align_program_headers();
    for (at, size, flags) in [
        (text_at, text.size, elf::PF_R | elf::PF_X),
        (eh_frame_at, eh_frame.len(), elf::PF_R),
    ] {
        writer.write_program_header(&ProgramHeader {
            p_type: elf::PT_LOAD,
            p_flags: flags,
            p_offset: at,
            p_vaddr: at,
            p_paddr: at,
            p_filesz: size as u64,
            p_memsz: size as u64,
            p_align: PAGE as u64,
        });
    }
    writer.write_null_section_header();
    let loaded = [
        (
            text_at,
            text.size,
            elf::SHF_ALLOC | elf::SHF_EXECINSTR,
            PAGE as u64,
        ),
        (eh_frame_at, eh_frame.len(), elf::SHF_ALLOC, 8),
    ];
    let others_at = others_at.into_iter().zip(&others);
    let others_at = others_at.map(|(at, (_, bytes))| (at, bytes.len(), elf::SectionFlags(0), 8));
    for (name, (at, size, flags, align)) in
        names.into_iter().zip(loaded.into_iter().chain(others_at))
    {
        writer.write_section_header(&SectionHeader {
            sh_name: writer.section_name_offset(Some(name)),
            sh_type: elf::SHT_PROGBITS,
            sh_flags: flags,
            sh_addr: if flags.0 == 0 { 0 } else { at },
            sh_offset: at,
            sh_size: size as u64,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: align,
            sh_entsize: 0,
        });
    }
    writer.write_dynsym_section_header(0, 1);
    writer.write_dynstr_section_header(0);
    writer.write_shstrtab_section_header();
    writer.write_align(PAGE as u64);
    text.write(&mut writer);
    let others = others.iter().map(|(_, bytes)| (*bytes, 8));
    for (bytes, align) in [(eh_frame, PAGE as u64)].into_iter().chain(others) {
        writer.write_align(align);
        writer.write(bytes);
    }
    writer.write_null_dynamic_symbol();
    writer.write_dynstr();
    writer.write_shstrtab();
    Ok(out)
}
