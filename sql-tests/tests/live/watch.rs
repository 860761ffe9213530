//! Watching views at every version: what subscriptions tell is kept, and played again, epoch by epoch, for a judge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::util::display::array_value_to_string;
use headwater::{Engine, ViewDelta};
use headwater_sql_tests::wait;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// A row of numbers.
pub(crate) type Row = Vec<i64>;

/// The rows of a view, each with how often it is there.
pub(crate) type Rows = BTreeMap<Row, i64>;

/// What each view has in one version.
pub(crate) type Version<'a> = BTreeMap<&'a str, &'a Rows>;

/// A view, what was told of it, and who listens.
type Followed = (String, Arc<Mutex<Vec<Told>>>, JoinHandle<()>);

/// Watches views until it is asked for what it saw.
pub(crate) struct Watch {
    /// The views that a version must have to be judged; those that were added are judged once they are there.
    first: Vec<String>,
    views: Vec<Followed>,
}

/// What a subscription told of an epoch.
#[derive(Debug, Clone)]
struct Told {
    epoch: u64,
    vector: Vec<(String, u64)>,
    restarted: bool,
    rows: Vec<(Row, i64)>,
}

impl Watch {
    /// Watches the views `v.NAME`.
    pub(crate) fn views(engine: &Engine, names: &[&str]) -> Self {
        let mut watch = Self { first: names.iter().map(|name| (*name).to_owned()).collect(), views: vec![] };
        watch.add(engine, names);
        watch
    }

    /// Watches more of them.
    pub(crate) fn add(&mut self, engine: &Engine, names: &[&str]) {
        for name in names {
            let mut subscription = engine.subscribe(&format!("v.{name}")).unwrap();
            let told = Arc::new(Mutex::new(Vec::new()));
            let telling = Arc::clone(&told);
            let task = tokio::spawn(async move {
                while let Some(delta) = subscription.next().await.unwrap() {
                    telling.lock().push(read(&delta));
                }
            });
            self.views.push(((*name).to_owned(), told, task));
        }
    }

    /// How many versions a judge would be handed by now.
    pub(crate) fn versions(&self) -> usize {
        let (mut complete, mut epochs) = (0, BTreeSet::new());
        for (name, told, _) in &self.views {
            let told = told.lock();
            if self.first.contains(name) {
                let Some(first) = told.first() else { return 0 };
                complete = complete.max(first.epoch);
            }
            epochs.extend(told.iter().map(|told| told.epoch));
        }
        epochs.range(complete..).count()
    }

    /// Hands every version since the first of them were there to a judge. The number of versions, and what the views have in the last. Nobody
    /// writes any more, and `last` is an epoch that shows everything.
    pub(crate) async fn judge(self, engine: &Engine, judge: impl Fn(&Version<'_>)) -> (usize, BTreeMap<String, Rows>) {
        wait::until("what was published was told", crate::DEADLINE, async || {
            for (name, told, task) in &self.views {
                assert!(!task.is_finished(), "the subscription to {name} ended");
                let shown = shown(engine, name).await;
                if sum(&told.lock()) != shown {
                    return false;
                }
            }
            true
        })
        .await;
        let mut epochs: BTreeMap<u64, Vec<(String, Told)>> = BTreeMap::new();
        for (name, told, task) in self.views {
            task.abort();
            let told = std::mem::take(&mut *told.lock());
            only_grows(&name, &told);
            told.into_iter().for_each(|told| epochs.entry(told.epoch).or_default().push((name.clone(), told)));
        }
        let mut now: BTreeMap<String, Rows> = BTreeMap::new();
        let mut versions = 0;
        for (epoch, changes) in epochs {
            let mut shown = format!("epoch {epoch}");
            for (name, told) in changes {
                let rows = now.entry(name).or_default();
                add(rows, &told);
                shown = format!("epoch {epoch} at {:?}", told.vector);
            }
            if self.first.iter().all(|name| now.contains_key(name)) {
                let version = now.iter().map(|(name, rows)| (name.as_str(), rows)).collect();
                judged(&shown, &judge, &version);
                versions += 1;
            }
        }
        (versions, now)
    }
}

/// Says of which version it is that the judge speaks.
fn judged(shown: &str, judge: &impl Fn(&Version<'_>), version: &Version<'_>) {
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge(version)));
    if let Err(reason) = found {
        eprintln!("at {shown}: {version:?}");
        std::panic::resume_unwind(reason);
    }
}

fn read(delta: &ViewDelta) -> Told {
    let batch = delta.delta.rows();
    let row = |row: usize| -> Row {
        let cell = |column: &arrow::array::ArrayRef| {
            let text = array_value_to_string(column, row).unwrap();
            text.parse().unwrap_or_else(|_| panic!("the bank's views have numbers alone, not {text:?}"))
        };
        batch.columns().iter().map(cell).collect()
    };
    Told {
        epoch: delta.epoch,
        vector: delta.vector.iter().map(|(service, position)| (service.to_owned(), position.order())).collect(),
        restarted: delta.restarted,
        rows: (0..batch.num_rows()).map(row).zip(delta.delta.weights().iter().copied()).collect(),
    }
}

fn add(rows: &mut Rows, told: &Told) {
    if told.restarted {
        rows.clear();
    }
    for (row, weight) in &told.rows {
        *rows.entry(row.clone()).or_default() += weight;
    }
    rows.retain(|_, weight| *weight != 0);
}

fn sum(told: &[Told]) -> Rows {
    let mut rows = Rows::new();
    told.iter().for_each(|told| add(&mut rows, told));
    rows
}

/// Epochs and positions never go back.
fn only_grows(name: &str, told: &[Told]) {
    for pair in told.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        assert!(before.epoch < after.epoch, "{name}: epoch {} after {}", after.epoch, before.epoch);
        for ((service, before), (_, after)) in before.vector.iter().zip(&after.vector) {
            assert!(before <= after, "{name}: {service} goes back from {before} to {after}");
        }
    }
}

/// The rows of a view as a query reads them.
async fn shown(engine: &Engine, name: &str) -> Rows {
    let answer = headwater_sql_tests::services::rows(engine, &format!("SELECT * FROM v.{name}")).await;
    let mut rows = Rows::new();
    for row in answer.texts() {
        *rows.entry(row.iter().map(|cell| cell.parse().unwrap()).collect()).or_default() += 1;
    }
    rows
}

/// The only number of the only row.
pub(crate) fn only(rows: &Rows) -> i64 {
    assert_eq!(rows.len(), 1, "one row: {rows:?}");
    rows.keys().next().unwrap()[0]
}
