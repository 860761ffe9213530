//! When it pays to group rows at their source for an aggregate above: where the groups are so many fewer that making them there takes less than sending the rows.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::LogicalPlan;
use headwater_source::{AggregateFunction, Node};

use super::grow::Grower;
use super::grown::Region;
use super::parts::is_along_index;

/// How many rows there must be for each group, at least, that grouping at the source may pay.
const ROWS_PER_GROUP_MIN: f64 = 2.0;

/// The same where groups are many, of which each part of the source makes most.
const ROWS_PER_GROUP_OF_MANY_MIN: f64 = 6.0;

/// The same where something is summed up in them: a source takes two to three times as long to add a row's numbers to one of so many sums as to send the row.
const ROWS_PER_SUM_OF_MANY_MIN: f64 = 20.0;

/// How many groups are many.
const GROUPS_MANY: f64 = 50_000.0;

/// Whether it may pay to make so many groups of the rows at their source.
pub(super) fn may_pay(rows: f64, groups: f64) -> bool {
    rows >= groups * ROWS_PER_GROUP_MIN
}

/// The region that a plan of groups is at its source, where it pays to make them there.
pub(super) fn groups_that_pay(plan: &LogicalPlan, rows: f64, groups: f64) -> Result<Option<Region>> {
    if !may_pay(rows, groups) {
        return Ok(None);
    }
    // A source that is asked in parts groups each of them: whoever asks puts the groups together either way.
    let region = Grower::of_partial(vec![Arc::clone(plan.schema())]).groups_at_source(plan)?;
    let pays = |region: &Region| {
        let least = match region.relation.node() {
            _ if groups < GROUPS_MANY || is_along_index(&region.relation, &region.tables) => ROWS_PER_GROUP_MIN,
            Node::Aggregate { aggregates, .. }
                if aggregates.iter().any(|call| call.function == AggregateFunction::Sum) =>
            {
                ROWS_PER_SUM_OF_MANY_MIN
            }
            _ => ROWS_PER_GROUP_OF_MANY_MIN,
        };
        rows >= groups * least
    };
    Ok(region.filter(pays))
}
