//! Which layers of the jail hold, and why the others do not.

use std::fmt;

/// One layer of the jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// It holds.
    Holds,
    /// It does not hold, or not entirely, for this reason.
    Missing(String),
}

impl Layer {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        *self == Self::Holds
    }

    /// A layer for which the kernel gave this answer.
    pub(crate) fn from_result(what: &str, result: Result<(), impl fmt::Display>) -> Self {
        match result {
            Ok(()) => Self::Holds,
            Err(error) => Self::Missing(format!("{what}: {error}")),
        }
    }
}

/// The layers of the jail that the process is in, in the order in which they were put up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Layers {
    /// No descriptor is open but those that were asked for.
    pub descriptors: Layer,
    /// The process's memory ends up in no core dump, and cannot be read by its neighbours.
    pub core_dumps: Layer,
    /// No privilege can be gained by executing a program.
    pub no_new_privs: Layer,
    /// No capability is left but what file access as root needs.
    pub capabilities: Layer,
    /// The file system ends at the granted directories, and no TCP port can be reached but those
    /// that were granted.
    pub landlock: Layer,
    /// No system call can be made but those that are listed.
    pub seccomp: Layer,
}

impl Layers {
    /// Each layer with its name, in the order in which they were put up.
    pub fn each(&self) -> [(&'static str, &Layer); 6] {
        [
            ("descriptors", &self.descriptors),
            ("core dumps", &self.core_dumps),
            ("no_new_privs", &self.no_new_privs),
            ("capabilities", &self.capabilities),
            ("landlock", &self.landlock),
            ("seccomp", &self.seccomp),
        ]
    }

    /// One line about the layers that do not hold, for the log; nothing when all hold.
    pub fn missing(&self) -> Option<String> {
        let missing: Vec<String> = self
            .each()
            .into_iter()
            .filter_map(|(name, layer)| match layer {
                Layer::Holds => None,
                Layer::Missing(reason) => Some(format!("{name} ({reason})")),
            })
            .collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Layers {
        Layers {
            descriptors: Layer::Holds,
            core_dumps: Layer::Holds,
            no_new_privs: Layer::Holds,
            capabilities: Layer::Holds,
            landlock: Layer::Holds,
            seccomp: Layer::Holds,
        }
    }

    #[test]
    fn nothing_is_said_of_layers_that_hold() {
        assert_eq!(all().missing(), None);
    }

    #[test]
    fn each_missing_layer_is_named_with_its_reason() {
        let layers = Layers {
            landlock: Layer::Missing("the kernel has none".into()),
            seccomp: Layer::Missing("seccomp: refused".into()),
            ..all()
        };
        let line = layers.missing().expect("two layers are missing");
        assert_eq!(line, "landlock (the kernel has none), seccomp (seccomp: refused)");
    }
}
