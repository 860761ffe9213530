//! `headwater check`: every manifest is valid and every source can be reached.

use std::path::Path;

use super::failure::Failure;

pub(super) async fn run(dir: &Path) -> Result<(), Failure> {
    let faults = headwater::check(dir, &headwater_connectors::all()).await;
    for fault in &faults {
        eprintln!("error: {fault}");
    }
    if !faults.is_empty() {
        return Err(Failure::Told);
    }
    println!("{}: no faults", dir.display());
    Ok(())
}
