//! Functions that yield rows.

use super::plan::{Call, Set};
use super::run::{Frame, World};
use super::value::{Kind, Value};
use crate::pg::error::PgError;

/// How many rows `generate_series` may yield.
const SERIES_MAX: i64 = 1_000_000;

/// Words that PostgreSQL keeps to itself and that the standard does not have, as JDBC asks for them.
const KEYWORDS: [&str; 12] = [
    "analyse",
    "analyze",
    "concurrently",
    "freeze",
    "ilike",
    "isnull",
    "limit",
    "notnull",
    "offset",
    "placing",
    "returning",
    "variadic",
];

/// The function of this name that yields rows, and the columns of its rows.
pub(super) fn named(name: &str, arguments: &[Kind]) -> Option<(Set, Vec<(&'static str, Kind)>)> {
    let element = || arguments.first().and_then(Kind::element).cloned().unwrap_or(Kind::Text);
    Some(match name {
        "unnest" => (Set::Unnest, vec![("unnest", element())]),
        "generate_series" => (
            Set::Series,
            vec![("generate_series", arguments.first().cloned().unwrap_or(Kind::Int4).common(&Kind::Int4))],
        ),
        "generate_subscripts" => (Set::Subscripts, vec![("generate_subscripts", Kind::Int4)]),
        "_pg_expandarray" => (Set::Expand, vec![("x", element()), ("n", Kind::Int4)]),
        "regexp_split_to_table" | "string_to_table" => (Set::SplitTable, vec![("regexp_split_to_table", Kind::Text)]),
        "pg_get_keywords" => (
            Set::Keywords,
            vec![
                ("word", Kind::Text),
                ("catcode", Kind::Char),
                ("barelabel", Kind::Bool),
                ("catdesc", Kind::Text),
                ("baredesc", Kind::Text),
            ],
        ),
        // Of privileges and options there are none that a table would have.
        "aclexplode" => (
            Set::Nothing,
            vec![
                ("grantor", Kind::Oid),
                ("grantee", Kind::Oid),
                ("privilege_type", Kind::Text),
                ("is_grantable", Kind::Bool),
            ],
        ),
        "pg_options_to_table" => (Set::Nothing, vec![("option_name", Kind::Text), ("option_value", Kind::Text)]),
        "pg_partition_ancestors" => (Set::Nothing, vec![("relid", Kind::Oid)]),
        "pg_partition_tree" => (
            Set::Nothing,
            vec![("relid", Kind::Oid), ("parentrelid", Kind::Oid), ("isleaf", Kind::Bool), ("level", Kind::Int4)],
        ),
        "pg_available_extensions" => {
            (Set::Nothing, vec![("name", Kind::Name), ("default_version", Kind::Text), ("comment", Kind::Text)])
        }
        "pg_get_publication_tables" => (Set::Nothing, vec![("relid", Kind::Oid)]),
        _ => return None,
    })
}

/// How many values a row of a call has.
pub(super) fn width(call: &Call) -> usize {
    match call.set {
        Set::Expand => 2,
        Set::Keywords => 5,
        Set::Nothing => call.first.unsigned_abs() as usize,
        _ => 1,
    }
}

/// The rows of a call as one value each.
pub(super) fn single(row: &[Value]) -> Value {
    match row {
        [value] => value.clone(),
        values => Value::Record(values.into()),
    }
}

pub(super) fn rows(world: &World<'_>, call: &Call, frame: &Frame<'_>) -> Result<Vec<Vec<Value>>, PgError> {
    let values = world.all(&call.arguments, frame)?;
    let list = values.first().and_then(Value::items);
    Ok(match call.set {
        Set::Unnest => list.unwrap_or_default().iter().map(|item| vec![item.clone()]).collect(),
        Set::Expand => {
            let numbered = list.unwrap_or_default().iter().zip(1..);
            numbered.map(|(item, number)| vec![item.clone(), Value::Int(number)]).collect()
        }
        Set::Subscripts => {
            let length = list.map_or(0, <[Value]>::len) as i64;
            (call.first..call.first + length).map(|number| vec![Value::Int(number)]).collect()
        }
        Set::Series => series(&values)?,
        Set::SplitTable => match (values.first(), values.get(1)) {
            (Some(Value::Text(text)), Some(Value::Text(pattern))) => {
                let pattern = world.regex(pattern, false)?;
                pattern.split(text).map(|part| vec![Value::text(part)]).collect()
            }
            _ => vec![],
        },
        Set::Keywords => {
            let row = |word: &&str| {
                vec![
                    Value::text(word),
                    Value::text("R"),
                    Value::Bool(true),
                    Value::text("reserved"),
                    Value::text("can be bare label"),
                ]
            };
            KEYWORDS.iter().map(row).collect()
        }
        Set::Nothing => vec![],
        Set::Once => values.into_iter().take(1).map(|value| vec![value]).collect(),
    })
}

fn series(values: &[Value]) -> Result<Vec<Vec<Value>>, PgError> {
    let number = |index: usize| values.get(index).and_then(Value::int);
    let (Some(from), Some(to)) = (number(0), number(1)) else { return Ok(vec![]) };
    let step = if values.len() > 2 { number(2) } else { Some(1) };
    let step = match step {
        Some(0) => return Err(PgError::new("22023", "step size cannot equal zero")),
        Some(step) => step,
        None => return Ok(vec![]),
    };
    let mut all = Vec::new();
    let mut next = from;
    while if step > 0 { next <= to } else { next >= to } {
        if all.len() as i64 >= SERIES_MAX {
            return Err(PgError::new("54000", format!("a series has at most {SERIES_MAX} rows")));
        }
        all.push(vec![Value::Int(next)]);
        match next.checked_add(step) {
            Some(after) => next = after,
            None => break,
        }
    }
    Ok(all)
}
