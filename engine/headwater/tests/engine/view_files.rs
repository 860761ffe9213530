//! Views that files define: made at the start, brought to the files again, and apart from those that SQL made.

use std::fs;
use std::path::Path;

use headwater::{Engine, Error, Session, ViewFiles, ViewOptions};
use tempfile::TempDir;

use crate::ledger::Ledger;
use crate::views::{accounts, ask, quick, text, try_ask, until};

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("views")).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join("views").join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path().join("views").join(name)).unwrap();
    }
}

async fn engine_over(bank: &Ledger, files: &Files, options: &ViewOptions) -> (Engine, Session) {
    let engine = Ledger::builder(&[bank]).views(options.clone()).view_files(files.path()).build().await.unwrap();
    let session = engine.session();
    (engine, session)
}

const VIEWS: &str = "SELECT name, file FROM headwater.views WHERE state = 'live' ORDER BY name";

async fn reload(engine: &Engine) -> Vec<String> {
    let plan = engine.reload_views().await.unwrap_or_else(|error| panic!("{}", error.report()));
    plan.steps.iter().map(|step| format!("{} {}", step.action, step.view)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn views_follow_their_files_over_reloads_and_restarts_and_those_of_sql_stay() {
    let (bank, files, state) = (accounts("bank"), Files::new(), tempfile::tempdir().unwrap());
    let options = ViewOptions { state: Some(state.path().into()), ..quick() };
    files.write("top.sql", "CREATE MATERIALIZED VIEW v.top AS SELECT 2 * total AS total FROM v.base;");
    files.write("base.sql", "CREATE MATERIALIZED VIEW v.base AS SELECT sum(amount) AS total FROM bank.accounts;");
    let (engine, session) = engine_over(&bank, &files, &options).await;
    until(&session, VIEWS, "base|base.sql\ntop|top.sql").await;
    ask(&session, "CREATE MATERIALIZED VIEW v.mine AS SELECT count(*) AS n FROM bank.accounts").await;
    until(&session, "SELECT total FROM v.top", "2000").await;
    assert_eq!(reload(&engine).await, ["unchanged v.base", "unchanged v.top"]);
    files.write("base.sql", "CREATE MATERIALIZED VIEW v.base AS SELECT sum(amount) + 1 AS total FROM bank.accounts;");
    files.write("new.sql", "CREATE MATERIALIZED VIEW v.new AS SELECT max(id) AS id FROM bank.accounts");
    assert_eq!(reload(&engine).await, ["replace v.base", "create v.new", "rebuild v.top"]);
    until(&session, "SELECT total FROM v.top", "2002").await;
    files.remove("new.sql");
    assert_eq!(reload(&engine).await, ["unchanged v.base", "unchanged v.top", "drop v.new"]);
    assert_eq!(text(&session, VIEWS).await, "base|base.sql\nmine|\ntop|top.sql");
    engine.checkpoint().await.unwrap();
    drop((engine, session));
    // What happens to the files while nothing runs holds at the next start.
    files.remove("top.sql");
    files.write("base.sql", "CREATE MATERIALIZED VIEW v.base AS SELECT sum(amount) + 2 AS total FROM bank.accounts;");
    let (engine, session) = engine_over(&bank, &files, &options).await;
    until(&session, VIEWS, "base|base.sql\nmine|").await;
    assert_eq!(text(&session, "SELECT total FROM v.base").await, "1002");
    assert_eq!(bank.snapshots(), 1, "the tables are held and not read anew");
    // A view of a file that SQL replaces is SQL's.
    ask(&session, "CREATE OR REPLACE MATERIALIZED VIEW v.base AS SELECT 1 AS total").await;
    let error = engine.reload_views().await.unwrap_err();
    assert!(error.report().contains("base.sql:1: v.base: a materialized view of this name was made by SQL"));
    drop((engine, session));
    let (_engine, session) = engine_over(&bank, &files, &options).await;
    until(&session, VIEWS, "base|\nmine|").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_wrong_change_nothing_and_are_named_with_their_line() {
    let (bank, files) = (accounts("bank"), Files::new());
    files.write("good.sql", "CREATE MATERIALIZED VIEW v.good AS SELECT count(*) AS n FROM bank.accounts");
    let (engine, session) = engine_over(&bank, &files, &quick()).await;
    until(&session, VIEWS, "good|good.sql").await;
    files.write("bad.sql", "\nSELECT 1;");
    files.remove("good.sql");
    let Error::Manifests(faults) = engine.reload_views().await.unwrap_err() else { panic!("faults are expected") };
    assert_eq!((faults.len(), faults[0].line), (1, 2));
    assert!(faults[0].file.ends_with("views/bad.sql"), "{faults:?}");
    assert_eq!(text(&session, "SELECT n FROM v.good").await, "10");
    let error = Ledger::builder(&[&bank]).view_files(files.path()).build().await.unwrap_err();
    assert!(matches!(error, Error::Manifests(_)), "{}", error.report());
    files.write("bad.sql", "CREATE MATERIALIZED VIEW v.bad AS\n  SELECT nothing FROM bank.accounts");
    let message = engine.reload_views().await.unwrap_err().report();
    assert!(message.contains("views/bad.sql:1: v.bad: ") && message.contains("nothing"), "{message}");
    let known = ViewFiles::read(files.path()).unwrap();
    assert_eq!(known.names(), ["v.bad"]);
    for (sql, part) in [
        ("CREATE MATERIALIZED VIEW v.x WITH (fill = 'x') AS SELECT 1 AS x", "the one option is the file"),
        ("CREATE MATERIALIZED VIEW v.x WITH (file = 7) AS SELECT 1 AS x", "the one option is the file"),
    ] {
        let error = try_ask(&session, sql).await.unwrap_err();
        assert!(error.report().contains(part), "{sql}: {}", error.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn view_whose_service_is_away_at_the_start_comes_later_and_one_that_cannot_be_is_given_up() {
    let (bank, files) = (accounts("bank"), Files::new());
    files.write("a.sql", "CREATE MATERIALIZED VIEW v.a AS SELECT sum(amount) AS total FROM bank.accounts");
    files.write("b.sql", "CREATE MATERIALIZED VIEW v.b AS SELECT random() AS x");
    bank.take_down();
    let (_engine, session) = engine_over(&bank, &files, &quick()).await;
    assert!(try_ask(&session, "SELECT * FROM v.a").await.is_err());
    bank.bring_back();
    until(&session, VIEWS, "a|a.sql").await;
    until(&session, "SELECT total FROM v.a", "1000").await;
}
