//! Not upstream's: puts the smallest functions of a module where they are called.
//!
//! Compilers of C leave thousands of accessors behind where they do not optimize across files, and
//! calling one costs several times what it does. Only functions that call nothing and trap at most
//! at a memory access are taken, so that recursion stays what it is. What is put in place says so by
//! its source location, [`INLINED`] with the function's index, for whoever prints a backtrace.

use cranelift_codegen::{
    CodegenResult, Context,
    inline::{Inline, InlineCommand},
    ir::{ExternalName, FuncRef, Function, Inst, Opcode, SourceLoc, Value},
};
use cranelift_entity::EntityRef;
use std::{borrow::Cow, collections::HashMap};

/// In a source location: the rest is no offset, but the index of a function that is inlined. No
/// module that is compiled is long enough for such an offset.
const INLINED: u32 = 1 << 31;

/// The longest body that is looked at, in bytes of Wasm.
const BODY: usize = 160;

/// The most instructions of a function that is put where it is called.
const INSTRUCTIONS: usize = 48;

/// The most functions that are kept for it: each takes some kilobytes.
const FUNCTIONS: usize = 1 << 16;

/// The most instructions that are put into one function: hostile modules may call without end.
const BUDGET: usize = 4096;

/// The functions to put where they are called, by their index.
#[derive(Default)]
pub(crate) struct Small(HashMap<u32, (Function, usize)>);

impl Small {
    /// Whether there is room for a function with a body of so many bytes.
    pub(crate) fn wants(&self, body: usize) -> bool {
        body <= BODY && self.0.len() < FUNCTIONS
    }

    /// Takes a translated function, if it is one to take.
    pub(crate) fn offer(&mut self, index: u32, function: Function) {
        let blocks = function.layout.blocks();
        let instructions = blocks.flat_map(|block| function.layout.block_insts(block));
        let opcodes = instructions.map(|inst| function.dfg.insts[inst].opcode());
        let opcodes: Vec<Opcode> = opcodes.collect();
        let suits = opcodes.iter().all(|opcode| suits(*opcode));
        let ends = opcodes.contains(&Opcode::Return);
        let size = function.dfg.num_insts();
        if suits && ends && size <= INSTRUCTIONS {
            self.0.insert(index, (function, size));
        }
    }

    /// Puts them into a function.
    pub(crate) fn put_into(&self, context: &mut Context) -> CodegenResult<()> {
        let mut inliner = Inliner {
            small: self,
            left: BUDGET,
            put: Vec::new(),
        };
        context.inline(&mut inliner)?;
        // Instructions are numbered as they are made: those of one call end where the next begin.
        let end = context.func.dfg.num_insts();
        let ends = inliner
            .put
            .iter()
            .skip(1)
            .map(|(first, _)| *first)
            .chain([end]);
        for ((first, index), end) in inliner.put.iter().zip(ends) {
            let location = SourceLoc::new(INLINED | index);
            for inst in *first..end {
                context.func.set_srcloc(Inst::new(inst), location);
            }
        }
        Ok(())
    }
}

fn suits(opcode: Opcode) -> bool {
    let traps = opcode.can_trap() && !opcode.can_load() && !opcode.can_store();
    !opcode.is_call() && !traps
}

struct Inliner<'a> {
    small: &'a Small,
    left: usize,
    /// Of each call: its first instruction's number, and the function's index.
    put: Vec<(usize, u32)>,
}

impl Inline for Inliner<'_> {
    fn inline(
        &mut self,
        caller: &Function,
        _: Inst,
        opcode: Opcode,
        callee: FuncRef,
        _: &[Value],
    ) -> InlineCommand<'_> {
        let ExternalName::User(name) = caller.dfg.ext_funcs[callee].name else {
            return InlineCommand::KeepCall;
        };
        let index = caller.params.user_named_funcs()[name].index;
        match self.small.0.get(&index) {
            Some((function, size)) if opcode == Opcode::Call && *size <= self.left => {
                self.left -= size;
                self.put.push((caller.dfg.num_insts(), index));
                InlineCommand::Inline {
                    callee: Cow::Borrowed(function),
                    visit_callee: false,
                }
            }
            _ => InlineCommand::KeepCall,
        }
    }
}
