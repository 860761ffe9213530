//! What a feed puts into the service's file: a log, a list of the tables that write to it, and triggers on them.
//!
//! A log row says that the row with a key was touched, and whether there was such a row before. It does not say what became of it: whoever
//! reads the log reads the row itself in the same transaction. So a trigger may touch a row for nothing, and does: SQLite tells no
//! trigger which rows REPLACE takes away (only `PRAGMA recursive_triggers` makes it, which is each connection's own), so all rows that a
//! new one may take the place of are touched before.
//!
//! Names begin with `headwater_SERVICE_feed`, so several services may follow one file.

use headwater_source::{ServiceName, TableDef, TableKind};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::catalog;

/// The number of no table: a mark from which on a table's changes are in the log.
pub(super) const MARK: i64 = 0;
/// The number under which a writer says what its transaction depends on, in `k0`.
pub(super) const DEPENDS: i64 = -1;

/// The names of one service's feed in a file.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

/// A table, as it is watched.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) table: TableDef,
    /// The indexes of the key's columns.
    pub(super) key: Vec<usize>,
    /// Its number in the log.
    pub(super) number: i64,
    /// The log's number from which on its changes are complete.
    pub(super) since: i64,
    /// The triggers, by name, as they must be.
    triggers: Vec<(String, String)>,
}

/// Why a table can't be watched: what, and what mends it.
pub(super) type Unfit = (String, String);

impl Names {
    pub(super) fn new(service: &ServiceName) -> Self {
        Self { prefix: format!("headwater_{service}_feed") }
    }

    pub(super) fn log(&self) -> String {
        format!("{}_log", self.prefix)
    }

    fn tables(&self) -> String {
        format!("{}_tables", self.prefix)
    }

    fn trigger(&self, number: i64, kind: &str) -> String {
        format!("{}_{number}_{kind}", self.prefix)
    }

    /// Whether anything is installed.
    pub(super) fn are_there(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let sql = "SELECT count(*) = 2 FROM sqlite_schema WHERE type = 'table' AND name IN (?1, ?2)";
        connection.query_row(sql, [self.log(), self.tables()], |row| row.get(0))
    }

    /// The log's first and last number; none where it is empty.
    pub(super) fn ends(&self, connection: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
        let sql = format!("SELECT min(number), max(number) FROM {}", self.log());
        connection.query_row(&sql, [], |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?)))
    }

    /// Where a table stands in the list: its number and since when.
    fn listed(&self, connection: &Connection, table: &str) -> rusqlite::Result<Option<(i64, i64)>> {
        let sql = format!("SELECT number, since FROM {} WHERE name = ?1", self.tables());
        connection.query_row(&sql, [table], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    /// A table as it is watched now; `None` where it is not listed.
    pub(super) fn watched(&self, connection: &Connection, table: &TableDef) -> rusqlite::Result<Option<Watched>> {
        let Some((number, since)) = self.listed(connection, &table.name)? else { return Ok(None) };
        self.plan(connection, table, number, since).map(Some)
    }

    /// How a table is watched under a number.
    fn plan(&self, connection: &Connection, table: &TableDef, number: i64, since: i64) -> rusqlite::Result<Watched> {
        let key = table.key.iter().flatten().filter_map(|name| table.column_index(name)).collect();
        let mut watched = Watched { table: table.clone(), key, number, since, triggers: vec![] };
        let conflict = conflict(connection, table)?;
        watched.triggers = self.triggers(&watched, &conflict);
        Ok(watched)
    }

    fn triggers(&self, watched: &Watched, conflict: &Conflict) -> Vec<(String, String)> {
        let (table, number) = (quoted(&watched.table.name), watched.number);
        let columns: Vec<String> =
            watched.key.iter().map(|index| quoted(&watched.table.columns[*index].name)).collect();
        let places: Vec<String> = (0..columns.len()).map(|place| format!("k{place}")).collect();
        let of = |row: &str| columns.iter().map(|column| format!("{row}.{column}")).collect::<Vec<_>>().join(", ");
        let into = format!("INSERT INTO {} (tab, existed, {})", self.log(), places.join(", "));
        let touch = format!("{into} SELECT {number}, 1, {} FROM {table} AS t WHERE {};", of("t"), conflict.condition);
        let moved: Vec<String> = columns
            .iter()
            .map(|column| {
                format!(
                    "NEW.{column} COLLATE BINARY IS NOT OLD.{column} OR typeof(NEW.{column}) <> typeof(OLD.{column})"
                )
            })
            .collect();
        let insert = format!("{into} VALUES ({number}, 0, {});", of("NEW"));
        let update = format!(
            "{into} VALUES ({number}, 1, {}); {into} SELECT {number}, 0, {} WHERE {};",
            of("OLD"),
            of("NEW"),
            moved.join(" OR ")
        );
        let delete = format!("{into} VALUES ({number}, 1, {});", of("OLD"));
        let when = format!(" WHEN {}", conflict.changed);
        [
            ("before_insert", "BEFORE INSERT", "", touch.as_str()),
            ("insert", "AFTER INSERT", "", &insert),
            ("before_update", "BEFORE UPDATE", &when, &touch),
            ("update", "AFTER UPDATE", "", &update),
            ("delete", "AFTER DELETE", "", &delete),
        ]
        .into_iter()
        .map(|(kind, event, when, body)| {
            let name = self.trigger(number, kind);
            let sql = format!("CREATE TRIGGER {name} {event} ON {table}{when} BEGIN {body} END");
            (name, sql)
        })
        .collect()
    }

    /// Puts everything in place for some tables. Runs inside of a transaction that may write.
    pub(super) fn install(&self, connection: &Connection, tables: &[TableDef]) -> rusqlite::Result<()> {
        let (log, list) = (self.log(), self.tables());
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {log} (number INTEGER PRIMARY KEY, tab INTEGER NOT NULL, existed INTEGER NOT NULL, k0);
             CREATE TABLE IF NOT EXISTS {list} (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, since INTEGER NOT NULL);"
        ))?;
        for table in tables {
            self.widen(connection, table.key.as_ref().map_or(0, Vec::len))?;
            let (number, since) = match self.listed(connection, &table.name)? {
                Some(listed) => listed,
                None => {
                    let next = format!("SELECT coalesce(max(number), 0) + 1 FROM {list}");
                    (connection.query_row(&next, [], |row| row.get(0))?, i64::MAX)
                }
            };
            let watched = self.plan(connection, table, number, since)?;
            if since != i64::MAX && watched.misses(connection)?.is_none() {
                continue;
            }
            // What was written while the triggers were not there is in no log: whoever follows must begin after this mark.
            connection.execute(&format!("INSERT INTO {log} (tab, existed) VALUES ({MARK}, 0)"), [])?;
            let since = connection.last_insert_rowid();
            let sql = format!(
                "INSERT INTO {list} (number, name, since) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET since = excluded.since"
            );
            connection.execute(&sql, params![number, table.name, since])?;
            for (name, sql) in &watched.triggers {
                connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {name}; {sql}"))?;
            }
        }
        Ok(())
    }

    /// Gives the log as many columns as the widest key has.
    fn widen(&self, connection: &Connection, columns: usize) -> rusqlite::Result<()> {
        let log = self.log();
        let now = self.width(connection)?;
        for place in now..columns {
            connection.execute_batch(&format!("ALTER TABLE {log} ADD COLUMN k{place}"))?;
        }
        Ok(())
    }

    /// How many columns of keys the log has.
    pub(super) fn width(&self, connection: &Connection) -> rusqlite::Result<usize> {
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name GLOB 'k[0-9]*'";
        let width: i64 = connection.query_row(sql, [self.log()], |row| row.get(0))?;
        Ok(usize::try_from(width).unwrap_or(0))
    }

    /// Takes everything away; a line for each thing. Runs inside of a transaction that may write.
    pub(super) fn remove(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let mut removed = vec![];
        let sql = "SELECT type, name, tbl_name FROM sqlite_schema WHERE type IN ('trigger', 'table')
                   AND (name IN (?1, ?2) OR type = 'trigger' AND name GLOB ?3 || '_[0-9]*') ORDER BY type DESC, name";
        let mut statement = connection.prepare(sql)?;
        let found = statement.query_map([self.log(), self.tables(), self.prefix.clone()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        let found: Vec<_> = found.collect::<rusqlite::Result<_>>()?;
        drop(statement);
        for (kind, name, table) in found {
            match kind.as_str() {
                "trigger" => {
                    connection.execute_batch(&format!("DROP TRIGGER {}", quoted(&name)))?;
                    removed.push(format!("trigger \"{name}\" of table \"{table}\""));
                }
                _ => {
                    connection.execute_batch(&format!("DROP TABLE {}", quoted(&name)))?;
                    removed.push(format!("table \"{name}\""));
                }
            }
        }
        Ok(removed)
    }

    /// Forgets log rows up to a number; the newest stays, so that numbers go on from it.
    pub(super) fn trim(&self, connection: &Connection, upto: i64) -> rusqlite::Result<()> {
        let log = self.log();
        let sql = format!("DELETE FROM {log} WHERE number <= ?1 AND number < (SELECT max(number) FROM {log})");
        connection.execute(&sql, [upto]).map(|_| ())
    }
}

impl Watched {
    /// A table of which nothing is known yet.
    pub(super) fn unlooked(table: TableDef) -> Self {
        Self { table, key: vec![], number: 0, since: 0, triggers: vec![] }
    }

    /// Which of its triggers is not there, or not as it must be.
    pub(super) fn misses(&self, connection: &Connection) -> rusqlite::Result<Option<String>> {
        let mut statement =
            connection.prepare_cached("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1")?;
        for (name, sql) in &self.triggers {
            let found: Option<String> = statement.query_row([name], |row| row.get(0)).optional()?;
            match found {
                None => return Ok(Some(format!("its trigger {name} is gone"))),
                Some(found) if found != *sql => {
                    return Ok(Some(format!(
                        "its trigger {name} does not fit its columns and unique indexes any more"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }
}

/// When a new row takes the place of others.
struct Conflict {
    /// Which rows `t` may have to go for NEW.
    condition: String,
    /// Whether an update from OLD to NEW may collide at all.
    changed: String,
}

fn conflict(connection: &Connection, table: &TableDef) -> rusqlite::Result<Conflict> {
    let mut unique: Vec<Vec<(String, String)>> = vec![];
    let indexes = "SELECT name FROM pragma_index_list(?1, 'main') WHERE \"unique\" ORDER BY name";
    let mut statement = connection.prepare(indexes)?;
    let names: Vec<String> = statement.query_map([&table.name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for name in names {
        let columns = "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno";
        let mut statement = connection.prepare(columns)?;
        let columns = statement.query_map([&name], |row| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?)))?;
        let columns: Vec<(Option<String>, String)> = columns.collect::<rusqlite::Result<_>>()?;
        // An index over an expression has no name for it; such tables are refused before they come here.
        unique.push(columns.into_iter().filter_map(|(name, collation)| Some((name?, collation))).collect());
    }
    let mut conditions: Vec<String> = vec![];
    let mut changed: Vec<String> = vec![];
    for columns in unique.iter().filter(|columns| !columns.is_empty()) {
        let equal = |(name, collation): &(String, String)| {
            format!("t.{0} = NEW.{0} COLLATE {1}", quoted(name), quoted(collation))
        };
        conditions.push(columns.iter().map(equal).collect::<Vec<_>>().join(" AND "));
        changed.extend(columns.iter().map(|(name, _)| format!("NEW.{0} IS NOT OLD.{0}", quoted(name))));
    }
    if let Some(rowid) = rowid_name(connection, table)? {
        conditions.push(format!("t.{rowid} = NEW.{rowid}"));
        changed.push(format!("NEW.{rowid} IS NOT OLD.{rowid}"));
    }
    changed.dedup();
    let or = |parts: Vec<String>| if parts.is_empty() { "0".to_owned() } else { parts.join(" OR ") };
    Ok(Conflict { condition: or(conditions), changed: or(changed) })
}

/// The name under which triggers see the rowid, where the table has one that a column does not hide.
fn rowid_name(connection: &Connection, table: &TableDef) -> rusqlite::Result<Option<&'static str>> {
    let sql = "SELECT NOT wr FROM pragma_table_list(?1) WHERE schema = 'main'";
    let has_rowid: Option<bool> = connection.query_row(sql, [&table.name], |row| row.get(0)).optional()?;
    let taken = |name: &str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let name = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !taken(name));
    Ok(name.filter(|_| has_rowid == Some(true)))
}

/// Why a table can't be watched; none where it can.
pub(super) fn unfit(connection: &Connection, table: &TableDef) -> rusqlite::Result<Vec<Unfit>> {
    let name = &table.name;
    let mut unfit: Vec<Unfit> = vec![];
    let kind = "SELECT type FROM pragma_table_list(?1) WHERE schema = 'main'";
    let kind: Option<String> = connection.query_row(kind, [name], |row| row.get(0)).optional()?;
    if table.kind == TableKind::View || kind.as_deref() != Some("table") {
        let kind = kind.unwrap_or_else(|| "nothing".to_owned());
        unfit.push((
            format!("\"{name}\" is a {kind}, which takes no triggers on its rows"),
            "publish the tables that it reads".to_owned(),
        ));
        return Ok(unfit);
    }
    let Some(key) = &table.key else {
        unfit.push((
            format!("table \"{name}\" has no primary key"),
            format!("CREATE UNIQUE INDEX on the columns that tell its rows apart, and name them: publishes: {{{name}: {{key: [...]}}}}"),
        ));
        return Ok(unfit);
    };
    for column in key.iter().filter_map(|name| Some(&table.columns[table.column_index(name)?])) {
        if matches!(column.remote_type.to_ascii_uppercase().trim(), "" | "ANY") {
            unfit.push((
                format!("key column \"{}\" of table \"{name}\" has no type, so that 1 and '1' are two keys that are read as one", column.name),
                format!("declare a type for {} of {}, or name another key in the manifest", quoted(&column.name), quoted(name)),
            ));
        }
    }
    if !is_unique(connection, table, key)? {
        unfit.push((
            format!("nothing keeps the key ({}) of table \"{name}\" unique", key.join(", ")),
            format!(
                "CREATE UNIQUE INDEX {} ON {} ({})",
                quoted(&format!("{name}_key")),
                quoted(name),
                key.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
            ),
        ));
    }
    let expressions = "SELECT i.name FROM pragma_index_list(?1, 'main') AS i
        WHERE i.\"unique\" AND EXISTS (SELECT 1 FROM pragma_index_xinfo(i.name, 'main') AS x WHERE x.key AND x.name IS NULL)";
    let mut statement = connection.prepare(expressions)?;
    for index in statement.query_map([name], |row| row.get::<_, String>(0))? {
        let index = index?;
        unfit.push((
            format!("unique index \"{index}\" of table \"{name}\" is over an expression, and triggers cannot see which rows it makes REPLACE take away"),
            format!("DROP INDEX {}, or make it one over columns", quoted(&index)),
        ));
    }
    Ok(unfit)
}

/// Whether a unique index over all rows, or the rowid, has exactly these columns.
fn is_unique(connection: &Connection, table: &TableDef, key: &[String]) -> rusqlite::Result<bool> {
    let now = catalog::columns_now(connection, &table.name)?;
    if now.is_some_and(|now| now.key.as_deref() == Some(key)) {
        return Ok(true);
    }
    let indexes = "SELECT name FROM pragma_index_list(?1, 'main') WHERE \"unique\" AND NOT partial";
    let mut statement = connection.prepare(indexes)?;
    for index in statement.query_map([&table.name], |row| row.get::<_, String>(0))? {
        let columns = "SELECT name FROM pragma_index_xinfo(?1, 'main') WHERE key";
        let mut statement = connection.prepare(columns)?;
        let columns = statement.query_map([index?], |row| row.get::<_, Option<String>>(0))?;
        let mut columns: Vec<Option<String>> = columns.collect::<rusqlite::Result<_>>()?;
        let mut wanted: Vec<Option<String>> = key.iter().cloned().map(Some).collect();
        columns.sort();
        wanted.sort();
        if columns == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
