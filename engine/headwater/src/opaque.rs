//! Shared state that the compiler does not look into.
//!
//! Whether a type may go to another thread is asked anew for each future that holds it, and answered by looking at every field of every type in
//! it. Plans hold the whole grammar of SQL, whose types hold each other in circles: one such answer takes the compiler seconds, and a server has
//! dozens of futures. What is in here is looked at once, where it is made.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// An `Arc<T>` in everything but its type.
pub(crate) struct Opaque<T> {
    value: Arc<dyn Any + Send + Sync>,
    of: PhantomData<fn() -> T>,
}

impl<T: Any + Send + Sync> Opaque<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Arc::new(value), of: PhantomData }
    }
}

impl<T: Any> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.downcast_ref().expect("Invariant: only `new` makes one, of a T")
    }
}

impl<T> Clone for Opaque<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), of: PhantomData }
    }
}

impl<T: Any + std::fmt::Debug> std::fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        T::fmt(self, f)
    }
}
