//! The bytes of an image. All numbers are little-endian.
//!
//! | at | what |
//! | --- | --- |
//! | 0 | [`MAGIC`], whose last byte is the format's version |
//! | 8 | page size: u32; what everything is aligned to that gets mapped |
//! | 12 | number of runs: u32 |
//! | 16 | length of the linear memory when it is new, in bytes: u64 |
//! | 24, 32 | where the names begin, and how long they are: u64 each; see `names.rs` |
//! | 40 | the runs: offset in the memory, offset in this file, length; u64 each |
//! | | the names |
//! | page-aligned | the pages of the runs, in their order |
//!
//! Runs are in the order of their memory, do not overlap, and are whole pages. What lies between
//! them is zero, as in any new memory.

/// How an image begins.
pub(crate) const MAGIC: [u8; 8] = *b"wstpimg\x01";

/// The length of the header before the runs.
pub(crate) const HEADER: usize = 40;

/// The length of one run.
pub(crate) const RUN: usize = 24;

/// The most runs of an image: each is a mapping, which costs the start a microsecond and the kernel
/// a record. Modules in use have one to three.
pub const MAX_RUNS: usize = 64;

/// Header and runs fit into this many bytes: the smallest page there is.
pub(crate) const HEAD: usize = 4096;

const _: () = assert!(HEADER + MAX_RUNS * RUN <= HEAD);

/// A linear memory of 32 bits is not longer than this.
pub(crate) const MAX_MEMORY: u64 = 1 << 32;

/// The bytes are no image that can be mapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It is something else, or of another version.
    #[error("it is no image of this version")]
    Magic,
    /// It ends too soon.
    #[error("it is cut off: {0}")]
    CutOff(&'static str),
    /// It was made for another machine.
    #[error("it is made for pages of {image} bytes, but this machine's have {machine}")]
    Page {
        /// The image's page size.
        image: u64,
        /// The machine's page size.
        machine: u64,
    },
    /// Its parts contradict each other.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Consecutive pages of the linear memory, and where they are in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they begin in the linear memory, in bytes.
    pub memory: u64,
    /// Where they begin in the file, in bytes.
    pub file: u64,
    /// How many bytes they are.
    pub length: u64,
}

/// Everything of an image but the names and the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) page: u64,
    pub(crate) memory: u64,
    pub(crate) names: (u64, u64),
    pub(crate) runs: Vec<Run>,
}

impl Head {
    /// The bytes, without what follows them.
    #[cfg(any(feature = "split", test))]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(HEADER + self.runs.len() * RUN);
        bytes.extend(MAGIC);
        bytes.extend(u32::try_from(self.page).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(number(self.runs.len()));
        for value in [self.memory, self.names.0, self.names.1] {
            bytes.extend(value.to_le_bytes());
        }
        for run in &self.runs {
            for value in [run.memory, run.file, run.length] {
                bytes.extend(value.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads it back from a file's first bytes, and believes nothing.
    pub(crate) fn decode(bytes: &[u8], file: u64, page: u64) -> Result<Self, FormatError> {
        let cut_off = FormatError::CutOff("it ends within its header");
        let rest = bytes.strip_prefix(&MAGIC).ok_or(FormatError::Magic)?;
        let mut rest = Numbers(rest);
        let image_page = rest.u32().ok_or_else(|| cut_off.clone())?;
        if u64::from(image_page) != page {
            return Err(FormatError::Page { image: image_page.into(), machine: page });
        }
        let count = rest.u32().and_then(|count| usize::try_from(count).ok());
        let count = count.ok_or_else(|| cut_off.clone())?;
        if count > MAX_RUNS {
            return Err(FormatError::Damaged("it has too many runs"));
        }
        let memory = rest.u64().ok_or_else(|| cut_off.clone())?;
        let names = (rest.u64()).zip(rest.u64()).ok_or_else(|| cut_off.clone())?;
        let runs: Option<Vec<Run>> = (0..count)
            .map(|_| Some(Run { memory: rest.u64()?, file: rest.u64()?, length: rest.u64()? }))
            .collect();
        let head = Self { page, memory, names, runs: runs.ok_or(cut_off)? };
        head.check(file)?;
        Ok(head)
    }

    /// Whether all parts lie within the file and the memory, and in order.
    fn check(&self, file: u64) -> Result<(), FormatError> {
        if self.memory > MAX_MEMORY {
            return Err(FormatError::Damaged("its memory is too long"));
        }
        let names = self.names.0.checked_add(self.names.1);
        if names.is_none_or(|end| end > file) {
            return Err(FormatError::CutOff("its names are not all there"));
        }
        let mut free = 0;
        for run in &self.runs {
            let aligned =
                |value: u64| value.checked_rem(self.page).is_some_and(|remainder| remainder == 0);
            if !(aligned(run.memory) && aligned(run.file) && aligned(run.length)) {
                return Err(FormatError::Damaged("a run is not aligned to pages"));
            }
            if run.length == 0 || run.memory < free {
                return Err(FormatError::Damaged("its runs are not in order"));
            }
            free = match run.memory.checked_add(run.length) {
                Some(end) if end <= self.memory => end,
                _ => return Err(FormatError::Damaged("a run is beyond the memory")),
            };
            if run.file.checked_add(run.length).is_none_or(|end| end > file) {
                return Err(FormatError::CutOff("the pages of a run are not all there"));
            }
        }
        Ok(())
    }
}

/// Takes numbers off the front of some bytes.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl Numbers<'_> {
    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    fn head() -> Head {
        Head {
            page: PAGE,
            memory: 1 << 20,
            names: (100, 50),
            runs: vec![
                Run { memory: 0, file: PAGE, length: 2 * PAGE },
                Run { memory: 8 * PAGE, file: 3 * PAGE, length: PAGE },
            ],
        }
    }

    fn decode(head: &Head) -> Result<Head, FormatError> {
        Head::decode(&head.encode(), 4 * PAGE, PAGE)
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(decode(&head()), Ok(head()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = head().encode();
        for length in 0..bytes.len() {
            assert!(Head::decode(&bytes[..length], 4 * PAGE, PAGE).is_err(), "{length}");
        }
    }

    #[test]
    fn an_image_of_another_machine_or_version_is_refused() {
        let mut bytes = head().encode();
        assert!(matches!(
            Head::decode(&bytes, 4 * PAGE, 65_536),
            Err(FormatError::Page { image: 4096, machine: 65_536 })
        ));
        bytes[7] += 1;
        assert_eq!(Head::decode(&bytes, 4 * PAGE, PAGE), Err(FormatError::Magic));
    }

    #[test]
    fn nothing_lies_outside() {
        let refused = |change: fn(&mut Head)| {
            let mut changed = head();
            change(&mut changed);
            decode(&changed).expect_err("it lies outside").to_string()
        };
        assert!(refused(|head| head.memory = MAX_MEMORY + PAGE).contains("too long"));
        assert!(refused(|head| head.memory = 8 * PAGE).contains("beyond the memory"));
        assert!(refused(|head| head.names.0 = 5 * PAGE).contains("names"));
        assert!(refused(|head| head.names.1 = u64::MAX).contains("names"));
        assert!(refused(|head| head.runs[0].memory = 1).contains("aligned"));
        assert!(refused(|head| head.runs[0].file += 8).contains("aligned"));
        assert!(refused(|head| head.runs[1].length += 1).contains("aligned"));
        assert!(refused(|head| head.runs[1].length = 0).contains("order"));
        assert!(refused(|head| head.runs[1].memory = PAGE).contains("order"));
        assert!(refused(|head| head.runs[1].file = 4 * PAGE).contains("not all there"));
        assert!(refused(|head| head.runs[1].file = u64::MAX - PAGE + 1).contains("not all there"));
        assert!(refused(|head| head.runs[1].memory = u64::MAX - PAGE + 1).contains("beyond"));
    }

    #[test]
    fn too_many_runs_are_refused() {
        let mut many = head();
        many.memory = MAX_MEMORY;
        many.runs = (0..=MAX_RUNS as u64)
            .map(|number| Run { memory: number * PAGE, file: PAGE, length: PAGE })
            .collect();
        assert_eq!(decode(&many), Err(FormatError::Damaged("it has too many runs")));
        many.runs.pop();
        assert!(decode(&many).is_ok());
    }

    #[test]
    fn flipped_bits_never_lead_outside() {
        let bytes = head().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(head) = Head::decode(&flipped, 4 * PAGE, PAGE) else { continue };
            assert!(head.names.0 + head.names.1 <= 4 * PAGE, "bit {bit}");
            for run in head.runs {
                assert!(run.file + run.length <= 4 * PAGE, "bit {bit}");
                assert!(run.memory + run.length <= head.memory, "bit {bit}");
            }
        }
    }
}
