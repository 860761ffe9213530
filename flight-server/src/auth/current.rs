//! Whose request is being answered, and in which trace.
//!
//! Set once for each request, around everything that it awaits; read where something is kept for a client, so that it is kept for this one. It is a
//! local of the task and no parameter, since the traits of arrow-flight between the two would pass none on.

use headwater::TraceParent;
use tokio::task_local;

use super::Principal;

task_local! {
    static PRINCIPAL: Principal;
    static PARENT: Option<TraceParent>;
}

/// Answers a request that is a step of its client's own trace.
pub(crate) async fn in_trace<F: Future>(parent: Option<TraceParent>, answer: F) -> F::Output {
    PARENT.scope(parent, answer).await
}

/// The step of its client's own trace that the request is part of.
pub(crate) fn parent() -> Option<TraceParent> {
    PARENT.try_with(|parent| *parent).unwrap_or_default()
}

/// Answers a request of this principal.
pub(crate) async fn as_principal<F: Future>(principal: Principal, answer: F) -> F::Output {
    PRINCIPAL.scope(principal, answer).await
}

/// Whose request is being answered; [`Principal::anyone`] outside of any.
pub(crate) fn principal() -> Principal {
    PRINCIPAL.try_with(Clone::clone).unwrap_or_else(|_| Principal::anyone())
}
