//! The program itself: small and static, because it lives in images that hold nothing else.

/// The bar, in bytes.
const MOST: usize = 2_000_000;

#[test]
#[cfg_attr(debug_assertions, ignore = "only what is released is small")]
fn it_is_small_and_static() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_warmstep")).expect("the program");
    println!("{} bytes", program.len());
    assert!(program.len() <= MOST, "{} bytes", program.len());

    // The ELF program headers (elf(5)): none asks for an interpreter.
    let number = |at: usize, length: usize| {
        let bytes = program[at..at + length].iter().rev();
        bytes.fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    assert_eq!(&program[..5], b"\x7fELF\x02");
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<_> = (0..count).map(|index| number(start + index * size, 4)).collect();
    let (load, interpreter) = (1, 3);
    assert!(kinds.contains(&load) && !kinds.contains(&interpreter), "{kinds:?}");
}
