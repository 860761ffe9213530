//! The `headwater` command. All of it is in [`headwater_server::cli`].

use std::process::ExitCode;

/// Batches come and go in a few sizes by the thousand: what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headwater_server::cli::main()
}
