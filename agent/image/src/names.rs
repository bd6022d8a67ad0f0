//! The names of a module's functions, found by their index.
//!
//! Their number as u32; for each, in the order of the indices, its function's index and the end of
//! its name within the text, u32 each; then the text, in UTF-8.

use crate::format::{FormatError, Numbers};

/// The longest table of names that is written or read, in bytes.
pub(crate) const MAX_NAMES: usize = 64 * 1024 * 1024;

/// How much of one name is kept, in bytes. Symbols of generic code can be very long, and a
/// backtrace has a frame a line.
#[cfg(feature = "split")]
const MAX_NAME: usize = 512;

/// The bytes of one entry.
const ENTRY: usize = 8;

/// The names of a module's functions.
#[derive(Clone, Debug)]
pub struct Names {
    bytes: Vec<u8>,
    count: usize,
}

impl Names {
    /// Takes over a table's bytes.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, FormatError> {
        if bytes.is_empty() {
            return Ok(Self { bytes, count: 0 });
        }
        let count = Numbers(&bytes).u32().and_then(|count| usize::try_from(count).ok());
        let room = count.and_then(|count| count.checked_mul(ENTRY)?.checked_add(4));
        match (count, room) {
            (Some(count), Some(room)) if room <= bytes.len() => Ok(Self { bytes, count }),
            _ => Err(FormatError::Damaged("its names are not all there")),
        }
    }

    /// The name of a function, by its index in the module, imported functions counted.
    pub fn get(&self, function: u32) -> Option<&str> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let (index, end) = self.entry(middle)?;
            match index.cmp(&function) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let start = match middle.checked_sub(1) {
                        Some(before) => self.entry(before)?.1,
                        None => 0,
                    };
                    return std::str::from_utf8(self.text().get(start..end)?).ok();
                }
            }
        }
        None
    }

    fn entry(&self, number: usize) -> Option<(u32, usize)> {
        let mut entry = Numbers(self.bytes.get(4 + number * ENTRY..)?);
        Some((entry.u32()?, usize::try_from(entry.u32()?).ok()?))
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(4 + self.count * ENTRY..).unwrap_or_default()
    }
}

/// Builds a table from names in the order of their indices; what is not in order is left out, as is
/// what comes when the table is full.
#[cfg(feature = "split")]
pub(crate) fn encode<'a>(names: impl Iterator<Item = (u32, &'a str)>) -> Vec<u8> {
    let (mut entries, mut text) = (Vec::new(), Vec::new());
    let mut next = 0;
    for (index, name) in names {
        let name = &name[..name.floor_char_boundary(MAX_NAME)];
        let size = 4 + entries.len() + ENTRY + text.len() + name.len();
        if index < next || size > MAX_NAMES {
            continue;
        }
        let Some(after) = index.checked_add(1) else { continue };
        next = after;
        text.extend(name.as_bytes());
        let Ok(end) = u32::try_from(text.len()) else { break };
        entries.extend(index.to_le_bytes());
        entries.extend(end.to_le_bytes());
    }
    if entries.is_empty() {
        return Vec::new();
    }
    let count = u32::try_from(entries.len() / ENTRY).unwrap_or(0);
    [&count.to_le_bytes()[..], &entries, &text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "split")]
    #[test]
    fn names_are_found_by_their_index() {
        let table = encode([(0, "zero"), (2, ""), (7, "sieben"), (9, "neun")].into_iter());
        let names = Names::decode(table).expect("it is whole");
        assert_eq!(names.get(0), Some("zero"));
        assert_eq!(names.get(2), Some(""));
        assert_eq!(names.get(7), Some("sieben"));
        assert_eq!(names.get(9), Some("neun"));
        for absent in [1, 3, 8, 10, u32::MAX] {
            assert_eq!(names.get(absent), None);
        }
    }

    #[cfg(feature = "split")]
    #[test]
    fn long_names_are_cut_and_disorder_is_left_out() {
        let long = "ü".repeat(MAX_NAME);
        let names = [(3, long.as_str()), (1, "late"), (3, "twice"), (4, "four")];
        let names = Names::decode(encode(names.into_iter())).expect("it is whole");
        assert_eq!(names.get(3), Some(&long[..MAX_NAME]));
        assert_eq!(names.get(1), None);
        assert_eq!(names.get(4), Some("four"));
    }

    #[test]
    fn damage_is_refused_or_finds_nothing() {
        assert!(Names::decode(vec![1]).is_err());
        assert!(Names::decode(vec![2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]).is_err());
        assert!(Names::decode(vec![255; 64]).is_err());
        // The name ends beyond the text.
        let names = Names::decode(vec![1, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, b'a']).expect("a table");
        assert_eq!(names.get(5), None);
        assert_eq!(Names::decode(Vec::new()).expect("no names are fine").get(0), None);
    }
}
