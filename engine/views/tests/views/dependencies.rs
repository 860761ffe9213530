//! G1, G2, G7 and G9 over two sources: the bank whose total never changes.

use arrow::array::cast::AsArray;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::common::ScalarValue;
use headwater_source::{Change, Dependency, RowChanges, RowOp, TableChange};
use headwater_views::{Held, ViewId};

use crate::dice::Dice;
use crate::model::{Model, batch, column, loose};
use crate::world::World;

const ACCOUNTS: i64 = 10;

fn bank(name: &'static str) -> Model {
    let mut model = Model::new(name, vec![column("id", DataType::Int64), column("balance", DataType::Int64)], Some(0));
    model.rows = (0..ACCOUNTS).map(|id| vec![ScalarValue::Int64(Some(id)), ScalarValue::Int64(Some(0))]).collect();
    model
}

fn balance(model: &Model, account: usize) -> i64 {
    match model.rows[account][1] {
        ScalarValue::Int64(Some(balance)) => balance,
        _ => panic!("a balance"),
    }
}

/// Adds to an account.
fn move_by(model: &mut Model, table: usize, account: usize, amount: i64) -> TableChange {
    let old = model.rows[account].clone();
    let new = balance(model, account) + amount;
    model.rows[account][1] = ScalarValue::Int64(Some(new));
    let rows = batch(&loose(&model.definition.schema()), &[old, model.rows[account].clone()]);
    TableChange {
        table,
        change: Change::Rows(RowChanges { rows, ops: vec![RowOp::DeleteKey, RowOp::InsertOver], kept: vec![] }),
    }
}

fn number(world: &World, view: ViewId) -> i64 {
    let epoch = world.views.published();
    let rows = epoch.view(view).expect("visible").version.batches().expect("rows");
    let column = rows[0].column(0);
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(0),
        _ => column.as_primitive::<Decimal128Type>().value(0) as i64,
    }
}

#[test]
fn total_of_transfers_within_one_source_is_zero_in_every_version() {
    let mut world = World::new(vec![("bank", vec![bank("accounts")])]);
    world.load();
    let total = world.create("SELECT sum(balance) AS total FROM accounts");
    let pairs =
        world.create("SELECT sum(a.balance + b.balance) AS total FROM accounts a JOIN accounts b ON a.id = 9 - b.id");
    let mut dice = Dice::new(1);
    for _ in 0..200 {
        let (from, to) = (dice.roll(10), dice.roll(10));
        let model = &mut world.sources[0].models[0];
        let changes = vec![move_by(model, 0, from, -1), move_by(model, 0, to, 1)];
        world.offer(0, changes, vec![]);
        if dice.once_in(3) {
            world.step();
        }
        assert_eq!(number(&world, total), 0);
        assert_eq!(number(&world, pairs), 0);
    }
    world.settle();
    world.check("at the end");
}

/// A credit in one database depends on the debit in the other, and is heard of first.
#[test]
fn credit_waits_for_its_debit_and_the_total_is_never_above_zero() {
    let mut world = World::new(vec![("left", vec![bank("l")]), ("right", vec![bank("r")])]);
    world.load();
    let total =
        world.create("SELECT sum(balance) AS total FROM (SELECT balance FROM l UNION ALL SELECT balance FROM r)");
    let mut dice = Dice::new(2);
    let mut debits = Vec::new();
    for round in 0..100 {
        // The debit will be at this position of the left source.
        let at = world.sources[0].position + 1 + debits.len() as u64;
        let credit = move_by(&mut world.sources[1].models[0], 0, dice.roll(10), 1);
        world.offer(1, vec![credit], vec![Dependency { service: "left".to_owned(), token: at.to_string() }]);
        debits.push(move_by(&mut world.sources[0].models[0], 0, dice.roll(10), -1));
        world.step();
        let held = world.views.source_status(world.sources[1].id).expect("a source").held;
        assert!(matches!(held, Some(Held { service, .. }) if service == "left"), "round {round}");
        if dice.once_in(4) {
            for debit in debits.drain(..) {
                world.offer(0, vec![debit], vec![]);
            }
        }
        world.settle();
        assert!(number(&world, total) <= 0, "a credit shows before its debit");
    }
    for debit in debits {
        world.offer(0, vec![debit], vec![]);
    }
    world.settle();
    assert_eq!(number(&world, total), 0);
    world.check("at the end");
}

#[test]
fn stalled_source_freezes_its_own_positions_and_no_others() {
    let mut world = World::new(vec![("left", vec![bank("l")]), ("right", vec![bank("r")])]);
    world.load();
    let (left, both) = (
        world.create("SELECT sum(balance) AS total FROM l"),
        world.create("SELECT sum(l.balance) AS total FROM l JOIN r ON l.id = r.id"),
    );
    // Nothing comes from the right: a transaction that waits for what never comes.
    let change = move_by(&mut world.sources[1].models[0], 0, 0, 5);
    world.offer(1, vec![change], vec![Dependency { service: "left".to_owned(), token: "1000".to_owned() }]);
    let before = world.views.published();
    let change = move_by(&mut world.sources[0].models[0], 0, 3, 7);
    world.offer(0, vec![change], vec![]);
    world.settle();
    assert_eq!((number(&world, left), number(&world, both)), (7, 7));
    let after = world.views.published();
    assert!(after.vector.covers(&before.vector) && !before.vector.covers(&after.vector));
    assert_eq!(after.vector.position("right"), before.vector.position("right"));
    assert_eq!(after.view(left).expect("visible").vector.iter().count(), 1);
}

#[test]
fn dependency_on_a_token_of_another_kind_is_shown_with_its_fault() {
    let mut world = World::new(vec![("left", vec![bank("l")]), ("right", vec![bank("r")])]);
    world.load();
    world.offer(1, vec![], vec![Dependency { service: "left".to_owned(), token: "0/16B".to_owned() }]);
    world.step();
    let held = world.views.source_status(world.sources[1].id).expect("a source").held.expect("it is held");
    assert!(held.fault.is_some_and(|fault| fault.contains("0/16B")));
}

/// Two commits of one source that are told as one, and another's transaction in between: each needs the other.
#[test]
fn transactions_that_need_each_other_show_together() {
    let mut world = World::new(vec![("left", vec![bank("l")]), ("right", vec![bank("r")])]);
    world.load();
    let total =
        world.create("SELECT sum(balance) AS total FROM (SELECT balance FROM l UNION ALL SELECT balance FROM r)");
    let needs = |service: &str, token: u64| vec![Dependency { service: service.to_owned(), token: token.to_string() }];
    let (left, right) = (world.sources[0].position + 1, world.sources[1].position + 1);
    let debit = move_by(&mut world.sources[0].models[0], 0, 1, -3);
    let credit = move_by(&mut world.sources[0].models[0], 0, 2, 2);
    let back =
        vec![move_by(&mut world.sources[1].models[0], 0, 1, 3), move_by(&mut world.sources[1].models[0], 0, 1, -2)];
    world.offer(1, back, needs("left", left));
    world.settle();
    assert_eq!(number(&world, total), 0);
    assert!(world.views.source_status(world.sources[1].id).expect("a source").held.is_some());
    world.offer(0, vec![debit, credit], needs("right", right));
    world.settle();
    assert_eq!(number(&world, total), 0);
    assert!(world.sources.iter().all(|source| world.views.source_status(source.id).expect("a source").waiting == 0));
    world.check("at the end");
    // What needs more than each other waits on.
    let (left, right) = (world.sources[0].position + 1, world.sources[1].position + 1);
    world.offer(1, vec![], needs("left", left));
    world.offer(1, vec![], needs("left", left + 1));
    world.offer(0, vec![], needs("right", right));
    world.settle();
    let waiting = |source: usize| world.views.source_status(world.sources[source].id).expect("a source").waiting;
    assert_eq!((waiting(0), waiting(1)), (0, 1));
}

/// Rows do not say what they build upon: those of the right hold a credit whose debit the left has committed and not told yet.
#[test]
fn view_over_two_sources_begins_once_each_has_come_to_where_it_ended_when_the_other_was_loaded() {
    let mut world = World::new(vec![("left", vec![bank("l")]), ("right", vec![bank("r")])]);
    world.load_source(0);
    let total = world
        .try_create("SELECT sum(balance) AS total FROM (SELECT balance FROM l UNION ALL SELECT balance FROM r)")
        .expect("a view");
    let own = world.create("SELECT sum(balance) AS total FROM r");
    let debit = move_by(&mut world.sources[0].models[0], 0, 1, -1);
    move_by(&mut world.sources[1].models[0], 0, 1, 1);
    let told = world.sources[0].position;
    world.sources[0].position += 1;
    let report = world.load_source(1);
    assert_eq!(report.unsettled, [world.sources[0].id]);
    assert!(world.views.published().view(total).is_none(), "the credit shows before its debit");
    assert_eq!(number(&world, own), 1, "what reads the one source alone waits for no other");
    world.sources[0].position = told;
    world.offer(0, vec![debit], vec![]);
    world.settle();
    assert_eq!(number(&world, total), 0);
    // Read anew in the middle: the view stays where it was until the other has come.
    let debit = move_by(&mut world.sources[0].models[0], 0, 1, -1);
    move_by(&mut world.sources[1].models[0], 0, 1, 1);
    world.sources[0].position += 1;
    world.load_source(1);
    assert_eq!((number(&world, total), number(&world, own)), (0, 2));
    assert_eq!(
        world.views.published().view(total).expect("visible").vector.position("right").map(|p| p.order()),
        Some(1)
    );
    world.sources[0].position -= 1;
    world.offer(0, vec![debit], vec![]);
    world.settle();
    assert_eq!(number(&world, total), 0);
    world.check("at the end");
}

/// A log that began anew has smaller positions; its rows are read all the same, once that is said.
#[test]
fn rows_of_a_log_that_began_anew_are_loaded_at_a_smaller_position() {
    let mut world = World::new(vec![("left", vec![bank("l")])]);
    world.load();
    world.create("SELECT sum(balance) AS total FROM l");
    (0..5).for_each(|_| world.offer(0, vec![], vec![]));
    world.settle();
    world.sources[0].position = 0;
    world.views.begin_history(world.sources[0].id).expect("a source");
    world.load();
    let change = move_by(&mut world.sources[0].models[0], 0, 3, 7);
    world.offer(0, vec![change], vec![]);
    world.settle();
    world.check("in the new log");
}
