//! The workload of `view_updates`, the same for Headwater and its peers: orders joined with customers, grouped by region.
//!
//! Each program is a process of its own, called with the number of orders, the updates of a batch and the number of batches; it prints one line of JSON.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How many regions customers live in.
const REGIONS: u64 = 1_000;

/// xorshift64: fast, and the same in every run.
#[derive(Debug)]
struct Dice(u64);

/// The rows as they are, and what changes them.
#[derive(Debug)]
pub(crate) struct Workload {
    dice: Dice,
    /// Customer and amount of each order.
    pub(crate) orders: Vec<(i64, i64)>,
    /// The region of each customer: a tenth as many customers as orders.
    pub(crate) regions: Vec<i64>,
    updates: usize,
    batches: usize,
}

/// A batch of updates, each row at most once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Order, its customer, the amount that it had and the one that it has now.
    pub(crate) orders: Vec<(i64, i64, i64, i64)>,
    /// Customer, the region that it had and the one that it has now.
    pub(crate) customers: Vec<(i64, i64, i64)>,
}

impl Dice {
    fn roll(&mut self, sides: u64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides) as i64
    }
}

impl Workload {
    /// From the program's arguments.
    pub(crate) fn from_arguments(arguments: &[String]) -> Self {
        let number = |place: usize, default: usize| {
            arguments.get(place).map_or(default, |text| text.parse().expect("a whole number as argument"))
        };
        let (orders, updates, batches) = (number(0, 1_000_000), number(1, 1_000), number(2, 200));
        let customers = orders / 10;
        let mut dice = Dice(88_172_645_463_325_252);
        let regions = (0..customers).map(|_| dice.roll(REGIONS)).collect();
        let orders = (0..orders).map(|_| (dice.roll(customers as u64), dice.roll(1_000))).collect();
        Self { dice, orders, regions, updates, batches }
    }

    fn next(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut seen = BTreeSet::new();
        while batch.orders.len() < self.updates {
            let id = self.dice.roll(self.orders.len() as u64);
            if seen.insert(id) {
                let (customer, old) = self.orders[id as usize];
                let new = self.dice.roll(1_000);
                self.orders[id as usize].1 = new;
                batch.orders.push((id, customer, old, new));
            }
        }
        seen.clear();
        while batch.customers.len() < self.updates / 100 {
            let id = self.dice.roll(self.regions.len() as u64);
            if seen.insert(id) {
                let new = self.dice.roll(REGIONS);
                batch.customers.push((id, self.regions[id as usize], new));
                self.regions[id as usize] = new;
            }
        }
        batch
    }

    /// Loads with `load`, then has `apply` take one batch after the other, and prints what came of it. Making a batch is not counted.
    pub(crate) fn run<State>(mut self, load: impl FnOnce(&Self) -> State, mut apply: impl FnMut(&mut State, Batch)) {
        let begun = Instant::now();
        let mut state = load(&self);
        let loaded = begun.elapsed();
        let mut times: Vec<Duration> = Vec::with_capacity(self.batches);
        for _ in 0..self.batches {
            let batch = self.next();
            let begun = Instant::now();
            apply(&mut state, batch);
            times.push(begun.elapsed());
        }
        let total: Duration = times.iter().sum();
        times.sort();
        println!(
            "{{\"load_ms\": {}, \"updates_per_second\": {:.0}, \"p50_us\": {}, \"p99_us\": {}, \"resident_mib\": {}}}",
            loaded.as_millis(),
            (self.batches * self.updates) as f64 / total.as_secs_f64(),
            times[self.batches / 2].as_micros(),
            times[self.batches * 99 / 100].as_micros(),
            resident_mib(),
        );
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
