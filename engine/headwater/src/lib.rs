//! Headwater as a library: open a directory of services and ask SQL over all of them.

pub mod manifest;

pub use manifest::{Fault, Manifest};
