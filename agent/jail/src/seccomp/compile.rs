//! From the table to the kernel's filter language (classic BPF), while this crate is compiled.
//!
//! The call's number is searched for in a balanced tree of ranges, and the three verdicts are shared
//! by all. Why this is not left to a library: the kernel translates a filter and, to remember what
//! is always allowed, runs it once for each call that exists, whenever a process installs one. For
//! 60 calls on the same machine (2 cores, Linux 6.18) seccompiler 0.5, which compares one number
//! after the other, took 170 µs; this form takes 50 µs, of which 25 µs are spent on a filter of any
//! size.

use std::mem::offset_of;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, seccomp_data, sock_filter,
};

use super::{Allowed, Answer, Call, Check, Lists};

/// Conditional jumps reach 255 instructions ahead, and the verdicts are at the end.
pub(crate) const MAX_INSTRUCTIONS: usize = 256;

/// The most calls on one list. It is also what keeps the lists honest: whoever needs more should
/// find one to give up. `tests/jail/rules.rs` allows so many to one list alone, and 60 to the others.
pub(crate) const MAX_CALLS: usize = 66;

/// Each call, and what lies between it and the next.
const MAX_RANGES: usize = 2 * MAX_CALLS + 1;

/// How many places of one program take the process's id.
const MAX_OWN: usize = 4;

/// `uapi/linux/audit.h`: the machine, 64 bits, little endian. A call made in another architecture's
/// way, as 32-bit code on x86_64 can, has other numbers.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// A compiled filter.
pub(crate) struct Program {
    instructions: [sock_filter; MAX_INSTRUCTIONS],
    length: usize,
    own: [usize; MAX_OWN],
    owns: usize,
}

impl Program {
    /// The filter for the process with this id, written into `space`.
    pub(crate) fn for_process<'a>(
        &self,
        id: u32,
        space: &'a mut [sock_filter; MAX_INSTRUCTIONS],
    ) -> &'a mut [sock_filter] {
        space.copy_from_slice(&self.instructions);
        for place in &self.own[..self.owns] {
            space[*place].k = id;
        }
        &mut space[..self.length]
    }
}

/// Where a jump leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Kill,
    Allow,
    Absent,
    /// The checks of the list's nth call.
    Checks(usize),
}

/// The numbers from `first` up to the next range's.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    target: Target,
}

/// Ranges that hold every number, by ascending number.
struct Ranges {
    all: [Range; MAX_RANGES],
    count: usize,
}

/// A jump whose distance is known only at the end.
#[derive(Clone, Copy)]
struct Jump {
    from: usize,
    if_true: bool,
    target: Target,
}

struct Assembler {
    program: Program,
    jumps: [Jump; 2 * MAX_INSTRUCTIONS],
    jump_count: usize,
}

/// Compiles one list of a table.
pub(crate) const fn compile(table: &[Call], list: Lists) -> Program {
    let (calls, count) = select(table, list);
    let ranges = ranges(table, &calls, count);
    assert!(ranges.count > 1, "an empty list");
    let mut assembler = Assembler::new();
    assembler.load(offset_of!(seccomp_data, arch));
    let at = assembler.compare(BPF_JEQ, ARCHITECTURE);
    assembler.jump(at, false, Target::Kill);
    assembler.load(offset_of!(seccomp_data, nr));
    assembler.search(&ranges.all, 0, ranges.count);
    let mut nth = 0;
    while nth < count {
        let call = &table[calls[nth]];
        if !call.checks.is_empty() {
            assembler.resolve(Target::Checks(nth));
            assembler.checks(call.checks);
        }
        nth += 1;
    }
    assembler.verdict(Target::Kill, SECCOMP_RET_KILL_PROCESS);
    assembler.verdict(Target::Allow, SECCOMP_RET_ALLOW);
    assembler.verdict(Target::Absent, SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs());
    assembler.finish()
}

/// The places in the table of a list's calls, by ascending number.
const fn select(table: &[Call], list: Lists) -> ([usize; MAX_CALLS], usize) {
    let mut selected = [0; MAX_CALLS];
    let mut count = 0;
    let mut row = 0;
    while row < table.len() {
        if table[row].lists.contains(list) {
            assert!(count < MAX_CALLS, "a list has too many calls");
            let mut place = count;
            while place > 0 && table[selected[place - 1]].number > table[row].number {
                selected[place] = selected[place - 1];
                place -= 1;
            }
            selected[place] = row;
            count += 1;
        }
        row += 1;
    }
    (selected, count)
}

/// All numbers there are, as ranges that share a target.
const fn ranges(table: &[Call], calls: &[usize; MAX_CALLS], count: usize) -> Ranges {
    let mut ranges =
        Ranges { all: [Range { first: 0, target: Target::Kill }; MAX_RANGES], count: 1 };
    let mut nth = 0;
    while nth < count {
        let call = &table[calls[nth]];
        assert!(nth == 0 || table[calls[nth - 1]].number < call.number, "a call is there twice");
        let target = match call.answer {
            Answer::Absent => Target::Absent,
            Answer::Allow if call.checks.is_empty() => Target::Allow,
            Answer::Allow => Target::Checks(nth),
        };
        ranges.append(Range { first: call.number, target });
        ranges.append(Range { first: call.number + 1, target: Target::Kill });
        nth += 1;
    }
    ranges
}

impl Ranges {
    /// Appends a range: instead of one that begins with the same number, and as part of the one
    /// before it if both share a target.
    const fn append(&mut self, range: Range) {
        if self.all[self.count - 1].first == range.first {
            self.count -= 1;
        }
        if self.count > 0 && same(self.all[self.count - 1].target, range.target) {
            return;
        }
        self.all[self.count] = range;
        self.count += 1;
    }
}

/// Equality of the targets that several ranges can share.
const fn same(one: Target, other: Target) -> bool {
    matches!(
        (one, other),
        (Target::Allow, Target::Allow)
            | (Target::Kill, Target::Kill)
            | (Target::Absent, Target::Absent)
    )
}

impl Assembler {
    const fn new() -> Self {
        let nothing = sock_filter { code: 0, jt: 0, jf: 0, k: 0 };
        let nowhere = Jump { from: 0, if_true: false, target: Target::Kill };
        Self {
            program: Program {
                instructions: [nothing; MAX_INSTRUCTIONS],
                length: 0,
                own: [0; MAX_OWN],
                owns: 0,
            },
            jumps: [nowhere; 2 * MAX_INSTRUCTIONS],
            jump_count: 0,
        }
    }

    /// Appends an instruction and returns its place.
    const fn push(&mut self, code: u32, k: u32) -> usize {
        let at = self.program.length;
        assert!(at < MAX_INSTRUCTIONS, "the filter is too long for its jumps");
        self.program.instructions[at] = sock_filter { code: low16(code), jt: 0, jf: 0, k };
        self.program.length += 1;
        at
    }

    /// Loads 32 bits of what the kernel tells about the call.
    const fn load(&mut self, offset: usize) {
        assert!(offset < size_of::<seccomp_data>());
        self.push(BPF_LD | BPF_W | BPF_ABS, low32(offset));
    }

    /// Compares the loaded bits; both ways go on with the next instruction until told otherwise.
    const fn compare(&mut self, how: u32, with: u32) -> usize {
        self.push(BPF_JMP | how | BPF_K, with)
    }

    /// Notes that one way out of the comparison at `from` leads to a target further on.
    const fn jump(&mut self, from: usize, if_true: bool, target: Target) {
        self.jumps[self.jump_count] = Jump { from, if_true, target };
        self.jump_count += 1;
    }

    /// Finds the loaded number's range among `ranges[low..high]`.
    const fn search(&mut self, ranges: &[Range], low: usize, high: usize) {
        let middle = low + (high - low) / 2;
        let at = self.compare(BPF_JGE, ranges[middle].first);
        if high - middle == 1 {
            self.jump(at, true, ranges[middle].target);
        } else {
            self.land(at, true);
            self.search(ranges, middle, high);
        }
        if middle - low == 1 {
            self.jump(at, false, ranges[low].target);
        } else {
            self.land(at, false);
            self.search(ranges, low, middle);
        }
    }

    /// The checks of a call, all of which must pass.
    const fn checks(&mut self, checks: &[Check]) {
        let mut nth = 0;
        while nth < checks.len() {
            self.check(&checks[nth], nth + 1 == checks.len());
            nth += 1;
        }
    }

    /// One check; after the last one the call is allowed, after another one the next check follows.
    const fn check(&mut self, check: &Check, last: bool) {
        self.load(offset_of!(seccomp_data, args) + 8 * check.argument as usize);
        if check.mask != u32::MAX {
            self.push(BPF_ALU | BPF_AND | BPF_K, check.mask);
        }
        let first = self.program.length;
        match check.allowed {
            Allowed::OwnProcess => {
                let at = self.compare(BPF_JEQ, 0);
                self.program.own[self.program.owns] = at;
                self.program.owns += 1;
            }
            Allowed::Values(values) => {
                assert!(!values.is_empty(), "a check that nothing passes");
                let mut nth = 0;
                while nth < values.len() {
                    self.compare(BPF_JEQ, values[nth]);
                    nth += 1;
                }
            }
        }
        let end = self.program.length;
        self.jump(end - 1, false, Target::Kill);
        let mut at = first;
        while at < end {
            if last {
                self.jump(at, true, Target::Allow);
            } else {
                self.land(at, true);
            }
            at += 1;
        }
    }

    /// One way out of the comparison at `from` leads to the next instruction.
    const fn land(&mut self, from: usize, if_true: bool) {
        let distance = low8(self.program.length - from - 1);
        if if_true {
            self.program.instructions[from].jt = distance;
        } else {
            self.program.instructions[from].jf = distance;
        }
    }

    /// All jumps to `target` lead to the next instruction.
    const fn resolve(&mut self, target: Target) {
        let mut nth = 0;
        while nth < self.jump_count {
            let jump = self.jumps[nth];
            let here = match (jump.target, target) {
                (Target::Checks(one), Target::Checks(other)) => one == other,
                (one, other) => same(one, other),
            };
            if here {
                self.land(jump.from, jump.if_true);
            }
            nth += 1;
        }
    }

    /// Ends the call that comes here with the kernel's answer.
    const fn verdict(&mut self, target: Target, answer: u32) {
        self.resolve(target);
        self.push(BPF_RET | BPF_K, answer);
    }

    const fn finish(self) -> Program {
        self.program
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked, and `try_from` is not const")]
const fn low8(number: usize) -> u8 {
    assert!(number <= u8::MAX as usize, "the filter is too long for its jumps");
    number as u8
}

#[expect(clippy::cast_possible_truncation, reason = "checked, and `try_from` is not const")]
const fn low16(number: u32) -> u16 {
    assert!(number <= u16::MAX as u32);
    number as u16
}

#[expect(clippy::cast_possible_truncation, reason = "checked, and `try_from` is not const")]
const fn low32(number: usize) -> u32 {
    assert!(number <= u32::MAX as usize);
    number as u32
}
