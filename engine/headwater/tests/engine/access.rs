//! Who may read what: every form of statement, for callers of whom each may read something else.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use headwater::{Caller, Engine, Error, ErrorKind, Session, ViewOptions};
use tempfile::TempDir;

use crate::ledger::Ledger;
use crate::sheet::{Sheet, items};

/// A rule's literal, which no caller may ever see.
const CANARY: &str = "canary-of-a-rule";

/// An engine over `staff.people`, two ledgers, and an access file.
pub(crate) struct World {
    directory: TempDir,
    pub(crate) engine: Engine,
    pub(crate) orders: Ledger,
}

impl World {
    pub(crate) async fn new(access: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("access.yaml");
        std::fs::write(&file, access).unwrap();
        let (orders, stock) = (Ledger::new("orders", &["orders", "lines"]), Ledger::new("stock", &["stock"]));
        for id in 0..10 {
            orders.commit(&[("orders", id, Some(id * 10)), ("lines", id, Some(id % 3))]);
        }
        stock.commit(&[("stock", 1, Some(5))]);
        let engine = Ledger::builder(&[&orders, &stock]).access_file(&file).build().await.unwrap();
        engine.register_table("staff", "people", people()).unwrap();
        Self { directory, engine, orders }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("access.yaml")
    }

    pub(crate) fn write(&self, access: &str) {
        std::fs::write(self.file(), access).unwrap();
    }

    pub(crate) fn user(&self, name: &str) -> Session {
        self.engine.session_as(&Caller::user(name))
    }
}

/// Five people in two countries, of whom one has a salary that no formula below can bear.
fn people() -> Arc<MemTable> {
    let fields =
        [("id", DataType::Int64), ("name", DataType::Utf8), ("country", DataType::Utf8), ("salary", DataType::Int64)];
    let fields: Vec<Field> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5])),
            Arc::new(StringArray::from(vec!["ada", "bob", "eve", "dan", "nan"])),
            Arc::new(StringArray::from(vec![Some("uk"), Some("uk"), Some("us"), Some("us"), None])),
            Arc::new(Int64Array::from(vec![Some(100), Some(200), Some(300), None, Some(500)])),
        ],
    )
    .unwrap();
    Arc::new(MemTable::try_new(schema, vec![vec![rows]]).unwrap())
}

/// The rows of an answer, in their order, as text.
pub(crate) async fn told(session: &Session, sql: &str) -> Result<Vec<String>, Error> {
    let batches = session.sql(sql).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| match column.is_null(row) {
                true => "NULL".to_owned(),
                false => arrow::util::display::array_value_to_string(column, row).unwrap(),
            });
            rows.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    Ok(rows)
}

pub(crate) async fn rows(session: &Session, sql: &str) -> Vec<String> {
    told(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()))
}

pub(crate) async fn refusal(session: &Session, sql: &str) -> (ErrorKind, String) {
    match told(session, sql).await {
        Ok(rows) => panic!("{sql} is answered: {rows:?}"),
        Err(error) => (error.kind(), error.report()),
    }
}

const EVERYTHING: &str =
    "roles:\n  all: {members: [root], grants: [{service: \"*\"}], defines: [\"*\"], monitors: true}\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_as_what_is_not_there() {
    let world = World::new(&format!(
        "{EVERYTHING}  some: {{members: [ada], grants: [{{service: orders, tables: [orders]}}]}}\n"
    ))
    .await;
    let ada = world.user("ada");
    assert_eq!(rows(&ada, "SELECT count(*) FROM orders.orders").await, ["10"]);
    for (hidden, missing) in [("orders.lines", "orders.linex"), ("staff.people", "stafx.people")] {
        let (kind, hidden_error) = refusal(&ada, &format!("SELECT * FROM {hidden}")).await;
        let (missing_kind, missing_error) = refusal(&ada, &format!("SELECT * FROM {missing}")).await;
        assert_eq!((kind, missing_kind), (ErrorKind::NotFound, ErrorKind::NotFound), "{hidden_error}");
        let without_names = |text: &str, name: &str| {
            let (schema, table) = name.split_once('.').unwrap();
            text.replace(schema, "S").replace(table, "T")
        };
        assert_eq!(without_names(&hidden_error, hidden), without_names(&missing_error, missing));
    }
    // Hints and lists name nothing that is hidden.
    for statement in
        ["SELECT * FROM people", "SELECT * FROM orders.line", "SELECT * FROM staf.people", "SET search_path = staf"]
    {
        let (_, error) = refusal(&ada, statement).await;
        assert!(!error.contains("staff") && !error.contains("lines"), "{statement}: {error}");
    }
    let (_, hidden) = refusal(&ada, "SET search_path = staff").await;
    assert!(hidden.contains("there is no service"), "{hidden}");
    let nobody = world.user("nobody");
    assert_eq!(refusal(&nobody, "SELECT * FROM orders.orders").await.0, ErrorKind::NotFound);
    assert_eq!(rows(&nobody, "SELECT 1").await, ["1"]);
    assert_eq!(rows(&world.user("root"), "SELECT count(*) FROM staff.people").await, ["5"]);
    // The program's own sessions are nobody's.
    assert_eq!(rows(&world.engine.session(), "SELECT count(*) FROM staff.people").await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_hold_what_may_be_read() {
    let world = World::new(
        "roles:\n  some:\n    members: [ada]\n    grants: [{service: staff, tables: [people], columns: [id, name], masks: {name: \"'x'\"}}, {service: orders}]\n",
    )
    .await;
    let (ada, bob) = (world.user("ada"), world.user("bob"));
    let tables = "SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1";
    let system = ["headwater.feeds", "headwater.freshness", "headwater.views"];
    assert_eq!(rows(&ada, tables).await, [&system[..], &["orders.lines", "orders.orders", "staff.people"]].concat());
    assert_eq!(rows(&bob, tables).await, system);
    let columns = "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = 'people' ORDER BY ordinal_position";
    assert_eq!(rows(&ada, columns).await, ["id|YES", "name|YES"]);
    assert!(rows(&bob, columns).await.is_empty());
    let described = rows(&ada, "DESCRIBE staff.people").await;
    assert!(described.len() == 2 && described.iter().all(|row| !row.contains("salary")), "{described:?}");
    let schemas = rows(&ada, "SHOW SCHEMAS").await;
    assert!(schemas.contains(&"staff".to_owned()) && !schemas.contains(&"stock".to_owned()), "{schemas:?}");
    assert_eq!(ada.services(), ["orders"]);
    let listed: Vec<String> =
        ada.catalog().await.into_iter().map(|table| format!("{}.{}", table.service, table.name)).collect();
    assert_eq!(listed, ["orders.lines", "orders.orders", "staff.people"]);
    let people = ada.catalog().await.into_iter().find(|table| table.name == "people").unwrap();
    assert_eq!(
        people.schema.unwrap().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(),
        ["id", "name"]
    );
    assert!(bob.catalog().await.is_empty() && bob.services().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn column_that_may_not_be_read_is_not_there() {
    let world = World::new(
        "roles:\n  r: {members: [ada], grants: [{service: staff, tables: [people], columns: [id, country]}]}\n",
    )
    .await;
    let ada = world.user("ada");
    assert_eq!(rows(&ada, "SELECT * FROM staff.people WHERE id = 1").await, ["1|uk"]);
    for statement in [
        "SELECT salary FROM staff.people",
        "SELECT id FROM staff.people WHERE salary > 1",
        "SELECT id FROM staff.people ORDER BY salary",
        "SELECT count(salary) FROM staff.people",
        "SELECT country FROM staff.people GROUP BY country HAVING max(salary) > 1",
        "SELECT id FROM staff.people p WHERE EXISTS (SELECT 1 FROM staff.people q WHERE q.salary = p.id)",
        "EXPLAIN SELECT salary FROM staff.people",
        "SELECT p.salary FROM staff.people p",
        "WITH x AS (SELECT salary FROM staff.people) SELECT * FROM x",
    ] {
        let (kind, error) = refusal(&ada, statement).await;
        assert_eq!(kind, ErrorKind::NotFound, "{statement}: {error}");
        assert!(!error.contains("name") || !error.contains("people.name"), "{error}");
    }
    assert_eq!(rows(&ada, "SELECT count(*) FROM staff.people").await, ["5"]);
}

const PART: &str = "roles:
  uk:
    members: [ada, masked]
    grants:
      - {service: staff, tables: [people], columns: [id, name, country, salary], rows: \"country = 'uk' AND name <> 'canary-of-a-rule'\"}
      - {service: orders}
  us:
    members: [eve]
    grants: [{service: staff, tables: [people], rows: \"country = 'us' OR name = current_user\", masks: {salary: \"salary / 100\", name: \"left(name, 1) || '*'\"}}]
  both:
    members: [bob]
    includes: [uk, us]
  all: {members: [root], grants: [{service: \"*\"}], defines: [\"*\"], monitors: true}
";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_filtered_and_columns_masked_in_every_form_of_statement() {
    let world = World::new(PART).await;
    let (ada, eve, bob, root) = (world.user("ada"), world.user("eve"), world.user("bob"), world.engine.session());
    assert_eq!(rows(&ada, "SELECT * FROM staff.people ORDER BY id").await, ["1|ada|uk|100", "2|bob|uk|200"]);
    assert_eq!(rows(&eve, "SELECT * FROM staff.people ORDER BY id").await, ["3|e*|us|3", "4|d*|us|NULL"]);
    // Either grant, and each column as the better of the two shows it.
    assert_eq!(
        rows(&bob, "SELECT * FROM staff.people ORDER BY id").await,
        ["1|ada|uk|100", "2|bob|uk|200", "3|e*|us|3", "4|d*|us|NULL"]
    );
    let copy = "(SELECT id, left(name, 1) || '*' AS name, country, salary / 100 AS salary FROM staff.people WHERE country = 'us' OR name = 'eve')";
    for form in [
        "SELECT id, name, salary FROM PEOPLE ORDER BY id",
        "SELECT id FROM PEOPLE p WHERE p.salary = 3",
        "SELECT id FROM PEOPLE p WHERE p.salary = 300",
        "SELECT id FROM PEOPLE p WHERE name LIKE 'ev%'",
        "SELECT country, count(*), sum(salary), max(name) FROM PEOPLE p GROUP BY country ORDER BY country",
        "SELECT p.id, q.id FROM PEOPLE p JOIN PEOPLE q ON p.country = q.country ORDER BY 1, 2",
        "SELECT p.id, q.id FROM PEOPLE p LEFT JOIN PEOPLE q ON p.id = q.id + 1 ORDER BY 1",
        "SELECT o.id FROM orders.orders o WHERE o.id IN (SELECT id FROM PEOPLE p) ORDER BY 1",
        "SELECT o.id FROM orders.orders o WHERE NOT EXISTS (SELECT 1 FROM PEOPLE p WHERE p.id = o.id) ORDER BY 1",
        "SELECT (SELECT max(salary) FROM PEOPLE p)",
        "WITH x AS (SELECT * FROM PEOPLE p) SELECT x.id, y.name FROM x JOIN x y ON x.id = y.id ORDER BY 1",
        "SELECT id FROM PEOPLE p UNION ALL SELECT id + 100 FROM PEOPLE q ORDER BY 1",
        "SELECT DISTINCT country FROM PEOPLE p",
        "SELECT id FROM PEOPLE p ORDER BY salary DESC NULLS LAST LIMIT 1",
        "SELECT id, row_number() OVER (ORDER BY id) FROM PEOPLE p ORDER BY 1",
        "SELECT count(*) FROM PEOPLE p",
    ] {
        let all = world_all(&world);
        let theirs = form.replace("PEOPLE", "staff.people");
        let ours = form
            .replace("PEOPLE p", &format!("{copy} p"))
            .replace("PEOPLE q", &format!("{copy} q"))
            .replace("PEOPLE", &format!("{copy} people"));
        let caller = all.session_as(&Caller::user("both"));
        assert_eq!(told(&caller, &theirs).await.ok(), told(&root, &ours).await.ok(), "{form}");
    }
}

/// The world's engine with eve's grants and the orders for one caller.
fn world_all(world: &World) -> &Engine {
    world.write(&format!("{PART}  test: {{members: [both], includes: [us], grants: [{{service: orders}}]}}\n"));
    world.engine.reload_access().unwrap();
    &world.engine
}

#[tokio::test(flavor = "multi_thread")]
async fn expression_that_fails_is_not_evaluated_over_rows_that_may_not_be_read() {
    // The salary of nan, and of nobody in uk, is 500.
    let world = World::new(PART).await;
    let (ada, root) = (world.user("ada"), world.engine.session());
    for statement in [
        "SELECT id FROM staff.people WHERE 1 / (salary - 500) < 5",
        "SELECT id FROM staff.people WHERE salary IS NOT NULL AND 1 / (salary - 500) < 5 AND id < 100",
        "SELECT id, country, name, 1 / (salary - 500) FROM staff.people",
        "SELECT id, 1 / (salary - 500) AS x FROM staff.people ORDER BY x",
        "SELECT id FROM staff.people WHERE CAST(CASE WHEN salary = 500 THEN 'x' ELSE '1' END AS BIGINT) = 1",
        "SELECT p.id FROM staff.people p JOIN orders.orders o ON o.id = 1 / (p.salary - 500)",
        "SELECT p.id FROM staff.people p JOIN orders.orders o ON o.id = p.id AND 1 / (p.salary - 500) < 5",
        "SELECT o.id FROM orders.orders o WHERE EXISTS (SELECT 1 FROM staff.people p WHERE p.id = o.id AND 1 / (p.salary - 500) < 5)",
        "SELECT o.id FROM orders.orders o WHERE o.id IN (SELECT p.id FROM staff.people p WHERE 1 / (p.salary - 500) < 5)",
        "WITH x AS (SELECT id, 1 / (salary - 500) AS y FROM staff.people) SELECT id FROM x WHERE y < 5",
        "SELECT country, sum(1 / (salary - 500)) FROM staff.people GROUP BY country",
        "SELECT country FROM staff.people GROUP BY country HAVING max(1 / (salary - 500)) < 5",
        "SELECT max(1 / (salary - 500)) OVER (PARTITION BY country) FROM staff.people",
        "SELECT id FROM staff.people WHERE 1 / (salary - 500) < 5 UNION ALL SELECT id FROM staff.people",
        "SELECT id FROM (SELECT * FROM staff.people LIMIT 100) WHERE 1 / (salary - 500) < 5",
        "SELECT count(*) FILTER (WHERE 1 / (salary - 500) < 5) FROM staff.people",
    ] {
        let (_, error) = refusal(&root, statement).await;
        assert!(
            error.to_lowercase().contains("zero") || error.contains("cast"),
            "the statement must fail for who reads all: {error}"
        );
        rows(&ada, statement).await;
        let prepared = ada.prepare(statement).await.unwrap();
        prepared.execute(vec![]).await.unwrap().collect().await.unwrap();
        rows(&ada, &format!("PREPARE p AS {statement}")).await;
        rows(&ada, "EXECUTE p").await;
        rows(&ada, "DEALLOCATE p").await;
    }
    let prepared = ada.prepare("SELECT id FROM staff.people WHERE 1 / (salary - $1) < 5").await.unwrap();
    let answer = prepared.execute(vec![ScalarValue::Int64(Some(500))]).await.unwrap();
    assert_eq!(answer.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_goes_to_the_source_with_what_of_the_query_can_not_fail() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("access.yaml");
    std::fs::write(
        &file,
        "roles:\n  r: {members: [ada], grants: [{service: s, tables: [items], rows: \"id <= 3\"}]}\n",
    )
    .unwrap();
    let sheet = Sheet::new("s");
    let engine =
        Engine::builder().source("s", Arc::new(sheet.clone()), items()).access_file(&file).build().await.unwrap();
    let ada = engine.session_as(&Caller::user("ada"));
    assert_eq!(rows(&ada, "SELECT id FROM s.items WHERE id > 1 ORDER BY id").await, ["2", "3"]);
    assert_eq!(sheet.last_asked().filters.len(), 2, "{:?}", sheet.last_asked().filters);
    assert_eq!(rows(&ada, "SELECT id FROM s.items WHERE id > 1 AND 1 / (id - 4) < 5 ORDER BY id").await, ["2", "3"]);
    assert_eq!(sheet.last_asked().filters.len(), 2, "the failing part stays here: {:?}", sheet.last_asked().filters);
    // A column that nobody needs is not read for a rule that was answered at the source.
    assert_eq!(sheet.last_asked().projection, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_that_was_not_decided_does_not_run() {
    let world = World::new(PART).await;
    let context = world.user("ada").context().clone();
    let frame = context.sql("SELECT * FROM staff.people").await.unwrap();
    let error = frame.collect().await.unwrap_err().to_string();
    assert!(error.contains("was not decided"), "{error}");
    assert_eq!(context.sql("SELECT * FROM stock.stock").await.err().map(|_| ()), Some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_nothing_of_rules_nor_of_rows_that_they_take_away() {
    let world = World::new(PART).await;
    let ada = world.user("ada");
    for statement in [
        "EXPLAIN SELECT id FROM staff.people WHERE salary > 1",
        "EXPLAIN VERBOSE SELECT id FROM staff.people WHERE salary > 1",
        "EXPLAIN FORMAT TREE SELECT p.id FROM staff.people p JOIN orders.orders o ON o.id = p.id",
    ] {
        rows(&ada, "SET datafusion.explain.show_statistics = true").await;
        let text = rows(&ada, statement).await.join("\n");
        assert!(!text.contains(CANARY) && !text.contains("'uk'") && !text.contains("Rows="), "{text}");
        assert!(text.contains("staff.people") && text.contains("you may read a part"), "{text}");
        let prepared = ada.prepare(statement).await.unwrap();
        let again = prepared.execute(vec![]).await.unwrap().collect().await.unwrap();
        assert!(!format!("{again:?}").contains(CANARY));
    }
    for statement in [
        "EXPLAIN ANALYZE SELECT id FROM staff.people",
        "EXPLAIN ANALYZE VERBOSE SELECT id FROM staff.people",
        "PREPARE p AS EXPLAIN SELECT id FROM staff.people",
        "PREPARE p AS EXPLAIN ANALYZE SELECT id FROM staff.people",
    ] {
        let (kind, error) = refusal(&ada, statement).await;
        assert_eq!(kind, ErrorKind::Denied, "{statement}: {error}");
        assert!(error.contains("permission denied") && !error.contains(CANARY), "{error}");
        assert!(ada.prepare(statement).await.is_err());
    }
    // What may be read whole is explained whole.
    let text = rows(&ada, "EXPLAIN SELECT id FROM orders.orders").await.join("\n");
    assert!(text.contains("physical_plan"), "{text}");
    rows(&ada, "EXPLAIN ANALYZE SELECT id FROM orders.orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_rights_are_in_force_with_the_next_execution() {
    let world = World::new(PART).await;
    let ada = world.user("ada");
    let ask = async |prepared: &headwater::Prepared| -> Result<usize, Error> {
        let batches = prepared.execute(vec![]).await?.collect().await?;
        Ok(batches.iter().map(RecordBatch::num_rows).sum())
    };
    let prepared = ada.prepare("SELECT id FROM staff.people").await.unwrap();
    assert_eq!(ask(&prepared).await.unwrap(), 2);
    rows(&ada, "PREPARE p AS SELECT id FROM staff.people").await;
    assert_eq!(rows(&ada, "EXECUTE p").await.len(), 2);
    // What was decided then would outlive the rights of then.
    for text in ["PREPARE q AS SELECT id FROM staff.people", "EXECUTE p", "DEALLOCATE p"] {
        let error = ada.prepare(text).await.unwrap_err();
        assert!(error.to_string().contains("preparing PREPARE, EXECUTE or DEALLOCATE"), "{}", error.report());
    }
    // Planned, and not yet read, as a ticket is.
    let ticket = ada.sql("SELECT id FROM staff.people").await.unwrap();
    let unread = ada.prepare("SELECT id FROM staff.people WHERE id > 0").await.unwrap();
    world.write(&PART.replace("country = 'uk'", "country = 'us'"));
    assert!(world.engine.reload_access().unwrap());
    let Err(error) = ticket.into_stream() else { panic!("the old plan was run") };
    assert_eq!(error.kind(), ErrorKind::Changed, "{}", error.report());
    assert_eq!(ask(&prepared).await.unwrap(), 2);
    assert_eq!(rows(&ada, "SELECT id FROM staff.people ORDER BY id").await, ["3", "4"]);
    assert_eq!(rows(&ada, "EXECUTE p").await, ["3", "4"]);
    world.write("roles:\n  r: {members: [ada], grants: [{service: orders}]}\n");
    world.engine.reload_access().unwrap();
    for error in
        [ask(&prepared).await.unwrap_err(), ask(&unread).await.unwrap_err(), told(&ada, "EXECUTE p").await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    }
    // A file that changes nothing for a caller does not disturb them.
    let ticket = ada.sql("SELECT id FROM orders.orders").await.unwrap();
    world.write("# a remark\nroles:\n  other: {members: [bob], grants: [{service: stock}]}\n  r: {members: [ada], grants: [{service: orders}]}\n");
    assert!(world.engine.reload_access().unwrap());
    ticket.collect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_file_leaves_the_one_before_in_force() {
    let world = World::new(PART).await;
    let ada = world.user("ada");
    world.write("roles:\n  uk: {member: [ada]}\n");
    let error = world.engine.reload_access().unwrap_err().report();
    assert!(error.contains("access.yaml:2: roles.uk: unknown key \"member\""), "{error}");
    assert!(!world.engine.reload_access().unwrap(), "a fault is told once for each text");
    assert_eq!(rows(&ada, "SELECT count(*) FROM staff.people").await, ["2"]);
    std::fs::remove_file(world.file()).unwrap();
    assert!(world.engine.reload_access().is_err());
    assert_eq!(rows(&ada, "SELECT count(*) FROM staff.people").await, ["2"]);
    let Err(error) = Engine::builder().access_file(world.file()).build().await else {
        panic!("a file that is not there was read")
    };
    assert!(error.report().contains("does not exist"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_callers_read_everything_or_nothing() {
    let ledger = Ledger::new("orders", &["orders"]);
    ledger.commit(&[("orders", 1, Some(1))]);
    let open = Ledger::engine(&[&ledger], ViewOptions::default()).await;
    assert_eq!(rows(&open.session_as(&Caller::user("ada")), "SELECT count(*) FROM orders.orders").await, ["1"]);
    assert!(open.may_monitor(&Caller::anyone()));
    let closed = Ledger::builder(&[&ledger]).deny_by_default().build().await.unwrap();
    assert_eq!(
        refusal(&closed.session_as(&Caller::user("ada")), "SELECT count(*) FROM orders.orders").await.0,
        ErrorKind::NotFound
    );
    assert!(!closed.may_monitor(&Caller::user("ada")));
    assert_eq!(rows(&closed.session(), "SELECT count(*) FROM orders.orders").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_is_there_and_can_not_be_read_opens_nothing() {
    let services = TempDir::new().unwrap();
    std::fs::write(services.path().join("t.csv"), "id\n1\n").unwrap();
    let manifest = "service: s\nsource: {connector: files, url: ./}\npublishes: {t: {from: t.csv}}\n";
    std::fs::write(services.path().join("s.yaml"), manifest).unwrap();
    let file = services.path().join("access.yaml");
    let build = async || {
        let builder = Engine::builder().services_dir(services.path()).connectors(headwater_connectors::all());
        builder.build().await
    };
    let engine = build().await.unwrap();
    assert_eq!(rows(&engine.session_as(&Caller::user("ada")), "SELECT id FROM s.t").await, ["1"]);
    std::fs::create_dir(&file).unwrap();
    let Err(error) = build().await else { panic!("a folder was taken for no file") };
    assert!(error.report().contains("is not a regular file"), "{}", error.report());
    assert!(engine.reload_access().is_err());
    std::fs::remove_dir(&file).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(services.path().join("nowhere"), &file).unwrap();
        assert!(build().await.is_err(), "a link to nowhere was taken for no file");
        std::fs::remove_file(&file).unwrap();
    }
    // One that comes later is in force once it is read.
    std::fs::write(&file, EVERYTHING).unwrap();
    assert!(engine.reload_access().unwrap());
    let (kind, _) = refusal(&engine.session_as(&Caller::user("ada")), "SELECT id FROM s.t").await;
    assert_eq!(kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_that_does_not_fit_shuts_the_table_and_says_nothing_of_itself() {
    let world = World::new(
        "roles:\n  r:\n    members: [ada]\n    grants:\n      - {service: staff, tables: [people], rows: \"nothing = 'canary-of-a-rule'\"}\n      - {service: orders, tables: [orders], masks: {amount: \"'canary-of-a-rule'\"}}\n",
    )
    .await;
    let ada = world.user("ada");
    for statement in
        ["SELECT id FROM staff.people", "SELECT id FROM orders.orders", "EXPLAIN SELECT id FROM staff.people"]
    {
        let (kind, error) = refusal(&ada, statement).await;
        assert_eq!(kind, ErrorKind::Denied, "{error}");
        assert!(!error.contains(CANARY) && !error.contains("nothing"), "{error}");
    }
}
