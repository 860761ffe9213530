//! What fails is named, and fails alone.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use headwater_source::{Change, Position, RowChanges, RowOp, TableChange, Transaction};
use headwater_views::{Error, Options, Report, ViewState};

use crate::model::{Model, batch, column, loose};
use crate::world::World;

fn model(name: &'static str, key: Option<usize>) -> Model {
    let mut model = Model::new(name, vec![column("id", DataType::Int64), column("v", DataType::Int64)], key);
    model.rows = vec![row(1, 10), row(2, 20)];
    model
}

fn row(id: i64, v: i64) -> Vec<ScalarValue> {
    vec![ScalarValue::Int64(Some(id)), ScalarValue::Int64(Some(v))]
}

fn change(world: &World, rows: &[(i64, i64)], ops: &[RowOp]) -> TableChange {
    let schema = loose(&world.sources[0].models[0].definition.schema());
    let rows: Vec<_> = rows.iter().map(|(id, v)| row(*id, *v)).collect();
    let rows = batch(&schema, &rows);
    TableChange { table: 0, change: Change::Rows(RowChanges { rows, ops: ops.to_vec(), kept: vec![] }) }
}

fn world(key: Option<usize>) -> World {
    let mut world = World::new(vec![("shop", vec![model("t", key)]), ("stock", vec![model("u", Some(0))])]);
    world.load();
    world
}

/// One transaction of the first source, and what comes of it.
fn play(world: &mut World, changes: Vec<TableChange>) -> Report {
    world.offer(0, changes, vec![]);
    world.views.step()
}

/// What it is, the table's key, rows, what is done with them, and what the error says.
type Case = (&'static str, Option<usize>, Vec<(i64, i64)>, Vec<RowOp>, &'static str);

#[test]
fn changes_that_do_not_fit_the_rows_stop_their_source_by_name_and_leave_it_as_it_was() {
    use RowOp::{DeleteKey, DeleteRow, Insert, InsertOver};
    let cases: Vec<Case> = vec![
        ("a missing key", Some(0), vec![(3, 0)], vec![DeleteKey], "deleted that is not there"),
        ("a key that is there", Some(0), vec![(1, 0)], vec![Insert], "whose key is there already"),
        ("a row with other values", Some(0), vec![(1, 11)], vec![DeleteRow], "with other values"),
        ("a row over none", Some(0), vec![(3, 0)], vec![InsertOver], "none was taken away"),
        ("a missing row of a bag", None, vec![(1, 11)], vec![DeleteRow], "deleted that is not there"),
        ("a key of a bag", None, vec![(1, 10)], vec![DeleteKey], "the table has none"),
        (
            "a key that an update gives twice",
            Some(0),
            vec![(1, 0), (2, 5)],
            vec![DeleteKey, InsertOver],
            "whose key is there",
        ),
    ];
    for (what, key, rows, ops, message) in cases {
        let mut world = world(key);
        world.create("SELECT id, v FROM t");
        let before = world.views.published();
        // A change that fits comes first, in a transaction of its own and in the same one: neither must show.
        let good = change(&world, &[(7, 70)], &[Insert]);
        world.offer(0, vec![good], vec![]);
        let (good, bad) = (change(&world, &[(8, 80)], &[Insert]), change(&world, &rows, &ops));
        let report = play(&mut world, vec![good, bad]);
        let [(source, error)] = &report.failed_sources[..] else { panic!("{what}: {report:?}") };
        assert_eq!(*source, world.sources[0].id);
        assert!(error.report().contains(message) && error.report().contains("\"t\""), "{what}: {}", error.report());
        let after = world.views.published();
        assert_eq!(after.vector, before.vector, "{what}");
        world.check(what);
        // Reading the tables anew mends it.
        world.load_source(0);
        let good = change(&world, &[(7, 70)], &[Insert]);
        world.sources[0].models[0].rows.push(row(7, 70));
        assert!(play(&mut world, vec![good]).failed_sources.is_empty(), "{what}");
        world.check(what);
    }
}

#[test]
fn view_that_fails_over_a_row_stays_where_it_was_and_comes_back_by_refresh() {
    let mut world = world(Some(0));
    let good = world.create("SELECT sum(v) AS total FROM t");
    let bad = world.create("SELECT id, 100 / (v - 30) AS q FROM t");
    let reader = world.create("SELECT count(*) AS n FROM view1");
    let before = world.views.published();
    let zero = change(&world, &[(3, 30)], &[RowOp::Insert]);
    let report = play(&mut world, vec![zero]);
    let failed: Vec<_> = report.failed_views.iter().map(|(view, _)| *view).collect();
    assert_eq!(failed, [bad, reader]);
    assert!(report.failed_views[0].1.report().contains("Divide by zero"), "{}", report.failed_views[0].1.report());
    let after = world.views.published();
    assert_eq!(after.view(bad).expect("visible").epoch, before.number);
    assert_eq!(after.view(good).expect("visible").epoch, after.number);
    assert!(matches!(world.views.view_status(bad).expect("a view").state, ViewState::Failed(_)));
    let gone = change(&world, &[(3, 0)], &[RowOp::DeleteKey]);
    assert!(play(&mut world, vec![gone]).failed_views.is_empty());
    let report = world.views.refresh_view(bad).expect("refreshed");
    assert!(report.failed_views.is_empty());
    assert_eq!(world.views.view_status(reader).expect("a view").state, ViewState::Live);
    world.check("refreshed");
}

#[test]
fn view_beyond_its_memory_stops_alone_and_says_so() {
    let options = Options { view_memory_bytes: 20_000, ..Options::default() };
    let mut world = World::with(options, vec![("shop", vec![model("t", Some(0))])]);
    world.load();
    let small = world.create("SELECT count(*) AS n FROM t");
    let large = world.create("SELECT id, v FROM t");
    let rows: Vec<(i64, i64)> = (10..2_000).map(|id| (id, id)).collect();
    let many = change(&world, &rows, &vec![RowOp::Insert; rows.len()]);
    let report = play(&mut world, vec![many]);
    let [(view, error @ Error::Memory { .. })] = &report.failed_views[..] else { panic!("{report:?}") };
    assert_eq!(*view, large);
    assert!(error.to_string().contains("view1") && error.to_string().contains("view_memory_bytes"), "{error}");
    assert_eq!(world.views.view_status(small).expect("a view").state, ViewState::Live);
}

#[test]
fn queries_that_cannot_be_views_are_refused_by_name() {
    let mut world = world(Some(0));
    for (sql, message) in [
        ("SELECT id, random() AS r FROM t", "random() gives another value each time"),
        ("SELECT id, now() AS n FROM t", "\"now() AS n\" depends on the time"),
        (
            "SELECT id FROM t WHERE v > (SELECT extract(year FROM current_date()))",
            "depends on the time in a way that a view does not follow",
        ),
        ("SELECT t.id, u.id FROM t JOIN u ON t.id = u.v", "two columns named \"id\""),
        ("SELECT id, NULL AS x FROM t", "column \"x\" has no type"),
        ("SELECT id FROM t WHERE v = $1", "parameter $1"),
    ] {
        let error = world.try_create(sql).err().unwrap_or_else(|| panic!("{sql} is taken"));
        assert!(error.to_string().contains(message), "{sql}: {}", error.report());
    }
}

#[test]
fn positions_that_do_not_grow_are_refused() {
    let mut world = world(Some(0));
    let (id, tables) = (world.sources[0].id, world.sources[0].tables.clone());
    let position = Position::new(1, "1");
    let again = Transaction { position: position.clone(), committed_us: None, depends_on: vec![], changes: vec![] };
    assert!(matches!(world.views.offer(id, again, &tables), Err(Error::Order { .. })));
    let empty = Position::new(0, "0");
    assert!(matches!(world.views.load(id, empty, vec![]), Err(Error::Order { .. })));
    assert!(world.views.load(id, position, vec![]).is_err_and(|error| error.to_string().contains("was not read")));
}

#[test]
fn view_that_another_reads_is_not_dropped_before_it() {
    let mut world = world(Some(0));
    let (below, above) = (world.create("SELECT id FROM t"), world.create("SELECT count(*) AS n FROM view0"));
    let error = world.views.drop_view(below).expect_err("it is read");
    assert!(error.to_string().contains("\"view0\" is read by \"view1\""), "{error}");
    world.views.drop_view(above).expect("nobody reads it");
    world.views.drop_view(below).expect("nobody reads it any more");
    assert!(world.views.published().view(below).is_none());
}

#[test]
fn source_that_no_view_read_for_a_while_may_begin_its_log_anew() {
    let mut world = world(Some(0));
    let view = world.create("SELECT id FROM t");
    let (source, table) = (world.sources[0].id, world.sources[0].tables[0]);
    world.sources[0].position = 70;
    world.load_source(0);
    world.views.drop_view(view).expect("it is dropped");
    world.queries.clear();
    assert!(world.views.release_tables().contains(&table));
    assert!(world.views.published().vector.position("shop").is_some(), "what was published stays");
    // What follows the source was taken away and put in place again, and counts from the beginning.
    let definition = world.sources[0].models[0].definition.clone();
    world.sources[0].tables[0] = world.views.add_table(source, "t", &definition).expect("the table");
    world.sources[0].position = 0;
    world.load_source(0);
    world.create("SELECT id FROM t");
    world.check("after the log began anew");
    assert_eq!(world.views.published().vector.position("shop").map(Position::order), Some(1));
}
