//! What a feed puts in place at the server: a slot, and a publication of its tables.
//!
//! The publication is made before the slot, and a table is added to it before the table's rows are loaded: the server looks a
//! publication up as it was when a change was made. The publication's comment keeps, for each of its tables, the place in the log from which
//! on its changes are complete and of the columns that it has now, so that a change that was made while nobody followed is noticed too.

use std::collections::BTreeMap;

use headwater_source::{Error, Result, TableDef};
use tokio_postgres::types::Oid;

use super::super::answer::{Fault, Row};
use super::super::discover::failed;
use super::super::error::Place;
use super::super::wire::Wire;
use super::lsn;
use super::tables::{Followed, followed, quoted};

const SLOT: &str = r"SELECT s.confirmed_flush_lsn::text,
    CASE WHEN pg_catalog.to_jsonb(s) ->> 'wal_status' = 'lost' THEN 'lost'
         WHEN pg_catalog.to_jsonb(s) ->> 'conflicting' = 'true' THEN 'invalid' END,
    CASE WHEN NOT pg_catalog.pg_is_in_recovery()
         THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::int8 END,
    s.active_pid
    FROM pg_catalog.pg_replication_slots s
    WHERE s.slot_name = $1::text AND s.database = pg_catalog.current_database()";

const PUBLICATION: &str = r"SELECT r.prrelid, pg_catalog.obj_description(p.oid, 'pg_publication'),
    pg_catalog.pg_has_role(p.pubowner, 'USAGE'), p.puballtables,
    p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, pg_catalog.current_setting('server_version_num')::int4
    FROM (VALUES (0)) AS always (n)
    LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1::text
    LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
        AND pg_catalog.to_jsonb(r) ->> 'prqual' IS NULL AND pg_catalog.to_jsonb(r) ->> 'prattrs' IS NULL";

/// The version from which on messages of writers come with the changes.
const CARRIES_WORDS: i32 = 140_000;

/// A slot of this database.
pub(super) struct Slot {
    pub(super) confirmed: Option<u64>,
    /// How the server calls a slot that it does not serve any more.
    pub(super) lost: Option<String>,
    pub(super) retained_bytes: Option<u64>,
    active: Option<i32>,
}

/// A publication of this database, which may not be there.
#[derive(Default)]
pub(super) struct Publication {
    pub(super) exists: bool,
    pub(super) is_owned: bool,
    pub(super) is_complete: bool,
    tables: Vec<Oid>,
    all_tables: bool,
    /// By the tables' numbers: their columns' prints, and since when they are that.
    prints: BTreeMap<String, (String, String)>,
    /// Whether the server sends messages of writers.
    pub(super) carries_words: bool,
}

/// Finds the slot of a name.
pub(super) async fn find(wire: &mut Wire, place: &Place, name: &str) -> Result<Option<Slot>> {
    let rows = wire.query(SLOT, &[name]).await;
    let slot = rows.and_then(|rows| rows.first().map(Slot::read).transpose());
    slot.map_err(|fault| failed(place, fault))
}

impl Slot {
    fn read(row: &Row) -> Result<Self, Fault> {
        let retained: Option<i64> = row.get(2)?;
        Ok(Self {
            confirmed: row.get::<Option<String>>(0)?.and_then(|text| lsn::parse(&text)),
            lost: row.get(1)?,
            retained_bytes: retained.and_then(|bytes| u64::try_from(bytes).ok()),
            active: row.get(3)?,
        })
    }
}

/// Finds the publication of a name.
pub(super) async fn published(wire: &mut Wire, place: &Place, name: &str) -> Result<Publication> {
    let rows = wire.query(PUBLICATION, &[name]).await.map_err(|fault| failed(place, fault))?;
    let mut publication = Publication::default();
    for row in &rows {
        publication.add(row).map_err(|fault| failed(place, fault))?;
    }
    Ok(publication)
}

impl Publication {
    fn add(&mut self, row: &Row) -> Result<(), Fault> {
        self.carries_words = row.get::<i32>(5)? >= CARRIES_WORDS;
        let Some(all_tables) = row.get::<Option<bool>>(3)? else { return Ok(()) };
        self.exists = true;
        self.all_tables = all_tables;
        self.is_owned = row.get(2)?;
        self.is_complete = row.get(4)?;
        self.tables.extend(row.get::<Option<Oid>>(0)?);
        let comment: Option<String> = row.get(1)?;
        self.prints = comment.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(())
    }

    /// Whether it has a table with all of its rows and columns.
    pub(super) fn has(&self, table: &Followed) -> bool {
        self.exists && (self.all_tables || self.tables.contains(&table.oid))
    }
}

/// Sees that a table is published, and that its columns are those that it had when it was added.
pub(super) fn check_published(place: &Place, publication: &Publication, table: &Followed, after: &str) -> Result<()> {
    if !publication.has(table) {
        let name = table.table.full_name();
        return Err(Error::HistoryGone {
            service: place.service.clone(),
            wanted: after.to_owned(),
            reason: format!("table \"{name}\" is not in the publication"),
        });
    }
    let altered = || Err(place.changed(&table.table.full_name(), "its columns were altered".to_owned()));
    let Some((print, since)) = publication.prints.get(&table.oid.to_string()) else { return Ok(()) };
    if *print != table.print {
        return altered();
    }
    match (lsn::parse(since), lsn::parse(after)) {
        // It was altered, or left the publication, and was put in order again: what is followed from before that is not complete.
        (Some(since), Some(after)) if after < since => altered(),
        _ => Ok(()),
    }
}

/// Publishes tables, beside those that are published already. Only tables of which the role is the owner are added.
pub(super) async fn publish(wire: &mut Wire, place: &Place, name: &str, tables: &[TableDef]) -> Result<()> {
    let tables = followed(wire, place, tables).await?;
    let publication = published(wire, place, name).await?;
    let missing: Vec<&Followed> = tables.iter().filter(|table| !publication.has(table)).collect();
    if !missing.is_empty() || !publication.exists {
        let command = publish_command(name, publication.exists, &missing);
        run(wire, place, &command).await?;
    }
    if publication.exists && !publication.is_owned {
        return Ok(());
    }
    let mut prints = publication.prints;
    let fresh: Vec<&Followed> = tables
        .iter()
        .filter(|table| {
            let known = prints.get(&table.oid.to_string());
            known.is_none_or(|(print, _)| *print != table.print) || missing.iter().any(|other| other.oid == table.oid)
        })
        .collect();
    if fresh.is_empty() {
        return Ok(());
    }
    let rows = wire.query("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await;
    let since = rows.and_then(|rows| rows.first().map(|row| row.get::<String>(0)).transpose());
    let since = since.map_err(|fault| failed(place, fault))?.unwrap_or_default();
    prints.extend(fresh.iter().map(|table| (table.oid.to_string(), (table.print.clone(), since.clone()))));
    // Digits, colons, slashes, spaces and JSON's own signs: no quote that would end the text.
    let comment = serde_json::to_string(&prints).unwrap_or_default().replace('\'', "''");
    run(wire, place, &format!("COMMENT ON PUBLICATION {} IS '{comment}'", quoted(name))).await
}

/// The statement that publishes tables.
pub(super) fn publish_command(name: &str, exists: bool, tables: &[&Followed]) -> String {
    let names: Vec<String> = tables.iter().map(|table| table.sql_name()).collect();
    let (name, names) = (quoted(name), names.join(", "));
    match (exists, names.is_empty()) {
        (true, _) => format!("ALTER PUBLICATION {name} ADD TABLE {names}"),
        (false, true) => format!("CREATE PUBLICATION {name}"),
        (false, false) => format!("CREATE PUBLICATION {name} FOR TABLE {names}"),
    }
}

async fn run(wire: &mut Wire, place: &Place, command: &str) -> Result<()> {
    let done = wire.simple(&format!("BEGIN READ WRITE; {command}; COMMIT")).await;
    done.map_err(|fault| place.statement("", super::super::error::Phase::Starting, std::time::Instant::now(), fault))
}

/// Takes slot and publication away, where they are there.
pub(super) async fn remove(wire: &mut Wire, place: &Place, name: &str) -> Result<Vec<String>> {
    let mut removed = vec![];
    if find(wire, place, name).await?.is_some() {
        drop_slot(wire, place, name).await?;
        removed.push(format!("replication slot \"{name}\""));
    }
    let publication = published(wire, place, name).await?;
    if publication.exists && !publication.is_owned {
        let done = if removed.is_empty() { String::new() } else { format!(" ({} was removed)", removed.join(", ")) };
        let statement = format!("DROP PUBLICATION {}", quoted(name));
        return Err(place
            .unsupported(format!("publication \"{name}\" belongs to another role{done}; as its owner: {statement}")));
    }
    if publication.exists {
        run(wire, place, &format!("DROP PUBLICATION {}", quoted(name))).await?;
        removed.push(format!("publication \"{name}\" of {} tables", publication.tables.len()));
    }
    Ok(removed)
}

/// Drops the slot, waiting a while for a reader that is just leaving it.
pub(super) async fn drop_slot(wire: &mut Wire, place: &Place, name: &str) -> Result<()> {
    let deadline = std::time::Instant::now() + super::SLOT_WAIT;
    loop {
        let dropped = wire.query("SELECT pg_catalog.pg_drop_replication_slot($1::text::name)::text", &[name]).await;
        match dropped {
            Ok(_) => return Ok(()),
            Err(Fault::Server(error)) if error.code == "55006" => {
                let reader = find(wire, place, name).await?.and_then(|slot| slot.active);
                if std::time::Instant::now() > deadline {
                    let pid = reader.map(|pid| format!(" by process {pid}")).unwrap_or_default();
                    return Err(place.unsupported(format!(
                        "replication slot \"{name}\" is in use{pid}; stop whoever reads it, or SELECT pg_terminate_backend of it"
                    )));
                }
                tokio::time::sleep(super::SLOT_PAUSE).await;
            }
            Err(fault) => return Err(failed(place, fault)),
        }
    }
}

/// The command after which the server sends every transaction that commits after a place.
pub(super) fn start(name: &str, after: u64, words: bool) -> String {
    let words = if words { ", messages 'true'" } else { "" };
    let after = lsn::printed(after);
    format!(
        "START_REPLICATION SLOT \"{name}\" LOGICAL {after} (proto_version '1', publication_names '{}'{words})",
        quoted(name)
    )
}
