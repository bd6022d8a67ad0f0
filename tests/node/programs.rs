//! The programs as `make build` leaves them: static, and those that every step pays for small.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use warmstep_tests::paths;

/// What `PT_LOAD` and `PT_INTERP` are in elf(5).
const LOAD: usize = 1;
const INTERPRETER: usize = 3;

/// The shim is pulled with every image, and has 2 MB at most.
#[test]
fn the_shim_is_small() {
    assert!(size("warmstep") <= 2_000_000, "{} bytes", size("warmstep"));
}

/// The runner starts with every step, and has 4 MB at most. With a compiler in it, it is larger: was
/// it built together with warmstep-compile?
#[test]
fn the_runner_is_small_and_has_no_compiler() {
    assert!(size("warmstep-run") <= 4_000_000, "{} bytes", size("warmstep-run"));
}

/// It is lent only to steps that need it, and holds no compiler either.
#[test]
fn the_wasix_runner_has_no_compiler() {
    assert!(size("warmstep-run-wasix") <= 16_000_000, "{} bytes", size("warmstep-run-wasix"));
}

/// They live in images that hold nothing else.
#[test]
fn every_program_is_static() {
    for name in
        ["warmstep", "warmstep-run", "warmstep-run-wasix", "warmstep-compile", "warmstep-agent"]
    {
        let segments = segments(&fs::read(paths::program(name).unwrap()).unwrap());
        assert!(segments.contains(&LOAD), "{name}: {segments:?}");
        assert!(!segments.contains(&INTERPRETER), "{name} wants an interpreter: {segments:?}");
    }
}

fn size(name: &str) -> u64 {
    fs::metadata(paths::program(name).unwrap()).unwrap().len()
}

/// The types of a 64-bit little-endian ELF file's program headers.
fn segments(program: &[u8]) -> Vec<usize> {
    let number = |at: usize, length: usize| {
        program[at..at + length]
            .iter()
            .rev()
            .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    assert_eq!(&program[..6], b"\x7fELF\x02\x01");
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).map(|index| number(start + index * size, 4)).collect()
}
