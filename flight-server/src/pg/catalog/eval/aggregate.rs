//! What is computed of several rows: groups and windows.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::plan::{Aggregate, Expr, How, Select, Window, WindowHow};
use super::run::{Frame, Tuple, Up, World};
use super::value::{Real, Value};
use crate::pg::error::PgError;

/// One row for each group, with its aggregates beside it. What is not of the group's key is that of its first row.
pub(super) fn grouped(
    world: &World<'_>,
    select: &Select,
    tuples: Vec<Tuple>,
    up: Up<'_>,
) -> Result<Vec<Tuple>, PgError> {
    let mut places: HashMap<Vec<Value>, usize> = HashMap::new();
    let mut groups: Vec<Vec<Tuple>> = Vec::new();
    for tuple in tuples {
        let key = world.all(&select.groups, &Frame { tuple: &tuple, up })?;
        let place = *places.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(tuple);
    }
    // Without GROUP BY there is one group, even of nothing.
    if groups.is_empty() && select.groups.is_empty() {
        groups.push(Vec::new());
    }
    let mut all = Vec::new();
    for group in groups {
        let aggregates = select.aggregates.iter().map(|aggregate| of(world, aggregate, &group, up));
        let aggregates = aggregates.collect::<Result<_, _>>()?;
        let first = group.into_iter().next();
        let mut tuple = first.unwrap_or_else(|| Tuple { row: vec![Value::Null; select.width], ..Tuple::default() });
        tuple.aggregates = aggregates;
        if world.hold(&select.having, &tuple, up)? {
            all.push(tuple);
        }
    }
    Ok(all)
}

fn of(world: &World<'_>, aggregate: &Aggregate, group: &[Tuple], up: Up<'_>) -> Result<Value, PgError> {
    let mut rows: Vec<(Vec<Value>, Vec<Value>)> = Vec::new();
    for tuple in group {
        let frame = Frame { tuple, up };
        if let Some(filter) = &aggregate.filter
            && !world.eval(filter, &frame)?.is_true()
        {
            continue;
        }
        let keys = aggregate.order.iter().map(|(expr, ..)| world.eval(expr, &frame));
        rows.push((keys.collect::<Result<_, _>>()?, world.all(&aggregate.arguments, &frame)?));
    }
    if aggregate.is_distinct {
        let mut seen = HashSet::new();
        rows.retain(|(_, values)| seen.insert(values.first().cloned()));
    }
    if !aggregate.order.is_empty() {
        rows.sort_by(|(one, _), (other, _)| by(one, other, &aggregate.order));
    } else if aggregate.is_distinct {
        rows.sort_by(|(_, one), (_, other)| one[0].order(&other[0]));
    }
    let count = rows.len();
    let values: Vec<Vec<Value>> = rows.into_iter().map(|(_, values)| values).collect();
    let firsts = || values.iter().filter_map(|values| values.first());
    let there = || firsts().filter(|value| !value.is_null());
    Ok(match aggregate.how {
        How::CountRows => Value::Int(count as i64),
        How::Count => Value::Int(there().count() as i64),
        How::Min => there().min_by(|one, other| one.order(other)).cloned().unwrap_or(Value::Null),
        How::Max => there().max_by(|one, other| one.order(other)).cloned().unwrap_or(Value::Null),
        How::Sum | How::Average => {
            if there().next().is_none() {
                return Ok(Value::Null);
            }
            let floats = || there().filter_map(Value::float);
            match aggregate.how {
                How::Average => Value::Float(Real(floats().sum::<f64>() / there().count() as f64)),
                _ if there().all(|value| matches!(value, Value::Int(_))) => {
                    let sum = there().filter_map(Value::int).try_fold(0_i64, i64::checked_add);
                    Value::Int(sum.ok_or_else(|| PgError::new("22003", "a number is out of range"))?)
                }
                _ => Value::Float(Real(floats().sum())),
            }
        }
        How::List if count == 0 => Value::Null,
        How::List => Value::list(firsts().cloned().collect()),
        How::Text => {
            let mut text: Option<String> = None;
            for pair in values.iter().filter(|values| !values[0].is_null()) {
                let between = pair.get(1).map(Value::shown).unwrap_or_default();
                text = Some(match text {
                    Some(text) => text + &between + &pair[0].shown(),
                    None => pair[0].shown(),
                });
            }
            Value::maybe(text)
        }
        How::Every | How::Any => {
            let decides = aggregate.how == How::Any;
            match there().next() {
                None => Value::Null,
                Some(_) => Value::Bool(there().any(|value| *value == Value::Bool(decides)) == decides),
            }
        }
    })
}

/// Puts the value of a window beside each row.
pub(super) fn window(
    world: &World<'_>,
    window: &Window,
    index: usize,
    tuples: &mut [Tuple],
    up: Up<'_>,
) -> Result<(), PgError> {
    let mut partitions: HashMap<Vec<Value>, Vec<(Vec<Value>, usize)>> = HashMap::new();
    for (place, tuple) in tuples.iter().enumerate() {
        let frame = Frame { tuple, up };
        let keys = window.order.iter().map(|(expr, ..)| world.eval(expr, &frame)).collect::<Result<_, _>>()?;
        partitions.entry(world.all(&window.partition, &frame)?).or_default().push((keys, place));
    }
    for mut rows in partitions.into_values() {
        rows.sort_by(|(one, _), (other, _)| by(one, other, &window.order));
        let over = match &window.how {
            WindowHow::Over(aggregate) => {
                let group: Vec<Tuple> = rows.iter().map(|(_, place)| tuples[*place].clone()).collect();
                Some(of(world, aggregate, &group, up)?)
            }
            _ => None,
        };
        let (mut rank, mut dense) = (0, 0);
        for (number, (keys, place)) in rows.iter().enumerate() {
            let is_new = number == 0 || by(&rows[number - 1].0, keys, &window.order).is_ne();
            if is_new {
                (rank, dense) = (number + 1, dense + 1);
            }
            let value = match &window.how {
                WindowHow::RowNumber => Value::Int(number as i64 + 1),
                WindowHow::Rank => Value::Int(rank as i64),
                WindowHow::DenseRank => Value::Int(dense),
                WindowHow::Over(_) => over.clone().unwrap_or(Value::Null),
            };
            let values = &mut tuples[*place].windows;
            values.resize(index, Value::Null);
            values.push(value);
        }
    }
    Ok(())
}

fn by(one: &[Value], other: &[Value], order: &[(Expr, bool, bool)]) -> Ordering {
    let orders = one.iter().zip(other).zip(order);
    let mut orders =
        orders.map(|((one, other), (_, is_descending, nulls_first))| ordered(one, other, *is_descending, *nulls_first));
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The order of two values under a key.
pub(super) fn ordered(one: &Value, other: &Value, is_descending: bool, nulls_first: bool) -> Ordering {
    match (one.is_null(), other.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => {
            if nulls_first {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (false, true) => {
            if nulls_first {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (false, false) if is_descending => other.order(one),
        (false, false) => one.order(other),
    }
}
