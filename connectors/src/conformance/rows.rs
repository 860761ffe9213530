//! Tables, schemas and whole reads.

use std::collections::BTreeSet;

use headwater_source::{Error, ScanRequest};

use super::local::multiset;
use super::read::{Checked, Subject, broken, ensure};

pub(super) async fn table_is_described_alike_by_both_ways(subject: &Subject) -> Checked {
    const RULE: &str = "the list of tables and a table by its name describe it alike";
    let tables = subject.persist(RULE, || subject.source.tables()).await?;
    let listed = tables.iter().find(|table| table.path == subject.table.path);
    ensure(
        RULE,
        listed.is_some_and(|table| table.columns == subject.table.columns && table.key == subject.table.key),
        || format!("listed {listed:?}, by name {:?}", subject.table),
    )?;
    let names: BTreeSet<&str> = subject.table.columns.iter().map(|column| column.name.as_str()).collect();
    ensure(RULE, names.len() == subject.table.columns.len(), || "two columns have one name".to_owned())?;
    let by_path = subject.persist(RULE, || async { subject.source.table(&subject.table.full_name()).await }).await?;
    ensure(RULE, by_path.columns == subject.table.columns, || format!("by its whole path it is {by_path:?}"))
}

pub(super) async fn unknown_table_is_named(subject: &Subject) -> Checked {
    const RULE: &str = "a table that is not there is TableNotFound, with those that are";
    const NAME: &str = "no_such_table_anywhere";
    let answer = subject
        .persist(RULE, || async {
            match subject.source.table(NAME).await {
                Err(Error::TableNotFound { table, known, .. }) => Ok(Ok((table, known))),
                Err(error @ (Error::Unavailable { .. } | Error::Interrupted { .. })) => Err(error),
                other => Ok(Err(format!("{other:?}"))),
            }
        })
        .await?;
    let named = matches!(&answer, Ok((table, known)) if table == NAME && !known.is_empty());
    ensure(RULE, named, || format!("{answer:?}"))
}

pub(super) async fn all_rows_come_with_their_types(subject: &Subject) -> Checked {
    const RULE: &str = "all rows come, with the types that are documented";
    let found: Vec<_> = subject.table.columns.iter().map(|column| (&column.name, &column.data_type)).collect();
    let schema = subject.expected.schema();
    let wanted: Vec<_> = schema.fields().iter().map(|field| (field.name(), field.data_type())).collect();
    ensure(RULE, found == wanted, || format!("the columns are {found:?}, expected {wanted:?}"))?;
    let request = subject.all();
    let batches = subject.read(RULE, &request).await?;
    let got = multiset(&schema, &batches).map_err(broken(RULE))?;
    let expected = multiset(&schema, std::slice::from_ref(&subject.expected)).map_err(broken(RULE))?;
    ensure(RULE, got == expected, || {
        format!("got\n{}\nexpected\n{}", pretty(&batches), pretty(std::slice::from_ref(&subject.expected)))
    })
}

pub(super) async fn every_projection_has_the_schema_of_its_request(subject: &Subject) -> Checked {
    const RULE: &str = "a batch has the projected columns, in the order that was asked for";
    let whole = subject.read_whole(RULE, &subject.all()).await?;
    let width = subject.table.columns.len();
    let mut projections: Vec<Vec<usize>> = (0..width).map(|index| vec![index]).collect();
    projections.push(vec![]);
    projections.push((0..width).rev().collect());
    projections.extend((1..width).map(|index| vec![index, 0]));
    for projection in projections {
        let request = ScanRequest { projection: projection.clone(), ..subject.all() };
        let batches = subject.read(RULE, &request).await?;
        let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        ensure(RULE, rows == whole.num_rows(), || {
            format!("{rows} rows for {projection:?}, all are {}", whole.num_rows())
        })?;
        if projection.is_empty() {
            continue;
        }
        let expected = whole.project(&projection).map_err(broken(RULE))?;
        let same = multiset(&request.schema(), &batches).map_err(broken(RULE))?
            == multiset(&request.schema(), &[expected]).map_err(broken(RULE))?;
        ensure(RULE, same, || format!("other values for {projection:?}: {}", pretty(&batches)))?;
    }
    Ok(())
}

pub(super) async fn batches_are_not_larger_than_asked(subject: &Subject) -> Checked {
    const RULE: &str = "no batch has more rows than were asked for";
    for batch_rows in [1, 3, 10, ScanRequest::DEFAULT_BATCH_ROWS] {
        for projection in [vec![], vec![0]] {
            let request = ScanRequest { batch_rows, projection, ..subject.all() };
            let batches = subject.read(RULE, &request).await?;
            let largest = batches.iter().map(|batch| batch.num_rows()).max().unwrap_or(0);
            ensure(RULE, largest <= batch_rows, || format!("{largest} rows, {batch_rows} asked"))?;
            let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
            ensure(RULE, rows == subject.expected.num_rows(), || format!("{rows} rows in batches of {batch_rows}"))?;
        }
    }
    Ok(())
}

pub(super) async fn partitions_are_disjoint_and_complete(subject: &Subject) -> Checked {
    const RULE: &str = "each row is in exactly one partition";
    let request = ScanRequest { projection: vec![subject.id()?], ..subject.all() };
    let scan = subject.prepare(RULE, &request).await?;
    ensure(RULE, scan.partitions() > 0, || "there is no partition".to_owned())?;
    // Backwards: partitions may be opened in any order.
    let mut batches = Vec::new();
    for partition in (0..scan.partitions()).rev() {
        batches.extend(subject.read_partition(RULE, scan.as_ref(), partition).await?);
    }
    let got = multiset(&request.schema(), &batches).map_err(broken(RULE))?;
    let expected = subject.expected.project(&[subject.id()?]).map_err(broken(RULE))?;
    let expected = multiset(&request.schema(), &[expected]).map_err(broken(RULE))?;
    ensure(RULE, got == expected, || format!("{} rows in {} partitions", got.len(), scan.partitions()))?;
    let beyond = scan.open(scan.partitions()).await;
    ensure(RULE, beyond.is_err(), || "a partition that does not exist opens".to_owned())
}

impl Subject {
    /// The index of `id`.
    pub(super) fn id(&self) -> Checked<usize> {
        const RULE: &str = "the table has the column \"id\"";
        let index = self.table.column_index("id");
        index.ok_or_else(|| super::Violation { rule: RULE, detail: format!("it has {:?}", self.table.columns) })
    }
}

fn pretty(batches: &[arrow::record_batch::RecordBatch]) -> String {
    arrow::util::pretty::pretty_format_batches(batches).map_or_else(|error| error.to_string(), |text| text.to_string())
}
