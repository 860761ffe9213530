//! Headwater over real services: answers are those of a local copy, whatever is pushed down and whatever goes wrong.

mod explain;
mod hazards;
mod lifecycle;
mod names;
mod strings;
mod tpch;
mod writes;
