//! Logical replication: what is released, what is refused, what is found out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_connectors::PostgresConnector;
use headwater_connectors::conformance::feed::{FeedStore, Replica, Write};
use headwater_source::{
    Change, Dependency, Error, FeedClass, Kept, RowOp, ScalarValue, Source, Transaction, async_trait,
};
use tokio_postgres::Client;

use super::{Database, client, eventually, failure, text, unique, url_as};
use crate::following::{Following, conforms, failure_of, ids, next, open_followed, row_count, rows};

/// A source whose feed has a slot of its own.
fn followed(url: &str, slot: &str) -> Arc<dyn Source> {
    let options = [("url", text(url))];
    let feed = [("slot", text(slot))];
    open_followed(&PostgresConnector, "shop", "/".as_ref(), &options, "logical", &feed).expect("the options are right")
}

/// A database that is followed. Its slot is dropped with it.
struct Followed {
    slot: String,
    database: Database,
}

impl Followed {
    async fn new(schema: &str) -> Self {
        let followed = Self { slot: unique("hw_slot"), database: Database::new().await };
        followed.database.run(schema).await;
        followed
    }

    fn source(&self) -> Arc<dyn Source> {
        followed(&self.database.url(), &self.slot)
    }

    async fn run(&self, sql: &str) {
        self.database.run(sql).await;
    }

    async fn of(&self, tables: &[&str]) -> Following {
        Following::installed(self.source(), tables).await
    }

    /// The error of putting a feed in place over a table.
    async fn refusal(&self, table: &str) -> String {
        let following = Following::of(self.source(), &[table]).await;
        let lacks = following.feed.check(&following.tables).await.unwrap();
        let refused = failure(following.feed.install(&following.tables).await).to_string();
        assert!(!lacks.is_empty(), "{refused}");
        assert!(refused.contains(&lacks[0].what) && refused.contains(&lacks[0].remedy), "{refused}");
        refused
    }
}

impl Drop for Followed {
    /// A database with a slot in use cannot be dropped.
    fn drop(&mut self) {
        let (url, slot) = (self.database.url(), self.slot.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client(&url).await;
                let stop = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active";
                drop(client.batch_execute(stop).await);
                let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
                for _ in 0..200 {
                    if client.execute(sql, &[&slot]).await.is_ok() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        drop(dropping.join());
    }
}

/// The suite's store: each service has a slot of its own.
struct Notes {
    followed: Followed,
    idle: Mutex<Vec<Client>>,
}

impl Notes {
    /// A connection of nobody else's; it goes back with [`Self::give_back`].
    async fn writer(&self) -> Client {
        let idle = self.idle.lock().unwrap().pop();
        match idle {
            Some(client) => client,
            None => client(&self.followed.database.url()).await,
        }
    }

    fn give_back(&self, client: Client) {
        self.idle.lock().unwrap().push(client);
    }
}

async fn write(client: &Client, write: &Write) {
    match write {
        Write::Put { id, body, n } => {
            let sql = "INSERT INTO notes VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET body = $2, n = $3";
            client.execute(sql, &[id, body, n]).await.unwrap();
        }
        Write::Delete { id } => {
            client.execute("DELETE FROM notes WHERE id = $1", &[id]).await.unwrap();
        }
        Write::Rekey { from, to } => {
            let sql = "UPDATE notes SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM notes WHERE id = $2)";
            client.execute(sql, &[from, to]).await.unwrap();
        }
    }
}

#[async_trait]
impl FeedStore for Notes {
    fn open(&self, service: &str) -> Arc<dyn Source> {
        let slot = match service {
            "one" => self.followed.slot.clone(),
            other => format!("{}_{other}", self.followed.slot),
        };
        followed(&self.followed.database.url(), &slot)
    }

    fn table(&self) -> &str {
        "notes"
    }

    async fn commit(&self, writes: &[Write]) {
        let client = self.writer().await;
        client.batch_execute("BEGIN").await.unwrap();
        for one in writes {
            write(&client, one).await;
        }
        client.batch_execute("COMMIT").await.unwrap();
        self.give_back(client);
    }

    async fn roll_back(&self, writes: &[Write]) {
        let client = self.writer().await;
        for end in ["ROLLBACK TO kept; COMMIT", "ROLLBACK"] {
            client.batch_execute("BEGIN").await.unwrap();
            for (index, one) in writes.iter().enumerate() {
                write(&client, one).await;
                if index == 0 {
                    client.batch_execute("SAVEPOINT kept").await.unwrap();
                }
            }
            client.batch_execute(end).await.unwrap();
        }
    }

    async fn token(&self) -> Option<String> {
        let row = self.writer().await.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
        Some(row.get(0))
    }
}

#[tokio::test]
async fn postgres_feed_conforms() {
    let followed = Followed::new("CREATE TABLE notes (id bigint PRIMARY KEY, body text, n bigint)").await;
    conforms(&Notes { followed, idle: Mutex::default() }).await;
}

#[tokio::test]
async fn every_type_comes_as_a_scan_yields_it() {
    let types = [
        ("boolean", vec!["true", "false"]),
        ("smallint", vec!["-32768", "32767"]),
        ("integer", vec!["-2147483648", "2147483647"]),
        ("bigint", vec!["-9223372036854775808", "9223372036854775807"]),
        ("oid", vec!["0", "4294967295"]),
        ("real", vec!["'-0'", "'NaN'", "3.4028235e38", "1e-45", "0.1", "'Infinity'"]),
        ("double precision", vec!["'-0'", "'NaN'", "'-Infinity'", "0.1", "4.9e-324", "1.7976931348623157e308"]),
        ("numeric(12,2)", vec!["-9999999999.99", "0.01", "0", "10000"]),
        ("numeric(38,38)", vec!["1e-38", "-0.5"]),
        ("numeric(3,-2)", vec!["99900", "-100"]),
        ("numeric(3,5)", vec!["0.00999"]),
        ("numeric(76,6)", vec!["-1234567890123456789012345678901234567890.000001"]),
        ("numeric", vec!["'NaN'", "1.50", "1e-60", "'-Infinity'"]),
        ("text", vec!["''", "'  a '", "E'O''Brien \\\\ \"x\" \\n'", "'日本 𝄞 é'"]),
        ("varchar(40)", vec!["' x '"]),
        ("name", vec!["'n'"]),
        ("char(8)", vec!["'ab'", "' a '", "''"]),
        ("bpchar", vec!["'ab  '"]),
        ("\"char\"", vec!["'x'", "''"]),
        ("bytea", vec!["''", "'\\x00ff27'"]),
        ("date", vec!["'4714-11-24 BC'", "'5874897-12-31'", "'0001-01-01'", "'infinity'", "'-infinity'"]),
        ("time", vec!["'00:00'", "'23:59:59.999999'", "'24:00'", "'01:02:03.5'"]),
        (
            "timestamp",
            vec![
                "'4714-11-24 00:00:00 BC'",
                "'1969-12-31 23:59:59.999999'",
                "'294247-01-10 04:00:54.775806'",
                "'infinity'",
            ],
        ),
        ("timestamptz", vec!["'4714-11-24 00:00:00+00 BC'", "'2024-02-29 12:00:00.5+05:30'", "'-infinity'"]),
        ("interval", vec!["'1 year 2 months -3 days 04:05:06.000007'", "'-178000000 years'", "'0'", "'-1 second'"]),
        ("uuid", vec!["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
        ("json", vec!["'{\"b\" : 1}'"]),
        ("jsonb", vec!["'{\"b\" : 1, \"a\": [1, null]}'"]),
        ("mood", vec!["'sad'", "'O''k \"x\"'"]),
        ("small", vec!["7"]),
        ("word", vec!["'x  '"]),
        ("timetz", vec!["'04:05:06.5+02'"]),
        ("bit(3)", vec!["B'101'"]),
        ("varbit", vec!["B'1'"]),
        ("inet", vec!["'10.0.0.1'", "'10.0.0.1/8'", "'::1'"]),
        ("cidr", vec!["'10.0.0.0/8'", "'10.0.0.1'"]),
        ("macaddr", vec!["'08:00:2b:01:02:03'"]),
        ("money", vec!["12.5", "-3"]),
        ("xml", vec!["'<a/>'"]),
        ("int4range", vec!["'[1,3]'"]),
        ("int4multirange", vec!["'{[1,2)}'"]),
        ("pair", vec!["(1, 'x y')"]),
        ("point", vec!["'(1,2)'"]),
        ("tsvector", vec!["'a b'"]),
        ("pg_lsn", vec!["'0/10'"]),
        ("regclass", vec!["'pg_class'", "'public.t'"]),
        ("int[]", vec!["'{1,NULL,-2147483648}'", "'{}'", "'[7:7]={5}'"]),
        ("small[]", vec!["'{1}'"]),
        ("text[]", vec!["ARRAY['a,b', NULL, '', 'NULL', 'x\"y\\z', '{', ' ']", "'{}'"]),
        ("char(3)[]", vec!["ARRAY['x', 'xyz']::char(3)[]"]),
        ("mood[]", vec!["'{sad,NULL}'"]),
        ("uuid[]", vec!["'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'"]),
        ("jsonb[]", vec!["ARRAY['{\"a\":1}']::jsonb[]"]),
        ("numeric[]", vec!["'{NaN,1.50}'"]),
        ("numeric(9,2)[]", vec!["'{1.5,-2}'"]),
        ("float8[]", vec!["'{NaN,-0,1e300}'"]),
        ("bytea[]", vec!["ARRAY['\\x00ff'::bytea]"]),
        ("timestamptz[]", vec!["ARRAY['2024-02-29 12:00:00.5+05:30'::timestamptz]"]),
        ("date[]", vec!["'{2024-01-01,infinity}'"]),
        ("interval[]", vec!["ARRAY['1 day 2 hours'::interval]"]),
        ("boolean[]", vec!["'{t,f,NULL}'"]),
        ("inet[]", vec!["'{10.0.0.1,NULL}'"]),
        ("pair[]", vec!["ARRAY[(1,'x')::pair]"]),
    ];
    let columns: Vec<String> = types.iter().enumerate().map(|(n, (name, _))| format!("c{n} {name}")).collect();
    let followed = Followed::new(&format!(
        "CREATE TYPE mood AS ENUM ('sad', 'O''k \"x\"'); CREATE TYPE pair AS (a int, b text);
         CREATE DOMAIN small AS smallint; CREATE DOMAIN word AS char(4);
         CREATE TABLE t (id int PRIMARY KEY, {})",
        columns.join(", ")
    ))
    .await;
    followed.run("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; INSERT INTO t (id) VALUES (-1)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    let longest = types.iter().map(|(_, literals)| literals.len()).max().unwrap();
    for id in 0..longest {
        let cast = |(name, literals): &(&str, Vec<&str>)| match literals.get(id) {
            Some(literal) => format!("({literal})::{name}"),
            None => "NULL".to_owned(),
        };
        let values: Vec<String> = types.iter().map(cast).collect();
        followed.run(&format!("INSERT INTO t VALUES ({id}, {})", values.join(", "))).await;
    }
    followed.run("UPDATE t SET id = id + 100 WHERE id >= 0").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.iter().map(row_count).sum::<usize>(), 3 * longest);
    let reloaded = following.snapshot().await;
    following.agree(&reloaded).await;
}

#[tokio::test]
async fn value_that_no_scan_can_read_is_named() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, v numeric(9,2), a int[])").await;
    let following = followed.of(&["t"]).await;
    for (sql, column, what) in [
        ("INSERT INTO t VALUES (1, 'NaN', NULL)", "v", "NaN"),
        ("INSERT INTO t VALUES (2, 1, '{{1,2},{3,4}}')", "a", "2 dimensions"),
    ] {
        let replica = following.snapshot().await;
        followed.run(sql).await;
        let mut changes = following.changes(replica.position()).await;
        match failure_of(&mut changes).await {
            Error::Value { table, column: found, reason, .. } => {
                assert_eq!((table.as_str(), found.as_str()), ("public.t", column));
                assert!(reason.contains(what), "{reason}");
            }
            other => panic!("{}", other.report()),
        }
        followed.run("DELETE FROM t").await;
    }
}

#[tokio::test]
async fn stored_value_that_an_update_leaves_alone_is_kept() {
    let followed = Followed::new(
        "CREATE TABLE t (id int PRIMARY KEY, big text, n int);
         ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL;
         INSERT INTO t VALUES (1, repeat('x', 100000), 1), (2, 'small', 1)",
    )
    .await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed.run("UPDATE t SET n = 2").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    let changes = rows(&taken[0])[0];
    assert_eq!(changes.ops, [RowOp::DeleteKey, RowOp::InsertOver, RowOp::DeleteKey, RowOp::InsertOver]);
    assert_eq!(changes.kept, [Kept { row: 1, column: 1 }]);
    followed.run("UPDATE t SET id = 3 WHERE id = 1; UPDATE t SET big = repeat('y', 100000) WHERE id = 3").await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn stored_key_that_an_update_leaves_alone_is_found() {
    let followed = Followed::new(
        "CREATE TABLE t (k text, n int, other text); ALTER TABLE t ALTER COLUMN k SET STORAGE EXTERNAL;
         ALTER TABLE t ALTER COLUMN other SET STORAGE EXTERNAL; ALTER TABLE t ADD PRIMARY KEY (k);
         INSERT INTO t VALUES (repeat('k', 2500), 1, repeat('o', 9000))",
    )
    .await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed.run("UPDATE t SET n = 2").await;
    following.catch_up_and_agree(&mut replica).await;
    followed.run("DELETE FROM t").await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn rows_without_a_key_go_as_wholes_where_the_identity_is_full() {
    let followed = Followed::new(
        "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t VALUES (1, 'x'), (1, 'x'), (NULL, NULL)",
    )
    .await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed.run("INSERT INTO t VALUES (1, 'x'), (2, repeat('y', 100000))").await;
    followed.run("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1)").await;
    followed.run("UPDATE t SET b = 'z' WHERE a IS NULL; UPDATE t SET a = 3 WHERE a = 2").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert!(rows(&taken[1])[0].ops == [RowOp::DeleteRow]);
    assert_eq!(rows(&taken[2])[0].ops, [RowOp::DeleteRow, RowOp::InsertOver, RowOp::DeleteRow, RowOp::InsertOver]);
}

#[tokio::test]
async fn key_of_an_index_identifies_where_the_manifest_names_its_columns() {
    let followed = Followed::new(
        "CREATE TABLE t (a int NOT NULL, b text, UNIQUE (a)); ALTER TABLE t REPLICA IDENTITY USING INDEX t_a_key;
         INSERT INTO t VALUES (1, 'x')",
    )
    .await;
    let mut following = Following::of(followed.source(), &["t"]).await;
    assert!(failure(following.feed.install(&following.tables).await).to_string().contains("REPLICA IDENTITY FULL"));
    following.tables[0].key = Some(vec!["a".to_owned()]);
    following.feed.install(&following.tables).await.unwrap();
    let mut replica = following.snapshot().await;
    followed.run("UPDATE t SET a = 2; UPDATE t SET b = 'y'; DELETE FROM t; INSERT INTO t VALUES (5, 'z')").await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn truncation_empties_every_table_that_it_reaches() {
    let followed = Followed::new(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
         INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1, 1)",
    )
    .await;
    let following = followed.of(&["a", "b"]).await;
    let mut replica = following.snapshot().await;
    followed.run("BEGIN; INSERT INTO a VALUES (3); TRUNCATE a CASCADE; INSERT INTO a VALUES (4), (1); COMMIT").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    let truncated: Vec<usize> = taken[0]
        .changes
        .iter()
        .filter(|change| matches!(change.change, Change::Truncate))
        .map(|change| change.table)
        .collect();
    assert_eq!(truncated, [0, 1]);
    assert_eq!(replica.rows(0).len(), 2);
}

#[tokio::test]
async fn rolled_back_savepoints_and_transactions_never_show() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed
        .run(
            "BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2); SAVEPOINT u; INSERT INTO t VALUES (3);
             RELEASE u; ROLLBACK TO s; INSERT INTO t VALUES (4); COMMIT;
             BEGIN; INSERT INTO t VALUES (5); ROLLBACK",
        )
        .await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(row_count(&taken[0]), 2);
}

#[tokio::test]
async fn transaction_of_half_a_million_rows_comes_whole() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, body text)").await;
    let following = followed.of(&["t"]).await;
    let replica = following.snapshot().await;
    followed.run("INSERT INTO t SELECT n, 'body ' || n FROM generate_series(1, 500000) n").await;
    let head = following.feed.head().await.unwrap();
    let mut changes = following.changes(replica.position()).await;
    let mut whole: Option<Transaction> = None;
    while whole.is_none() {
        let transaction = next(&mut changes).await.unwrap();
        whole = Some(transaction).filter(|transaction| !transaction.changes.is_empty());
    }
    let whole = whole.unwrap();
    assert_eq!(row_count(&whole), 500_000);
    assert!(whole.position <= head);
    assert!(rows(&whole).iter().all(|rows| rows.ops.len() <= 65_536));
    let total: i64 = rows(&whole).iter().map(|rows| ids(rows)).sum();
    assert_eq!(total, 500_000 * 500_001 / 2);
}

#[tokio::test]
async fn column_that_changes_while_followed_is_named() {
    for (alter, what) in [
        ("ALTER TABLE t ADD COLUMN extra int", "extra"),
        ("ALTER TABLE t DROP COLUMN n", "\"n\" is gone"),
        ("ALTER TABLE t ALTER COLUMN n TYPE bigint", "bigint"),
        ("ALTER TABLE t RENAME COLUMN n TO m", "\"n\" is gone"),
        ("ALTER TABLE t ALTER COLUMN n TYPE int USING n + 1", "altered"),
        ("ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n int DEFAULT 7", "altered"),
        ("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, n int)", "publication"),
    ] {
        let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, n int)").await;
        let following = followed.of(&["t"]).await;
        let replica = following.snapshot().await;
        let mut changes = following.changes(replica.position()).await;
        followed.run("INSERT INTO t VALUES (1, 1)").await;
        while next(&mut changes).await.unwrap().changes.is_empty() {}
        followed.run(alter).await;
        followed.run("INSERT INTO t (id) VALUES (2)").await;
        if what != "publication" {
            let error = failure_of(&mut changes).await;
            assert!(matches!(&error, Error::SchemaChanged { table, .. } if table == "public.t"), "{}", error.report());
        }
        drop(changes);
        // And so it is for whoever comes later.
        let again =
            Following { source: followed.source(), feed: followed.source().feed().unwrap(), tables: following.tables };
        let error = failure(again.feed.changes(&again.tables, replica.position()).await);
        assert!(error.to_string().contains(what), "{alter}: {}", error.report());
    }
}

#[tokio::test]
async fn change_of_columns_while_nobody_followed_is_not_hidden_by_a_new_start() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    drop(following);
    followed.run("ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n int DEFAULT 7").await;
    // As after a restart: the feed is put in place, and read on from where it was.
    let following = followed.of(&["t"]).await;
    let error = failure(following.feed.changes(&following.tables, replica.position()).await);
    assert!(matches!(error, Error::SchemaChanged { .. }), "{}", error.report());
    replica = following.snapshot().await;
    followed.run("INSERT INTO t VALUES (2, 2)").await;
    following.catch_up_and_agree(&mut replica).await;
    // The same holds of a table that left the publication for a while.
    followed.run(&format!("ALTER PUBLICATION {} DROP TABLE t; INSERT INTO t VALUES (3, 3)", followed.slot)).await;
    let error = failure(following.feed.changes(&following.tables, replica.position()).await);
    assert!(matches!(error, Error::HistoryGone { .. }), "{}", error.report());
    let following = followed.of(&["t"]).await;
    let error = failure(following.feed.changes(&following.tables, replica.position()).await);
    assert!(matches!(error, Error::SchemaChanged { .. }), "{}", error.report());
    let reloaded = following.snapshot().await;
    following.agree(&reloaded).await;
}

#[tokio::test]
async fn change_of_columns_that_no_row_follows_is_found_all_the_same() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    let following = followed.of(&["t"]).await;
    let replica = following.snapshot().await;
    let mut changes = following.changes(replica.position()).await;
    followed.run("ALTER TABLE t ALTER COLUMN n TYPE int USING n + 1").await;
    let error = failure_of(&mut changes).await;
    assert!(matches!(error, Error::SchemaChanged { .. }), "{}", error.report());
}

#[tokio::test]
async fn what_changes_nothing_of_the_columns_disturbs_nothing() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    for sql in ["CREATE INDEX ON t (n)", "ANALYZE t", "VACUUM FULL t", "CREATE TABLE other (id int PRIMARY KEY)"] {
        followed.run(sql).await;
        followed.run("UPDATE t SET n = n + 1").await;
        following.catch_up_and_agree(&mut replica).await;
    }
}

#[tokio::test]
async fn table_that_cannot_be_followed_is_refused_with_what_mends_it() {
    let followed = Followed::new(
        "CREATE TABLE no_key (a int); CREATE TABLE gen (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED);
         CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY); CREATE VIEW seen AS SELECT * FROM no_key;
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts DEFAULT;
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
         CREATE TABLE late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)",
    )
    .await;
    for (table, what, remedy) in [
        ("no_key", "\"public.no_key\"", "ALTER TABLE \"public\".\"no_key\" REPLICA IDENTITY FULL"),
        ("late", "\"public.late\"", "REPLICA IDENTITY FULL"),
        ("gen", "column \"b\"", "ALTER TABLE \"public\".\"gen\" ALTER COLUMN \"b\" DROP EXPRESSION"),
        ("fleeting", "unlogged", "ALTER TABLE \"public\".\"fleeting\" SET LOGGED"),
        ("seen", "view", "publish the tables"),
        ("parts", "partitioned", "publish the partitions"),
        ("parent", "inherit", "publish the children"),
    ] {
        let refused = followed.refusal(table).await;
        assert!(refused.contains(what) && refused.contains(remedy), "{table}: {refused}");
    }
    // What it was told mends it, and nothing was left behind that would stop the service from writing.
    followed.run("INSERT INTO no_key VALUES (1); DELETE FROM no_key; ALTER TABLE no_key REPLICA IDENTITY FULL").await;
    followed.run("ALTER TABLE gen ALTER COLUMN b DROP EXPRESSION").await;
    let following = followed.of(&["no_key", "gen", "part", "child"]).await;
    let mut replica = following.snapshot().await;
    followed.run("INSERT INTO parts VALUES (7); INSERT INTO gen VALUES (1, 2, 3)").await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn role_that_lacks_privileges_is_told_the_statement_that_grants_them() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let (role, name) = (unique("hw_reader"), &followed.database.name);
    followed.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT SELECT ON t TO {role}")).await;
    let source = self::followed(&url_as(&role, "pw", name), &followed.slot);
    let following = Following::of(source, &["t"]).await;
    let lacks = following.feed.check(&following.tables).await.unwrap();
    let remedies: Vec<&str> = lacks.iter().map(|lack| lack.remedy.as_str()).collect();
    assert_eq!(
        remedies,
        [
            format!("ALTER ROLE \"{role}\" REPLICATION"),
            format!("as its owner: CREATE PUBLICATION \"{}\" FOR TABLE \"public\".\"t\"", followed.slot)
        ]
    );
    assert!(failure(following.feed.install(&following.tables).await).to_string().contains("REPLICATION"));
    for remedy in remedies {
        followed.run(remedy.trim_start_matches("as its owner: ")).await;
    }
    assert_eq!(following.feed.check(&following.tables).await.unwrap(), []);
    following.feed.install(&following.tables).await.unwrap();
    let mut replica = following.snapshot().await;
    followed.run("INSERT INTO t VALUES (1)").await;
    following.catch_up_and_agree(&mut replica).await;
    let refused = failure(following.feed.remove().await).to_string();
    let drop_it = format!("DROP PUBLICATION \"{}\"", followed.slot);
    assert!(refused.contains("was removed") && refused.contains(&drop_it), "{refused}");
    drop(following);
    let owner = Following::of(followed.source(), &["t"]).await;
    let removed = owner.feed.remove().await.unwrap();
    assert_eq!(removed.len(), 1, "{removed:?}");
    followed.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn slot_or_publication_that_was_dropped_is_history_that_is_gone() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let replica = following.snapshot().await;
    followed.run("INSERT INTO t VALUES (1)").await;
    followed.run(&format!("SELECT pg_drop_replication_slot('{}')", followed.slot)).await;
    let gone = |error: Error| match error {
        Error::HistoryGone { wanted, reason, .. } => {
            assert_eq!(wanted, replica.position().token());
            reason
        }
        other => panic!("{}", other.report()),
    };
    let reason = gone(failure(following.feed.changes(&following.tables, replica.position()).await));
    assert!(reason.contains("no replication slot"), "{reason}");
    // One that was made anew begins later.
    following.feed.install(&following.tables).await.unwrap();
    let reason = gone(failure(following.feed.changes(&following.tables, replica.position()).await));
    assert!(reason.contains("begins at"), "{reason}");
    let replica = following.snapshot().await;
    followed.run(&format!("DROP PUBLICATION {}; INSERT INTO t VALUES (2)", followed.slot)).await;
    let error = failure(following.feed.changes(&following.tables, replica.position()).await);
    assert!(matches!(error, Error::HistoryGone { .. }), "{}", error.report());
}

#[tokio::test]
async fn reader_whose_connection_is_ended_reads_on_from_where_it_was() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    let mut changes = following.changes(replica.position()).await;
    followed.run("INSERT INTO t VALUES (1)").await;
    followed
        .run(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
            followed.slot
        ))
        .await;
    let error = loop {
        match next(&mut changes).await {
            Ok(transaction) => replica.apply(&transaction).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{}", error.report());
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn server_forgets_what_was_acknowledged_and_nothing_else() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    let confirmed = async || {
        let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
        followed.database.client.query_one(sql, &[&followed.slot]).await.unwrap().get::<_, String>(0)
    };
    let before = confirmed().await;
    let mut changes = following.changes(replica.position()).await;
    followed.run("INSERT INTO t VALUES (1)").await;
    let mut transaction = next(&mut changes).await.unwrap();
    while transaction.changes.is_empty() {
        transaction = next(&mut changes).await.unwrap();
    }
    assert_eq!(confirmed().await, before);
    following.feed.acknowledge(&transaction.position).await.unwrap();
    let reached = async |token: &str| confirmed().await == token;
    eventually("the acknowledgement arrives", Duration::from_secs(20), async || {
        reached(transaction.position.token()).await
    })
    .await;
    // Writes of others move the position on, so that the server's log can go.
    followed.run("CREATE TABLE noise AS SELECT generate_series(1, 1000)").await;
    let head = following.feed.head().await.unwrap();
    let idle = loop {
        let transaction = next(&mut changes).await.unwrap();
        assert!(transaction.changes.is_empty());
        if transaction.position >= head {
            break transaction.position;
        }
    };
    following.feed.acknowledge(&idle).await.unwrap();
    eventually("so does that of a place without changes", Duration::from_secs(20), async || {
        reached(idle.token()).await
    })
    .await;
    let status = following.feed.status().await.unwrap();
    assert_eq!(status.oldest.as_deref(), Some(idle.token()));
    assert!(status.retained_bytes.is_some());
    drop(changes);
    let error = failure(following.feed.changes(&following.tables, replica.position()).await);
    assert!(matches!(error, Error::HistoryGone { .. }), "{}", error.report());
    replica = following.snapshot().await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn message_of_a_transaction_carries_what_it_depends_on() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed
        .run(
            "BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'headwater', '{\"payments\": \"0/16B3748\"}');
             SELECT pg_logical_emit_message(true, 'other', 'x'); COMMIT;
             SELECT pg_logical_emit_message(false, 'headwater', 'no part of a transaction')",
        )
        .await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    let expected = Dependency { service: "payments".to_owned(), token: "0/16B3748".to_owned() };
    assert_eq!(taken[0].depends_on, [expected]);
    assert!(taken[0].committed_us.is_some_and(|at| at > 1_700_000_000_000_000));
    let mut changes = following.changes(replica.position()).await;
    followed.run("SELECT pg_logical_emit_message(true, 'headwater', 'payments')").await;
    let error = failure_of(&mut changes).await.to_string();
    assert!(error.contains("not JSON") && error.contains("pg_logical_emit_message"), "{error}");
}

#[tokio::test]
async fn second_reader_of_a_slot_is_refused_once_the_first_does_not_leave() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let replica = following.snapshot().await;
    let first = following.changes(replica.position()).await;
    let other = Following::of(followed.source(), &["t"]).await;
    let waiting = tokio::spawn(async move { other.feed.changes(&other.tables, replica.position()).await.map(|_| ()) });
    // The first leaves while the second waits.
    drop(first);
    waiting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(following.feed.class(), FeedClass::Transactional);
}

#[tokio::test]
async fn snapshot_of_more_tables_than_connections_is_one_state() {
    let tables: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    let create: Vec<String> =
        tables.iter().map(|name| format!("CREATE TABLE {name} (id int PRIMARY KEY, n int)")).collect();
    let followed = Followed::new(&create.join(";")).await;
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    let following = followed.of(&names).await;
    let insert = |id: i32| {
        let inserts: Vec<String> =
            tables.iter().map(|name| format!("INSERT INTO {name} VALUES ({id}, {id})")).collect();
        format!("BEGIN; {}; COMMIT", inserts.join(";"))
    };
    followed.run(&insert(1)).await;
    let at = following.feed.snapshot(&following.tables).await.unwrap();
    followed.run(&insert(2)).await;
    let mut replica = Replica::load(&following.tables, at).await.unwrap();
    let ids = |replica: &Replica| (0..12).map(|table| replica.rows(table).len()).collect::<Vec<_>>();
    assert_eq!(ids(&replica), [1; 12]);
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(ids(&replica), [2; 12]);
    assert!(replica.rows(3).contains(&vec![ScalarValue::from(2_i32), ScalarValue::from(2_i32)]));
}
