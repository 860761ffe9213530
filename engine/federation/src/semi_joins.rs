//! How many rows semi and anti joins leave, for the choice of build sides.
//!
//! DataFusion takes a semi join to leave all rows of the side that it tests. A chain of them then looks larger than it is, another join of
//! the chain holds its other side instead, and the keys that would have narrowed that side's statement come too late. Here the share
//! of rows with a partner is the share of the tested side's values that the other side has, as far as the sources say how many there are.
//!
//! Sides are compared by rows alone: DataFusion would compare bytes where it knows them of both, and hold many narrow rows rather than few wide ones.

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::{JoinType, Result, Statistics};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::operator_statistics::{
    DefaultStatisticsProvider, ExtendedStatistics, StatisticsProvider, StatisticsRegistry, StatisticsResult,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::RemoteScanExec;
use crate::region::{ROWS_PER_VALUE, semi_share};

/// The provider of statistics.
#[derive(Debug, Default)]
pub struct SemiJoinRows;

/// Marks statistics that are not those of the operators themselves.
#[derive(Debug, Clone, Copy)]
struct Judged;

impl SemiJoinRows {
    /// DataFusion's own statistics of every operator, but for bytes, and for semi and anti joins and the operators of one input above them.
    pub fn registry() -> StatisticsRegistry {
        StatisticsRegistry::with_providers(vec![Arc::new(Self), Arc::new(DefaultStatisticsProvider)])
    }
}

impl StatisticsProvider for SemiJoinRows {
    fn compute_statistics(&self, plan: &dyn ExecutionPlan, inputs: &[ExtendedStatistics]) -> Result<StatisticsResult> {
        let rows = match (plan.downcast_ref::<HashJoinExec>(), inputs) {
            (Some(join), [left, right]) => rows_left(join, left, right),
            (None, [input]) if input.has_extension::<Judged>() => rows_above(plan, input)?,
            _ => None,
        };
        let Some(rows) = rows else { return without_bytes(plan, inputs) };
        let mut statistics = Statistics::new_unknown(&plan.schema());
        statistics.num_rows = Precision::Inexact(rows.ceil() as usize);
        let mut judged = ExtendedStatistics::new(statistics);
        judged.set_extension(Judged);
        Ok(StatisticsResult::Computed(judged))
    }
}

/// DataFusion's own statistics but for the bytes, which it knows of a side with columns of fixed width alone: the side with fewer rows is held, and tells fewer keys.
fn without_bytes(plan: &dyn ExecutionPlan, inputs: &[ExtendedStatistics]) -> Result<StatisticsResult> {
    Ok(match DefaultStatisticsProvider.compute_statistics(plan, inputs)? {
        StatisticsResult::Computed(known) if known.base().total_byte_size.get_value().is_some() => {
            let statistics = Statistics { total_byte_size: Precision::Absent, ..known.base().clone() };
            StatisticsResult::Computed(ExtendedStatistics::new(statistics))
        }
        known => known,
    })
}

fn rows_of(statistics: &ExtendedStatistics) -> Option<f64> {
    statistics.base().num_rows.get_value().map(|rows| *rows as f64)
}

/// How many rows a semi or anti join leaves; `None` of other joins.
fn rows_left(join: &HashJoinExec, left: &ExtendedStatistics, right: &ExtendedStatistics) -> Option<f64> {
    let tests_left = matches!(join.join_type(), JoinType::LeftSemi | JoinType::LeftAnti);
    let keeps_matches = matches!(join.join_type(), JoinType::LeftSemi | JoinType::RightSemi);
    if !keeps_matches && !matches!(join.join_type(), JoinType::LeftAnti | JoinType::RightAnti) {
        return None;
    }
    let (tested, other) = if tests_left { (left, right) } else { (right, left) };
    let (tested_rows, other_rows) = (rows_of(tested)?, rows_of(other)?);
    let (mut tested_values, mut other_values) = (1.0_f64, 1.0_f64);
    for (on_left, on_right) in join.on() {
        let of_left = values(join.left().as_ref(), on_left.as_ref());
        let of_right = values(join.right().as_ref(), on_right.as_ref());
        let (of_tested, of_other) = if tests_left { (of_left, of_right) } else { (of_right, of_left) };
        // Of a side that its source says nothing of, there are as many as of the other, or the usual guess.
        tested_values *= of_tested.unwrap_or((tested_rows / ROWS_PER_VALUE).max(of_other.unwrap_or(1.0)));
        other_values *= of_other.unwrap_or(other_rows).min(other_rows);
    }
    let share = other_values.min(other_rows) / tested_values.min(tested_rows).max(1.0);
    let share = if keeps_matches { semi_share(share) } else { 1.0 - semi_share(share) };
    Some((tested_rows * share).max(1.0))
}

/// How many rows an operator makes of its one input, if it makes the share of them that it makes of what it takes its input to be.
fn rows_above(plan: &dyn ExecutionPlan, input: &ExtendedStatistics) -> Result<Option<f64>> {
    let children = plan.children();
    let [child] = children.as_slice() else { return Ok(None) };
    let whole = |plan: &dyn ExecutionPlan| -> Result<Option<f64>> {
        Ok(StatisticsContext::new()
            .compute(plan, &StatisticsArgs::new())?
            .num_rows
            .get_value()
            .map(|rows| *rows as f64))
    };
    if let Some(limit) = plan.fetch() {
        return Ok(rows_of(input).map(|rows| rows.min(limit as f64)));
    }
    let (Some(before), Some(after)) = (whole(child.as_ref())?, whole(plan)?) else { return Ok(None) };
    Ok(rows_of(input).map(|rows| rows * after / before.max(1.0)))
}

/// How many values a column of the plan has in the table that it comes from, if its source says so.
fn values(plan: &dyn ExecutionPlan, expr: &dyn PhysicalExpr) -> Option<f64> {
    let index = expr.downcast_ref::<Column>()?.index();
    if let Some(scan) = plan.downcast_ref::<RemoteScanExec>() {
        return scan.distinct(index);
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return values(projection.input().as_ref(), projection.expr().get(index)?.expr.as_ref());
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let (key, _) = aggregate.group_expr().expr().get(index)?;
        return values(aggregate.input().as_ref(), key.as_ref());
    }
    let input = match plan.downcast_ref::<HashJoinExec>() {
        Some(join) => match join.join_type() {
            JoinType::LeftSemi | JoinType::LeftAnti => join.left(),
            JoinType::RightSemi | JoinType::RightAnti => join.right(),
            _ => return None,
        },
        None => match plan.children().as_slice() {
            [input] => *input,
            _ => return None,
        },
    };
    // What passes its input's columns on as they are.
    (input.schema().fields() == plan.schema().fields()).then(|| values(input.as_ref(), expr)).flatten()
}
