//! Changes of a directory, debounced: a file that is written in pieces, or a ConfigMap that is
//! exchanged link by link, is one change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long it has to be quiet before a change is over.
const QUIET: Duration = Duration::from_millis(200);

/// How long a change is waited for that does not come to rest.
const LONGEST: Duration = Duration::from_secs(2);

/// How often it is looked without a sign of change: a node may have no watches left, and a directory
/// may be replaced as a whole.
const LOOK: Duration = Duration::from_secs(60);

/// The changes of one directory.
pub(crate) struct Changes {
    directory: PathBuf,
    watcher: Option<RecommendedWatcher>,
    told: mpsc::Receiver<()>,
}

impl Changes {
    /// Watches a directory, whether or not it is there yet. What is in its directories is not seen.
    pub(crate) fn of(directory: &Path) -> Self {
        // Room for one: more than "something has changed" is not asked.
        let (sender, told) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !is_a_look(event.kind)) {
                let _ = sender.try_send(());
            }
        });
        let mut changes = Self { directory: directory.to_owned(), watcher: None, told };
        match watcher {
            Ok(watcher) => changes.watcher = Some(watcher),
            Err(error) => changes.say(&error),
        }
        if let Err(error) = changes.watch() {
            changes.say(&error);
        }
        changes
    }

    fn say(&self, error: &notify::Error) {
        tracing::warn!(
            directory = %self.directory.display(), %error,
            "changes are noticed within a minute only: the directory cannot be watched"
        );
    }

    fn watch(&mut self) -> notify::Result<()> {
        match &mut self.watcher {
            Some(watcher) => watcher.watch(&self.directory, RecursiveMode::NonRecursive),
            None => Ok(()),
        }
    }

    /// Waits for a change and its end; or for a while, to look all the same.
    pub(crate) async fn next(&mut self) {
        if tokio::time::timeout(LOOK, settled(&mut self.told, QUIET, LONGEST)).await.is_err() {
            // The directory of this name may be another one by now. A failure was said before.
            if let Some(watcher) = &mut self.watcher {
                let _ = watcher.unwatch(&self.directory);
            }
            let _ = self.watch();
        }
    }
}

/// Whether somebody only looked, as we do ourselves after every change.
fn is_a_look(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

/// Waits until something is told, and then until nothing is any more.
async fn settled(told: &mut mpsc::Receiver<()>, quiet: Duration, longest: Duration) {
    if told.recv().await.is_none() {
        // Nobody watches: only the clock counts.
        std::future::pending::<()>().await;
    }
    let end = Instant::now() + longest;
    loop {
        let until = (Instant::now() + quiet).min(end);
        match tokio::time::timeout_at(until, told.recv()).await {
            Ok(Some(())) if Instant::now() < end => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn many_changes_are_one_and_endless_ones_have_an_end() {
        let (sender, mut told) = mpsc::channel(1);
        assert!(tokio::time::timeout(MOMENT, settled(&mut told, MOMENT, MOMENT)).await.is_err());
        let busy = tokio::spawn(async move {
            for _ in 0..1000 {
                let _ = sender.try_send(());
                tokio::time::sleep(MOMENT / 10).await;
            }
        });
        let began = Instant::now();
        settled(&mut told, MOMENT, MOMENT * 5).await;
        assert!((MOMENT * 4..MOMENT * 20).contains(&began.elapsed()), "{:?}", began.elapsed());
        busy.abort();
        let _ = busy.await;
        while told.try_recv().is_ok() {}
    }

    #[tokio::test]
    async fn a_write_is_seen_and_a_look_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let mut changes = Changes::of(directory.path());
        let soon = Duration::from_secs(5);
        std::fs::write(&file, "2").unwrap();
        assert!(tokio::time::timeout(soon, changes.next()).await.is_ok());
        std::fs::read(&file).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(tokio::time::timeout(MOMENT * 5, changes.next()).await.is_err());
        std::fs::rename(&file, directory.path().join("other")).unwrap();
        assert!(tokio::time::timeout(soon, changes.next()).await.is_ok());
    }
}
