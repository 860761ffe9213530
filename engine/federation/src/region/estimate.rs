//! How many rows a plan has, as far as the sources say.
//!
//! Rows, distinct values, ranges and NULLs of a table's columns come from its source ([`TableStatistics`]) and are carried up through
//! the operators in the way of System R (Selinger et al., SIGMOD 1979): values are taken for evenly spread and conditions for
//! independent. Guesses stand where nothing is known. All of it decides the order of joins, what is worth a statement and which side
//! asks first; never an answer.

use std::sync::Arc;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::{Aggregate, Expr, FetchType, Join, LogicalPlan, TableScan};
use headwater_source::{Index, JoinKind, TableStatistics};

use super::distinct::distinct_at_most;
use super::selectivity::{number, selectivity};
use super::shared::SharedNode;
use crate::{Pushdown, RemoteTable};

/// The rows of a table of which nothing is known.
const ROWS_UNKNOWN: f64 = 100_000.0;

/// How many rows share a value of a column of which nothing is known.
pub(crate) const ROWS_PER_VALUE: f64 = 10.0;

/// How many values a column has, at most, of which nothing is known, which no index begins with, and that is compared with a constant: what is
/// asked for by a constant and has no index is a kind or a state more often than a key.
const VALUES_UNKNOWN: f64 = 200.0;

/// The share of groups that a condition on them keeps.
const HAVING: f64 = 0.05;

/// What is guessed of a plan's rows.
#[derive(Debug, Clone)]
pub(super) struct Estimate {
    /// How many.
    pub(super) rows: f64,
    /// The plan's columns, in its order.
    columns: Vec<(Column, Values)>,
}

/// What is guessed of a column's values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    /// How many different ones.
    pub(super) distinct: f64,
    /// Whether that is a guess from the number of rows alone.
    guessed: bool,
    /// The share of rows that are NULL.
    pub(super) null_fraction: f64,
    /// The least and the greatest, as numbers, where they are known and are numbers, dates or times.
    pub(super) range: Option<(f64, f64)>,
    /// The scan whose rows it comes from.
    row_of: Option<Scanned>,
    /// Whether no two rows of that scan share a value.
    unique: bool,
}

/// One scan of a plan, known by where it stands in memory while the plan is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scanned(usize);

impl Estimate {
    /// How many values a column has; `None` where it is not one of the plan's.
    pub(super) fn distinct(&self, column: &Column) -> Option<f64> {
        self.values(column).map(|values| values.distinct)
    }

    /// What is guessed of a column's values.
    pub(super) fn values(&self, column: &Column) -> Option<&Values> {
        let exact = self.columns.iter().find(|(known, _)| known == column);
        let by_name = || self.columns.iter().find(|(known, _)| column.relation.is_none() && known.name == column.name);
        exact.or_else(by_name).map(|(_, values)| values)
    }

    /// How many values an expression has.
    fn distinct_of(&self, expr: &Expr) -> f64 {
        match expr {
            Expr::Column(column) => self.distinct(column).unwrap_or(self.rows / ROWS_PER_VALUE),
            Expr::Alias(alias) => self.distinct_of(&alias.expr),
            Expr::Literal(..) => 1.0,
            other => {
                let of_columns = other.column_refs().into_iter().filter_map(|column| self.distinct(column));
                let product = of_columns.fold(1.0, |product, distinct| product * distinct).min(self.rows);
                let range = |column: &Column| self.values(column)?.range;
                distinct_at_most(other, &range).map_or(product, |most| product.min(most))
            }
        }
    }

    /// How many groups the rows fall into by these expressions. A unique column's value says what the other columns of its row are.
    pub(super) fn groups<'a>(&self, keys: impl IntoIterator<Item = &'a Expr>) -> f64 {
        let keys: Vec<(&Expr, Option<&Values>)> = keys.into_iter().map(|key| (key, self.values_of(key))).collect();
        let told: Vec<Scanned> =
            keys.iter().filter_map(|(_, values)| values.filter(|values| values.unique)?.row_of).collect();
        let is_told = |values: Option<&Values>| {
            values.is_some_and(|values| !values.unique && values.row_of.is_some_and(|scan| told.contains(&scan)))
        };
        let counted = keys.iter().filter(|(_, values)| !is_told(*values));
        let product = counted.fold(1.0, |product, (key, _)| product * self.distinct_of(key));
        product.min(self.rows).max(1.0)
    }

    fn values_of(&self, expr: &Expr) -> Option<&Values> {
        match expr {
            Expr::Column(column) => self.values(column),
            Expr::Alias(alias) => self.values_of(&alias.expr),
            _ => None,
        }
    }

    /// The same columns over fewer rows: no column has more values than there are rows.
    fn kept(mut self, share: f64) -> Self {
        let before = self.rows;
        self.rows = (self.rows * share).max(1.0);
        for (_, values) in &mut self.columns {
            values.distinct = remaining(values.distinct, before, self.rows);
        }
        self
    }

    /// The same under other names.
    fn renamed(self, columns: Vec<Column>) -> Self {
        let values = self.columns.into_iter().map(|(_, values)| values);
        Self { rows: self.rows, columns: columns.into_iter().zip(values).collect() }
    }

    #[cfg(test)]
    pub(super) fn of(rows: f64, columns: Vec<(Column, Values)>) -> Self {
        Self { rows, columns }
    }

    fn unknown(plan: &LogicalPlan, rows: f64) -> Self {
        let of = |column| (column, Values::unknown(rows));
        Self { rows, columns: plan.schema().columns().into_iter().map(of).collect() }
    }
}

impl Values {
    pub(super) fn unknown(rows: f64) -> Self {
        let distinct = (rows / ROWS_PER_VALUE).max(1.0);
        Self { distinct, guessed: true, null_fraction: 0.0, range: None, row_of: None, unique: false }
    }

    pub(super) fn is_guessed(&self) -> bool {
        self.guessed
    }

    /// The share of rows that equal a constant.
    pub(super) fn share_of_one(&self) -> f64 {
        let distinct = if self.guessed { self.distinct.min(VALUES_UNKNOWN) } else { self.distinct };
        1.0 / distinct.max(1.0)
    }

    #[cfg(test)]
    pub(super) fn within(self, min: f64, max: f64) -> Self {
        Self { range: Some((min, max)), ..self }
    }
}

/// How many of `distinct` values are left where `kept` of `rows` rows are: each value with as many rows as any other, rows drawn at
/// random (Yao, CACM 1977, in its usual approximation).
fn remaining(distinct: f64, rows: f64, kept: f64) -> f64 {
    if kept >= rows || distinct <= 1.0 {
        return distinct.min(kept.max(1.0));
    }
    let per_value = (rows / distinct).max(1.0);
    (distinct * (1.0 - (1.0 - kept / rows).powf(per_value))).clamp(1.0, kept.max(1.0))
}

/// How many rows a scan of a table is guessed to have. The filters name columns without their table.
pub(crate) fn rows_of_scan(table: &RemoteTable, filters: &[Expr]) -> f64 {
    let statistics = table.statistics();
    let rows = rows_of_table(statistics);
    let columns = table.definition().columns.iter().enumerate();
    let columns = columns.map(|(index, column)| (Column::from_name(&column.name), values(statistics, index, rows)));
    let base = Estimate { rows, columns: columns.collect() };
    let share = selectivity(filters, &base);
    base.kept(share).rows
}

/// What is guessed of a plan.
pub(super) fn estimate(plan: &LogicalPlan) -> Estimate {
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan),
        LogicalPlan::Filter(filter) => {
            let input = estimate(&filter.input);
            let share = match filter.input.as_ref() {
                LogicalPlan::Aggregate(_) => HAVING,
                _ => selectivity(std::slice::from_ref(&filter.predicate), &input),
            };
            input.kept(share)
        }
        LogicalPlan::SubqueryAlias(alias) => estimate(&alias.input).renamed(alias.schema.columns()),
        LogicalPlan::Projection(projection) => {
            let input = estimate(&projection.input);
            let values = |expr: &Expr| match expr.clone().unalias_nested().data {
                Expr::Column(column) => input.values(&column).cloned().unwrap_or_else(|| Values::unknown(input.rows)),
                other => Values { distinct: input.distinct_of(&other), guessed: false, ..Values::unknown(input.rows) },
            };
            let columns = projection.schema.columns().into_iter();
            let columns = columns.zip(projection.expr.iter().map(values)).collect();
            Estimate { rows: input.rows, columns }
        }
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
        LogicalPlan::Distinct(_) => {
            let Some(input) = plan.inputs().first().map(|input| estimate(input)) else {
                return Estimate::unknown(plan, ROWS_UNKNOWN);
            };
            let product = input.columns.iter().fold(1.0, |product, (_, values)| product * values.distinct);
            let rows = product.min(input.rows).max(1.0);
            Estimate { rows, ..input }
        }
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Sort(sort) => cut(estimate(&sort.input), sort.fetch),
        LogicalPlan::Limit(limit) => {
            let fetch = match limit.get_fetch_type() {
                Ok(FetchType::Literal(fetch)) => fetch,
                _ => None,
            };
            cut(estimate(&limit.input), fetch)
        }
        LogicalPlan::Values(values) => Estimate::unknown(plan, values.values.len() as f64),
        LogicalPlan::EmptyRelation(_) => Estimate::unknown(plan, 1.0),
        LogicalPlan::Union(union) => {
            let inputs: Vec<Estimate> = union.inputs.iter().map(|input| estimate(input)).collect();
            let rows = inputs.iter().map(|input| input.rows).sum();
            match inputs.into_iter().next() {
                Some(first) => Estimate { rows, ..first.renamed(union.schema.columns()) },
                None => Estimate::unknown(plan, 1.0),
            }
        }
        other => match (SharedNode::beneath(other), other.inputs().as_slice()) {
            (Some((shared, _)), _) => estimate(shared),
            (None, [input]) => {
                let input = estimate(input);
                Estimate { rows: input.rows, ..Estimate::unknown(plan, input.rows) }
            }
            _ => Estimate::unknown(plan, ROWS_UNKNOWN),
        },
    }
}

fn cut(input: Estimate, fetch: Option<usize>) -> Estimate {
    match fetch {
        Some(fetch) if (fetch as f64) < input.rows => {
            let share = fetch as f64 / input.rows;
            input.kept(share)
        }
        _ => input,
    }
}

fn grouped(aggregate: &Aggregate) -> Estimate {
    let input = estimate(&aggregate.input);
    let rows = match aggregate.group_expr.is_empty() {
        true => 1.0,
        false => input.groups(&aggregate.group_expr),
    };
    let keys = aggregate.group_expr.iter().map(|key| {
        let known = match key.clone().unalias_nested().data {
            Expr::Column(column) => input.values(&column).cloned(),
            _ => None,
        };
        let values = known.unwrap_or_else(|| Values {
            distinct: input.distinct_of(key),
            guessed: false,
            ..Values::unknown(rows)
        });
        Values { distinct: values.distinct.min(rows), ..values }
    });
    let calls = aggregate.aggr_expr.iter().map(|_| Values::unknown(rows));
    let values: Vec<Values> = keys.chain(calls).collect();
    let columns = aggregate.schema.columns();
    let padded = values.into_iter().chain(std::iter::repeat_with(|| Values::unknown(rows)));
    Estimate { rows, columns: columns.into_iter().zip(padded).collect() }
}

fn joined(join: &Join) -> Estimate {
    let (left, right) = (estimate(&join.left), estimate(&join.right));
    let pairs = pairs(&left, &right, &join.on);
    let mut both = Estimate { rows: pairs, columns: [left.columns.clone(), right.columns.clone()].concat() };
    if let Some(filter) = &join.filter {
        both.rows *= selectivity(std::slice::from_ref(filter), &both);
    }
    let kept_left = (both.rows / left.rows).min(1.0);
    let kept_right = (both.rows / right.rows).min(1.0);
    match join.join_type {
        JoinType::LeftSemi => return left.kept(semi_share(kept_left)),
        JoinType::RightSemi => return right.kept(semi_share(kept_right)),
        JoinType::LeftAnti => return left.kept(1.0 - semi_share(kept_left)),
        JoinType::RightAnti => return right.kept(1.0 - semi_share(kept_right)),
        JoinType::Inner => {}
        JoinType::Left => both.rows = both.rows.max(left.rows),
        JoinType::Right => both.rows = both.rows.max(right.rows),
        _ => both.rows = both.rows.max(left.rows + right.rows),
    }
    both.rows = both.rows.max(1.0);
    let rows = both.rows;
    both.columns.iter_mut().for_each(|(_, values)| values.distinct = values.distinct.min(rows));
    let columns = join.schema.columns();
    if columns.len() == both.columns.len() { both.renamed(columns) } else { both }
}

/// The share of rows that find a partner, never all of them and never none.
pub(crate) fn semi_share(share: f64) -> f64 {
    share.clamp(0.001, 0.9)
}

/// How many pairs of rows agree in all of these expressions.
fn pairs(left: &Estimate, right: &Estimate, on: &[(Expr, Expr)]) -> f64 {
    on.iter().fold(left.rows * right.rows, |rows, (ours, theirs)| {
        rows / left.distinct_of(ours).max(right.distinct_of(theirs)).max(1.0)
    })
}

fn scanned(scan: &TableScan) -> Estimate {
    let provider = source_as_provider(&scan.source).ok();
    let table = provider.as_ref().and_then(|provider| provider.downcast_ref::<RemoteTable>());
    let base = match table {
        Some(table) => of_table(table, scan),
        None => Estimate::unknown(&LogicalPlan::TableScan(scan.clone()), ROWS_UNKNOWN),
    };
    let share = selectivity(&scan.filters, &base);
    let mut estimate = cut(base.kept(share), scan.fetch);
    let projected = scan.projected_schema.columns();
    estimate.columns.retain(|(column, _)| projected.contains(column));
    estimate
}

/// All columns of the table, under the names that the scan's filters have for them.
fn of_table(table: &RemoteTable, scan: &TableScan) -> Estimate {
    let statistics = table.statistics();
    let rows = rows_of_table(statistics);
    let here = Scanned(std::ptr::from_ref(scan) as usize);
    let columns = table.definition().columns.iter().enumerate().map(|(index, column)| {
        let name = Column::new(Some(scan.table_name.clone()), &column.name);
        (name, Values { row_of: Some(here), ..values(statistics, index, rows) })
    });
    Estimate { rows, columns: columns.collect() }
}

fn rows_of_table(statistics: &TableStatistics) -> f64 {
    statistics.rows.map_or(ROWS_UNKNOWN, |rows| rows as f64).max(1.0)
}

fn values(statistics: &Arc<TableStatistics>, index: usize, rows: f64) -> Values {
    let known = statistics.columns.get(index).cloned().unwrap_or_default();
    let null_fraction = known.null_fraction.unwrap_or(0.0).clamp(0.0, 1.0);
    let unique = statistics.indexes.iter().any(|of| of.unique && of.columns == [index]);
    let range = known.min.as_ref().and_then(number).zip(known.max.as_ref().and_then(number));
    let distinct = match (known.distinct, unique) {
        (_, true) => rows * (1.0 - null_fraction),
        (Some(distinct), false) => distinct as f64,
        (None, false) => {
            let guess = rows / ROWS_PER_VALUE;
            // Whole numbers and days have at most as many values as their range is wide.
            range.map_or(guess, |(min, max)| guess.min((max - min).abs() + 1.0))
        }
    };
    let leads = |of: &Index| of.columns.first() == Some(&index);
    let guessed = known.distinct.is_none() && !statistics.indexes.iter().any(leads);
    Values { distinct: distinct.clamp(1.0, rows), guessed, null_fraction, range, row_of: None, unique }
}

/// Whether rows of the plan are sent by a source that answers statements, and not read here from files.
pub(super) fn ships(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => source_as_provider(&scan.source).is_ok_and(|provider| {
            let table = provider.downcast_ref::<RemoteTable>();
            table.is_some_and(|table| table.service().source().capabilities().queries().is_some())
        }),
        other => other.inputs().into_iter().any(ships),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_left_follow_the_rows_that_are() {
        assert_eq!(remaining(100.0, 1000.0, 1000.0), 100.0);
        assert_eq!(remaining(1000.0, 1000.0, 10.0).round(), 10.0);
        let few_values = remaining(5.0, 1000.0, 100.0);
        assert!(few_values > 4.9, "{few_values}");
    }
}
