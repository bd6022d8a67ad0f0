//! What goes when the cache is over its bounds: pure, from what is there and how it is used.

use warmstep_registry::Digest;

/// The bounds of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The most bytes of all files together.
    pub(crate) bytes: u64,
    /// The most modules, whatever their tiers.
    pub(crate) modules: usize,
}

/// A module with all its forms and its Wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its Wasm.
    pub(crate) wasm: Digest,
    /// What its files take, in bytes.
    pub(crate) bytes: u64,
    /// When a step last ran it, in seconds since 1970.
    pub(crate) used: u64,
    /// Whether it has to stay: a step runs it, or somebody wants it warm.
    pub(crate) kept: bool,
}

/// The modules to remove, least recently used first, so that the rest is within the bounds; as far
/// as that can be done without those that have to stay.
pub(crate) fn choose(mut candidates: Vec<Candidate>, bounds: Bounds) -> Vec<Digest> {
    candidates.sort_by_key(|candidate| (candidate.used, candidate.wasm));
    let mut bytes: u64 = candidates.iter().map(|candidate| candidate.bytes).sum();
    let mut modules = candidates.len();
    let mut chosen = Vec::new();
    for candidate in candidates {
        if bytes <= bounds.bytes && modules <= bounds.modules {
            break;
        }
        if !candidate.kept {
            bytes -= candidate.bytes;
            modules -= 1;
            chosen.push(candidate.wasm);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(number: u8, bytes: u64, used: u64, kept: bool) -> Candidate {
        Candidate { wasm: Digest::of(&[number]), bytes, used, kept }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_kept_stays() {
        let there =
            vec![candidate(1, 10, 3, false), candidate(2, 10, 1, true), candidate(3, 10, 2, false)];
        let bounds = Bounds { bytes: 20, modules: 10 };
        assert_eq!(choose(there.clone(), bounds), [Digest::of(&[3])]);
        let bounds = Bounds { bytes: 100, modules: 1 };
        assert_eq!(choose(there.clone(), bounds), [Digest::of(&[3]), Digest::of(&[1])]);
        let bounds = Bounds { bytes: 30, modules: 3 };
        assert!(choose(there, bounds).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_more_goes_than_has_to(
            there in proptest::collection::vec((0..100_u64, 0..10_u64, any::<bool>()), 0..40),
            bytes in 0..2_000_u64,
            modules in 0..40_usize,
        ) {
            let there: Vec<Candidate> = there
                .into_iter()
                .zip(0..)
                .map(|((bytes, used, kept), number)| candidate(number, bytes, used, kept))
                .collect();
            let bounds = Bounds { bytes, modules };
            let chosen = choose(there.clone(), bounds);
            let size = |skip: usize| {
                let stays = |wasm: &Digest| !chosen[..chosen.len() - skip].contains(wasm);
                let rest: Vec<&Candidate> = there.iter().filter(|c| stays(&c.wasm)).collect();
                (rest.iter().map(|c| c.bytes).sum::<u64>(), rest.len())
            };
            let within = |(bytes, modules): (u64, usize)| {
                bytes <= bounds.bytes && modules <= bounds.modules
            };
            let loose = there.iter().filter(|c| !c.kept).count();
            prop_assert!(within(size(0)) || chosen.len() == loose);
            prop_assert!(chosen.is_empty() || !within(size(1)), "the last one could have stayed");
            for wasm in &chosen {
                prop_assert!(there.iter().any(|c| c.wasm == *wasm && !c.kept));
            }
        }
    }
}
