//! Logs: to stderr, for people or for machines.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging. `WARMSTEP_LOG` takes tracing's filters, `info` without it.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("WARMSTEP_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sled=warn,kube_client=off,kube_runtime=off"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(false).with_target(false).init(),
        LogFormat::Json => logs.json().init(),
    }
}
