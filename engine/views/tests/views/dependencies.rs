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
