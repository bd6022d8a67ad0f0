//! Takes over a changed configuration file while the agent runs. One that makes no sense is refused,
//! with a line that says why, and the old one stays.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use warmstep_registry::Registries;

use crate::arguments::ServeArguments;
use crate::changes::Changes;
use crate::config::{Config, ConfigError};
use crate::session::Shared;
use crate::settings::exchange;

/// The longest file that is read, in bytes: what a ConfigMap holds.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The flags and the environment, which win over the file.
    pub(crate) arguments: ServeArguments,
    /// Where the agent's own binary is.
    pub(crate) beside: PathBuf,
}

/// A file cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The registries cannot be reached as it says.
    #[error("configuration: {0}")]
    Registries(#[from] warmstep_registry::ConfigError),
}

impl Origin {
    /// The file's text; nothing where there is no file.
    pub(crate) fn read(&self) -> Result<String, ReloadError> {
        let Some(path) = &self.arguments.config else { return Ok(String::new()) };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .and_then(|length| {
                let fits = u64::try_from(length).is_ok_and(|length| length <= MAX_BYTES);
                fits.then_some(()).ok_or_else(|| std::io::ErrorKind::FileTooLarge.into())
            })
            .map_err(|error| ReloadError::Read { path: path.clone(), error })?;
        Ok(text)
    }

    /// The configuration that a text means.
    pub(crate) fn config(&self, text: &str) -> Result<Config, ConfigError> {
        Config::new(&self.arguments, text, &self.beside)
    }
}

/// Looks after every change of the file's directory, until the agent ends. `text` is in force. The
/// directory is watched, not the file: a ConfigMap's is a link, and what is exchanged is another
/// link that it leads through.
pub(crate) async fn run(
    origin: Origin,
    mut text: String,
    sender: watch::Sender<Arc<Config>>,
    shared: Arc<Shared>,
) {
    let Some(path) = &origin.arguments.config else { return };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut changes = Changes::of(directory.unwrap_or(Path::new(".")));
    let mut refused = None;
    loop {
        changes.next().await;
        let taken = origin.read().and_then(|new| {
            if new != text {
                take_over(&origin, &new, &sender, &shared)?;
                text = new;
            }
            Ok(())
        });
        // The same words a second time are no news: only the clock has made us look.
        let error = taken.err().map(|error| error.to_string());
        if let Some(error) = &error
            && refused.as_ref() != Some(error)
        {
            tracing::warn!(error, "the configuration is refused: the old one stays");
        }
        refused = error;
    }
}

fn take_over(
    origin: &Origin,
    text: &str,
    sender: &watch::Sender<Arc<Config>>,
    shared: &Arc<Shared>,
) -> Result<(), ReloadError> {
    let old = shared.live.get();
    let exchange = exchange(&old, origin.config(text)?);
    let registries = match exchange.registries {
        true => Some(Registries::new(exchange.config.registries.clone())?),
        false => None,
    };
    let limits = exchange.config.limits.clone();
    sender.send_replace(Arc::new(exchange.config));
    shared.waiting.resize(limits.waiting, limits.waiting_per_pod);
    shared.pipeline.take_over(&limits, registries);
    if !exchange.changed.is_empty() {
        let settings = exchange.changed.join(", ");
        tracing::info!(settings, "the configuration has changed, and is in force");
    }
    if !exchange.waiting.is_empty() {
        let settings = exchange.waiting.join(", ");
        tracing::warn!(
            settings,
            "these settings have changed, and wait for the agent's next start"
        );
    }
    Ok(())
}
