//! The engine over a source that is in the test's hands: what goes down, what stays, what a failing service does.

mod availability;
mod catalog;
mod joins;
mod pushdown;
mod sheet;
mod statements;
