//! The binary log: what is released, what is refused, what is found out.

use std::path::Path;
use std::sync::Arc;

use headwater_connectors::MysqlConnector;
use headwater_connectors::conformance::feed::{FeedStore, Write};
use headwater_source::{Change, Dependency, Error, Lack, RowOp, Source, Transaction, async_trait};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::{Database, connect, text};
use crate::following::{Following, conforms, failure_of, ids, next, open_followed, row_count, rows};

fn followed(url: &str) -> Arc<dyn Source> {
    open_followed(&MysqlConnector, "shop", Path::new("/"), &[("url", text(url))], "binlog", &[]).unwrap()
}

impl Database {
    fn followed(&self) -> Arc<dyn Source> {
        followed(self.url().as_str())
    }

    async fn following(&self, tables: &[&str]) -> Following {
        Following::installed(self.followed(), tables).await
    }

    async fn all(&mut self, statements: &[&str]) {
        for statement in statements {
            self.run(statement).await;
        }
    }
}

/// The suite's store.
struct Notes {
    database: Database,
}

async fn write(conn: &mut Conn, write: &Write) {
    let done = match write {
        Write::Put { id, body, n } => {
            let sql = "INSERT INTO notes VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE body = VALUES(body), n = VALUES(n)";
            conn.exec_drop(sql, (id, body, n)).await
        }
        Write::Delete { id } => conn.exec_drop("DELETE FROM notes WHERE id = ?", (id,)).await,
        Write::Rekey { from, to } => conn.exec_drop("UPDATE IGNORE notes SET id = ? WHERE id = ?", (to, from)).await,
    };
    done.unwrap();
}

impl Notes {
    async fn write(&self, writes: &[Write], end: &[&str]) {
        let mut conn = connect(&self.database.url()).await;
        for statement in ["SET NAMES utf8mb4", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN"] {
            conn.query_drop(statement).await.unwrap();
        }
        for (index, one) in writes.iter().enumerate() {
            write(&mut conn, one).await;
            if index == 0 {
                conn.query_drop("SAVEPOINT kept").await.unwrap();
            }
        }
        for statement in end {
            conn.query_drop(*statement).await.unwrap();
        }
        conn.disconnect().await.unwrap();
    }
}

#[async_trait]
impl FeedStore for Notes {
    fn open(&self, service: &str) -> Arc<dyn Source> {
        let url = [("url", text(self.database.url().as_str()))];
        open_followed(&MysqlConnector, service, Path::new("/"), &url, "binlog", &[]).unwrap()
    }

    fn table(&self) -> &str {
        "notes"
    }

    async fn commit(&self, writes: &[Write]) {
        self.write(writes, &["COMMIT"]).await;
    }

    async fn roll_back(&self, writes: &[Write]) {
        self.write(writes, &["ROLLBACK TO kept", "COMMIT"]).await;
        self.write(writes, &["ROLLBACK"]).await;
    }

    async fn token(&self) -> Option<String> {
        let mut conn = connect(&self.database.url()).await;
        conn.query_first("SELECT @@gtid_binlog_pos").await.unwrap()
    }
}

#[tokio::test]
async fn mariadb_feed_conforms() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE notes (id BIGINT PRIMARY KEY, body VARCHAR(200), n BIGINT)").await;
    conforms(&Notes { database }).await;
}

#[tokio::test]
async fn every_type_comes_as_a_scan_yields_it() {
    let types: [(&str, &[&str]); 68] = [
        ("TINYINT", &["-128", "127"]),
        ("TINYINT UNSIGNED", &["255"]),
        ("SMALLINT", &["-32768"]),
        ("SMALLINT UNSIGNED", &["65535"]),
        ("MEDIUMINT", &["-8388608", "8388607"]),
        ("MEDIUMINT UNSIGNED", &["16777215"]),
        ("INT", &["-2147483648", "2147483647"]),
        ("INT UNSIGNED ZEROFILL", &["4294967295"]),
        ("BIGINT", &["-9223372036854775808"]),
        ("BIGINT UNSIGNED", &["18446744073709551615"]),
        ("BIT(1)", &["b'1'"]),
        ("BIT(64)", &["18446744073709551615", "1"]),
        ("BIT(13)", &["b'1000000000001'"]),
        ("YEAR", &["0", "1901", "2155"]),
        ("DECIMAL(12,2)", &["-9999999999.99", "0.01", "0", "-0.01"]),
        ("DECIMAL(38,38)", &["0.12345678901234567890123456789012345678"]),
        ("DECIMAL(65,30)", &["-12345678901234567890123456789012345.123456789012345678901234567891"]),
        ("DECIMAL(9,0)", &["-999999999", "1"]),
        ("DECIMAL(10,9)", &["-9.999999999"]),
        ("FLOAT", &["0.1", "-3.4028235e38"]),
        ("FLOAT UNSIGNED", &["1.5"]),
        ("DOUBLE", &["0.1", "1.7976931348623157e308", "-5e-324"]),
        ("CHAR(8)", &["'ab  '", "'ü😀'", "''"]),
        ("CHAR(255)", &["'x'"]),
        ("CHAR(8) CHARACTER SET latin1", &["'ü€'"]),
        ("VARCHAR(40)", &["' x  '", "'日本 😀'", "''"]),
        ("VARCHAR(300)", &["REPEAT('ü', 300)"]),
        ("VARCHAR(20) CHARACTER SET latin1", &["'ü€ß'"]),
        ("VARCHAR(20) CHARACTER SET ucs2", &["'日本'"]),
        ("VARCHAR(20) CHARACTER SET utf16", &["'日😀'"]),
        ("VARCHAR(20) CHARACTER SET utf16le", &["'日😀'"]),
        ("VARCHAR(20) CHARACTER SET utf32", &["'日😀'"]),
        ("VARCHAR(20) CHARACTER SET utf8mb3", &["'日'"]),
        ("VARCHAR(20) CHARACTER SET ascii", &["'a'"]),
        ("VARCHAR(20) COLLATE utf8mb4_nopad_bin", &["'a '"]),
        ("TINYTEXT", &["'x '"]),
        ("TEXT", &["REPEAT('x', 1000)"]),
        ("MEDIUMTEXT", &["REPEAT('ü', 40000)"]),
        ("LONGTEXT", &["'\\\\ '' \"'"]),
        ("TEXT CHARACTER SET latin1", &["'ü'"]),
        ("JSON", &["'{\"b\" : 1}'"]),
        ("ENUM('a','O''k, (x)','ü')", &["'a'", "'O''k, (x)'", "'ü'", "'none'"]),
        ("ENUM('x','') CHARACTER SET latin1", &["''", "'x'"]),
        ("SET('a','b','ü')", &["'a,ü'", "''", "'b'"]),
        ("BINARY(4)", &["x'00ff'", "x'00000000'", "x'01020304'"]),
        ("BINARY(255)", &["'x'"]),
        ("VARBINARY(300)", &["x'00ff00'", "''"]),
        ("TINYBLOB", &["x'00'"]),
        ("BLOB", &["x'00ff'"]),
        ("MEDIUMBLOB", &["REPEAT('x', 70000)"]),
        ("LONGBLOB", &["x'ff'"]),
        (
            "UUID",
            &[
                "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
                "'00000000-0000-0000-0000-000000000000'",
                "'6ccd780c-baba-1026-9564-5b8c656024db'",
                "UUID()",
                "'0190163d-8694-739b-aea5-966c26f8ad90'",
            ],
        ),
        ("INET4", &["'10.0.0.1'", "'0.0.0.0'"]),
        ("INET6", &["'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:10.0.0.1'", "'::'", "'::10.0.0.1'", "'1::'"]),
        ("GEOMETRY", &["ST_GeomFromText('POINT(1 2)')"]),
        ("POINT", &["ST_GeomFromText('POINT(1 2)', 4326)"]),
        ("DATE", &["'1000-01-01'", "'9999-12-31'", "'0000-00-00'", "'2020-00-15'"]),
        ("DATETIME", &["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'0000-00-00 00:00:00'"]),
        ("DATETIME(1)", &["'2024-02-29 12:00:00.5'"]),
        ("DATETIME(3)", &["'2024-02-29 12:00:00.123'"]),
        ("DATETIME(6)", &["'2024-02-29 12:00:00.123456'"]),
        ("TIMESTAMP NULL", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "0"]),
        ("TIMESTAMP(2) NULL", &["'2024-02-29 12:00:00.25'"]),
        ("TIMESTAMP(6) NULL", &["'2024-02-29 12:00:00.123456'", "0"]),
        ("TIME", &["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'"]),
        ("TIME(2)", &["'-00:00:01.10'", "'12:00:00.99'"]),
        ("TIME(4)", &["'-01:02:03.0001'"]),
        ("TIME(6)", &["'-838:59:59.000001'", "'00:00:00.000001'"]),
    ];
    let mut database = Database::new().await;
    let columns: Vec<String> = types.iter().enumerate().map(|(n, (name, _))| format!("c{n} {name} NULL")).collect();
    let columns: Vec<String> = columns.into_iter().map(|column| column.replace("NULL NULL", "NULL")).collect();
    database.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, {}) ROW_FORMAT = DYNAMIC", columns.join(", "))).await;
    database.run("INSERT INTO t (id) VALUES (-1)").await;
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    let longest = types.iter().map(|(_, literals)| literals.len()).max().unwrap();
    for id in 0..longest {
        let values: Vec<&str> = types.iter().map(|(_, literals)| literals.get(id).copied().unwrap_or("NULL")).collect();
        database.run(&format!("INSERT IGNORE INTO t VALUES ({id}, {})", values.join(", "))).await;
        following.catch_up_and_agree(&mut replica).await;
    }
    database.run("UPDATE t SET id = id + 100 WHERE id >= 0").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.iter().map(row_count).sum::<usize>(), 2 * longest);
}

#[tokio::test]
async fn rows_without_a_key_go_as_wholes() {
    let mut database = Database::new().await;
    database.all(&["CREATE TABLE t (a INT, b TEXT)", "INSERT INTO t VALUES (1, 'x'), (1, 'x'), (NULL, NULL)"]).await;
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    database.all(&["DELETE FROM t WHERE a = 1 LIMIT 1", "UPDATE t SET b = 'y' WHERE a IS NULL"]).await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(rows(&taken[0])[0].ops, [RowOp::DeleteRow]);
    assert_eq!(rows(&taken[1])[0].ops, [RowOp::DeleteRow, RowOp::InsertOver]);
}

#[tokio::test]
async fn truncation_is_seen_in_any_spelling() {
    let mut database = Database::new().await;
    database.all(&["CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE `a ``b` (id INT PRIMARY KEY)"]).await;
    let following = database.following(&["t", "a `b"]).await;
    let mut replica = following.snapshot().await;
    let qualified = format!("TRUNCATE TABLE `{}`.t", database.name);
    for statement in ["TRUNCATE t", "truncate /* all */ table `a ``b`", qualified.as_str()] {
        database.all(&["INSERT INTO t VALUES (1), (2)", "INSERT INTO `a ``b` VALUES (3)", statement]).await;
        let taken = following.catch_up_and_agree(&mut replica).await;
        assert!(taken.iter().any(|taken| matches!(taken.changes[0].change, Change::Truncate)), "{statement}");
        database.all(&["DELETE FROM t", "DELETE FROM `a ``b`"]).await;
    }
}

#[tokio::test]
async fn definition_that_changes_is_named() {
    for statement in [
        "ALTER TABLE t ADD COLUMN x INT",
        "ALTER TABLE t DROP COLUMN n, ADD COLUMN n INT DEFAULT 7",
        "ALTER TABLE t MODIFY n BIGINT",
        "RENAME TABLE t TO u",
        "DROP TABLE t",
        "CREATE OR REPLACE TABLE t (id INT PRIMARY KEY, n INT)",
    ] {
        let mut database = Database::new().await;
        database.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
        let following = database.following(&["t"]).await;
        let mut replica = following.snapshot().await;
        // These are none of its definition.
        database
            .all(&[
                "INSERT INTO t VALUES (1, 1)",
                "CREATE INDEX i ON t (n)",
                "ANALYZE TABLE t",
                "CREATE TABLE other (id INT)",
            ])
            .await;
        following.catch_up_and_agree(&mut replica).await;
        let mut changes = following.changes(replica.position()).await;
        database.run(statement).await;
        let error = failure_of(&mut changes).await;
        assert!(
            matches!(&error, Error::SchemaChanged { table, .. } if table.ends_with(".t")),
            "{statement}: {}",
            error.report()
        );
    }
}

#[tokio::test]
async fn rolled_back_savepoints_never_show() {
    let mut database = Database::new().await;
    database.all(&["CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE loose (id INT) ENGINE = MyISAM"]).await;
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    database
        .all(&[
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "SAVEPOINT s",
            "INSERT INTO t VALUES (2)",
            "ROLLBACK TO s",
            "INSERT INTO t VALUES (3)",
            "COMMIT",
            "BEGIN",
            "INSERT INTO t VALUES (4)",
            "ROLLBACK",
        ])
        .await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.iter().map(row_count).collect::<Vec<_>>(), [2]);
    // With a table that keeps what is rolled back, the log may hold the rows and their rollback.
    database
        .all(&[
            "BEGIN",
            "INSERT INTO t VALUES (5)",
            "SAVEPOINT s",
            "INSERT INTO t VALUES (6)",
            "INSERT INTO loose VALUES (1)",
            "ROLLBACK TO s",
            "COMMIT",
        ])
        .await;
    match following.try_catch_up(&mut replica).await {
        Ok(_) => following.agree(&replica).await,
        Err(error) => assert!(error.to_string().contains("savepoint"), "{}", error.report()),
    }
}

#[tokio::test]
async fn transaction_of_half_a_million_rows_comes_whole() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT PRIMARY KEY, body VARCHAR(40))").await;
    let following = database.following(&["t"]).await;
    let replica = following.snapshot().await;
    let mut changes = following.changes(replica.position()).await;
    database.run("INSERT INTO t SELECT seq, CONCAT('body ', seq) FROM seq_1_to_500000").await;
    let mut whole: Option<Transaction> = None;
    while whole.is_none() {
        whole = Some(next(&mut changes).await.unwrap()).filter(|transaction| !transaction.changes.is_empty());
    }
    let whole = whole.unwrap();
    assert_eq!(row_count(&whole), 500_000);
    assert!(whole.committed_us.is_some());
    let total: i64 = rows(&whole).iter().map(|rows| ids(rows)).sum();
    assert_eq!(total, 500_000 * 500_001 / 2);
}

async fn lacks(database: &Database, table: &str) -> Vec<Lack> {
    let following = Following::of(database.followed(), &[table]).await;
    let lacks = following.feed.check(&following.tables).await.unwrap();
    let refused = following.feed.install(&following.tables).await;
    assert_eq!(refused.is_err(), !lacks.is_empty());
    lacks
}

#[tokio::test]
async fn table_that_cannot_be_followed_is_refused_with_what_mends_it() {
    let mut database = Database::new().await;
    database
        .all(&[
            "CREATE TABLE parent (id INT PRIMARY KEY)",
            "CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
            "CREATE TABLE loose (id INT PRIMARY KEY) ENGINE = MyISAM",
            "CREATE TABLE computed (id INT PRIMARY KEY, v INT AS (id * 2) VIRTUAL)",
            "CREATE TABLE history (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
            "CREATE TABLE kanji (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET sjis)",
            "CREATE TABLE small (id INT PRIMARY KEY, v VARCHAR(900) COMPRESSED)",
            "CREATE VIEW seen AS SELECT * FROM parent",
            "CREATE TABLE stored (id INT PRIMARY KEY, v INT AS (id * 2) STORED, w INT INVISIBLE DEFAULT 3)",
        ])
        .await;
    for (table, what, remedy) in [
        ("child", "\"fk\"", "DROP FOREIGN KEY `fk`"),
        ("loose", "MyISAM", "ENGINE = InnoDB"),
        ("computed", "\"v\"", "PERSISTENT"),
        ("history", "history", "DROP SYSTEM VERSIONING"),
        ("kanji", "sjis", "MODIFY `v`"),
        ("small", "compressed", "MODIFY `v`"),
        ("seen", "view", "publish the tables"),
    ] {
        let lacks = lacks(&database, table).await;
        assert!(lacks[0].what.contains(what) && lacks[0].remedy.contains(remedy), "{table}: {lacks:?}");
    }
    let following = database.following(&["parent", "stored"]).await;
    let mut replica = following.snapshot().await;
    database.all(&["INSERT INTO stored (id) VALUES (1), (2)", "UPDATE stored SET id = 3, w = 4 WHERE id = 1"]).await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn user_that_lacks_privileges_is_told_the_statement_that_grants_them() {
    let mut database = Database::new().await;
    let user = format!("r_{}", database.name);
    let user = &user[..user.len().min(30)];
    database.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    database.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'")).await;
    database.run(&format!("GRANT SELECT ON {}.* TO '{user}'@'%'", database.name)).await;
    let mut url = database.url();
    url.set_username(user).unwrap();
    url.set_password(Some("pw")).unwrap();
    let following = Following::of(followed(url.as_str()), &["t"]).await;
    let lacks = following.feed.check(&following.tables).await.unwrap();
    let remedies: Vec<String> = lacks.into_iter().map(|lack| lack.remedy).collect();
    let account = format!("`{user}`@`%`");
    assert_eq!(
        remedies,
        [format!("GRANT REPLICATION SLAVE ON *.* TO {account}"), format!("GRANT BINLOG MONITOR ON *.* TO {account}")]
    );
    for remedy in &remedies {
        database.run(remedy).await;
    }
    let following = Following::installed(followed(url.as_str()), &["t"]).await;
    let mut replica = following.snapshot().await;
    database.run("INSERT INTO t VALUES (1)").await;
    following.catch_up_and_agree(&mut replica).await;
    database.run(&format!("DROP USER '{user}'@'%'")).await;
}

#[tokio::test]
async fn statement_in_place_of_rows_is_refused_and_so_are_rows_without_their_columns() {
    for (setting, what) in [
        ("SET SESSION binlog_format = 'STATEMENT'", "binlog_format"),
        ("SET SESSION binlog_row_image = 'MINIMAL'", "binlog_row_image"),
    ] {
        let mut database = Database::new().await;
        database.all(&["CREATE TABLE t (id INT PRIMARY KEY, n INT)", "INSERT INTO t VALUES (1, 1)"]).await;
        let following = database.following(&["t"]).await;
        let replica = following.snapshot().await;
        database.all(&[setting, "UPDATE t SET n = 2"]).await;
        let error = failure_of(&mut following.changes(replica.position()).await).await.to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[tokio::test]
async fn distributed_transaction_over_a_followed_table_is_refused() {
    let mut database = Database::new().await;
    database.all(&["CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)"]).await;
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    let name = database.name.clone();
    let xa = |table: &str| {
        ["XA START 'ID'", "INSERT INTO TABLE VALUES (1)", "XA END 'ID'", "XA PREPARE 'ID'", "XA COMMIT 'ID'"]
            .map(|statement| statement.replace("'ID'", &format!("'{name}{table}'")).replace("TABLE", table))
    };
    for statement in xa("other") {
        database.run(&statement).await;
    }
    database.run("INSERT INTO t VALUES (2)").await;
    following.catch_up_and_agree(&mut replica).await;
    for statement in xa("t") {
        database.run(&statement).await;
    }
    let error = failure_of(&mut following.changes(replica.position()).await).await.to_string();
    assert!(error.contains("XA"), "{error}");
}

#[tokio::test]
async fn compressed_events_are_read() {
    let mut database = Database::new().await;
    database.all(&["CREATE TABLE t (id INT PRIMARY KEY, body TEXT)", "INSERT INTO t VALUES (0, 'plain')"]).await;
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    // It is the server's, so that other tests read compressed events meanwhile, too.
    database.run("SET GLOBAL log_bin_compress = ON").await;
    let comment = "x".repeat(400);
    let before = replica.position().token().to_owned();
    let (file, offset) = before.split(' ').next().unwrap().rsplit_once(':').unwrap();
    let events = format!("SHOW BINLOG EVENTS IN '{file}' FROM {offset}");
    database
        .all(&[
            "INSERT INTO t SELECT seq, REPEAT('long ', 100) FROM seq_1_to_50",
            "UPDATE t SET body = REPEAT('other ', 100) WHERE id > 10",
            "DELETE FROM t WHERE id > 40",
        ])
        .await;
    following.catch_up_and_agree(&mut replica).await;
    database.run(&format!("TRUNCATE /* {comment} */ t")).await;
    database.run("SET GLOBAL log_bin_compress = OFF").await;
    let events: Vec<Row> = database.admin.query(events).await.unwrap();
    let kinds: Vec<String> = events.iter().filter_map(|event| event.get(2)).collect();
    for kind in
        ["Write_rows_compressed_v1", "Update_rows_compressed_v1", "Delete_rows_compressed_v1", "Query_compressed"]
    {
        assert!(kinds.iter().any(|found| found == kind), "{kind} of {kinds:?}");
    }
    database.run("INSERT INTO t VALUES (1, 'plain')").await;
    following.catch_up_and_agree(&mut replica).await;
    assert_eq!(replica.rows(0).len(), 1);
}

#[tokio::test]
async fn position_of_another_log_is_history_that_is_gone() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let following = database.following(&["t"]).await;
    let replica = following.snapshot().await;
    let token = replica.position().token().to_owned();
    let (file, gtids) = token.split_once(' ').unwrap();
    let (name, offset) = file.rsplit_once(':').unwrap();
    let stem = name.rsplit_once('.').unwrap().0;
    for (other, what) in
        [(format!("{stem}.999999:4 {gtids}"), "purged"), (format!("{name}:{offset} 0-1-1"), "another by now")]
    {
        let after = following.feed.resume(0, &other).unwrap();
        match following.feed.changes(&following.tables, &after).await.err() {
            Some(Error::HistoryGone { reason, .. }) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{:?}", other.map(|error| error.report())),
        }
    }
}

#[tokio::test]
async fn log_that_goes_on_in_another_file_is_followed() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    let early = replica.clone();
    database.all(&["INSERT INTO t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (2)"]).await;
    following.catch_up_and_agree(&mut replica).await;
    database.run("FLUSH BINARY LOGS").await;
    following.catch_up_and_agree(&mut replica).await;
    let mut early = early;
    following.catch_up_and_agree(&mut early).await;
    assert!(following.feed.status().await.unwrap().oldest.is_some());
}

/// The server reads its own log in packets, and tells no GTIDs of what comes after an event that is larger.
#[tokio::test]
async fn log_is_followed_from_behind_a_row_that_is_larger_than_the_servers_packet() {
    let mut database = Database::new().await;
    let large = "CREATE TABLE large (id INT PRIMARY KEY, a LONGTEXT, b LONGTEXT)";
    database.all(&[large, "CREATE TABLE t (id INT PRIMARY KEY)"]).await;
    let packet: u64 = database.ask("SELECT @@max_allowed_packet").await;
    let length = packet / 2 + 1000;
    database.run(&format!("INSERT INTO large VALUES (1, REPEAT('a', {length}), REPEAT('b', {length}))")).await;
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    database.run("INSERT INTO t VALUES (1)").await;
    following.catch_up_and_agree(&mut replica).await;
    database.run("FLUSH BINARY LOGS").await;
}

#[tokio::test]
async fn row_of_the_table_of_dependencies_tells_what_a_transaction_depends_on() {
    let mut database = Database::new().await;
    database
        .all(&["CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE headwater_depends (tokens VARCHAR(4000) NOT NULL)"])
        .await;
    depends(&mut database, "DELETE FROM headwater_depends").await;
}

/// Writers that delete their own row alone do not wait for one another.
#[tokio::test]
async fn table_of_dependencies_may_have_a_number_for_its_key() {
    let mut database = Database::new().await;
    let table = "CREATE TABLE headwater_depends (tokens VARCHAR(4000) NOT NULL, id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, n SMALLINT)";
    database.all(&["CREATE TABLE t (id INT PRIMARY KEY)", table]).await;
    depends(&mut database, "DELETE FROM headwater_depends WHERE id = last_insert_id()").await;
}

async fn depends(database: &mut Database, delete: &str) {
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    let insert = "INSERT INTO headwater_depends (tokens) VALUES ('{\"payments\": \"0/16B3748\"}')";
    database.all(&["BEGIN", "INSERT INTO t VALUES (1)", insert, delete, "COMMIT"]).await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken[0].depends_on, [Dependency { service: "payments".to_owned(), token: "0/16B3748".to_owned() }]);
    let token: String = database.ask("SELECT @@last_gtid").await;
    assert!(following.feed.covers(replica.position(), &token).unwrap());
}

#[tokio::test]
async fn snapshot_of_more_tables_than_connections_is_one_state() {
    let mut database = Database::new().await;
    let tables: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    for name in &tables {
        database.run(&format!("CREATE TABLE {name} (id INT PRIMARY KEY)")).await;
    }
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    let following = database.following(&names).await;
    let mut replica = following.snapshot().await;
    database.run("BEGIN").await;
    for name in &tables {
        database.run(&format!("INSERT INTO {name} VALUES (1)")).await;
    }
    database.run("COMMIT").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.len(), 1);
    let reloaded = following.snapshot().await;
    following.agree(&reloaded).await;
}
