//! One piece of work however many wait for it: each of them sees its progress and its result.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use warmstep_wire::message::Phase;

/// How far something is that a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What is waited for.
    pub(crate) phase: Phase,
    /// How much is done, in the phase's own unit.
    pub(crate) done: u64,
    /// How much there is to do; 0 while unknown.
    pub(crate) total: u64,
}

/// Where progress is told. Nobody has to listen.
#[derive(Clone, Debug)]
pub(crate) struct Watcher(watch::Sender<Option<Progress>>);

impl Watcher {
    /// A watcher, and where what it is told arrives.
    pub(crate) fn new() -> (Self, watch::Receiver<Option<Progress>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    /// Tells how far it is.
    pub(crate) fn tell(&self, phase: Phase, done: u64, total: u64) {
        self.0.send_replace(Some(Progress { phase, done, total }));
    }
}

enum State<T> {
    Running(Option<Progress>),
    Done(T),
}

/// The pieces of work that are under way, by what they are for.
pub(crate) struct Flights<K, T> {
    running: Arc<Mutex<HashMap<K, watch::Receiver<State<T>>>>>,
}

/// The work ended without a result: it panicked.
#[derive(Debug)]
pub(crate) struct Lost;

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Nothing under way.
    pub(crate) fn new() -> Self {
        Self { running: Arc::default() }
    }

    /// Waits for the work of this key, which is started if it is not under way.
    ///
    /// The work goes on when a waiter leaves: others may wait, and the next step will ask for it.
    pub(crate) async fn join<F>(
        &self,
        key: K,
        watcher: &Watcher,
        start: impl FnOnce(Watcher) -> F,
    ) -> Result<T, Lost>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut state = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            match running.get(&key) {
                Some(state) => state.clone(),
                None => {
                    let (sender, state) = watch::channel(State::Running(None));
                    running.insert(key.clone(), state.clone());
                    let entry = Entry { flights: Arc::clone(&self.running), key };
                    let (inner, told) = Watcher::new();
                    tokio::spawn(fly(entry, sender, told, start(inner)));
                    state
                }
            }
        };
        loop {
            match &*state.borrow_and_update() {
                State::Done(result) => return Ok(result.clone()),
                State::Running(Some(now)) => watcher.tell(now.phase, now.done, now.total),
                State::Running(None) => {}
            }
            state.changed().await.map_err(|_| Lost)?;
        }
    }
}

/// Takes the work off the list when it ends, however it ends.
struct Entry<K: Eq + Hash, T> {
    flights: Arc<Mutex<HashMap<K, watch::Receiver<State<T>>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Entry<K, T> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

async fn fly<K: Eq + Hash, T>(
    entry: Entry<K, T>,
    sender: watch::Sender<State<T>>,
    mut told: watch::Receiver<Option<Progress>>,
    work: impl Future<Output = T>,
) {
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            Ok(()) = told.changed() => {
                let now = *told.borrow_and_update();
                sender.send_replace(State::Running(now));
            }
        }
    };
    // Off the list first: who comes now starts anew, and finds the result where it was put.
    drop(entry);
    sender.send_replace(State::Done(result));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_hundred_waiters_share_one_piece_of_work_and_see_its_progress() {
        let flights = Arc::new(Flights::<u8, usize>::new());
        let started = Arc::new(AtomicUsize::new(0));
        let mut waiters = Vec::new();
        for _ in 0..100 {
            let (flights, started) = (Arc::clone(&flights), Arc::clone(&started));
            waiters.push(tokio::spawn(async move {
                let (watcher, mut told) = Watcher::new();
                let work = |watcher: Watcher| async move {
                    let count = started.fetch_add(1, Ordering::SeqCst) + 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    watcher.tell(Phase::Pull, 1, 2);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    count
                };
                let result = flights.join(1, &watcher, work).await.unwrap();
                let seen = *told.borrow_and_update();
                (result, seen)
            }));
        }
        for waiter in waiters {
            let expected = Some(Progress { phase: Phase::Pull, done: 1, total: 2 });
            assert_eq!(waiter.await.unwrap(), (1, expected));
        }
        assert_eq!(started.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn work_goes_on_without_its_waiter_and_a_panic_is_told() {
        let flights = Flights::<u8, u8>::new();
        let (watcher, _told) = Watcher::new();
        let slow = flights.join(1, &watcher, |_| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            7
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), slow).await.is_err());
        let joined = flights.join(1, &watcher, |_| async { 8 }).await;
        assert_eq!(joined.unwrap(), 7, "the first piece of work was still under way");
        let lost = flights.join(2, &watcher, |_| async { panic!("on purpose") }).await;
        assert!(lost.is_err());
        assert_eq!(flights.join(2, &watcher, |_| async { 9 }).await.unwrap(), 9);
    }
}
