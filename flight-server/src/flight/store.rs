//! What the server keeps for its clients, under names that nobody can guess.
//!
//! Invariant: never more entries than the capacity. An entry goes when it is taken, removed, or was not used for its life; time is
//! passed in. It is there for the principal alone whose request kept it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::Status;
use uuid::Uuid;

use crate::auth::current;

/// A bounded map from random names to values that expire.
pub(super) struct Store<T> {
    /// What an entry is called in messages.
    what: &'static str,
    capacity: usize,
    life: Duration,
    entries: Mutex<HashMap<Key, Entry<T>>>,
}

/// A name, and whose it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Option<Arc<str>>,
    name: Uuid,
}

impl Key {
    /// The name as that of whoever asks now.
    fn of(name: Uuid) -> Self {
        Self { owner: current::principal().name().map(Arc::from), name }
    }
}

struct Entry<T> {
    value: T,
    expires: Instant,
}

impl<T> Store<T> {
    pub(super) fn new(what: &'static str, capacity: usize, life: Duration) -> Self {
        Self { what, capacity, life, entries: Mutex::new(HashMap::new()) }
    }

    /// Keeps a value under a new name.
    pub(super) fn insert(&self, value: T, now: Instant) -> Result<Uuid, Status> {
        let name = Uuid::new_v4();
        self.insert_as(name, value, now)?;
        Ok(name)
    }

    /// Keeps a value under a name that was given out before.
    pub(super) fn insert_as(&self, name: Uuid, value: T, now: Instant) -> Result<(), Status> {
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity {
            entries.retain(|_, entry| entry.expires > now);
        }
        if entries.len() >= self.capacity {
            let message =
                format!("the server keeps {} {}s and takes no more now; try again later", self.capacity, self.what);
            return Err(Status::resource_exhausted(message));
        }
        entries.insert(Key::of(name), Entry { value, expires: now + self.life });
        assert!(entries.len() <= self.capacity, "a store must not outgrow its capacity");
        Ok(())
    }

    /// Hands a value out for good.
    pub(super) fn take(&self, name: Uuid, now: Instant) -> Option<T> {
        let entry = self.entries.lock().remove(&Key::of(name))?;
        (entry.expires > now).then_some(entry.value)
    }

    /// Lets go of all that has expired.
    pub(super) fn sweep(&self, now: Instant) {
        // Dropping a value may do work of its own, so that happens after the lock is free.
        let expired: Vec<Entry<T>> = {
            let mut entries = self.entries.lock();
            entries.extract_if(|_, entry| entry.expires <= now).map(|(_, entry)| entry).collect()
        };
        drop(expired);
    }
}

impl<T: Clone> Store<T> {
    /// A value, whose life begins anew.
    pub(super) fn get(&self, name: Uuid, now: Instant) -> Option<T> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&Key::of(name)).filter(|entry| entry.expires > now)?;
        entry.expires = now + self.life;
        Some(entry.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn value_is_there_for_the_principal_alone_that_kept_it() {
        use crate::auth::current::as_principal;
        use crate::auth::test_principal;
        let (store, now) = (Store::new("ticket", 3, LIFE), Instant::now());
        let name = as_principal(test_principal("ada"), async { store.insert("a", now).unwrap() }).await;
        as_principal(test_principal("bob"), async {
            assert_eq!(store.get(name, now), None);
            assert_eq!(store.take(name, now), None);
            store.insert_as(name, "b", now).unwrap();
        })
        .await;
        assert_eq!(store.get(name, now), None);
        as_principal(test_principal("ada"), async { assert_eq!(store.take(name, now), Some("a")) }).await;
    }

    const LIFE: Duration = Duration::from_secs(10);

    #[test]
    fn value_is_taken_once() {
        let (store, now) = (Store::new("ticket", 2, LIFE), Instant::now());
        let name = store.insert("a", now).unwrap();
        assert_eq!(store.take(name, now), Some("a"));
        assert_eq!(store.take(name, now), None);
    }

    #[test]
    fn full_store_refuses_until_something_expires() {
        let (store, now) = (Store::new("ticket", 2, LIFE), Instant::now());
        store.insert(1, now).unwrap();
        store.insert(2, now).unwrap();
        let refused = store.insert(3, now).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("2 tickets"), "{refused}");
        store.insert(3, now + LIFE).unwrap();
    }

    #[test]
    fn used_value_lives_on_and_an_unused_one_expires() {
        let (store, now) = (Store::new("session", 2, LIFE), Instant::now());
        let (used, unused) = (store.insert(1, now).unwrap(), store.insert(2, now).unwrap());
        assert_eq!(store.get(used, now + LIFE / 2), Some(1));
        assert_eq!(store.get(used, now + LIFE), Some(1));
        assert_eq!(store.get(unused, now + LIFE), None);
        store.sweep(now + LIFE);
        assert_eq!(store.entries.lock().len(), 1);
    }
}
