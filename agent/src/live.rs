//! The configuration in force: one value that may be exchanged while the agent runs.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;

/// A view of it. Taking it is a lock that nobody else wants for long, and a count.
#[derive(Clone)]
pub(crate) struct Live(watch::Receiver<Arc<Config>>);

impl Live {
    /// A configuration, and where it can be exchanged.
    pub(crate) fn new(config: Config) -> (watch::Sender<Arc<Config>>, Self) {
        let (sender, receiver) = watch::channel(Arc::new(config));
        (sender, Self(receiver))
    }

    /// What is in force now.
    pub(crate) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits until it is exchanged; forever, if it never will be again.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
