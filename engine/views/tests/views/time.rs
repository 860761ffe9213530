//! now(): rows come and go with the time, a moment at a time where many are due, and what cannot be followed is refused.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use headwater_source::{Change, RowChanges, RowOp, TableChange};
use headwater_views::Options;

use crate::model::{CLOCK_US, Model, batch, column};
use crate::world::World;

const HOUR: i64 = 3_600_000_000_000;

fn events() -> Model {
    let columns = vec![column("id", DataType::Int64), column("ts", DataType::Timestamp(TimeUnit::Microsecond, None))];
    Model::new("events", columns, Some(0))
}

/// Events `id` at so many seconds after the clock's start.
fn insert(world: &mut World, events: impl IntoIterator<Item = (i64, i64)>) {
    let at = |seconds: i64| ScalarValue::TimestampMicrosecond(Some(CLOCK_US + seconds * 1_000_000), None);
    let rows: Vec<_> =
        events.into_iter().map(|(id, seconds)| vec![ScalarValue::Int64(Some(id)), at(seconds)]).collect();
    let model = &mut world.sources[0].models[0];
    let changes = RowChanges {
        rows: batch(&model.definition.schema(), &rows),
        ops: vec![RowOp::Insert; rows.len()],
        kept: vec![],
    };
    model.rows.extend(rows);
    world.offer(0, vec![TableChange { table: 0, change: Change::Rows(changes) }], vec![]);
}

fn world(options: Options) -> World {
    let mut world = World::with(options, vec![("shop", vec![events()])]);
    world.views.set_clock(CLOCK_US * 1_000);
    world.load();
    world
}

#[test]
fn row_leaves_at_its_very_moment_and_the_next_moment_is_known() {
    let mut world = world(Options::default());
    let view = world.create("SELECT id FROM events WHERE ts > now() - interval '1 hour'");
    insert(&mut world, [(1, 0), (2, 10), (3, -7_200)]);
    world.settle();
    let shown = |world: &World| world.views.published().view(view).unwrap().version.num_rows();
    assert_eq!(shown(&world), 2);
    let leaves = CLOCK_US * 1_000 + HOUR;
    assert_eq!(world.views.next_moment(), Some(leaves));
    world.views.set_clock(leaves - 1);
    assert!(world.step().epoch.is_none(), "nothing happens before the moment");
    assert_eq!(shown(&world), 2);
    world.views.set_clock(leaves);
    assert!(world.step().epoch.is_some());
    world.check("at the moment");
    assert_eq!(shown(&world), 1);
    // A clock that is set back is not followed.
    world.views.set_clock(leaves - HOUR);
    world.settle();
    assert_eq!((shown(&world), world.views.published().now), (1, leaves));
    world.views.set_clock(leaves + HOUR);
    world.settle();
    assert_eq!((shown(&world), world.views.next_moment()), (0, None));
    assert_eq!(world.views.explain(view).unwrap().iter().map(|line| line.description.rows).sum::<usize>(), 0);
}

#[test]
fn many_rows_that_are_due_are_spread_over_epochs_each_of_which_is_right_at_its_time() {
    let mut world = world(Options { due_rows: 10, ..Options::default() });
    world.create("SELECT id FROM events WHERE ts <= now()");
    world.create("SELECT count(*) AS n FROM events WHERE ts > now()");
    insert(&mut world, (0..100).map(|id| (id, 1 + id / 4)));
    world.settle();
    world.views.set_clock(CLOCK_US * 1_000 + HOUR);
    let (mut epochs, mut before) = (0, 0);
    loop {
        let more = world.step().more;
        world.check("an epoch");
        let now = world.views.published().now;
        assert!(now > before);
        before = now;
        epochs += 1;
        if !more {
            break;
        }
    }
    assert!((10..=26).contains(&epochs), "{epochs} epochs");
    assert_eq!(before, CLOCK_US * 1_000 + HOUR);
}

#[test]
fn day_of_a_moment_is_followed() {
    let mut world = world(Options::default());
    world.create("SELECT id FROM events WHERE CAST(ts AS DATE) > CAST(CAST(now() AS TIMESTAMP(6)) AS DATE)");
    insert(&mut world, (0..60).map(|id| (id, id)));
    world.settle();
    for hours in [1, 20, 30, 70] {
        world.views.set_clock(CLOCK_US * 1_000 + hours * HOUR);
        world.settle();
        world.check("a later day");
    }
}

#[test]
fn time_that_cannot_be_followed_is_refused_by_name() {
    let mut world = world(Options::default());
    for (sql, part) in [
        ("SELECT id, now() AS at FROM events", "\"now()"),
        ("SELECT id FROM events ORDER BY ts - now() LIMIT 3", "now()"),
        ("SELECT id FROM events WHERE ts > now() - interval '1 month'", "interval '1 hour'"),
        ("SELECT id FROM events WHERE extract(hour FROM now()) = 5", "in WHERE or HAVING"),
        ("SELECT id FROM events WHERE ts - now() < ts - ts", "leave it to the query"),
        ("SELECT count(*) FILTER (WHERE ts > now()) AS n FROM events", "depends on the time"),
        ("SELECT l.id FROM events l LEFT JOIN events r ON l.id = r.id AND l.ts > now()", "depends on the time"),
        ("SELECT id FROM events WHERE date_trunc('day', now()) < ts", "depends on the time"),
        ("SELECT id FROM events WHERE now() < current_date", "depends on the time"),
        ("SELECT id, current_time AS at FROM events", "current_time() changes"),
        ("SELECT id FROM events WHERE random() < 0.5 AND ts > now()", "random() gives another value"),
    ] {
        let error = world.try_create(sql).map(|_| ()).expect_err(sql).report();
        assert!(error.contains(part) && !error.contains('$'), "{sql}: {error}");
    }
}
