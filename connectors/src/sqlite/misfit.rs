//! Finds the row of a value that does not fit, once one was met.
//!
//! A scan does not read the rowid of every row only for this. The same rows are read again, the rowid beside the one
//! column, in the same transaction, until a value does not fit.

use headwater_source::{Error, Result, ScanRequest};
use rusqlite::types::ValueRef;

use super::connect::Lease;
use super::decode::ColumnBuilder;
use super::dialect::{Sqlite, bind_value};
use super::error::Stage;
use super::scan::Job;
use crate::sql::{Dialect, quote, render};

/// The misfit of a NULL where none may be.
pub(super) const NULL: &str = "it is NULL, the column is declared NOT NULL";

/// The names under which SQLite shows the rowid, as long as no column has them.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// The error of the value at `place` in the projection, in the `row`-th row that was read.
pub(super) fn locate(job: &Job, lease: &Lease, place: usize, reason: &str, row: u64) -> Error {
    let column = &job.request.table.columns[job.request.projection[place]];
    let found = rowid(job, lease, place);
    let at = match found {
        Ok(Some(rowid)) => format!("in the row with rowid {rowid}"),
        // A view or a table WITHOUT ROWID, or the time is over.
        Ok(None) | Err(_) => format!("in row {row} as read"),
    };
    Error::Value {
        service: job.service.clone(),
        table: job.request.table.full_name(),
        column: column.name.clone(),
        data_type: column.data_type.to_string(),
        reason: format!("{at} {reason}; correct the value or the column's declared type"),
    }
}

/// The rowid of the first row whose value does not fit.
fn rowid(job: &Job, lease: &Lease, place: usize) -> Result<Option<i64>> {
    let index = job.request.projection[place];
    let request = ScanRequest { projection: vec![index], ..job.request.clone() };
    let table = &request.table;
    let taken = |name: &str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let Some(name) = ROWID_NAMES.into_iter().find(|name| !taken(name)) else { return Ok(None) };
    let statement = render(&Sqlite::of(table, &job.service)?, &job.service, &request)?;
    let Some(rest) = statement.text.strip_prefix("SELECT ") else { return Ok(None) };
    let text = format!("SELECT {}.{name}, {rest}", quote(&table.name, Sqlite::QUOTE, &job.service)?);
    let fail = |error| lease.error(Stage::Read(&table.name), error);
    let mut prepared = lease.connection().prepare(&text).map_err(fail)?;
    for (index, bind) in statement.binds.iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, bind_value(bind, &job.service)?).map_err(fail)?;
    }
    let column = &table.columns[index];
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next().map_err(fail)? {
        let value = row.get_ref(1).map_err(fail)?;
        let null = !column.nullable && value == ValueRef::Null;
        if null || ColumnBuilder::new(column).append(value).is_err() {
            return Ok(row.get(0).ok());
        }
    }
    Ok(None)
}
