//! Tables whose definition changes or cannot be followed, and roles that may not follow.

use headwater_source::Error;

use super::{Followed, followed};
use crate::following::{Following, failure_of, next};
use crate::postgres::{failure, unique, url_as};

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
