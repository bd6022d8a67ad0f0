//! Not upstream's: the debug unit of an image, which maps its code to offsets in the Wasm.

use crate::image::{Function, address};
use wasmer_compiler::types::address_map::FunctionAddressMap;

/// The debug unit: a line program, whose lines are offsets in the Wasm.
pub(crate) struct Debug {
    pub(crate) info: Vec<u8>,
    pub(crate) line: Vec<u8>,
}

/// One unit (tag 0x11) without children: `DW_AT_stmt_list`, `DW_AT_low_pc` and `DW_AT_high_pc`, in
/// the forms `DW_FORM_sec_offset`, `DW_FORM_addr` and `DW_FORM_data8`.
pub(crate) const ABBREVIATIONS: &[u8] = &[1, 0x11, 0, 0x10, 0x17, 0x11, 0x01, 0x12, 0x07, 0, 0, 0];

/// Of DWARF: what the rows of a line program are made of.
mod line {
    pub(super) const COPY: u8 = 1;
    pub(super) const ADVANCE_PC: u8 = 2;
    pub(super) const ADVANCE_LINE: u8 = 3;
    pub(super) const END_SEQUENCE: [u8; 3] = [0, 1, 1];
    pub(super) const SET_ADDRESS: [u8; 3] = [0, 9, 2];
    /// A special opcode moves the line by this and up to `RANGE` more.
    pub(super) const BASE: i64 = -5;
    pub(super) const RANGE: u64 = 14;
    /// The first special opcode.
    pub(super) const FIRST: u8 = 13;
    /// How many arguments each of the opcodes before it has.
    pub(super) const ARGUMENTS: [u8; 12] = [0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
}

impl Debug {
    pub(crate) fn new(text: usize, functions: &[Function], starts: &[usize]) -> Self {
        // The version is 4, the length is filled in at the end.
        let mut info = vec![0, 0, 0, 0, 4, 0];
        info.extend_from_slice(&0_u32.to_le_bytes());
        info.extend_from_slice(&[8, 1]);
        info.extend_from_slice(&0_u32.to_le_bytes());
        info.extend_from_slice(&address(0).to_le_bytes());
        info.extend_from_slice(&(text as u64).to_le_bytes());
        fill_in(&mut info, 0);
        let mut line = vec![0, 0, 0, 0, 4, 0, 0, 0, 0, 0];
        line.extend_from_slice(&[1, 1, 1, line::BASE as u8, line::RANGE as u8, line::FIRST]);
        line.extend_from_slice(&line::ARGUMENTS);
        // No directories; one file, at no time and of no size.
        line.extend_from_slice(b"\0<module>\0\0\0\0\0");
        fill_in(&mut line, 6);
        for (function, &start) in functions.iter().zip(starts) {
            line.extend_from_slice(&line::SET_ADDRESS);
            line.extend_from_slice(&address(start).to_le_bytes());
            line.extend_from_slice(&function.lines);
        }
        fill_in(&mut line, 0);
        Self { info, line }
    }
}

/// Writes how much comes behind the four bytes at `at`.
fn fill_in(bytes: &mut [u8], at: usize) {
    // The image as a whole is below 4 GiB, or its functions could not reach each other.
    let length = (bytes.len() - at - 4) as u32;
    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// The rows of a function's line program, from its start to its end.
pub(crate) fn lines(map: &FunctionAddressMap) -> Vec<u8> {
    let mut program = Vec::with_capacity(2 * map.instructions.len());
    let (mut pc, mut current) = (0, 1);
    for instruction in &map.instructions {
        // As upstream: a line is one more than the offset, because there is no line 0.
        let next = i64::from(instruction.srcloc.bits()) + 1;
        if instruction.srcloc.is_default() || next == current {
            continue;
        }
        row(
            &mut program,
            (instruction.code_offset - pc) as u64,
            next - current,
        );
        (pc, current) = (instruction.code_offset, next);
    }
    program.push(line::ADVANCE_PC);
    unsigned(&mut program, (map.body_len - pc) as u64);
    program.extend_from_slice(&line::END_SEQUENCE);
    program
}

fn row(program: &mut Vec<u8>, bytes: u64, lines: i64) {
    let near = (line::BASE..line::BASE + line::RANGE as i64).contains(&lines);
    if !near {
        program.push(line::ADVANCE_LINE);
        signed(program, lines);
    }
    let lines = if near { lines } else { 0 };
    let special = (lines - line::BASE) as u64 + line::RANGE * bytes + u64::from(line::FIRST);
    if let Ok(special) = u8::try_from(special) {
        program.push(special);
        return;
    }
    program.push(line::ADVANCE_PC);
    unsigned(program, bytes);
    let special = (lines - line::BASE) as u8 + line::FIRST;
    program.push(if lines == 0 { line::COPY } else { special });
}

/// LEB128.
fn unsigned(out: &mut Vec<u8>, value: u64) {
    leb128::write::unsigned(out, value).expect("a vector takes every byte");
}

/// LEB128, with a sign.
fn signed(out: &mut Vec<u8>, value: i64) {
    leb128::write::signed(out, value).expect("a vector takes every byte");
}
