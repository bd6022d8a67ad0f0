//! Slots that are given to clients in turn: one that asks a thousand times gets one in its turn, as
//! does one that asks once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::peer::Client;

/// Some slots, and who waits for one.
#[derive(Clone)]
pub(crate) struct Fair(Arc<Mutex<State>>);

struct State {
    slots: usize,
    taken: usize,
    /// The clients that wait, in the order of their turns.
    turns: VecDeque<Client>,
    /// What each of them waits for, oldest first.
    waiting: HashMap<Client, VecDeque<oneshot::Sender<Slot>>>,
}

/// A slot, given back when this is dropped.
pub(crate) struct Slot(Option<Fair>);

impl Fair {
    /// So many slots.
    pub(crate) fn new(slots: usize) -> Self {
        let state = State { slots, taken: 0, turns: VecDeque::new(), waiting: HashMap::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a slot, behind what this client already waits for, and in turn with others.
    pub(crate) async fn acquire(&self, client: Client) -> Slot {
        let receiver = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.taken < state.slots {
                state.taken += 1;
                return Slot(Some(self.clone()));
            }
            let (sender, receiver) = oneshot::channel();
            let queue = state.waiting.entry(client).or_default();
            queue.push_back(sender);
            if queue.len() == 1 {
                state.turns.push_back(client);
            }
            receiver
        };
        // A sender is dropped only with the whole queue, and this value holds the queue.
        receiver.await.unwrap_or(Slot(None))
    }

    /// So many slots from now on. Those that are taken stay so until they are given back.
    pub(crate) fn resize(&self, slots: usize) {
        let given: Vec<_> = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.slots = slots;
            let more = slots.saturating_sub(state.taken);
            let given: Vec<_> = std::iter::from_fn(|| state.next()).take(more).collect();
            state.taken += given.len();
            given
        };
        for sender in given {
            let _ = sender.send(Slot(Some(self.clone())));
        }
    }

    /// Gives a slot to whose turn it is. Whoever has left meanwhile gives it back at once.
    fn release(&self) {
        let next = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // With fewer slots than before, some are not given again.
            let next = if state.taken <= state.slots { state.next() } else { None };
            if next.is_none() {
                state.taken -= 1;
            }
            next
        };
        if let Some(sender) = next {
            // Not under the lock: a slot that is not taken is dropped, and comes back here.
            let _ = sender.send(Slot(Some(self.clone())));
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Slot>> {
        let client = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&client)?;
        let sender = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        sender
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(fair) = self.0.take() {
            fair.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn clients() -> (Client, Client) {
        (Client::numbered(1), Client::numbered(2))
    }

    #[tokio::test]
    async fn one_request_does_not_wait_behind_a_thousand() {
        let (greedy, modest) = clients();
        let fair = Fair::new(1);
        let held = fair.acquire(greedy).await;
        let (order, mut got) = tokio::sync::mpsc::unbounded_channel();
        for (client, number) in [(greedy, 5), (modest, 1)] {
            for _ in 0..number {
                let (fair, order) = (fair.clone(), order.clone());
                tokio::spawn(async move {
                    let _slot = fair.acquire(client).await;
                    order.send(client).unwrap();
                });
                tokio::task::yield_now().await;
            }
        }
        drop((held, order));
        let mut given = Vec::new();
        while let Some(client) = got.recv().await {
            given.push(client);
        }
        assert_eq!(given, [greedy, modest, greedy, greedy, greedy, greedy]);
    }

    #[tokio::test]
    async fn there_may_be_more_slots_later_and_fewer_again() {
        let (client, _) = clients();
        let fair = Fair::new(1);
        let first = fair.acquire(client).await;
        let waiting = tokio::spawn({
            let fair = fair.clone();
            async move { (fair.acquire(client).await, fair.acquire(client).await) }
        });
        tokio::task::yield_now().await;
        fair.resize(3);
        let more = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        fair.resize(1);
        drop((first, more.0));
        let soon = Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, fair.acquire(client)).await.is_err());
        drop(more.1);
        assert!(tokio::time::timeout(soon, fair.acquire(client)).await.is_ok());
    }

    #[tokio::test]
    async fn who_leaves_keeps_no_slot() {
        let (client, other) = clients();
        let fair = Fair::new(1);
        let held = fair.acquire(client).await;
        let left = tokio::time::timeout(Duration::from_millis(10), fair.acquire(client)).await;
        assert!(left.is_err());
        drop(held);
        let slot = tokio::time::timeout(Duration::from_secs(5), fair.acquire(other)).await;
        assert!(slot.is_ok());
    }
}
