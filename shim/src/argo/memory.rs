//! How much memory a module gets where nobody says: a little less than its container.

use std::path::Path;

/// The limit of the container's own control group, which knows of defaults and patches that the
/// template does not show.
pub(crate) const CGROUP_LIMIT: &str = "/sys/fs/cgroup/memory.max";

/// The most that is left for the others in the container, in bytes: Argo's executor, the runner, and
/// files that are being written.
const MOST_LEFT: u64 = 64 << 20;

/// The least: the executor of Argo 4.0.5 holds 17 MB that the kernel cannot take back, the runner 3.
const LEAST_LEFT: u64 = 24 << 20;

/// What each suffix of Kubernetes' `resource.Quantity` stands for.
const UNITS: [(&str, f64); 16] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("", 1.0),
];

/// The limit of a control group, in bytes, if it has one.
pub(crate) fn of_cgroup(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim_end().parse().ok()
}

/// An amount of memory as Kubernetes writes it, in bytes, if it is one.
pub(crate) fn of_quantity(text: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| {
        let number = text.strip_suffix(suffix)?;
        let plain = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        if number.chars().all(plain) { Some((number.parse::<f64>().ok()?, unit)) } else { None }
    })?;
    let bytes = number * unit;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is in range, and there are no parts of a byte"
    )]
    (1.0..1e19).contains(&bytes).then_some(bytes as u64)
}

/// What a module may have in a container of so many bytes: it then ends with a message, and its
/// outputs are saved, before the kernel kills the container.
pub(crate) fn usual(limit: u64) -> u64 {
    let left = (limit / 2).clamp(LEAST_LEFT, MOST_LEFT).min(limit / 4 * 3);
    (limit - left).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_writes() {
        for (text, bytes) in [
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("129E6", 129_000_000),
            ("129M", 129_000_000),
            ("128974848000m", 128_974_848),
            ("123Mi", 123 << 20),
            ("1.5Gi", 3 << 29),
            ("1536Ki", 3 << 19),
            ("+2k", 2000),
            ("1E", 1_000_000_000_000_000_000),
            ("1Ei", 1 << 60),
        ] {
            assert_eq!(of_quantity(text), Some(bytes), "{text}");
        }
        for text in ["", "Mi", "many", "0", "-1Gi", "1 Gi", "1gi", "1GiB", "nan", "inf", "1e999"] {
            assert_eq!(of_quantity(text), None, "{text}");
        }
    }

    #[test]
    fn a_module_gets_less_than_its_container() {
        assert_eq!(usual(256 << 20), 192 << 20);
        assert_eq!(usual(4 << 30), (4 << 30) - (64 << 20));
        assert_eq!(usual(64 << 20), 32 << 20);
        assert_eq!(usual(32 << 20), 8 << 20);
        assert_eq!(usual(16 << 20), 4 << 20);
        assert_eq!((usual(1), usual(2), usual(u64::MAX)), (1, 2, u64::MAX - (64 << 20)));
    }

    #[test]
    fn a_control_group_may_have_no_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory.max");
        assert_eq!(of_cgroup(&path), None);
        for (text, limit) in [("max\n", None), ("268435456\n", Some(256 << 20))] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(of_cgroup(&path), limit);
        }
    }
}
