//! Each fault of [`Mutant`] turns the simulator or the bank red, and without a fault the same plays are green.

use std::panic::{AssertUnwindSafe, catch_unwind};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use headwater_source::{Change, Dependency, RowChanges, RowOp, TableChange};

use crate::model::{Model, batch, column, loose};
use crate::mutant::{Mutant, with};
use crate::simulator::play;
use crate::world::{World, rows_of};

/// So many seeds are tried before a fault counts as not found.
const SEEDS: u64 = 12;

/// A few shapes are enough: what is tried is the judge.
const QUERIES: &[&str] = &[
    "SELECT t.id, u.id AS uid, t.s, u.d FROM t JOIN u ON t.a = u.a",
    "SELECT x.id, y.id AS yid FROM t x JOIN t y ON x.a = y.b",
    "SELECT t.id, w.id AS wid FROM t JOIN w ON t.a = w.a AND t.b < w.b",
    "SELECT a, count(*) AS n, sum(b) AS sb, min(b) AS lo FROM t GROUP BY a",
];

/// The first seed whose play goes red with the fault. Every seed is green without it.
fn found(mutant: Mutant, play: impl Fn(u64)) -> Option<u64> {
    let red = |fault: Option<Mutant>, seed: u64| with(fault, || catch_unwind(AssertUnwindSafe(|| play(seed)))).is_err();
    let seed = (0..SEEDS).find(|seed| red(Some(mutant), *seed))?;
    assert!((0..=seed).all(|seed| !red(None, seed)), "{mutant:?}: red without the fault");
    println!("{mutant:?} is found by seed {seed}");
    Some(seed)
}

#[test]
fn join_that_forgets_pairs_of_new_rows_is_found_by_the_simulator() {
    assert!(found(Mutant::JoinForgetsPairsOfNewRows, |seed| play(seed, QUERIES)).is_some());
}

#[test]
fn transactions_in_another_order_are_found_by_the_simulator() {
    assert!(found(Mutant::ReordersTransactions, |seed| play(seed, QUERIES)).is_some());
}

#[test]
fn credit_before_its_debit_is_found_by_the_bank() {
    let play = |_| {
        let mut world = bank();
        world.load();
        create(&mut world, TOTAL);
        let credit = amount(&mut world, 1, 1);
        world.offer(1, vec![credit], vec![Dependency { service: "left".to_owned(), token: "2".to_owned() }]);
        world.settle();
        assert_eq!(total(&world), Some("0".to_owned()));
    };
    assert!(found(Mutant::IgnoresDependencies, play).is_some());
}

#[test]
fn view_that_shows_before_its_vector_is_complete_is_found() {
    let play = |_| {
        let mut world = bank();
        create(&mut world, TOTAL);
        world.load_source(0);
        assert_eq!(total(&world), None, "the right side is not loaded");
    };
    assert!(found(Mutant::ShowsBeforeItsVectorIsComplete, play).is_some());
}

#[test]
fn view_that_begins_before_its_sources_agree_is_found_by_the_bank() {
    let play = |_| {
        let mut world = bank();
        create(&mut world, TOTAL);
        world.load_source(0);
        let debit = amount(&mut world, 0, -1);
        amount(&mut world, 1, 1);
        // The left source has committed the debit, and its feed is not there yet.
        world.sources[0].position += 1;
        world.load_source(1);
        assert!(total(&world).is_none_or(|total| total == "0"), "a credit shows before its debit");
        world.sources[0].position -= 1;
        world.offer(0, vec![debit], vec![]);
        world.settle();
        assert_eq!(total(&world), Some("0".to_owned()));
    };
    assert!(found(Mutant::BeginsBeforeItsSourcesAgree, play).is_some());
}

#[test]
fn view_that_shows_its_checkpoint_after_a_restart_is_found() {
    let play = |_| {
        let mut world = bank();
        world.load();
        create(&mut world, TOTAL);
        let stored = world.views.checkpoint().expect("a checkpoint");
        let change = amount(&mut world, 0, 5);
        world.offer(0, vec![change], vec![]);
        world.settle();
        let shown = total(&world);
        let mut read = |name: &str| {
            let part = stored.parts.iter().find(|part| part.name == name);
            part.map(|part| part.bytes.clone()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        };
        let covers = &|_: &str| crate::world::covers();
        let restored = crate::Maintenance::restore(crate::Options::default(), &stored.manifest, &mut read, covers);
        world.views = restored.expect("restored");
        world.queries.clear();
        create(&mut world, TOTAL);
        assert!(total(&world).is_none_or(|now| Some(now) == shown), "older than what was shown before");
    };
    assert!(found(Mutant::ShowsTheCheckpointAfterARestart, play).is_some());
}

const TOTAL: &str = "SELECT sum(balance) AS total FROM (SELECT balance FROM l UNION ALL SELECT balance FROM r)";

/// An account on each side.
fn bank() -> World {
    let side = |name: &'static str| {
        let columns = vec![column("id", DataType::Int64), column("balance", DataType::Int64)];
        let mut model = Model::new(name, columns, Some(0));
        model.rows = vec![vec![ScalarValue::Int64(Some(0)), ScalarValue::Int64(Some(0))]];
        model
    };
    World::new(vec![("left", vec![side("l")]), ("right", vec![side("r")])])
}

fn create(world: &mut World, sql: &str) {
    world.try_create(sql).expect("a view");
    world.views.start_views();
}

/// What the view shows, where it shows.
fn total(world: &World) -> Option<String> {
    let (view, _) = world.queries.first().expect("a view");
    let epoch = world.views.published();
    let rows = rows_of(&epoch.view(*view)?.version.batches().expect("rows"));
    rows.first().map(|row| row.split(':').next().unwrap_or_default().to_owned())
}

/// Adds to the account of a side.
fn amount(world: &mut World, side: usize, by: i64) -> TableChange {
    let model = &mut world.sources[side].models[0];
    let old = model.rows[0].clone();
    if let ScalarValue::Int64(Some(balance)) = &mut model.rows[0][1] {
        *balance += by;
    }
    let rows = batch(&loose(&model.definition.schema()), &[old, model.rows[0].clone()]);
    let ops = vec![RowOp::DeleteKey, RowOp::InsertOver];
    TableChange { table: 0, change: Change::Rows(RowChanges { rows, ops, kept: vec![] }) }
}
