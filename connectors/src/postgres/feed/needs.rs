//! What a server lacks to be followed, with the statement that mends it. Changes nothing.

use headwater_source::{Lack, Result, TableDef};

use super::super::answer::{Fault, Row};
use super::super::discover::failed;
use super::super::error::Place;
use super::super::wire::Wire;
use super::lsn::PAGE_BYTES;
use super::slot;
use super::tables::{Followed, followed, quoted};

const SERVER: &str = r"SELECT pg_catalog.current_setting('wal_level'), pg_catalog.pg_is_in_recovery(),
    pg_catalog.current_setting('wal_block_size')::int8,
    pg_catalog.current_setting('max_replication_slots')::int8,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name <> $1::text),
    (SELECT s.database::text FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1::text),
    pg_catalog.current_setting('max_wal_senders')::int8,
    (SELECT r.rolreplication OR r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER),
    CURRENT_USER::text, pg_catalog.current_database()::text,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
    (SELECT s.plugin::text FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1::text)";

/// Everything that is missing.
pub(super) async fn lacks(wire: &mut Wire, place: &Place, name: &str, tables: &[TableDef]) -> Result<Vec<Lack>> {
    let rows = wire.query(SERVER, &[name]).await.map_err(|fault| failed(place, fault))?;
    let server = rows.first().ok_or(Fault::Malformed("no row")).and_then(Server::read);
    let server = server.map_err(|fault| failed(place, fault))?;
    let mut lacks = server.lacks(name);
    let tables = followed(wire, place, tables).await?;
    lacks.extend(tables.iter().flat_map(Followed::lacks));
    let publication = slot::published(wire, place, name).await?;
    let missing: Vec<&Followed> = tables.iter().filter(|table| !publication.has(table)).collect();
    let command = || slot::publish_command(name, publication.exists, &missing);
    if publication.exists && !publication.is_complete {
        lacks.push(Lack {
            what: format!("publication \"{name}\" leaves some changes out"),
            remedy: format!("ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')", quoted(name)),
        });
    }
    let stranger = missing.iter().find(|table| !table.is_owned);
    if let Some(table) = stranger {
        lacks.push(Lack {
            what: format!(
                "role \"{}\" does not own table \"{}\" and cannot publish it",
                server.role,
                table.table.full_name()
            ),
            remedy: format!("as its owner: {}", command()),
        });
    } else if publication.exists && !publication.is_owned && !missing.is_empty() {
        lacks.push(Lack {
            what: format!("role \"{}\" does not own publication \"{name}\"", server.role),
            remedy: format!("as its owner: {}", command()),
        });
    } else if !publication.exists && !server.may_create {
        lacks.push(Lack {
            what: format!("role \"{}\" may not create a publication in database \"{}\"", server.role, server.database),
            remedy: format!("GRANT CREATE ON DATABASE {} TO {}", quoted(&server.database), quoted(&server.role)),
        });
    }
    Ok(lacks)
}

/// What a server says of itself and of us.
struct Server {
    wal_level: String,
    in_recovery: bool,
    page_bytes: i64,
    slots_max: i64,
    other_slots: i64,
    slot_database: Option<String>,
    slot_plugin: Option<String>,
    senders_max: i64,
    may_replicate: bool,
    role: String,
    database: String,
    may_create: bool,
}

impl Server {
    fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            wal_level: row.get(0)?,
            in_recovery: row.get(1)?,
            page_bytes: row.get(2)?,
            slots_max: row.get(3)?,
            other_slots: row.get(4)?,
            slot_database: row.get(5)?,
            senders_max: row.get(6)?,
            may_replicate: row.get::<Option<bool>>(7)?.unwrap_or(false),
            role: row.get(8)?,
            database: row.get(9)?,
            may_create: row.get(10)?,
            slot_plugin: row.get(11)?,
        })
    }

    fn lacks(&self, name: &str) -> Vec<Lack> {
        let mut lacks = vec![];
        let mut lack = |what: String, remedy: String| lacks.push(Lack { what, remedy });
        if self.in_recovery {
            lack("the server is a standby".to_owned(), "name the primary in the source's url".to_owned());
        }
        if self.wal_level != "logical" {
            lack(
                format!("wal_level is {}", self.wal_level),
                "ALTER SYSTEM SET wal_level = 'logical', and restart the server".to_owned(),
            );
        }
        if u64::try_from(self.page_bytes) != Ok(PAGE_BYTES) {
            lack(
                format!("wal_block_size is {}", self.page_bytes),
                format!("only servers built with {PAGE_BYTES} can be followed"),
            );
        }
        // One slot for the feed, and one for as long as rows are loaded.
        let wanted = self.other_slots + 2;
        if self.slots_max < wanted {
            lack(
                format!("max_replication_slots is {}, and {} are in use", self.slots_max, self.other_slots),
                format!("ALTER SYSTEM SET max_replication_slots = {wanted}, and restart the server"),
            );
        }
        if self.senders_max < 2 {
            lack(
                format!("max_wal_senders is {}", self.senders_max),
                "ALTER SYSTEM SET max_wal_senders = 4, and restart the server".to_owned(),
            );
        }
        if !self.may_replicate {
            lack(
                format!("role \"{}\" may not replicate", self.role),
                format!("ALTER ROLE {} REPLICATION", quoted(&self.role)),
            );
        }
        match (&self.slot_database, &self.slot_plugin) {
            (Some(database), _) if *database != self.database => lack(
                format!("replication slot \"{name}\" belongs to database \"{database}\""),
                "set another \"slot\" in \"feed\"".to_owned(),
            ),
            (_, Some(plugin)) if plugin != "pgoutput" => lack(
                format!("replication slot \"{name}\" is one of the plugin \"{plugin}\""),
                "set another \"slot\" in \"feed\"".to_owned(),
            ),
            _ => {}
        }
        lacks
    }
}
