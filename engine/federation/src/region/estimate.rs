//! How many rows a plan has, as far as the sources say.
//!
//! Guesses stand where nothing is known. They decide the order of joins and what is worth a statement, never an answer.

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{FetchType, LogicalPlan, TableScan};
use headwater_source::JoinKind;

use crate::{Pushdown, RemoteTable};

/// The rows of a table of which nothing is known.
const ROWS_UNKNOWN: f64 = 100_000.0;

/// The share of rows that a condition keeps of which nothing is known.
const KEPT_UNKNOWN: f64 = 0.2;

/// How many rows share a value of a column that is no key.
const ROWS_PER_VALUE: f64 = 10.0;

/// What is guessed of a plan's rows.
#[derive(Debug, Clone)]
pub(super) struct Estimate {
    /// How many.
    pub(super) rows: f64,
    /// How many there would be without filters, where the plan is a scan.
    base: f64,
    /// The columns, each with whether it is the table's key alone.
    columns: Vec<(Column, Uniqueness)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uniqueness {
    Key,
    Repeated,
}

impl Estimate {
    /// How many values a column has; `None` where it is not one of the plan's.
    pub(super) fn distinct(&self, column: &Column) -> Option<f64> {
        let (_, uniqueness) = self.columns.iter().find(|(known, _)| known == column)?;
        Some(match uniqueness {
            Uniqueness::Key => self.base,
            Uniqueness::Repeated => (self.base / ROWS_PER_VALUE).max(1.0),
        })
    }
}

/// What is guessed of a plan.
pub(super) fn estimate(plan: &LogicalPlan) -> Estimate {
    let (rows, base) = rows_and_base(plan);
    let key = key_of(plan);
    let columns = plan.schema().columns().into_iter();
    let uniqueness = |column: &Column| match &key {
        Some(key) if *key == column.name => Uniqueness::Key,
        _ => Uniqueness::Repeated,
    };
    Estimate { rows, base, columns: columns.map(|column| (column.clone(), uniqueness(&column))).collect() }
}

/// How many rows a plan is guessed to have.
pub(super) fn rows(plan: &LogicalPlan) -> f64 {
    rows_and_base(plan).0
}

/// How many groups the rows of a plan fall into by these columns, as a guess.
pub(super) fn groups(plan: &LogicalPlan, keys: &[Column]) -> f64 {
    let mut groups = 1.0;
    visit_scans(plan, &mut |scan| {
        let (_, base) = scanned(scan);
        let key = key_of(&LogicalPlan::TableScan(scan.clone()));
        let ours: Vec<&Column> = keys.iter().filter(|column| scan.projected_schema.has_column(column)).collect();
        if ours.iter().any(|column| key.as_ref() == Some(&column.name)) {
            groups *= base;
        } else if !ours.is_empty() {
            groups *= (base / ROWS_PER_VALUE).powi(ours.len() as i32).clamp(1.0, base);
        }
    });
    groups.min(rows(plan))
}

fn visit_scans(plan: &LogicalPlan, visit: &mut impl FnMut(&TableScan)) {
    match plan {
        LogicalPlan::TableScan(scan) => visit(scan),
        other => other.inputs().into_iter().for_each(|input| visit_scans(input, visit)),
    }
}

/// Rows, and rows without filters.
fn rows_and_base(plan: &LogicalPlan) -> (f64, f64) {
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan),
        LogicalPlan::Filter(filter) => {
            let (rows_in, base) = rows_and_base(&filter.input);
            let conditions = split_conjunction(&filter.predicate).len().min(8);
            ((rows_in * KEPT_UNKNOWN.powi(conditions as i32)).max(1.0), base)
        }
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => (1.0, 1.0),
        LogicalPlan::Aggregate(aggregate) => {
            let (rows_in, _) = rows_and_base(&aggregate.input);
            let groups = (rows_in / ROWS_PER_VALUE).max(1.0);
            (groups, groups)
        }
        LogicalPlan::Join(join) => {
            let ((left, left_base), (right, right_base)) = (rows_and_base(&join.left), rows_and_base(&join.right));
            match join.join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => (left * 0.5, left_base),
                JoinType::RightSemi | JoinType::RightAnti => (right * 0.5, right_base),
                _ => (left.max(right), left_base.max(right_base)),
            }
        }
        LogicalPlan::Limit(limit) => {
            let (rows_in, base) = rows_and_base(&limit.input);
            match limit.get_fetch_type() {
                Ok(FetchType::Literal(Some(fetch))) => (rows_in.min(fetch as f64), base),
                _ => (rows_in, base),
            }
        }
        LogicalPlan::Values(values) => (values.values.len() as f64, values.values.len() as f64),
        LogicalPlan::EmptyRelation(_) => (1.0, 1.0),
        LogicalPlan::Union(union) => {
            let all = union.inputs.iter().map(|input| rows_and_base(input));
            all.fold((0.0, 0.0), |(rows, base), (more, more_base)| (rows + more, base + more_base))
        }
        other => match other.inputs().as_slice() {
            [input] => rows_and_base(input),
            _ => (ROWS_UNKNOWN, ROWS_UNKNOWN),
        },
    }
}

fn scanned(scan: &TableScan) -> (f64, f64) {
    let provider = source_as_provider(&scan.source).ok();
    let table = provider.as_ref().and_then(|provider| provider.downcast_ref::<RemoteTable>());
    let base = table.and_then(|table| table.definition().rows_estimate).map_or(ROWS_UNKNOWN, |rows| rows as f64);
    let by_key = |column: &str| table.and_then(RemoteTable::single_key) == Some(column);
    let mut rows = base.max(1.0);
    for filter in &scan.filters {
        let of_key = match filter {
            datafusion::logical_expr::Expr::BinaryExpr(binary)
                if binary.op == datafusion::logical_expr::Operator::Eq =>
            {
                filter.column_refs().iter().any(|column| by_key(&column.name))
            }
            _ => false,
        };
        rows = if of_key { 1.0 } else { rows * KEPT_UNKNOWN };
    }
    (rows.max(1.0), base.max(1.0))
}

/// The single column that is the key of the only table beneath, under its own name.
fn key_of(plan: &LogicalPlan) -> Option<String> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            provider.downcast_ref::<RemoteTable>()?.single_key().map(str::to_owned)
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) => {
            key_of(plan.inputs().first()?)
        }
        LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.as_slice() {
            [key] => Some(key.schema_name().to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// What a plan's one source is called, where it is of one source that joins; `None` otherwise.
pub(super) fn source_of(plan: &LogicalPlan) -> Option<String> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = provider.downcast_ref::<RemoteTable>()?;
            let source = table.service().source();
            let joins = source.capabilities().joins(JoinKind::Inner).is_ok() && table.pushdown() == Pushdown::On;
            joins.then(|| format!("{} {}", source.capabilities().source(), source.location()))
        }
        other => {
            let inputs = other.inputs();
            let first = source_of(inputs.first()?)?;
            inputs[1..].iter().all(|input| source_of(input).as_ref() == Some(&first)).then_some(first)
        }
    }
}
