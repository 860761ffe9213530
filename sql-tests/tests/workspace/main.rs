//! Tests of the repository itself: what depends on what, and what may stand where. They need no server.

mod architecture;
