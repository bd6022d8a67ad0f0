//! Room for steps that wait for their module: so many in all, and so many of one pod. Who finds
//! none is told to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::peer::Client;

/// The room, and who is in it.
#[derive(Clone)]
pub(crate) struct Room(Arc<Inner>);

struct Inner {
    most: usize,
    most_of_one: usize,
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
        Self(Arc::new(Inner { most, most_of_one, inside, emptied }))
    }

    /// A place, if there is one.
    pub(crate) fn enter(&self, client: Client) -> Option<Place> {
        let mut inside = self.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: usize = inside.values().sum();
        let of_one = inside.get(&client).copied().unwrap_or_default();
        if taken >= self.0.most || of_one >= self.0.most_of_one {
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
        drop((places, third));
        room.emptied().await;
        assert_eq!(room.taken(), 0);
    }
}
