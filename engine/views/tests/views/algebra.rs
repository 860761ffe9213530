//! How a history is cut does not matter, and what came and went again was never there.

use proptest::prelude::*;

use crate::dice::Dice;
use crate::simulator::sources;
use crate::world::{World, rows_of};

const QUERIES: &[&str] = &[
    "SELECT x.id, y.id AS yid FROM t x JOIN t y ON x.a = y.b",
    "SELECT t.id, w.id AS wid FROM t FULL JOIN w ON t.a = w.a AND t.b > w.b",
    "SELECT a, count(*) AS n, min(s) AS lo, max(f) AS hi, sum(f) AS sf, avg(d) AS ad FROM t GROUP BY a",
    "SELECT id, a FROM t WHERE a NOT IN (SELECT a FROM u)",
    "SELECT id, a FROM t ORDER BY a DESC, id LIMIT 3",
    "SELECT id, row_number() OVER (PARTITION BY a ORDER BY id) AS n FROM t",
    "SELECT DISTINCT t.a, v.n FROM t JOIN view2 v ON v.a = t.a",
    "SELECT s, stddev(f) AS x FROM bag GROUP BY s",
];

fn world(seed: u64) -> (World, Dice) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(sources());
    for model in world.sources.iter_mut().flat_map(|source| &mut source.models) {
        (0..3).for_each(|_| {
            model.insert(&mut dice);
        });
    }
    world.load();
    QUERIES.iter().for_each(|sql| {
        world.create(sql);
    });
    (world, dice)
}

fn shown(world: &World) -> Vec<Vec<String>> {
    let epoch = world.views.published();
    let rows = |(view, _): &(headwater_views::ViewId, String)| {
        rows_of(&epoch.view(*view).expect("visible").version.batches().expect("rows"))
    };
    world.queries.iter().map(rows).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn history_cut_otherwise_gives_the_same_views(seed in 0_u64..1_000_000, cuts in prop::collection::vec(any::<bool>(), 8)) {
        let (mut whole, mut dice) = world(seed);
        let (mut cut, mut again) = world(seed);
        for cut_here in cuts {
            for (world, dice) in [(&mut whole, &mut dice), (&mut cut, &mut again)] {
                let (source, table) = (dice.roll(2), dice.roll(2));
                let changes = world.sources[source].models[table].change(table, dice);
                world.offer(source, changes, vec![]);
            }
            if cut_here {
                cut.settle();
            }
        }
        whole.settle();
        cut.settle();
        prop_assert_eq!(shown(&whole), shown(&cut));
        whole.check("whole");
    }

    #[test]
    fn rows_that_come_and_go_within_an_epoch_change_nothing(seed in 0_u64..1_000_000) {
        let (mut world, mut dice) = world(seed);
        let before = shown(&world);
        let kept = world.sources[0].models[0].rows.clone();
        let change = world.sources[0].models[0].insert(&mut dice);
        let headwater_source::Change::Rows(rows) = &change else { panic!("rows came") };
        let gone = headwater_source::Change::Rows(headwater_source::RowChanges {
            rows: rows.rows.clone(),
            ops: vec![headwater_source::RowOp::DeleteRow; rows.ops.len()],
            kept: vec![],
        });
        world.offer(0, vec![headwater_source::TableChange { table: 0, change }], vec![]);
        world.offer(0, vec![headwater_source::TableChange { table: 0, change: gone }], vec![]);
        world.sources[0].models[0].rows = kept;
        let report = world.step();
        prop_assert!(report.changes.is_empty());
        prop_assert_eq!(before, shown(&world));
    }
}
