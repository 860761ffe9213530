//! A view: its operators, what it shows, and whether it goes on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Explained, SourceId, TableId, Tables, ViewState};
use crate::operator::{Changes, Mode, Operator, bytes, gathered, multiplied, next_moment, reach};
use crate::plan::{Input, Query};
use crate::table::{InUse, Table};
use crate::version::Output;
use crate::{Delta, Error, Result, Version};

#[derive(Debug)]
pub(super) struct View {
    pub(super) name: Arc<str>,
    pub(super) query: Query,
    /// The sources that it reads, through other views too.
    pub(super) sources: BTreeSet<SourceId>,
    running: Option<Running>,
    /// The rows that it was last told to have, before the engine started: what it first shows is the difference to them.
    pub(super) told: Option<Vec<Delta>>,
    /// Why it goes no further.
    pub(super) failed: Option<Arc<str>>,
    pub(super) memory_limit: usize,
}

#[derive(Debug)]
struct Running {
    root: Box<dyn Operator>,
    output: Output,
    /// Those into which its operators look, each once. The tables keep them as long as these are held.
    indexes: Vec<InUse>,
}

/// Rows of the first piece of the contents of a view's inputs.
const PIECE_ROWS_MIN: usize = 64;

/// What an input holds.
#[derive(Debug)]
pub(super) enum Contents {
    Table(TableId),
    View(Vec<Delta>),
}

impl Contents {
    fn batches<'a>(&'a self, tables: Tables<'a>) -> Box<dyn Iterator<Item = Result<Delta>> + 'a> {
        match self {
            Self::Table(table) => Box::new(tables.get(*table).into_iter().flat_map(Table::batches)),
            Self::View(batches) => Box::new(batches.iter().cloned().map(Ok)),
        }
    }
}

impl View {
    pub(super) fn new(name: &str, query: Query, sources: BTreeSet<SourceId>, memory_limit: usize) -> Self {
        Self { name: name.into(), query, sources, running: None, told: None, failed: None, memory_limit }
    }

    pub(super) fn is_live(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn state(&self) -> ViewState {
        match (&self.failed, &self.running) {
            (Some(reason), _) => ViewState::Failed(reason.to_string()),
            (None, Some(_)) => ViewState::Live,
            (None, None) => ViewState::Loading,
        }
    }

    /// Starts over: from the next step on it is computed from its inputs' contents.
    pub(super) fn reset(&mut self) {
        self.running = None;
        self.failed = None;
    }

    /// Gives its state up.
    pub(super) fn give_up(&mut self) {
        self.running = None;
    }

    /// Computes the view from the contents of its inputs. What it shows is the difference to what it showed before.
    pub(super) fn start(
        &mut self,
        contents: &[(Input, Contents)],
        indexes: Vec<InUse>,
        (tables, now): (Tables<'_>, i64),
        load_rows: usize,
    ) -> Result<Delta> {
        let output = Output::new(Arc::clone(self.query.schema()))?;
        let mut running = Running { root: self.query.compile()?, output, indexes };
        // What computes anything anew is to do so once.
        let delta = match is_incremental(running.root.as_ref()) {
            true => running.load(contents, (tables, now), load_rows.max(1), &|running| self.check_memory(running))?,
            false => running.load_at_once(contents, (tables, now))?,
        };
        self.check_memory(&running)?;
        self.running = Some(running);
        Ok(delta)
    }

    /// Follows an epoch. A view that fails gives its state up, and its memory with it.
    pub(super) fn step(&mut self, changes: &Changes<'_>) -> Result<Delta> {
        let mut running =
            self.running.take().ok_or_else(|| Error::invariant("a view was stepped before it was loaded"))?;
        let delta = running.step(changes)?;
        self.check_memory(&running)?;
        self.running = Some(running);
        Ok(delta)
    }

    /// The next moment at which it changes by itself.
    pub(super) fn next_moment(&self) -> Option<i64> {
        self.running.as_ref().and_then(|running| next_moment(running.root.as_ref()))
    }

    /// How far the time may go in an epoch.
    pub(super) fn reach(&self, until: i64, rows_max: usize) -> i64 {
        self.running.as_ref().map_or(until, |running| reach(running.root.as_ref(), until, rows_max))
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.running.as_ref().map(|running| running.output.version())
    }

    pub(super) fn rows(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.output.rows())
    }

    pub(super) fn bytes(&self) -> usize {
        self.running.as_ref().map_or(0, Running::bytes)
    }

    pub(super) fn explain(&self) -> Result<Vec<Explained>> {
        let mut lines = Vec::new();
        match &self.running {
            Some(running) => walk(running.root.as_ref(), 0, &mut lines),
            None => walk(self.query.compile()?.as_ref(), 0, &mut lines),
        }
        Ok(lines)
    }

    fn check_memory(&self, running: &Running) -> Result<()> {
        let bytes = running.bytes();
        if bytes <= self.memory_limit {
            return Ok(());
        }
        Err(Error::Memory { view: self.name.to_string(), bytes, limit: self.memory_limit })
    }
}

impl Running {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Delta> {
        let deltas = self.root.step(changes)?;
        self.output.apply(&deltas)
    }

    /// Takes the contents of the inputs in pieces of about so many rows: what is computed on the way is never there for all rows at once.
    fn load(
        &mut self,
        contents: &[(Input, Contents)],
        (tables, now): (Tables<'_>, i64),
        rows_max: usize,
        check: &dyn Fn(&Self) -> Result<()>,
    ) -> Result<Delta> {
        let mut wanted = BTreeSet::new();
        gathered(self.root.as_ref(), tables, &mut wanted)?;
        let (mut piece, mut rows, mut first): (HashMap<Input, Vec<Delta>>, usize, bool) = (HashMap::new(), 0, true);
        // A join may make many rows of one: the pieces grow only while it does not.
        let mut rows_now = rows_max.min(PIECE_ROWS_MIN);
        for (input, contents) in contents.iter().filter(|(input, _)| wanted.contains(input)) {
            for batch in contents.batches(tables) {
                let (batch, mut from) = (batch?, 0);
                while from < batch.len() {
                    if rows >= rows_now {
                        let deltas = std::mem::take(&mut piece);
                        self.step(&Changes { deltas, tables, first, is_loading: true, now })?;
                        check(self)?;
                        let made = multiplied(self.root.as_ref());
                        rows_now = match made <= rows_max {
                            true => rows_now.saturating_mul(4).min(rows_max),
                            false => (rows_now as u128 * rows_max as u128 / made as u128).max(1) as usize,
                        };
                        (first, rows) = (false, 0);
                    }
                    let taken = (batch.len() - from).min(rows_now - rows);
                    piece.entry(*input).or_default().push(batch.slice(from, taken));
                    (from, rows) = (from + taken, rows + taken);
                }
            }
        }
        let delta = self.step(&Changes { deltas: piece, tables, first, is_loading: true, now })?;
        if first { Ok(delta) } else { Delta::concat(self.output.loose(), &self.output.version().deltas()?) }
    }

    fn load_at_once(&mut self, contents: &[(Input, Contents)], (tables, now): (Tables<'_>, i64)) -> Result<Delta> {
        let all =
            contents.iter().map(|(input, contents)| Ok((*input, contents.batches(tables).collect::<Result<_>>()?)));
        let deltas = all.collect::<Result<_>>()?;
        self.step(&Changes { deltas, tables, first: true, is_loading: true, now })
    }

    fn bytes(&self) -> usize {
        let of_indexes: usize = self.indexes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum();
        bytes(self.root.as_ref()) + self.output.bytes() + of_indexes
    }
}

/// Whether no operator computes anything anew, so that batches may come one by one.
fn is_incremental(operator: &dyn Operator) -> bool {
    operator.describe().mode == Mode::Incremental && operator.children().into_iter().all(is_incremental)
}

fn walk(operator: &dyn Operator, depth: usize, lines: &mut Vec<Explained>) {
    lines.push(Explained { depth, description: operator.describe() });
    operator.children().into_iter().for_each(|child| walk(child, depth + 1, lines));
}
