//! The module's bytes as they come in, and what they are when they are no module.

use std::io::{self, Read};

/// How every WebAssembly binary begins.
const MAGIC: &[u8] = b"\0asm";

/// Version 1 of the core format, and its layer: a module.
const MODULE: [u8; 4] = [1, 0, 0, 0];

/// How much of an unknown file is looked at.
const LOOK: usize = 512;

/// How other files begin that are taken for modules by mistake.
const OTHERS: [(&[u8], &str); 8] = [
    (b"\x7fELF", "a native ELF file"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"wasmer-universal", "native code that wasmer has compiled"),
    (b"PK\x03\x04", "a zip archive"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"!<arch>", "a library of object files"),
    (b"#!", "a script"),
];

/// The input is no core module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// It could not be read.
    #[error("cannot read the module: {0}")]
    Read(#[from] io::Error),
    /// It is longer than allowed.
    #[error("the module is longer than the {0} bytes that are allowed (limits.module)")]
    TooLarge(u64),
    /// It is nothing at all.
    #[error("the module is empty: it has no bytes")]
    Empty,
    /// It begins with something else than `\0asm`.
    #[error("this is no WebAssembly module: {0}")]
    Other(&'static str),
    /// It ends within its first eight bytes.
    #[error("the module is cut off: it ends after {0} bytes")]
    CutOff(usize),
    /// It is WebAssembly of the next layer.
    #[error(
        "this is a WebAssembly component, not a module: build it for wasm32-wasip1 instead of \
         wasm32-wasip2"
    )]
    Component,
    /// It is WebAssembly that nobody knows yet.
    #[error("this is WebAssembly of the unknown version {0:#010x}; version 1 is known here")]
    Version(u32),
}

/// Reads a module to its end, but no more than `most` bytes.
pub(crate) fn read(from: impl Read, most: u64) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    let read = from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= most) {
        recognise(&bytes)?;
        Ok(bytes)
    } else {
        Err(InputError::TooLarge(most))
    }
}

/// Tells a core module from everything else, by its first bytes.
fn recognise(bytes: &[u8]) -> Result<(), InputError> {
    if bytes.is_empty() {
        return Err(InputError::Empty);
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        let cut_off = MAGIC.starts_with(bytes);
        return Err(if cut_off { InputError::CutOff(bytes.len()) } else { other(bytes) });
    };
    let version = rest.first_chunk::<4>().ok_or(InputError::CutOff(bytes.len()))?;
    match *version {
        MODULE => Ok(()),
        // The last two bytes are the layer: 0 for modules, 1 for components.
        [_, _, 1, 0] => Err(InputError::Component),
        other => Err(InputError::Version(u32::from_le_bytes(other))),
    }
}

fn other(bytes: &[u8]) -> InputError {
    let known = OTHERS.iter().find(|(magic, _)| bytes.starts_with(magic));
    InputError::Other(match known {
        Some((_, what)) => what,
        None if is_text_format(bytes) => "it is WebAssembly text; assemble it first (wat2wasm)",
        None if is_text(bytes) => "it is text",
        None => "it does not begin with the bytes \\0asm",
    })
}

fn is_text_format(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;")
}

fn is_text(bytes: &[u8]) -> bool {
    let look = &bytes[..bytes.len().min(LOOK)];
    look.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        read(bytes, 1024).expect_err("it is no module").to_string()
    }

    #[test]
    fn what_is_no_module_is_named() {
        assert!(refusal(b"\x7fELF\x02\x01").contains("ELF"));
        assert!(refusal(b"\x1f\x8b\x08").contains("gzip"));
        assert!(refusal(b"wasmer-universal\0\0").contains("wasmer has compiled"));
        assert!(refusal(b"\n  (module)").contains("wat2wasm"));
        assert!(refusal(b"apiVersion: v1\n").contains("it is text"));
        assert!(refusal(b"\x01\x02\x03").contains("\\0asm"));
        assert!(refusal(b"").contains("no bytes"));
    }

    #[test]
    fn webassembly_that_is_no_core_module_is_named() {
        assert!(refusal(b"\0as").contains("ends after 3 bytes"));
        assert!(refusal(b"\0asm\x01\0\0").contains("ends after 7 bytes"));
        assert!(refusal(b"\0asm\x0d\0\x01\0").contains("wasm32-wasip1"));
        assert!(refusal(b"\0asm\x02\0\0\0").contains("0x00000002"));
    }

    #[test]
    fn the_longest_module_is_read_and_no_longer_one() {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.resize(1024, 0);
        assert_eq!(read(&bytes[..], 1024).expect("it is short enough"), bytes);
        bytes.push(0);
        assert!(refusal(&bytes).contains("longer than the 1024 bytes"));
    }
}
