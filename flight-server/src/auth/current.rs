//! Whose request is being answered.
//!
//! Set once for each request, around everything that it awaits; read where something is kept for a client, so that it is kept for this one. It is a
//! local of the task and no parameter, since the traits of arrow-flight between the two would pass none on.

use tokio::task_local;

use super::Principal;

task_local! {
    static PRINCIPAL: Principal;
}

/// Answers a request of this principal.
pub(crate) async fn as_principal<F: Future>(principal: Principal, answer: F) -> F::Output {
    PRINCIPAL.scope(principal, answer).await
}

/// Whose request is being answered; [`Principal::anyone`] outside of any.
pub(crate) fn principal() -> Principal {
    PRINCIPAL.try_with(Clone::clone).unwrap_or_else(|_| Principal::anyone())
}
