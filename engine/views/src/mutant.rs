//! Faults that the tests' own build of this crate can be told to have: a judge that never finds anything is no judge.
//!
//! In every other build [`has`] is false, whatever it is asked, and what it guards is not there.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A join leaves out the pairs of rows that both came in one epoch: dL x dR.
    JoinForgetsPairsOfNewRows,
    /// Transactions of one epoch are applied the last first.
    ReordersTransactions,
    /// A transaction shows before what it depends on.
    IgnoresDependencies,
    /// A view shows before all of its sources were loaded.
    ShowsBeforeItsVectorIsComplete,
    /// A view over several sources begins as soon as all are loaded, whatever the rows of one build upon.
    BeginsBeforeItsSourcesAgree,
    /// A view shows what a checkpoint holds, however much was shown since.
    ShowsTheCheckpointAfterARestart,
}

/// Whether the build has a fault.
#[cfg(not(test))]
pub(crate) const fn has(_: Mutant) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::{has, with};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static FAULT: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this thread has a fault.
    pub(crate) fn has(mutant: Mutant) -> bool {
        FAULT.get() == Some(mutant)
    }

    /// Runs something with a fault, or without any.
    pub(crate) fn with<T>(mutant: Option<Mutant>, run: impl FnOnce() -> T) -> T {
        /// Takes the fault away however it ends.
        struct Heal;
        impl Drop for Heal {
            fn drop(&mut self) {
                FAULT.set(None);
            }
        }
        let _heal = Heal;
        FAULT.set(mutant);
        run()
    }
}
