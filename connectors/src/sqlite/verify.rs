//! Compares a table with what a query was planned on.
//!
//! SQLite prepares a statement anew when the schema changes, without a word; a column of another type would then come
//! under the old one's. So the table is described again inside the transaction that reads it.

use std::collections::BTreeSet;

use headwater_source::{ColumnDef, Error, Result, ScanRequest, ServiceName, TableDef};

/// Checks that every column that is used is now what it was when the query was planned.
pub(super) fn unchanged(
    service: &ServiceName,
    planned: &TableDef,
    used: &BTreeSet<usize>,
    now: Option<&TableDef>,
) -> Result<()> {
    let changed =
        |change: String| Err(Error::SchemaChanged { service: service.clone(), table: planned.full_name(), change });
    let Some(now) = now else { return changed("it is gone".to_owned()) };
    if now.kind != planned.kind {
        return changed("it was a table and is a view, or the other way round".to_owned());
    }
    for index in used {
        let Some(column) = planned.columns.get(*index) else {
            let reason = format!("there is no column {index}");
            return Err(Error::Unsupported { service: service.clone(), reason });
        };
        if let Some(change) = difference(column, now) {
            return changed(change);
        }
    }
    Ok(())
}

/// Every column that the request reads, filters or sorts by.
pub(super) fn columns_used(request: &ScanRequest) -> BTreeSet<usize> {
    let mut columns: BTreeSet<usize> = request.projection.iter().copied().collect();
    let mut visit = |index| {
        columns.insert(index);
    };
    request.filters.iter().for_each(|filter| filter.visit_columns(&mut visit));
    columns.extend(request.sort.iter().map(|key| key.column));
    columns
}

fn difference(planned: &ColumnDef, now: &TableDef) -> Option<String> {
    let Some(index) = now.column_index(&planned.name) else {
        return Some(format!("column \"{}\" is gone", planned.name));
    };
    let column = &now.columns[index];
    if column == planned {
        return None;
    }
    let describe = |column: &ColumnDef| {
        let null = if column.nullable { "" } else { " NOT NULL" };
        let collation = column.collation.as_ref().filter(|name| *name != "BINARY");
        let collation = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
        format!("{}{null}{collation}", column.remote_type)
    };
    let (before, after) = (describe(planned), describe(column));
    if before == after {
        // STRICT or the rowid: the values may be the same, what may be pushed is not.
        return Some(format!("column \"{}\" is compared in another way", planned.name));
    }
    Some(format!("column \"{}\" was \"{before}\" and is \"{after}\"", planned.name))
}
