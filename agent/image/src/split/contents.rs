//! The first contents of a linear memory, by its pages.

use std::collections::BTreeMap;

/// Zeros between two runs are mapped along with them up to this length, in bytes: a hole in the
/// file costs less than one more mapping.
const GAP: u64 = 64 * 1024;

/// An image may be so many times as long as the data that it is made of…
const SPREAD: u64 = 2;

/// … and this much longer, in bytes. Data that is scattered more thinly stays in the module: a
/// byte a page would make of a small module a large image.
const SLACK: u64 = 1024 * 1024;

/// What is in a memory before anything runs. What was never put there is zero.
#[derive(Debug)]
pub(crate) struct Contents {
    page: usize,
    pages: BTreeMap<u64, Box<[u8]>>,
    put: u64,
}

impl Contents {
    /// An empty memory with pages of so many bytes.
    pub(crate) fn new(page: usize) -> Self {
        Self { page, pages: BTreeMap::new(), put: 0 }
    }

    /// The length of a page, in bytes.
    pub(crate) fn page(&self) -> u64 {
        self.page as u64
    }

    /// Puts bytes at an offset, over what is there.
    pub(crate) fn put(&mut self, offset: u64, mut bytes: &[u8]) {
        self.put += bytes.len() as u64;
        let mut at = offset;
        while !bytes.is_empty() {
            // Less than a page, which is a usize.
            let within = usize::try_from(at % self.page()).unwrap_or(0);
            let (now, later) = bytes.split_at(bytes.len().min(self.page - within));
            let page = self.pages.entry(at / self.page());
            let page = page.or_insert_with(|| vec![0; self.page].into());
            page[within..within + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            bytes = later;
        }
    }

    /// Whether the pages are not much more than what was put there.
    pub(crate) fn are_worth_it(&self) -> bool {
        self.pages.len() as u64 * self.page() <= self.put * SPREAD + SLACK
    }

    /// Forgets pages that are as any new one is.
    pub(crate) fn drop_zeros(&mut self) {
        self.pages.retain(|_, page| page.iter().any(|byte| *byte != 0));
    }

    /// The offsets and lengths of what should be mapped, in bytes.
    pub(crate) fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for at in self.pages.keys().map(|number| number * self.page()) {
            match runs.last_mut() {
                Some((start, length)) if at - (*start + *length) <= GAP => {
                    *length = at + self.page() - *start;
                }
                _ => runs.push((at, self.page())),
            }
        }
        runs
    }

    /// The pages from an offset on, within a length, that are not zero; each with its offset.
    pub(crate) fn pages(&self, from: u64, length: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let range = from / self.page()..(from + length) / self.page();
        self.pages.range(range).map(|(number, page)| (number * self.page(), &**page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(puts: &[(u64, &[u8])]) -> Contents {
        let mut contents = Contents::new(4096);
        for (at, bytes) in puts {
            contents.put(*at, bytes);
        }
        contents.drop_zeros();
        contents
    }

    #[test]
    fn later_bytes_lie_over_earlier_ones() {
        let contents = contents(&[(4090, &[1; 12]), (4095, &[2, 2])]);
        let pages: Vec<_> = contents.pages(0, 8192).collect();
        assert_eq!(pages[0].1[4090..], [1, 1, 1, 1, 1, 2]);
        assert_eq!(pages[1].1[..8], [2, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(contents.runs(), [(0, 8192)]);
    }

    #[test]
    fn zeros_are_left_out_and_small_gaps_are_bridged() {
        let far = 40 * 65_536;
        let contents = contents(&[(0, &[0; 9000]), (8192, &[7]), (65_536, &[7]), (far, &[7])]);
        assert_eq!(contents.runs(), [(8192, 65_536 - 8192 + 4096), (far, 4096)]);
        assert_eq!(contents.pages(8192, 65_536).count(), 2);
        assert!(self::contents(&[(100, &[0; 5000])]).runs().is_empty());
    }

    #[test]
    fn scattered_bytes_are_not_worth_it() {
        let mut contents = Contents::new(4096);
        for page in 0..256 {
            contents.put(page * 4096, &[1]);
        }
        assert!(contents.are_worth_it());
        for page in 256..300 {
            contents.put(page * 4096, &[1]);
        }
        assert!(!contents.are_worth_it());
    }
}
