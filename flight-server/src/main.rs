//! The `headwater` command. All of it is in [`headwater_server::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater_server::cli::main()
}
