//! On which runtime connections to sources live.
//!
//! Sources keep their connections for later queries. A socket is told of what came by the runtime that it was opened on, and where queries
//! run on several, a quick one would wait for the threads of a slow one that opened its connection first.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// The runtime that connections are opened on, whatever runtime runs the query; in a query's task context.
#[derive(Debug, Clone)]
pub struct ConnectionsOn(pub Handle);

/// A future that is polled where it is, and opens and spawns on another runtime.
pub(crate) struct On<F> {
    runtime: Option<Handle>,
    future: Pin<Box<F>>,
}

impl<F: Future> On<F> {
    /// Polls the future as part of this runtime; of the one that it is polled on where there is none.
    pub(crate) fn new(runtime: Option<&ConnectionsOn>, future: F) -> Self {
        Self { runtime: runtime.map(|ConnectionsOn(runtime)| runtime.clone()), future: Box::pin(future) }
    }
}

impl<F: Future> Future for On<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = this.runtime.as_ref().map(Handle::enter);
        this.future.as_mut().poll(cx)
    }
}
