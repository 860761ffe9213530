//! Views against DataFusion over the same tables: every published version, whatever the history.

mod algebra;
mod dependencies;
mod dice;
mod failures;
mod model;
mod restart;
mod seeds;
mod simulator;
mod time;
mod tpch;
mod world;
