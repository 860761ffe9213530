//! Every connector against its real source.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

#[cfg(feature = "files")]
mod files;
