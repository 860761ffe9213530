//! Rows at the ends of an index on dates.
//!
//! A date whose month or day is zero is NULL here, and stands among the others in the server's order: 2024-00-10 before 2024-01-01. So an order of dates, and their least
//! and greatest, are of an expression that no index serves, and the latest ten rows would cost a sort of all. Where an index leads with the dates they are found along it
//! all the same: dates without zeros are in its order, and those with zeros lie where it can be asked for them, between the last day of a month and the first of the next.
//!
//! - The first rows of an order are the first ones of rows with a date, along the index, and of rows without, of which the index tells where they are: two SELECTs of one statement.
//! - The least and the greatest date are the first of such an order.
//!
//! Which years there are is an estimate. Dates of any other year are looked through, so that it costs time where it is wrong, and never a row.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use headwater_source::{
    Aggregate, AggregateFunction, ColumnDef, CompareOp, Expr, JoinKind, Known, Node, QueryRequest, Relation,
    ScalarValue, ScanRequest, SortKey, TableDef, TableStatistics, ValueClass,
};

use super::calendar::{DAY_US, MIN_US, civil};
use super::dialect::may_be_zero;

/// A row that is read along an index costs as much as so many that are read as they lie.
const ALONG_INDEX: f64 = 4.0;

/// What it costs, in rows, to ask where dates are that are none.
const ASKED: f64 = 1_000.0;

/// The most values of filters, which stand in both SELECTs.
const VALUES_MAX: usize = 1_000;

/// The most years whose months are asked for: twelve ranges for each.
const YEARS_MAX: usize = 64;

/// Years that are added to those there are: a table may grow for a while before its statistics are read again.
const YEARS_AHEAD: u16 = 2;

/// The last year that has others behind it.
const YEAR_LAST: u16 = 9_000;

/// The first rows of an order that begins with dates, as a query that finds them along an index; `None` where that would not pay, or no index serves.
pub(super) fn first_rows(request: &ScanRequest) -> Option<Relation> {
    let (key, limit, known) = (request.sort.first()?, request.limit?, request.known.as_ref()?);
    let (table, dates) = (&request.table, key.column);
    let is_served = is_indexed(table, &known.statistics, dates) && !request.filters.iter().any(|by| needs(by, dates));
    let values: usize = request.filters.iter().map(Expr::literals).sum();
    if !is_served || values > VALUES_MAX || !pays(request, known, limit) {
        return None;
    }
    let mut wanted = request.projection.clone();
    let mut place = |column: usize| {
        wanted.iter().position(|known| *known == column).unwrap_or_else(|| {
            wanted.push(column);
            wanted.len() - 1
        })
    };
    let sort: Vec<SortKey> = request.sort.iter().map(|key| SortKey { column: place(key.column), ..*key }).collect();
    let columns = |columns: &[usize]| columns.iter().map(|column| Expr::Column(*column)).collect::<Vec<_>>();
    let cut = |relation: Relation, also: Vec<Expr>, sort: &[SortKey]| {
        let filters = [request.filters.clone(), also].concat();
        relation.filter(filters).project(columns(&wanted)).top(sort.to_vec(), 0, limit)
    };
    let boxed = || Box::new(Expr::Column(dates));
    let dated = cut(Relation::table(Arc::clone(table)), vec![is_date(table, dates)], &sort);
    let (with_text, places) = places_of_none(table, &known.statistics, dates)?;
    let undated = cut(Relation::table(with_text), vec![places, Expr::IsNull(boxed())], &sort[1..]);
    let first = Relation::union_all(vec![dated, undated])?.top(sort, 0, limit);
    Some(first.project((0..request.projection.len()).map(Expr::Column).collect()))
}

/// Whether it costs less to look through an index until so many rows are found than to read all rows that may be among them.
fn pays(request: &ScanRequest, known: &Known, limit: u64) -> bool {
    let Some(all) = known.statistics.rows else { return false };
    let (all, met) = (all as f64, known.rows.max(1.0));
    let along = (limit as f64 * (all / met)).mul_add(ALONG_INDEX, ASKED);
    let mut looked_up = false;
    let indexed = |column| is_indexed(&request.table, &known.statistics, column);
    request.filters.iter().for_each(|by| by.visit_columns(&mut |column| looked_up |= indexed(column)));
    along < if looked_up { met } else { all }
}

/// The least and greatest values of a whole table, each found at an end of an index; `None` where something else is asked, or no index serves.
pub(super) fn least_and_greatest(request: &QueryRequest) -> Option<Relation> {
    let (table, columns) = request.relation.extremes()?;
    let (_, known) = request.statistics.iter().find(|(of, _)| Arc::ptr_eq(of, table))?;
    let is_dated = |column: &usize| may_be_zero(&table.columns[*column]);
    if !columns.iter().all(|column| is_indexed(table, known, *column)) || !columns.iter().any(is_dated) {
        return None;
    }
    found_at_ends(&request.relation, table, &columns)
}

/// The query with each of its values found by itself.
fn found_at_ends(relation: &Relation, table: &Arc<TableDef>, columns: &[usize]) -> Option<Relation> {
    match relation.node() {
        Node::Project { input, exprs } => Some(found_at_ends(input, table, columns)?.project(exprs.clone())),
        Node::Aggregate { aggregates, .. } => {
            let ends = aggregates.iter().zip(columns).map(|(aggregate, column)| end(table, aggregate, *column));
            ends.reduce(|one, next| one.join(JoinKind::Inner, next, vec![]))
        }
        _ => None,
    }
}

/// One row: the least or the greatest value of a column.
fn end(table: &Arc<TableDef>, aggregate: &Aggregate, column: usize) -> Relation {
    let value = Expr::Column(column);
    let rows = Relation::table(Arc::clone(table));
    let rows = if may_be_zero(&table.columns[column]) {
        let descending = aggregate.function == AggregateFunction::Max;
        let key = SortKey { column: 0, descending, nulls_first: !descending };
        rows.filter(vec![is_date(table, column)]).project(vec![value]).top(vec![key], 0, 1)
    } else {
        rows.project(vec![value])
    };
    rows.aggregate(vec![], vec![Aggregate { arg: Some(Expr::Column(0)), ..aggregate.clone() }])
}

/// That a date is one, so that the index begins with the first that is: NULL and 0000-00-00, of which there may be many, come before.
fn is_date(table: &TableDef, column: usize) -> Expr {
    let first = match table.columns[column].data_type {
        DataType::Date32 => i32::try_from(MIN_US / DAY_US).ok().map(|days| ScalarValue::Date32(Some(days))),
        DataType::Timestamp(TimeUnit::Microsecond, None) => Some(ScalarValue::TimestampMicrosecond(Some(MIN_US), None)),
        _ => None,
    };
    match first {
        Some(first) => Expr::compare(CompareOp::GreaterOrEqual, Expr::Column(column), Expr::Literal(first)),
        None => Expr::IsNotNull(Box::new(Expr::Column(column))),
    }
}

/// Whether an index leads with the column.
fn is_indexed(table: &TableDef, known: &TableStatistics, column: usize) -> bool {
    column < table.columns.len() && known.indexes.iter().any(|index| index.columns.first() == Some(&column))
}

/// Whether only rows with a value in the column meet the condition: then it is in the index's order as it stands.
fn needs(condition: &Expr, column: usize) -> bool {
    let is_it = |expr: &Expr| *expr == Expr::Column(column);
    match condition {
        Expr::And(parts) => parts.iter().any(|part| needs(part, column)),
        Expr::Compare { op, left, right } => *op != CompareOp::NotEqual && (is_it(left) || is_it(right)),
        Expr::InList { expr, negated: false, .. } | Expr::IsNotNull(expr) => is_it(expr),
        _ => false,
    }
}

/// Where an index of dates has those that are none: NULL, in no year that is known, or between a month's last day and the next one's first. The condition is over the table
/// with one more column: the dates as they are compared with texts, as which such dates are written.
fn places_of_none(table: &TableDef, known: &TableStatistics, dates: usize) -> Option<(Arc<TableDef>, Expr)> {
    let (column, known) = (table.columns.get(dates)?, known.columns.get(dates)?);
    let years = year(known.min.as_ref()?)?..=year(known.max.as_ref()?)?;
    let mut with_text = table.clone();
    with_text.columns.push(ColumnDef::new(&column.name, DataType::Utf8, "varchar", ValueClass::Text));
    let as_text =
        |op, text: String| Expr::compare(op, Expr::Column(table.columns.len()), Expr::Literal(ScalarValue::from(text)));
    let mut places = vec![Expr::IsNull(Box::new(Expr::Column(table.columns.len())))];
    if column.class == ValueClass::TimestampTz {
        // A moment is none where all of it is zero.
        places.push(as_text(CompareOp::Less, format!("{:04}-01-01", years.start())));
    } else {
        let (first, last) = (*years.start(), years.end().saturating_add(YEARS_AHEAD));
        if last > YEAR_LAST || usize::from(last.saturating_sub(first)) >= YEARS_MAX {
            return None;
        }
        places.push(as_text(CompareOp::Less, format!("{first:04}-00-00")));
        places.push(as_text(CompareOp::GreaterOrEqual, format!("{:04}-00-00", last + 1)));
        places.extend(
            before_months(first..=last).map(|[from, to]| {
                Expr::And(vec![as_text(CompareOp::GreaterOrEqual, from), as_text(CompareOp::Less, to)])
            }),
        );
    }
    Some((Arc::new(with_text), Expr::Or(places)))
}

/// From where and up to where each month's zeros are, and each year's.
fn before_months(years: RangeInclusive<u16>) -> impl Iterator<Item = [String; 2]> {
    years.flat_map(|year| {
        (1..=12).map(move |month| {
            // The year's zeros come right before those of its first month.
            let from = if month == 1 { 0 } else { month };
            [format!("{year:04}-{from:02}-00"), format!("{year:04}-{month:02}-01")]
        })
    })
}

fn year(value: &ScalarValue) -> Option<u16> {
    let days = match value {
        ScalarValue::Date32(Some(days)) => i64::from(*days),
        ScalarValue::TimestampMicrosecond(Some(moment), _) => moment.div_euclid(DAY_US),
        _ => return None,
    };
    Some(civil(days).0).filter(|year| *year > 0)
}
