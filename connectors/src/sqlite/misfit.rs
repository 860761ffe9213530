//! Finds the row of a value that does not fit, once one was met.
//!
//! A scan does not read the rowid of every row only for this. The same rows are read again, the rowid beside the one
//! column, in the same transaction, until a value does not fit. A query's answer does not say whose row its values are of: the
//! columns that it uses are read, table by table, until one does not fit.

use std::sync::Arc;

use headwater_source::{ColumnDef, Error, Result, ScanRequest, TableDef};
use rusqlite::types::ValueRef;

use super::connect::Lease;
use super::decode::{ColumnBuilder, Misfit};
use super::dialect::{Sqlite, bind_value};
use super::error::Stage;
use super::scan::{Asked, Job};
use crate::sql::{FIRST_ALIAS, render};

/// The misfit of a NULL where none may be.
pub(super) const NULL: &str = "it is NULL, the column is declared NOT NULL";

/// The names under which SQLite shows the rowid, as long as no column has them.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// The error of the value in the column at `place` of the answer, in the `row`-th row that was read.
pub(super) fn locate(job: &Job, lease: &Lease, place: usize, reason: &str, row: u64) -> Error {
    let as_read = format!("in row {row} as read");
    if let Asked::Rows(request) = &job.asked {
        let column = &request.table.columns[request.projection[place]];
        let at = match rowid(job, lease, request, place) {
            Ok(Some((rowid, _))) => with_rowid(rowid),
            // A view or a table WITHOUT ROWID, or the time is over.
            Ok(None) | Err(_) => as_read,
        };
        return error(job, request.table.full_name(), column, &at, reason);
    }
    for (table, used) in &job.tables {
        let projection = used.iter().copied().collect();
        let request = ScanRequest { projection, ..ScanRequest::all(Arc::clone(table)) };
        for place in 0..request.projection.len() {
            if let Ok(Some((rowid, reason))) = rowid(job, lease, &request, place) {
                let column = &table.columns[request.projection[place]];
                return error(job, table.full_name(), column, &with_rowid(rowid), &reason);
            }
        }
    }
    error(job, job.names.clone(), &job.columns[place], &as_read, reason)
}

fn with_rowid(rowid: i64) -> String {
    format!("in the row with rowid {rowid}")
}

fn error(job: &Job, table: String, column: &ColumnDef, at: &str, reason: &str) -> Error {
    Error::Value {
        service: job.service.clone(),
        table,
        column: column.name.clone(),
        data_type: column.data_type.to_string(),
        reason: format!("{at} {reason}; correct the value or the column's declared type"),
    }
}

/// The rowid of the first row whose value does not fit, and why it does not.
fn rowid(job: &Job, lease: &Lease, request: &ScanRequest, place: usize) -> Result<Option<(i64, Misfit)>> {
    let index = request.projection[place];
    let request = ScanRequest { projection: vec![index], ..request.clone() };
    let table = &request.table;
    let Some(name) = rowid_name(table) else { return Ok(None) };
    let statement = render(&Sqlite, &job.service, &request)?;
    let Some(rest) = statement.text.strip_prefix("SELECT ") else { return Ok(None) };
    let text = format!("SELECT {FIRST_ALIAS}.{name}, {rest}");
    let fail = |error| lease.error(Stage::Read(&table.name), error);
    let mut prepared = lease.connection().prepare(&text).map_err(fail)?;
    for (index, bind) in statement.binds.iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, bind_value(bind, &job.service)?).map_err(fail)?;
    }
    let column = &table.columns[index];
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next().map_err(fail)? {
        let value = row.get_ref(1).map_err(fail)?;
        let misfit = if !column.nullable && value == ValueRef::Null {
            Some(NULL.to_owned())
        } else {
            ColumnBuilder::new(column).append(value).err()
        };
        if let Some(misfit) = misfit {
            return Ok(row.get(0).ok().map(|rowid| (rowid, misfit)));
        }
    }
    Ok(None)
}

fn rowid_name(table: &TableDef) -> Option<&'static str> {
    let taken = |name: &str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    ROWID_NAMES.into_iter().find(|name| !taken(name))
}
