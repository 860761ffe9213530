//! Which table of a join is read first, for sources that choose badly.
//!
//! A table that is looked up by its whole primary key, and of which nothing else is asked, narrows the other side by nothing but the rows that
//! have no partner in it. Reading it first pays where it is small; otherwise the other side is to be read first.

use headwater_source::{CompareOp, Expr, Node, Relation, TableDef};

/// How many times as many rows the side that is read first has at most.
const ROWS_MORE_MAX: u64 = 100;

/// The side of an inner join that is read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    /// The left side: rows of the right one are looked up.
    Left,
    /// The right side: rows of the left one are looked up.
    Right,
    /// What the source chooses.
    Chosen,
}

impl Lead {
    pub(super) fn of(left: &Relation, right: &Relation, on: &[Expr]) -> Self {
        let looked_up = (is_looked_up(left, on, 0), is_looked_up(right, on, left.columns().len()));
        let (left_rows, right_rows) = (rows(left), rows(right));
        let is_large = |looked_up: Option<u64>, leading: Option<u64>| match (looked_up, leading) {
            (Some(looked_up), Some(leading)) => looked_up.saturating_mul(ROWS_MORE_MAX) >= leading,
            _ => true,
        };
        match looked_up {
            (true, true) if left_rows > right_rows => Self::Right,
            (_, true) if is_large(right_rows, left_rows) => Self::Left,
            (true, false) if is_large(left_rows, right_rows) => Self::Right,
            _ => Self::Chosen,
        }
    }
}

/// The rows of the relation's largest table.
fn rows(relation: &Relation) -> Option<u64> {
    relation.tables().into_iter().filter_map(|table| table.rows_estimate).max()
}

/// Whether a side of a join, whose columns begin at `start` in its conditions, is a table of which a row is found by its whole primary key
/// and nothing else is asked.
fn is_looked_up(side: &Relation, on: &[Expr], start: usize) -> bool {
    let Some(key) = bare_table(side).and_then(|table| table.key.as_ref()) else { return false };
    let ours = start..start + side.columns().len();
    let found_by = |condition: &Expr| {
        let Expr::Compare { op: CompareOp::Equal, left, right } = condition else { return None };
        let (Expr::Column(left), Expr::Column(right)) = (left.as_ref(), right.as_ref()) else { return None };
        let own = match (ours.contains(left), ours.contains(right)) {
            (true, false) => left - start,
            (false, true) => right - start,
            _ => return None,
        };
        let (table, column) = side.origin(own)?;
        table.columns.get(column).map(|column| column.name.as_str()).filter(|name| key.iter().any(|of| of == name))
    };
    let found: Option<Vec<&str>> = on.iter().map(found_by).collect();
    found.is_some_and(|found| !key.is_empty() && key.iter().all(|name| found.contains(&name.as_str())))
}

/// The table, where the relation is all of its rows.
fn bare_table(relation: &Relation) -> Option<&TableDef> {
    match relation.node() {
        Node::Table(table) => Some(table),
        Node::Project { input, exprs } if exprs.iter().all(|expr| matches!(expr, Expr::Column(_))) => bare_table(input),
        _ => None,
    }
}

/// Whether rows lie in the order of the expression: of a column that leads its table's primary key.
pub(super) fn is_in_order(relation: &Relation, expr: &Expr) -> bool {
    let Expr::Column(index) = expr else { return false };
    relation.origin(*index).is_some_and(|(table, column)| {
        let leading = table.key.as_ref().and_then(|key| key.first());
        leading.is_some() && leading == table.columns.get(column).map(|column| &column.name)
    })
}

/// A join's conditions over the columns of its right side alone; those of the left, of which there are `width`, become columns that there are none of.
pub(super) fn shifted(on: &[Expr], width: usize) -> Vec<Expr> {
    on.iter()
        .map(|condition| condition.map_columns(&|index| Expr::Column(index.checked_sub(width).unwrap_or(usize::MAX))))
        .collect()
}
