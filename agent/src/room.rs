//! Room for steps that wait for their module: so many in all, and so many of one pod. Who finds
//! none is told to come back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::peer::Client;

/// The room, and who is in it.
#[derive(Clone)]
pub(crate) struct Room(Arc<Inner>);

struct Inner {
    most: AtomicUsize,
    most_of_one: AtomicUsize,
    inside: Mutex<HashMap<Client, usize>>,
    emptied: Notify,
}

/// A place in the room, given back when this is dropped.
pub(crate) struct Place {
    room: Room,
    client: Client,
}

impl Room {
    /// Room for so many.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        let (inside, emptied) = (Mutex::default(), Notify::new());
        let (most, most_of_one) = (most.into(), most_of_one.into());
        Self(Arc::new(Inner { most, most_of_one, inside, emptied }))
    }

    /// Room for so many from now on. Who is inside stays.
    pub(crate) fn resize(&self, most: usize, most_of_one: usize) {
        self.0.most.store(most, Ordering::Relaxed);
        self.0.most_of_one.store(most_of_one, Ordering::Relaxed);
    }

    /// A place, if there is one.
    pub(crate) fn enter(&self, client: Client) -> Option<Place> {
        let mut inside = self.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: usize = inside.values().sum();
        let of_one = inside.get(&client).copied().unwrap_or_default();
        let (most, most_of_one) = (&self.0.most, &self.0.most_of_one);
        if taken >= most.load(Ordering::Relaxed) || of_one >= most_of_one.load(Ordering::Relaxed) {
            return None;
        }
        inside.insert(client, of_one + 1);
        Some(Place { room: self.clone(), client })
    }

    /// How many are inside.
    pub(crate) fn taken(&self) -> usize {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Waits until nobody is inside.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.taken() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.room.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.client);
            }
        }
        if inside.is_empty() {
            self.room.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_pod_cannot_take_all_of_it() {
        let (greedy, modest) = (Client::numbered(1), Client::numbered(2));
        let room = Room::new(3, 2);
        let places = (room.enter(greedy), room.enter(greedy));
        assert!(room.enter(greedy).is_none());
        let third = room.enter(modest);
        assert!(third.is_some());
        assert!(room.enter(modest).is_none());
        assert_eq!(room.taken(), 3);
        room.resize(4, 2);
        assert!(room.enter(modest).is_some());
        drop((places, third));
        room.emptied().await;
        assert_eq!(room.taken(), 0);
    }
}
