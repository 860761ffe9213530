//! The tables that are followed, and what keeps a table or a server from being followed.

use headwater_source::{Lack, Result, TableDef, TableKind};
use mysql_common::row::Row;

use super::super::error::Site;
use super::super::wire::{self, Conn};
use super::super::{discover, quoted};
use super::row::Form;

/// A table that is followed.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub(super) table: TableDef,
    /// For each column of the log's rows, which column of the table it is and how it lies there.
    pub(super) columns: Vec<usize>,
    pub(super) forms: Vec<Form>,
}

impl Followed {
    pub(super) fn database(&self) -> &str {
        self.table.path.first().map(String::as_str).unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.table.path.last().map(String::as_str).unwrap_or_default()
    }
}

/// Describes tables as they are now; [`headwater_source::Error::SchemaChanged`] where that is not what is followed.
pub(super) async fn followed(conn: &mut Conn, site: &Site, tables: &[TableDef]) -> Result<Vec<Followed>> {
    let mut all = Vec::with_capacity(tables.len());
    for table in tables {
        let changed = |change: String| site.schema_changed(&table.full_name(), change);
        let [database, name] = table.path.as_slice() else { return Err(changed("it is gone".to_owned())) };
        let now = discover::columns(conn, database, name).await.map_err(|error| site.describing(error))?;
        if now.is_empty() {
            return Err(changed("it is gone, or its columns may no longer be read".to_owned()));
        }
        if let Some(gone) = table.columns.iter().find(|column| !now.iter().any(|now| now.name == column.name)) {
            return Err(changed(format!("column \"{}\" is gone", gone.name)));
        }
        let (mut columns, mut forms) = (vec![], vec![]);
        for column in &now {
            let Some(index) = table.column_index(&column.name) else {
                return Err(changed(format!("column \"{}\" is new", column.name)));
            };
            let known = &table.columns[index];
            let alike = (&known.remote_type, &known.collation, known.nullable)
                == (&column.remote_type, &column.collation, column.nullable);
            if !alike {
                let (name, was, is) = (&column.name, &known.remote_type, &column.remote_type);
                return Err(changed(format!("column \"{name}\" was {was} and is {is}")));
            }
            columns.push(index);
            forms.push(Form::of(column).map_err(|what| changed(format!("column \"{}\" {what}", column.name)))?);
        }
        all.push(Followed { table: table.clone(), columns, forms });
    }
    Ok(all)
}

const TABLE: &str =
    "SELECT ENGINE, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";

const COLUMNS: &str = "SELECT COLUMN_NAME, COLUMN_TYPE, EXTRA FROM information_schema.COLUMNS \
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";

const CASCADES: &str = "SELECT CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
     WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ? \
     AND (DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION'))";

/// What keeps a table from being followed.
pub(super) async fn lacks(conn: &mut Conn, table: &TableDef) -> wire::Result<Vec<Lack>> {
    let name = table.full_name();
    let [database, short] = table.path.as_slice() else { return Ok(vec![]) };
    let sql_name = format!("{}.{}", quoted(database), quoted(short));
    let mut lacks = vec![];
    let mut lack = |what: String, remedy: String| lacks.push(Lack { what, remedy });
    let described: Option<Row> = conn.exec_first(TABLE, (database, short)).await?;
    let text = |row: &Row, index: usize| row.get::<Option<String>, _>(index).flatten().unwrap_or_default();
    let (engine, kind) = described.as_ref().map(|row| (text(row, 0), text(row, 1))).unwrap_or_default();
    if table.kind == TableKind::View || kind == "VIEW" {
        lack(format!("\"{name}\" is a view"), "publish the tables that it reads".to_owned());
        return Ok(lacks);
    }
    if kind == "SYSTEM VERSIONED" {
        lack(
            format!("table \"{name}\" keeps its history, and the log mixes old rows with new ones"),
            format!("ALTER TABLE {sql_name} DROP SYSTEM VERSIONING"),
        );
    }
    if engine != "InnoDB" {
        lack(
            format!("table \"{name}\" is kept by {engine}, which has no transactions"),
            format!("ALTER TABLE {sql_name} ENGINE = InnoDB"),
        );
    }
    let columns: Vec<Row> = conn.exec(COLUMNS, (database, short)).await?;
    for row in &columns {
        let (column, declared, extra) = (text(row, 0), text(row, 1), text(row, 2));
        if extra.to_ascii_uppercase().contains("VIRTUAL") {
            lack(
                format!(
                    "column \"{column}\" of table \"{name}\" is computed when it is read, and the log does not carry it"
                ),
                format!("ALTER TABLE {sql_name} MODIFY {} ... PERSISTENT", quoted(&column)),
            );
        }
        if declared.to_ascii_uppercase().contains("COMPRESSED") {
            lack(
                format!("column \"{column}\" of table \"{name}\" is compressed in the log"),
                format!("ALTER TABLE {sql_name} MODIFY {} without COMPRESSED", quoted(&column)),
            );
        }
        if table.column_index(&column).is_none() {
            lack(
                format!(
                    "column \"{column}\" of table \"{name}\" is not one that is read, though the log's rows have it"
                ),
                format!("GRANT SELECT ON {sql_name} to the role"),
            );
        }
    }
    for column in &table.columns {
        if let Err(what) = Form::of(column) {
            lack(
                format!("column \"{}\" of table \"{name}\" {what}", column.name),
                format!("ALTER TABLE {sql_name} MODIFY {} to another type", quoted(&column.name)),
            );
        }
    }
    let cascades: Vec<String> = conn.exec(CASCADES, (database, short)).await?;
    for constraint in cascades {
        lack(
            format!(
                "foreign key \"{constraint}\" of table \"{name}\" changes its rows by itself, which is not in the log"
            ),
            format!(
                "ALTER TABLE {sql_name} DROP FOREIGN KEY {}, and add it again with ON DELETE RESTRICT ON UPDATE RESTRICT",
                quoted(&constraint)
            ),
        );
    }
    Ok(lacks)
}

const SERVER: &str = "SELECT @@version, @@log_bin, @@global.binlog_format, @@global.binlog_row_image";

const PRIVILEGES: &str = "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES \
     WHERE PRIVILEGE_TYPE IN ('REPLICATION SLAVE', 'BINLOG MONITOR', 'REPLICATION CLIENT')";

/// What keeps a server from being followed.
pub(super) async fn server_lacks(conn: &mut Conn, databases: &[&str]) -> wire::Result<Vec<Lack>> {
    let mut lacks = vec![];
    let mut lack = |what: String, remedy: String| lacks.push(Lack { what, remedy });
    let server: Option<(String, bool, String, String)> = conn.query_first(SERVER).await?;
    let Some((version, logs, format, image)) = server else { return Ok(lacks) };
    if !version.contains("MariaDB") {
        lack(format!("the server is {version}, and only MariaDB's binary log is read"), "there is none yet".to_owned());
        return Ok(lacks);
    }
    if !logs {
        lack("log_bin is OFF".to_owned(), "set log_bin in the server's configuration, and restart it".to_owned());
        return Ok(lacks);
    }
    if format != "ROW" {
        lack(
            format!("binlog_format is {format}"),
            "SET GLOBAL binlog_format = 'ROW', and let clients connect anew".to_owned(),
        );
    }
    if image != "FULL" {
        lack(
            format!("binlog_row_image is {image}"),
            "SET GLOBAL binlog_row_image = 'FULL', and let clients connect anew".to_owned(),
        );
    }
    let user: Option<String> = conn.query_first("SELECT CURRENT_USER()").await?;
    let user = user.unwrap_or_default();
    let account = user
        .rsplit_once('@')
        .map_or_else(|| quoted(&user), |(name, host)| format!("{}@{}", quoted(name), quoted(host)));
    let privileges: Vec<String> = conn.query(PRIVILEGES).await?;
    if !privileges.iter().any(|privilege| privilege == "REPLICATION SLAVE") {
        lack(format!("{user} lacks REPLICATION SLAVE"), format!("GRANT REPLICATION SLAVE ON *.* TO {account}"));
    }
    match conn.query_first::<Row>("SHOW MASTER STATUS").await {
        Ok(status) => {
            let list = |index: usize| -> Vec<String> {
                let text =
                    status.as_ref().and_then(|row| row.get::<Option<String>, _>(index)).flatten().unwrap_or_default();
                text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
            };
            let (only, without) = (list(2), list(3));
            for database in databases {
                let named = |names: &[String]| names.iter().any(|name| name == database);
                if !only.is_empty() && !named(&only) || named(&without) {
                    lack(
                        format!("changes of database \"{database}\" are not logged"),
                        "change binlog_do_db and binlog_ignore_db in the server's configuration, and restart it"
                            .to_owned(),
                    );
                }
            }
        }
        Err(error) if error.code() == Some(1227) => {
            lack(format!("{user} lacks BINLOG MONITOR"), format!("GRANT BINLOG MONITOR ON *.* TO {account}"));
        }
        Err(error) => return Err(error),
    }
    Ok(lacks)
}
