//! Headwater over real services: answers are those of a local copy, whatever is pushed down and whatever goes wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

mod access;
mod entries;
mod explain;
mod first_rows;
mod hazards;
mod keyed;
mod lifecycle;
mod names;
mod needed;
mod random;
mod regions;
mod regions_mysql;
mod regions_sqlite;
mod shared;
mod slt;
mod standard;
mod stars;
mod states;
mod strings;
mod tpch;
mod trickle;
mod views;
mod writes;
