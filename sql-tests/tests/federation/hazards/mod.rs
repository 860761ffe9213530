//! Cases in which engines of this kind answer wrongly or fail. The right answer is what DataFusion answers on a local copy,
//! with pushdown and without.

mod casts;
mod nulls;
mod numbers;
mod quoting;
mod shapes;
mod sqlite;
mod text;
mod time;
mod types;
