//! Not upstream's: puts the smallest functions of a module where they are called.
//!
//! Compilers of C leave thousands of accessors behind where they do not optimize across files, and
//! calling one costs several times what it does. Only functions that call nothing and trap at most
//! at a memory access are taken, so that recursion stays what it is, and a backtrace misses nothing
//! but the accessor itself: its caller is named in its stead, at the call.

use cranelift_codegen::{
    inline::{Inline, InlineCommand},
    ir::{ExternalName, FuncRef, Function, Inst, Opcode, Value},
};
use std::{borrow::Cow, collections::HashMap};

/// The longest body that is looked at, in bytes of Wasm.
pub(crate) const BODY: usize = 64;

/// The most instructions of a function that is put where it is called.
const INSTRUCTIONS: usize = 24;

/// The most instructions that are put into one function: hostile modules may call without end.
const BUDGET: usize = 4096;

/// The functions to put where they are called, by their index.
#[derive(Default)]
pub(crate) struct Small(HashMap<u32, (Function, usize)>);

impl Small {
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

    /// Decides about the calls of one function.
    pub(crate) fn within_budget(&self) -> impl Inline {
        Inliner {
            small: self,
            left: BUDGET,
        }
    }
}

fn suits(opcode: Opcode) -> bool {
    let traps = opcode.can_trap() && !opcode.can_load() && !opcode.can_store();
    !opcode.is_call() && !traps
}

struct Inliner<'a> {
    small: &'a Small,
    left: usize,
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
                InlineCommand::Inline {
                    callee: Cow::Borrowed(function),
                    visit_callee: false,
                }
            }
            _ => InlineCommand::KeepCall,
        }
    }
}
