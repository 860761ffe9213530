//! Statements that write are refused by name, and write nothing.

use headwater_sql_tests::everywhere::{Everywhere, SERVICES};
use headwater_sql_tests::services::{error, rows};

#[tokio::test]
async fn every_way_to_write_is_refused_by_name_and_changes_nothing() {
    let everywhere = Everywhere::with_texts(&[Some("a"), Some("b")]).await;
    for service in SERVICES {
        for (statement, name) in [
            ("INSERT INTO {t} VALUES (9, 'x')", "INSERT"),
            ("INSERT INTO {t} SELECT * FROM {t}", "INSERT"),
            ("UPDATE {t} SET s = 'x'", "UPDATE"),
            ("UPDATE {t} SET s = 'x' WHERE false", "UPDATE"),
            ("DELETE FROM {t}", "DELETE"),
            ("DELETE FROM {t} WHERE id IN (SELECT id FROM {t} WHERE false)", "DELETE"),
            ("DELETE FROM {t} WHERE false", "DELETE"),
            ("TRUNCATE TABLE {t}", "TRUNCATE"),
            ("DROP TABLE {t}", "DROP TABLE"),
            ("DROP TABLE IF EXISTS {t}", "DROP TABLE"),
            ("DROP VIEW {t}", "DROP VIEW"),
            ("ALTER TABLE {t} ADD COLUMN x INT", "ALTER TABLE"),
            ("CREATE TABLE {s}.made (id INT)", "CREATE TABLE"),
            ("CREATE TABLE {s}.made AS SELECT * FROM {t}", "CREATE TABLE"),
            ("CREATE VIEW {s}.made AS SELECT * FROM {t}", "CREATE VIEW"),
            ("CREATE INDEX i ON {t} (id)", "CREATE INDEX"),
            ("CREATE SCHEMA made", "CREATE SCHEMA"),
            ("DROP SCHEMA {s} CASCADE", "DROP SCHEMA"),
            ("CREATE EXTERNAL TABLE made STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
            ("COPY {t} TO '/tmp/headwater_made.csv'", "COPY"),
            ("SELECT * INTO {s}.made FROM {t}", "SELECT INTO"),
            ("EXPLAIN ANALYZE DELETE FROM {t}", "DELETE"),
            ("PREPARE p AS DELETE FROM {t}", "DELETE"),
            ("MERGE INTO {t} USING (VALUES (1)) AS v (id) ON {t}.id = v.id WHEN MATCHED THEN DELETE", "MERGE"),
        ] {
            let statement = statement.replace("{t}", &format!("{service}.t")).replace("{s}", service);
            let message = error(&everywhere.engine, &statement).await;
            assert!(message.contains(name) && message.contains("refused"), "{statement}: {message}");
        }
        assert_eq!(
            rows(&everywhere.engine, &format!("SELECT s FROM {service}.t ORDER BY id")).await.column(),
            ["a", "b"]
        );
    }
    for statement in ["SELECT 1; DELETE FROM pg.t", "DELETE FROM pg.t; SELECT 1", "SELECT 1; SELECT 2"] {
        error(&everywhere.engine, statement).await;
    }
    assert_eq!(rows(&everywhere.engine, "SELECT count(*) FROM pg.t").await.column(), ["2"]);
    assert!(!std::path::Path::new("/tmp/headwater_made.csv").exists());
}

#[tokio::test]
async fn role_that_may_only_read_is_enough() {
    let everywhere = Everywhere::with_texts(&[Some("a")]).await;
    let role = format!("reader_{}", everywhere.postgres.name());
    let statements =
        format!("CREATE ROLE {role} LOGIN PASSWORD 'only'; GRANT SELECT ON t TO {role}; CREATE TABLE hidden (id int)");
    everywhere.postgres.execute(&statements).await;
    let statements = format!(
        "CREATE USER '{role}'@'%' IDENTIFIED BY 'only'; GRANT SELECT ON {}.* TO '{role}'@'%'",
        everywhere.mysql.name()
    );
    everywhere.mysql.execute(&statements).await;
    let as_reader = |url: String| headwater_sql_tests::as_user(&url, &role, "only");
    let services = headwater_sql_tests::services::Services::new()
        .with_postgres("pg", &as_reader(everywhere.postgres.url()))
        .with_mysql("my", &as_reader(everywhere.mysql.url()));
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        assert_eq!(rows(&engine, &format!("SELECT s FROM {service}.t")).await.column(), ["a"]);
    }
    let message = error(&engine, "SELECT * FROM pg.hidden").await;
    assert!(message.contains("pg") && message.contains("hidden"), "{message}");
    everywhere.postgres.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    everywhere.mysql.execute(&format!("DROP USER '{role}'@'%'")).await;
}
