//! Whether a table is still as it was planned.
//!
//! What counts are its columns as the catalog has them, and those take the server longer than many a whole query: it makes a table of them each time. The statement that would make the
//! table anew says the same and more, and is there at once. So the columns are compared once, and while the statement reads as it did then, they are what they were.
//!
//! A view's statement does not say what has become of its tables: its columns are compared each time. So are a table's of which the role may not see the statement.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use headwater_source::{ColumnDef, Result, TableDef, TableKind};
use mysql_common::row::Row;
use parking_lot::Mutex;

use super::connect::{Lease, Pool};
use super::{discover, quoted};

/// The tables that were as planned.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Path, Seen>>);

/// A table's database and name.
type Path = [String; 2];

/// A table that was as planned, and the statement that would have made it then.
struct Seen {
    statement: Arc<str>,
    planned: Arc<TableDef>,
}

/// How a table is asked for that was as planned, and what is said of it while it still is.
pub(super) struct AsSeen {
    pub(super) question: String,
    statement: Arc<str>,
}

impl AsSeen {
    /// Whether the answer says so.
    pub(super) fn is_said_by(&self, answer: Option<Row>) -> bool {
        answer.and_then(told).is_some_and(|statement| *statement == *self.statement)
    }
}

impl Pool {
    /// What is to be asked, where the table was once found to be as it is planned.
    pub(super) fn seen(&self, table: &Arc<TableDef>) -> Option<AsSeen> {
        let path: &Path = table.path.as_slice().try_into().ok()?;
        let known = self.known().0.lock();
        let seen = known.get(path).filter(|seen| Arc::ptr_eq(&seen.planned, table) || seen.planned == *table)?;
        Some(AsSeen { question: question(path), statement: Arc::clone(&seen.statement) })
    }

    /// Compares the columns that a request uses with what the catalog says now.
    ///
    /// # Errors
    /// That the table has changed, by what; that the connection failed.
    pub(super) async fn check_table(
        &self,
        lease: &mut Lease,
        table: &Arc<TableDef>,
        used: &BTreeSet<usize>,
    ) -> Result<()> {
        let changed = |change: String| self.site().schema_changed(&table.full_name(), change);
        let [database, name] = table.path.as_slice() else {
            return Err(changed("its path is not database and table".to_owned()));
        };
        let path = [database.clone(), name.clone()];
        let statement = match table.kind {
            TableKind::Table => statement(lease, &path).await,
            TableKind::View => None,
        };
        if statement.is_some() && statement == self.seen(table).map(|seen| seen.statement) {
            return Ok(());
        }
        let now = discover::columns(lease.conn(), database, name)
            .await
            .map_err(|error| self.site().scanning(&table.full_name(), error))?;
        if now.is_empty() {
            return Err(changed("it is gone, or its columns may no longer be read".to_owned()));
        }
        for planned in used.iter().filter_map(|index| table.columns.get(*index)) {
            compare(planned, &now).map_or(Ok(()), |change| Err(changed(change)))?;
        }
        let is_whole = table.columns.iter().all(|planned| compare(planned, &now).is_none());
        // A statement that is the same afterwards was so while the columns were looked up.
        if let Some(before) = statement.filter(|_| is_whole)
            && self::statement(lease, &path).await.as_deref() == Some(&*before)
        {
            self.known().0.lock().insert(path, Seen { statement: before, planned: Arc::clone(table) });
        }
        Ok(())
    }
}

/// The statement that would make the table, without the number that its next row gets; `None` where the server does not tell it.
async fn statement(lease: &mut Lease, path: &Path) -> Option<Arc<str>> {
    // Whatever is wrong is told by what is asked next.
    told(lease.conn().query_first(question(path)).await.ok().flatten()?)
}

fn question([database, name]: &Path) -> String {
    format!("SHOW CREATE TABLE {}.{}", quoted(database), quoted(name))
}

fn told(mut row: Row) -> Option<Arc<str>> {
    const COUNTER: &str = " AUTO_INCREMENT=";
    let text: String = row.take_opt(1)?.ok()?;
    let Some((before, after)) = text.split_once(COUNTER) else { return Some(text.into()) };
    Some(format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit())).into())
}

/// What has become of a planned column, where that would change what a scan yields or what a filter means.
fn compare(planned: &ColumnDef, now: &[ColumnDef]) -> Option<String> {
    match now.iter().find(|column| column.name == planned.name) {
        None => Some(format!("column \"{}\" is gone", planned.name)),
        Some(now) => difference(planned, now),
    }
}

fn difference(planned: &ColumnDef, now: &ColumnDef) -> Option<String> {
    let name = &planned.name;
    if planned.data_type != now.data_type || planned.class != now.class {
        return Some(format!("column \"{name}\" was {} and is {}", planned.remote_type, now.remote_type));
    }
    if planned.collation != now.collation {
        return Some(format!("column \"{name}\" has another collation"));
    }
    (!planned.nullable && now.nullable).then(|| format!("column \"{name}\" may be NULL now"))
}
