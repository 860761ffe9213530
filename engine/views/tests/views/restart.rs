//! Checkpoints: what is stored comes back, goes on from its position, and damage is named.

use std::collections::HashMap;

use headwater_views::{Checkpoint, Error, Maintenance, Options};

use crate::dice::Dice;
use crate::simulator::sources;
use crate::world::{World, covers, rows_of};

/// Parts by their names, as a directory holds them.
#[derive(Default)]
struct Disk {
    manifest: Vec<u8>,
    parts: HashMap<String, Vec<u8>>,
}

impl Disk {
    fn store(&mut self, checkpoint: Checkpoint) {
        for part in checkpoint.parts {
            assert!(self.parts.insert(part.name, part.bytes).is_none(), "a part's name is used twice");
        }
        self.manifest = checkpoint.manifest;
        self.parts.retain(|name, _| checkpoint.needed.contains(name));
    }

    fn restore(&self) -> Result<Maintenance, Error> {
        let read = |name: &str| self.parts.get(name).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into());
        Maintenance::restore(Options::default(), &self.manifest, &mut { read }, &|_| covers())
    }
}

const QUERIES: &[&str] = &[
    "SELECT * FROM t",
    "SELECT a, s, f FROM bag",
    "SELECT t.a, sum(u.b) AS n FROM t JOIN u ON t.a = u.a GROUP BY t.a",
];

fn play(world: &mut World, dice: &mut Dice) {
    for _ in 0..3 {
        let source = dice.roll(2);
        let table = dice.roll(2);
        let changes = world.sources[source].models[table].change(table, dice);
        world.offer(source, changes, vec![]);
    }
    world.settle();
}

#[test]
fn restart_goes_on_from_the_last_checkpoint_without_reading_the_sources() {
    for seed in 0..8 {
        let mut dice = Dice::new(seed);
        let mut world = World::new(sources());
        for model in world.sources.iter_mut().flat_map(|source| &mut source.models) {
            (0..6).for_each(|_| {
                model.insert(&mut dice);
            });
        }
        world.load();
        QUERIES.iter().for_each(|sql| {
            world.create(sql);
        });
        let mut disk = Disk::default();
        for _ in 0..12 {
            for _ in 0..dice.roll(3) {
                play(&mut world, &mut dice);
            }
            disk.store(world.views.checkpoint().expect("a checkpoint"));
            if !dice.once_in(3) {
                continue;
            }
            let before = world.views.published();
            let shown: Vec<_> = world
                .queries
                .iter()
                .map(|(view, _)| rows_of(&before.view(*view).expect("visible").version.batches().expect("rows")))
                .collect();
            world.views = disk.restore().expect("restored");
            let queries = std::mem::take(&mut world.queries);
            for (_, sql) in queries {
                world.create(&sql);
            }
            let hidden = world.views.published();
            assert!(
                world.queries.iter().all(|(view, _)| hidden.view(*view).is_none()),
                "more may have been shown before"
            );
            world.tell_ends_after_restart();
            let after = world.views.published();
            assert!(after.number > before.number && after.vector == before.vector, "seed {seed}");
            for ((view, sql), shown) in world.queries.iter().zip(shown) {
                let now = rows_of(&after.view(*view).expect("visible").version.batches().expect("rows"));
                assert_eq!(now, shown, "seed {seed}: {sql}");
            }
        }
        world.check(&format!("seed {seed}"));
    }
}

#[test]
fn small_change_of_a_large_table_is_stored_as_a_small_part() {
    let mut dice = Dice::new(3);
    let mut world = World::new(sources());
    (0..40).for_each(|_| {
        world.sources[0].models[0].insert(&mut dice);
    });
    world.load();
    let first = world.views.checkpoint().expect("a checkpoint");
    assert_eq!(first.parts.len(), 4, "every table has its rows");
    assert!(world.views.checkpoint().expect("a checkpoint").parts.is_empty(), "nothing changed");
    let change = world.sources[0].models[0].delete(&mut dice);
    world.offer(0, vec![headwater_source::TableChange { table: 0, change }], vec![]);
    world.settle();
    let second = world.views.checkpoint().expect("a checkpoint");
    let [part] = &second.parts[..] else { panic!("one table changed") };
    assert!(part.name.contains("log"), "{}", part.name);
    assert_eq!(second.needed.len(), 5);
}

#[test]
fn table_whose_key_changed_since_it_was_stored_is_read_anew() {
    let mut world = World::new(sources());
    world.load();
    let mut disk = Disk::default();
    disk.store(world.views.checkpoint().expect("a checkpoint"));
    let mut restored = disk.restore().expect("restored");
    let shop = restored.add_source("shop", covers());
    let (t, u) = (&world.sources[0].models[0], &world.sources[0].models[1]);
    let same = restored.add_table(shop, t.name, &t.definition).expect("it is as it was");
    let other = restored.add_table(shop, u.name, &u.definition.clone().with_key(["a"])).expect("nobody reads it");
    assert!(restored.are_loaded(&[same]) && !restored.are_loaded(&[other]));
}

#[test]
fn damaged_missing_and_foreign_parts_are_named() {
    let mut world = World::new(sources());
    world.load();
    let mut disk = Disk::default();
    disk.store(world.views.checkpoint().expect("a checkpoint"));
    let name = disk.parts.keys().next().expect("a part").clone();
    let good = disk.parts[&name].clone();
    let message = |disk: &Disk| disk.restore().err().map(|error| error.report()).unwrap_or_default();
    for byte in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        disk.parts.insert(name.clone(), bad);
        assert!(message(&disk).contains(&name) && message(&disk).contains("checksum"), "{}", message(&disk));
    }
    disk.parts.remove(&name);
    assert!(message(&disk).contains(&name), "{}", message(&disk));
    disk.parts.insert(name, good);
    assert!(disk.restore().is_ok());
    disk.manifest[3] ^= 4;
    assert!(message(&disk).contains("manifest"), "{}", message(&disk));
    disk.manifest.clear();
    assert!(message(&disk).contains("manifest"), "{}", message(&disk));
}
