//! The first eight bytes: a core WebAssembly module, or a word for what it is instead.

/// How many bytes [`check`] wants to see.
pub const HEADER_BYTES: usize = 8;

/// Magic and version of a core module (WebAssembly core specification, "Binary Format: Modules").
const CORE: [u8; HEADER_BYTES] = *b"\0asm\x01\0\0\0";

/// What bytes are that are no core WebAssembly module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotWasm {
    /// Fewer than eight bytes.
    #[error("is shorter than the header of a WebAssembly module")]
    Short,
    /// The component model's layer, whatever its version.
    #[error("is a component; build for wasm32-wasip1")]
    Component,
    /// WebAssembly of a version that does not exist yet.
    #[error("is WebAssembly of version {0}; only version 1 is known")]
    Version(u16),
    /// WebAssembly in its text form.
    #[error("is WebAssembly text; convert it with wat2wasm and push the binary")]
    Text,
    /// A program or library for a processor; also what wasmtime serializes.
    #[error("is native code (ELF); only WebAssembly is accepted")]
    Elf,
    /// What wasmer serializes.
    #[error("is a module that wasmer has compiled; push the WebAssembly it was made from")]
    Compiled,
    /// Compressed, as container images are.
    #[error("is compressed ({0}); push the module as it is")]
    Compressed(&'static str),
    /// An archive of files.
    #[error("is an archive ({0}); push the module alone")]
    Archive(&'static str),
    /// A script with a `#!` line.
    #[error("is a script; only WebAssembly is accepted")]
    Script,
    /// Nothing that is known.
    #[error("is not WebAssembly: it does not start with \"\\0asm\"")]
    Unknown,
}

/// Whether `bytes`, a file or its first [`HEADER_BYTES`] or more bytes, start a core module.
///
/// # Errors
/// What the bytes are instead.
pub fn check(bytes: &[u8]) -> Result<(), NotWasm> {
    if bytes.starts_with(&CORE) {
        return Ok(());
    }
    Err(name(bytes))
}

fn name(bytes: &[u8]) -> NotWasm {
    // Magic numbers from file(1)'s database; the wasmer ones from its `artifact_builder.rs` and
    // `serialize.rs`.
    match bytes {
        [0, b'a', b's', b'm', version @ ..] => match *version {
            // Component model, Binary.md: a version of 16 bits, then the layer: 0 core, 1 component.
            [_, _, 1, 0, ..] => NotWasm::Component,
            [low, high, _, _, ..] => NotWasm::Version(u16::from_le_bytes([low, high])),
            _ => NotWasm::Short,
        },
        [0x7f, b'E', b'L', b'F', ..] => NotWasm::Elf,
        [b'w', b'a', b's', b'm', b'e', b'r', ..] | [b'W', b'A', b'S', b'M', b'E', b'R', ..] => {
            NotWasm::Compiled
        }
        [0x1f, 0x8b, ..] => NotWasm::Compressed("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => NotWasm::Compressed("zstd"),
        [b'B', b'Z', b'h', ..] => NotWasm::Compressed("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => NotWasm::Compressed("xz"),
        [b'P', b'K', 3, 4, ..] => NotWasm::Archive("zip"),
        [b'#', b'!', ..] => NotWasm::Script,
        _ if is_text(bytes) => NotWasm::Text,
        _ if bytes.len() < HEADER_BYTES => NotWasm::Short,
        _ => NotWasm::Unknown,
    }
}

/// `(module`, `(component` or a comment, as the text format starts.
fn is_text(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    [&b"(mod"[..], b"(com", b";;", b"(;"].iter().any(|word| start.starts_with(word))
}

/// The header of a stream, which comes in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Header {
    bytes: [u8; HEADER_BYTES],
    seen: usize,
}

impl Header {
    /// Looks at the next piece, and judges as soon as there are enough bytes.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<(), NotWasm> {
        if self.seen == HEADER_BYTES {
            return Ok(());
        }
        let wanted = piece.len().min(HEADER_BYTES - self.seen);
        self.bytes[self.seen..self.seen + wanted].copy_from_slice(&piece[..wanted]);
        self.seen += wanted;
        if self.seen == HEADER_BYTES { check(&self.bytes) } else { Ok(()) }
    }

    /// The stream has ended: what was seen is all there is.
    pub(crate) fn end(&self) -> Result<(), NotWasm> {
        check(&self.bytes[..self.seen])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_not_a_core_module() {
        let cases: &[(&[u8], Result<(), NotWasm>)] = &[
            (b"\0asm\x01\0\0\0\x01\x04", Ok(())),
            (b"\0asm\x0d\0\x01\0", Err(NotWasm::Component)),
            (b"\0asm\x0a\0\x01\0", Err(NotWasm::Component)),
            (b"\0asm\x02\0\0\0", Err(NotWasm::Version(2))),
            (b"\0asm", Err(NotWasm::Short)),
            (b"\0asm\x01\0\0", Err(NotWasm::Short)),
            (b"", Err(NotWasm::Short)),
            (b"\x7fELF\x02\x01\x01\0", Err(NotWasm::Elf)),
            (b"wasmer-universal\x08", Err(NotWasm::Compiled)),
            (b"WASMER\0\0\x01\0\0\0", Err(NotWasm::Compiled)),
            (b"(module (func))", Err(NotWasm::Text)),
            (b"\n  (component)", Err(NotWasm::Text)),
            (b";; a comment", Err(NotWasm::Text)),
            (b"\x1f\x8b\x08\0\0\0\0\0", Err(NotWasm::Compressed("gzip"))),
            (b"\x28\xb5\x2f\xfd\0\0\0\0", Err(NotWasm::Compressed("zstd"))),
            (b"PK\x03\x04\0\0\0\0", Err(NotWasm::Archive("zip"))),
            (b"#!/bin/sh\n", Err(NotWasm::Script)),
            (b"<html><body>", Err(NotWasm::Unknown)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(check(bytes), *expected, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn judges_a_stream_whatever_its_pieces() {
        for size in 1..=9 {
            for (bytes, good) in [(b"\0asm\x01\0\0\0\x01", true), (b"\0asm\x0d\0\x01\0\0", false)] {
                let mut header = Header::default();
                let fed = bytes.chunks(size).try_for_each(|piece| header.feed(piece));
                assert_eq!(fed.and_then(|()| header.end()).is_ok(), good, "pieces of {size}");
            }
        }
        let mut header = Header::default();
        header.feed(b"\0asm").expect("more may come");
        assert_eq!(header.end(), Err(NotWasm::Short));
    }
}
