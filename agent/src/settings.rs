//! Which settings take effect at once, and which with the next start: pure, from two configurations.

use crate::config::Config;

/// A setting as far as it can be compared.
type Setting = (&'static str, fn(&Config) -> String);

macro_rules! settings {
    ($($name:literal: $($field:ident).+),+ $(,)?) => {
        [$(($name, |config| format!("{:?}", config.$($field).+))),+]
    };
}

/// What is taken when it is needed, and so may change at any time.
const AT_ONCE: [Setting; 7] = settings! {
    "tiers": tiers,
    "tag_ttl": tag_ttl,
    "drain": drain,
    "modules_dir": modules_dir,
    "limits": limits,
    "policy": policy,
    "prewarm": prewarm,
};

/// Docker's configuration is a part of it.
const REGISTRIES: Setting = ("registry", |config| format!("{:?}", config.registries));

/// What the agent is made of when it starts.
const AT_START: [Setting; 9] = settings! {
    "socket": socket,
    "cache": cache,
    "lend_from": lend_from,
    "runner": runner,
    "compiler": compiler,
    "log_format": log_format,
    "limits.connections": limits.connections,
    "limits.lend_memory": limits.lend_memory,
    "prewarm.kubernetes": prewarm.kubernetes,
};

/// One configuration in place of another.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What is in force from now on.
    pub(crate) config: Config,
    /// The settings that have changed.
    pub(crate) changed: Vec<&'static str>,
    /// Whether the registries are reached in another way.
    pub(crate) registries: bool,
    /// The settings that would have, and that only the next start takes over.
    pub(crate) waiting: Vec<&'static str>,
}

/// Puts a new configuration in the place of the old one, as far as that goes while the agent runs.
pub(crate) fn exchange(old: &Config, new: Config) -> Exchange {
    let differs =
        |(name, value): &Setting, new: &Config| (value(old) != value(new)).then_some(*name);
    let waiting = AT_START.iter().filter_map(|setting| differs(setting, &new)).collect();
    let mut config = new;
    config.socket.clone_from(&old.socket);
    config.cache.clone_from(&old.cache);
    config.lend_from.clone_from(&old.lend_from);
    config.runner.clone_from(&old.runner);
    config.compiler.clone_from(&old.compiler);
    config.log_format = old.log_format;
    config.limits.connections = old.limits.connections;
    config.limits.lend_memory = old.limits.lend_memory;
    config.prewarm.kubernetes = old.prewarm.kubernetes;
    let registries = differs(&REGISTRIES, &config);
    let mut changed: Vec<_> =
        AT_ONCE.iter().filter_map(|setting| differs(setting, &config)).collect();
    changed.extend(registries);
    Exchange { config, changed, registries: registries.is_some(), waiting }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::arguments::ServeArguments;

    fn config(text: &str) -> Config {
        Config::new(&ServeArguments::default(), text, Path::new("/")).unwrap()
    }

    #[test]
    fn what_can_change_does_and_the_rest_waits() {
        let old = config("cache = '/old'\n[limits]\nmemory = '64MiB'");
        for (text, changed, waiting) in [
            ("cache = '/old'\n[limits]\nmemory = '64MiB'", &[][..], &[][..]),
            ("cache = '/old'", &["limits"], &[]),
            ("cache = '/new'\n[limits]\nmemory = '64MiB'", &[], &["cache"]),
            (
                "cache = '/new'\ntag_ttl = '1s'\nlog_format = 'json'\n[limits]\nconnections = 5\n\
                 memory = '64MiB'\n[prewarm]\nkubernetes = true\njitter = '1s'",
                &["tag_ttl", "prewarm"],
                &["cache", "log_format", "limits.connections", "prewarm.kubernetes"],
            ),
            (
                "cache = '/old'\ndocker_config = '/x'\n[limits]\nmemory = '64MiB'\nlend_memory = '1MiB'",
                &["registry"],
                &["limits.lend_memory"],
            ),
        ] {
            let exchange = exchange(&old, config(text));
            assert_eq!(exchange.changed, changed, "{text}");
            assert_eq!(exchange.waiting, waiting, "{text}");
            assert_eq!(exchange.config.cache, Path::new("/old"));
            assert_eq!(exchange.config.limits.connections, old.limits.connections);
        }
    }

    #[test]
    fn each_setting_alone_is_noticed_and_only_once() {
        for text in [
            "socket = '/1'",
            "cache = '/1'",
            "lend_from = '/1'",
            "runner = '/1'",
            "compiler = '/1'",
            "tiers = 'optimized-only'",
            "tag_ttl = '1s'",
            "drain = '1s'",
            "log_format = 'json'",
            "docker_config = '/1'",
            "modules_dir = '/1'",
            "[limits]\npulls = 9",
            "[limits]\nconnections = 9",
            "[limits]\nlend_memory = '9MiB'",
            "[policy]\nfiles = false",
            "[prewarm]\nparallel = 9",
            "[prewarm]\nkubernetes = false",
            "[registry.'x.example']\nplain_http = true",
        ] {
            let found = exchange(&config(""), config(text));
            assert_eq!(found.changed.len() + found.waiting.len(), 1, "{text}: {found:?}");
            let again = exchange(&found.config, config(text));
            assert!(again.changed.is_empty() && !again.registries, "{text}: {again:?}");
        }
    }
}
