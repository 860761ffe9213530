//! Every connector against its real source: one binary, because linking is what takes the time.

#[cfg(feature = "sqlite")]
mod sqlite;
