//! Streams that are opened again, left early, and read side by side.

use headwater_source::futures::StreamExt;
use headwater_source::futures::future::try_join_all;
use headwater_source::{Error, ScanRequest};

use super::read::{Checked, Subject, ensure};

/// How often readers leave: more than any pool has connections by default.
const LEAVERS: usize = 24;
/// How many scans run at once: more than any pool has connections by default.
const SIDE_BY_SIDE: usize = 12;

pub(super) async fn scan_opens_again_and_reads_anew(subject: &Subject) -> Checked {
    const RULE: &str = "each call of open reads anew";
    let scan = subject.prepare(RULE, &subject.all()).await?;
    for _ in 0..3 {
        let mut rows = 0;
        for partition in 0..scan.partitions() {
            let batches = subject.read_partition(RULE, scan.as_ref(), partition).await?;
            rows += batches.iter().map(|batch| batch.num_rows()).sum::<usize>();
        }
        ensure(RULE, rows == subject.expected.num_rows(), || format!("{rows} rows"))?;
    }
    Ok(())
}

pub(super) async fn reader_that_leaves_early_leaves_the_source_working(subject: &Subject) -> Checked {
    const RULE: &str = "a dropped stream frees what it held";
    let request = ScanRequest { batch_rows: 1, ..subject.all() };
    let scan = subject.prepare(RULE, &request).await?;
    for leaver in 0..LEAVERS {
        // Some leave before the first batch.
        let mut stream = subject.persist(RULE, || scan.open(0)).await?;
        for _ in 0..leaver % 3 {
            match stream.next().await {
                Some(Ok(_) | Err(Error::Unavailable { .. } | Error::Interrupted { .. })) => {}
                other => return ensure(RULE, false, || format!("the next batch is {other:?}")),
            }
        }
    }
    let batches = subject.read(RULE, &request).await?;
    ensure(RULE, batches.iter().map(|batch| batch.num_rows()).sum::<usize>() == subject.expected.num_rows(), || {
        "the next scan is short".to_owned()
    })
}

pub(super) async fn scans_run_side_by_side(subject: &Subject) -> Checked {
    const RULE: &str = "concurrent scans each read all rows";
    let scans = (0..SIDE_BY_SIDE).map(|index| async move {
        let request = ScanRequest { batch_rows: index + 1, ..subject.all() };
        let rows: usize = subject.read(RULE, &request).await?.iter().map(|batch| batch.num_rows()).sum();
        ensure(RULE, rows == subject.expected.num_rows(), || format!("{rows} rows"))
    });
    try_join_all(scans).await.map(drop)
}
