//! `headwater check`: every manifest is valid and every source can be reached.

use std::path::Path;

use super::failure::{Failure, say};

pub(super) async fn run(dir: &Path) -> Result<(), Failure> {
    let faults = headwater::check(dir, &headwater_connectors::all()).await;
    for fault in &faults {
        eprintln!("error: {fault}");
    }
    if !faults.is_empty() {
        return Err(Failure::Told);
    }
    say(&format!("{}: no faults", dir.display()))
}
