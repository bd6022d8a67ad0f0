//! Flags, the file and the defaults, and what is refused.

use super::*;

fn config(text: &str) -> Result<Config, String> {
    Config::new(&ServeArguments::default(), text, std::path::Path::new("/opt/warmstep"))
        .map_err(|error| error.to_string())
}

#[test]
fn defaults_stand_without_a_file() {
    let config = config("").unwrap();
    assert_eq!(config.socket, PathBuf::from("/run/warmstep/agent.sock"));
    assert_eq!(config.runner, PathBuf::from("/opt/warmstep/warmstep-run"));
    assert_eq!(config.limits, Limits::default());
    assert!(config.policy.files);
}

#[test]
fn the_file_is_read_and_flags_win() {
    let text = "cache = '/a'\ntiers = 'optimized-only'\n[limits]\nmemory = '1GiB'\n\
                timeout = '30s'\n[registry.'localhost:5000']\nplain_http = true\n";
    let flags = ServeArguments { cache: Some(PathBuf::from("/b")), ..ServeArguments::default() };
    let config = Config::new(&flags, text, std::path::Path::new("/")).unwrap();
    assert_eq!(config.cache, PathBuf::from("/b"));
    assert_eq!(config.tiers, Tiers::OptimizedOnly);
    assert_eq!(config.limits.memory, ByteSize::gib(1));
    assert_eq!(config.limits.timeout, Duration::from_secs(30));
    assert!(config.registries.hosts["localhost:5000"].plain_http);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    for (text, said) in [
        ("sokcet = '/a'", "line 1: unknown field `sokcet`"),
        ("\n[limits]\nmemory = 'much'", "line 3: "),
        ("socket = 'here'", "socket must be an absolute path, not here"),
        ("[limits]\nmemory = '8GiB'", "limits.memory must not be more"),
        ("[limits]\ncompiles = 0", "limits.compiles must be at least 1"),
        ("[prewarm]\nparallel = 0", "prewarm.parallel must be at least 1"),
        ("[prewarm]\njitter = 'some'", "line 2: "),
        ("modules_dir = 'here'", "modules_dir must be an absolute path, not here"),
        ("[limits]\ntimeout_max = '1s'", "limits.timeout must be set"),
    ] {
        let error = config(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
