//! The engine over a source that is in the test's hands: what goes down, what stays, what a failing service does.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

mod access;
mod access_views;
mod audit;
mod availability;
mod catalog;
mod covering;
mod drafts;
mod feed;
mod joins;
mod ledger;
mod limits;
mod log;
mod prepared;
mod pushdown;
mod restart;
mod service_schema;
mod sheet;
mod spill;
mod state;
mod statements;
mod subscribe;
mod tap;
mod time;
mod view_files;
mod views;
