//! State that outlives the process: the rows of the tables and the vector that they are at.
//!
//! The state of operators is not stored: a view is a function of its tables, and computing it anew from them reads no source. A part is an
//! Arrow IPC stream with a checksum; the manifest names the parts. Whoever writes them writes the manifest last.

/// What is to be written.
#[derive(Debug)]
pub struct Checkpoint {
    /// The manifest: what names the parts.
    pub manifest: Vec<u8>,
    /// The parts.
    pub parts: Vec<Part>,
}

/// One file of a checkpoint.
#[derive(Debug)]
pub struct Part {
    /// Its name within the checkpoint.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}
