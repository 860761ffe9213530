//! Runs a compiled query over the tables.
//!
//! A relation is joined to those before it by looking up where the condition is an equality, and by going through it otherwise; conditions are looked at as soon as
//! what they ask is there. A query that asks nothing of those around it is run once.
//!
//! Limit: so many rows are looked at for one statement ([`STEPS_MAX`]); a statement that is no longer wanted ends at the next thousand.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering as Memory};

use super::plan::{Body, By, Call, Cte, Distinct, Expr, Join, Key, Query, Select, SetHow, Source, Step};
use super::value::Value;
use super::{Tables, aggregate, sets};
use crate::pg::catalog::relations::Relations;
use crate::pg::error::PgError;

/// How many rows a statement may look at.
const STEPS_MAX: u64 = 10_000_000;

/// How often a recursive query may go round.
const ROUNDS_MAX: usize = 10_000;

pub(super) type Row = Rc<[Value]>;
type Index = HashMap<Value, Vec<usize>>;

/// What a statement runs in.
pub(super) struct World<'a> {
    pub(super) tables: &'a Tables,
    pub(super) relations: &'a Relations,
    parameters: &'a [Value],
    is_unwanted: &'a AtomicBool,
    steps: Cell<u64>,
    rows: RefCell<HashMap<Place, Rc<Vec<Row>>>>,
    indexes: RefCell<HashMap<(Place, usize), Rc<Index>>>,
    pub(super) patterns: RefCell<HashMap<(String, bool), Rc<regex::Regex>>>,
}

/// What rows are kept of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Table(usize),
    Query(usize),
    Cte(usize),
}

/// A row, and the rows of the queries around it.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) tuple: &'a Tuple,
    pub(super) up: Option<&'a Frame<'a>>,
}

/// A joined row, and what was computed beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tuple {
    pub(super) row: Vec<Value>,
    pub(super) aggregates: Vec<Value>,
    pub(super) windows: Vec<Value>,
    pub(super) sets: Vec<Value>,
}

pub(super) type Up<'a> = Option<&'a Frame<'a>>;

impl<'a> World<'a> {
    pub(super) fn new(
        tables: &'a Tables,
        relations: &'a Relations,
        parameters: &'a [Value],
        is_unwanted: &'a AtomicBool,
    ) -> Self {
        Self {
            tables,
            relations,
            parameters,
            is_unwanted,
            steps: Cell::new(0),
            rows: RefCell::default(),
            indexes: RefCell::default(),
            patterns: RefCell::default(),
        }
    }

    pub(super) fn parameter(&self, index: usize) -> Value {
        self.parameters.get(index).cloned().unwrap_or(Value::Null)
    }

    /// Counts a row that is looked at.
    fn step(&self) -> Result<(), PgError> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > STEPS_MAX {
            let error =
                PgError::new("54000", format!("the question looks at more than {STEPS_MAX} rows of the catalog"));
            return Err(error.with_hint("ask for less, or join by equal columns"));
        }
        if steps.is_multiple_of(1_000) && self.is_unwanted.load(Memory::Relaxed) {
            return Err(PgError::new(crate::pg::error::CANCELED, "canceling statement due to user request"));
        }
        Ok(())
    }

    /// All rows of a query.
    pub(super) fn query(&self, query: &Query, up: Up<'_>) -> Result<Rc<Vec<Row>>, PgError> {
        let place = Place::Query(query.id);
        if query.is_free
            && let Some(rows) = self.rows.borrow().get(&place)
        {
            return Ok(Rc::clone(rows));
        }
        for table in &query.tables {
            let rows = self.cte(table, up)?;
            self.keep(Place::Cte(table.id), rows);
        }
        let mut rows = self.body(&query.body, &query.order, up)?;
        let number = |expr: &Option<Expr>| -> Result<Option<usize>, PgError> {
            let Some(expr) = expr else { return Ok(None) };
            let outside = Tuple::default();
            let value = self.eval(expr, &Frame { tuple: &outside, up })?;
            Ok(value.int().map(|number| usize::try_from(number).unwrap_or_default()))
        };
        if let Some(offset) = number(&query.offset)? {
            rows.drain(..offset.min(rows.len()));
        }
        if let Some(limit) = number(&query.limit)? {
            rows.truncate(limit);
        }
        let rows = Rc::new(rows);
        if query.is_free {
            self.rows.borrow_mut().insert(place, Rc::clone(&rows));
        }
        Ok(rows)
    }

    fn keep(&self, place: Place, rows: Rc<Vec<Row>>) {
        self.rows.borrow_mut().insert(place, rows);
        self.indexes.borrow_mut().retain(|(of, _), _| *of != place);
    }

    fn cte(&self, table: &Cte, up: Up<'_>) -> Result<Rc<Vec<Row>>, PgError> {
        let (true, Body::Set { is_all, left, right, .. }) = (table.is_recursive, &table.query.body) else {
            return self.query(&table.query, up);
        };
        let mut seen: HashSet<Row> = HashSet::new();
        let mut fresh = self.body(left, &[], up)?;
        let mut all = Vec::new();
        for _ in 0..ROUNDS_MAX {
            if !is_all {
                fresh.retain(|row| seen.insert(Rc::clone(row)));
            }
            if fresh.is_empty() {
                return Ok(Rc::new(all));
            }
            all.extend(fresh.iter().cloned());
            self.keep(Place::Cte(table.id), Rc::new(fresh));
            fresh = self.body(right, &[], up)?;
        }
        Err(PgError::new("54000", format!("the recursive query does not end within {ROUNDS_MAX} rounds")))
    }

    fn body(&self, body: &Body, order: &[Key], up: Up<'_>) -> Result<Vec<Row>, PgError> {
        let rows = match body {
            Body::Select(select) => return self.select(select, order, up),
            Body::Query(query) => self.query(query, up)?.to_vec(),
            Body::Values(rows) => {
                let outside = Tuple::default();
                let frame = Frame { tuple: &outside, up };
                let row = |row: &Vec<Expr>| row.iter().map(|value| self.eval(value, &frame)).collect();
                rows.iter().map(row).collect::<Result<Vec<Row>, _>>()?
            }
            Body::Set { how, is_all, left, right } => {
                set(*how, *is_all, self.body(left, &[], up)?, self.body(right, &[], up)?)
            }
        };
        let mut rows: Vec<(Vec<Value>, Row)> = rows
            .into_iter()
            .map(|row| {
                let keys = order.iter().map(|key| match &key.by {
                    By::Output(index) => row.get(*index).cloned().unwrap_or(Value::Null),
                    By::Input(_) => Value::Null,
                });
                (keys.collect(), row)
            })
            .collect();
        sort(&mut rows, order);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    // ---- a SELECT

    fn select(&self, select: &Select, order: &[Key], up: Up<'_>) -> Result<Vec<Row>, PgError> {
        let mut tuples = self.joined(select, up)?;
        if select.is_grouped {
            tuples = aggregate::grouped(self, select, tuples, up)?;
        }
        for (index, window) in select.windows.iter().enumerate() {
            aggregate::window(self, window, index, &mut tuples, up)?;
        }
        if !select.sets.is_empty() {
            tuples = self.expanded(&select.sets, tuples, up)?;
        }
        let mut rows = Vec::with_capacity(tuples.len());
        let mut on_keys = Vec::new();
        for tuple in &tuples {
            let frame = Frame { tuple, up };
            let row: Row = select.columns.iter().map(|column| self.eval(column, &frame)).collect::<Result<_, _>>()?;
            let keys = order.iter().map(|key| match &key.by {
                By::Output(index) => Ok(row.get(*index).cloned().unwrap_or(Value::Null)),
                By::Input(expr) => self.eval(expr, &frame),
            });
            if let Distinct::On(by) = &select.distinct {
                on_keys.push(by.iter().map(|expr| self.eval(expr, &frame)).collect::<Result<Vec<_>, _>>()?);
            }
            rows.push((keys.collect::<Result<Vec<_>, _>>()?, row));
        }
        match select.distinct {
            Distinct::No => sort(&mut rows, order),
            Distinct::Rows => {
                let mut seen = HashSet::new();
                rows.retain(|(_, row)| seen.insert(Rc::clone(row)));
                sort(&mut rows, order);
            }
            Distinct::On(_) => {
                let both = rows.into_iter().zip(on_keys).map(|((keys, row), on)| (keys, (on, row)));
                let mut both: Vec<_> = both.collect();
                sort(&mut both, order);
                let mut seen = HashSet::new();
                both.retain(|(_, (on, _))| seen.insert(on.clone()));
                rows = both.into_iter().map(|(keys, (_, row))| (keys, row)).collect();
            }
        }
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn expanded(&self, calls: &[Call], tuples: Vec<Tuple>, up: Up<'_>) -> Result<Vec<Tuple>, PgError> {
        let mut all = Vec::new();
        for tuple in tuples {
            let sets = calls.iter().map(|call| sets::rows(self, call, &Frame { tuple: &tuple, up }));
            let sets = sets.collect::<Result<Vec<_>, _>>()?;
            let longest = sets.iter().map(Vec::len).max().unwrap_or_default();
            for index in 0..longest {
                self.step()?;
                let values =
                    sets.iter().map(|set| set.get(index).map_or(Value::Null, |row| sets::single(row))).collect();
                all.push(Tuple { sets: values, ..tuple.clone() });
            }
        }
        Ok(all)
    }

    /// The rows of a FROM and a WHERE.
    fn joined(&self, select: &Select, up: Up<'_>) -> Result<Vec<Tuple>, PgError> {
        let mut tuples = vec![Tuple { row: vec![Value::Null; select.width], ..Tuple::default() }];
        if !self.hold(&select.conditions, &tuples[0], up)? {
            return Ok(vec![]);
        }
        for step in &select.steps {
            tuples = self.joined_step(step, select.width, tuples, up)?;
        }
        Ok(tuples)
    }

    fn joined_step(&self, step: &Step, width: usize, before: Vec<Tuple>, up: Up<'_>) -> Result<Vec<Tuple>, PgError> {
        let fixed = match Self::is_fixed(&step.source) {
            true => Some(self.source(&step.source, up, None)?),
            false => None,
        };
        let keeps_right = matches!(step.join, Join::Right | Join::Full);
        let keeps_left = matches!(step.join, Join::Left | Join::Full);
        let range = step.offset..step.offset + step.width;
        let mut used: HashSet<usize> = HashSet::new();
        let mut after = Vec::new();
        for mut tuple in before {
            let rows = match &fixed {
                Some(rows) => Rc::clone(rows),
                None => self.source(&step.source, up, Some(&tuple))?,
            };
            let found = self.candidates(step, &rows, &tuple, up)?;
            let mut is_met = false;
            for place in found {
                self.step()?;
                tuple.row[range.clone()].clone_from_slice(&rows[place]);
                if !self.hold(&step.on, &tuple, up)? {
                    continue;
                }
                is_met = true;
                if keeps_right {
                    used.insert(place);
                }
                if self.hold(&step.filters, &tuple, up)? {
                    after.push(tuple.clone());
                }
            }
            if keeps_left && !is_met {
                tuple.row[range.clone()].fill(Value::Null);
                if self.hold(&step.filters, &tuple, up)? {
                    after.push(tuple);
                }
            }
        }
        if let (true, Some(rows)) = (keeps_right, &fixed) {
            for (_, row) in rows.iter().enumerate().filter(|(place, _)| !used.contains(place)) {
                let mut tuple = Tuple { row: vec![Value::Null; width], ..Tuple::default() };
                tuple.row[range.clone()].clone_from_slice(row);
                if self.hold(&step.filters, &tuple, up)? {
                    after.push(tuple);
                }
            }
        }
        Ok(after)
    }

    /// Whether a relation's rows are the same beside each row before it.
    fn is_fixed(source: &Source) -> bool {
        match source {
            Source::Table(_) | Source::Cte(_) | Source::Joined(_) => true,
            Source::Query { is_lateral, query } => !is_lateral || query.is_free,
            Source::Function { .. } => false,
        }
    }

    fn source(&self, source: &Source, up: Up<'_>, beside: Option<&Tuple>) -> Result<Rc<Vec<Row>>, PgError> {
        let frame = beside.map(|tuple| Frame { tuple, up });
        match source {
            Source::Table(place) => {
                if let Some(rows) = self.rows.borrow().get(&Place::Table(*place)) {
                    return Ok(Rc::clone(rows));
                }
                let table = self.tables.at(*place);
                let rows: Rc<Vec<Row>> = Rc::new(table.rows.iter().map(|row| Rc::from(&row[..])).collect());
                self.rows.borrow_mut().insert(Place::Table(*place), Rc::clone(&rows));
                Ok(rows)
            }
            Source::Cte(id) => {
                let rows = self.rows.borrow().get(&Place::Cte(*id)).map(Rc::clone);
                rows.ok_or_else(|| PgError::new(crate::pg::error::INTERNAL, "a query of WITH was not run"))
            }
            Source::Query { query, .. } => self.query(query, frame.as_ref().or(up)),
            Source::Joined(select) => {
                Ok(Rc::new(self.joined(select, up)?.into_iter().map(|tuple| Rc::from(tuple.row)).collect()))
            }
            Source::Function { calls, has_ordinality } => {
                let outside = Tuple::default();
                let frame = frame.unwrap_or(Frame { tuple: &outside, up });
                let sets = calls.iter().map(|call| Ok((sets::rows(self, call, &frame)?, sets::width(call))));
                let sets = sets.collect::<Result<Vec<_>, PgError>>()?;
                let longest = sets.iter().map(|(rows, _)| rows.len()).max().unwrap_or_default();
                let row = |index: usize| -> Row {
                    let mut row = Vec::new();
                    for (rows, width) in &sets {
                        match rows.get(index) {
                            Some(values) => row.extend(values.iter().cloned()),
                            None => row.resize(row.len() + width, Value::Null),
                        }
                    }
                    row.extend(has_ordinality.then_some(Value::Int(index as i64 + 1)));
                    row.into()
                };
                Ok(Rc::new((0..longest).map(row).collect()))
            }
        }
    }

    /// The rows of a relation that may belong to a row.
    fn candidates(&self, step: &Step, rows: &Rc<Vec<Row>>, tuple: &Tuple, up: Up<'_>) -> Result<Vec<usize>, PgError> {
        let place = match &step.source {
            Source::Table(place) => Place::Table(*place),
            Source::Query { query, .. } if query.is_free => Place::Query(query.id),
            Source::Cte(id) => Place::Cte(*id),
            _ => return Ok((0..rows.len()).collect()),
        };
        let Some((column, wanted)) = &step.key else { return Ok((0..rows.len()).collect()) };
        let wanted = self.eval(wanted, &Frame { tuple, up })?;
        if wanted.is_null() {
            return Ok(vec![]);
        }
        let known = self.indexes.borrow().get(&(place, *column)).map(Rc::clone);
        let index = match known {
            Some(index) => index,
            None => {
                let mut index = Index::new();
                for (number, row) in rows.iter().enumerate() {
                    index.entry(row[*column].clone()).or_default().push(number);
                }
                let index = Rc::new(index);
                self.indexes.borrow_mut().insert((place, *column), Rc::clone(&index));
                index
            }
        };
        Ok(index.get(&wanted).cloned().unwrap_or_default())
    }

    pub(super) fn hold(&self, conditions: &[Expr], tuple: &Tuple, up: Up<'_>) -> Result<bool, PgError> {
        let frame = Frame { tuple, up };
        for condition in conditions {
            if !self.eval(condition, &frame)?.is_true() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Puts rows in the order of their keys.
fn sort<T>(rows: &mut [(Vec<Value>, T)], order: &[Key]) {
    if order.is_empty() {
        return;
    }
    rows.sort_by(|(one, _), (other, _)| {
        let orders = one
            .iter()
            .zip(other)
            .zip(order)
            .map(|((one, other), key)| super::aggregate::ordered(one, other, key.is_descending, key.nulls_first));
        orders.into_iter().find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
}

fn set(how: SetHow, is_all: bool, left: Vec<Row>, right: Vec<Row>) -> Vec<Row> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places: HashMap<Row, usize> = HashMap::new();
    for row in &right {
        let next = places.len();
        *counts.entry(*places.entry(Rc::clone(row)).or_insert(next)).or_default() += 1;
    }
    let mut rows: Vec<Row> = match how {
        SetHow::Union => left.into_iter().chain(right).collect(),
        SetHow::Except | SetHow::Intersect => {
            let mut takes = |row: &Row| {
                let Some(count) = places.get(row).and_then(|place| counts.get_mut(place)) else {
                    return how == SetHow::Except;
                };
                let is_there = *count > 0;
                if is_all && is_there {
                    *count -= 1;
                }
                is_there == (how == SetHow::Intersect)
            };
            left.into_iter().filter(|row| takes(row)).collect()
        }
    };
    if !is_all {
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(Rc::clone(row)));
    }
    rows
}
