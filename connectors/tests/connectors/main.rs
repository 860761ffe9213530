//! Every connector against its real source.

#[cfg(feature = "files")]
mod files;
