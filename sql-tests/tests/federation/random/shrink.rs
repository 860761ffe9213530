//! Makes a wrong answer small: fewer clauses, simpler expressions, fewer tables, columns and rows, as long as it stays wrong
//! in the same way.

use std::time::Instant;

use super::judge::{Answers, Fault, Verdict, judge};
use super::question::Question;
use super::schema::{Schema, Table};
use super::world::World;

/// A question and its wrong answer, in the world where it is asked.
pub(super) struct Failure {
    pub(super) world: World,
    pub(super) question: Question,
    pub(super) fault: Fault,
    pub(super) answers: Vec<Answers>,
}

impl Failure {
    /// A smaller failure of the same kind, as small as can be found until then.
    pub(super) async fn shrink(mut self, until: Instant) -> Self {
        let mut size = usize::MAX;
        while self.size() < size && Instant::now() < until {
            size = self.size();
            self.shrink_question(until).await;
            self = self.shrink_schema(until).await;
        }
        self
    }

    /// What shrinking makes less.
    fn size(&self) -> usize {
        let values: usize =
            self.world.schema.tables.iter().map(|table| (table.rows.len() + 1) * table.columns.len()).sum();
        values + self.question.texts().concat().len()
    }

    async fn shrink_question(&mut self, until: Instant) {
        let mut at = 0;
        while let Some(smaller) = self.question.simpler().into_iter().nth(at) {
            if Instant::now() > until {
                return;
            }
            let shorter = smaller.texts().concat().len() < self.question.texts().concat().len();
            match judge(&self.world, &smaller).await {
                Verdict::Wrong(fault, answers) if fault == self.fault && shorter => {
                    (self.question, self.answers) = (smaller, answers);
                    at = 0;
                }
                _ => at += 1,
            }
        }
    }

    async fn shrink_schema(mut self, until: Instant) -> Self {
        let mut at = 0;
        while let Some(smaller) = smaller_schemas(&self.world.schema).into_iter().nth(at) {
            if Instant::now() > until {
                break;
            }
            let world = World::of(&smaller, &self.world.settings).await;
            match judge(&world, &self.question).await {
                Verdict::Wrong(fault, answers) if fault == self.fault => {
                    (self.world, self.answers) = (world, answers);
                }
                _ => at += 1,
            }
        }
        self
    }
}

/// Schemas with something less: a table, half of the rows, a row, a claim, a column, a key. Of what was tried in vain the next list has
/// as many before it.
fn smaller_schemas(schema: &Schema) -> Vec<Schema> {
    let mut found = Vec::new();
    if schema.tables.len() > 1 {
        for at in 0..schema.tables.len() {
            let mut smaller = schema.clone();
            smaller.tables.remove(at);
            found.push(smaller);
        }
    }
    for at in 0..schema.tables.len() {
        let rows = schema.tables[at].rows.len();
        let mut chunk = rows.div_ceil(2);
        while chunk > 0 {
            for from in (0..rows).step_by(chunk) {
                let mut smaller = schema.clone();
                smaller.tables[at].rows.drain(from..(from + chunk).min(rows));
                found.push(smaller);
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2).min(chunk - 1) };
        }
        if schema.tables[at].claim.is_some() {
            let mut smaller = schema.clone();
            smaller.tables[at].claim = None;
            found.push(smaller);
        }
        for column in 0..schema.tables[at].columns.len() {
            found.extend(without_column(schema, at, column));
        }
        if schema.tables[at].key.is_some() || schema.tables[at].index.is_some() {
            let mut smaller = schema.clone();
            (smaller.tables[at].key, smaller.tables[at].index) = (None, None);
            found.push(smaller);
        }
    }
    found.retain(|schema| schema.tables.iter().all(Table::has_columns));
    found
}

fn without_column(schema: &Schema, table: usize, column: usize) -> Option<Schema> {
    let mut smaller = schema.clone();
    let table = &mut smaller.tables[table];
    if table.columns.len() == 1 || table.key == Some(column) || table.index == Some(column) {
        return None;
    }
    table.columns.remove(column);
    table.rows.iter_mut().for_each(|row| drop(row.remove(column)));
    for place in [&mut table.key, &mut table.index] {
        *place = place.map(|at| if at > column { at - 1 } else { at });
    }
    Some(smaller)
}
