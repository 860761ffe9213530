//! Grouping sets over the finest groups.
//!
//! `GROUP BY ROLLUP (segment, status)` puts each row into three groups: its own, that of its segment, and that of all rows. The groups of all columns are made first, at the source where
//! it can, and each of them is put into the groups of the sets: its counts and sums are added up, its minima and maxima compared. A source ships a row for each of the finest
//! groups and not for each row. It is done where these groups are guessed to be at most half of the rows.

use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef, Result};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan};

use super::eager::{early, finest};
use super::estimate::estimate;
use super::pays::{groups_that_pay, may_pay};

/// The grouping sets over groups; `None` where the aggregate has none, or its rows are no fewer as groups.
pub(super) fn over_finest_groups(aggregate: &Aggregate, partial: &mut Vec<DFSchemaRef>) -> Result<Option<LogicalPlan>> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(None) };
    let keys: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let rows = estimate(&aggregate.input);
    if keys.is_empty() || keys.iter().any(Expr::is_volatile) || !may_pay(rows.rows, rows.groups(&keys)) {
        return Ok(None);
    }
    let Some(two) = finest(aggregate, keys.clone())? else { return Ok(None) };
    let groups = LogicalPlan::Aggregate(two.partial.clone());
    if groups_that_pay(&groups, rows.rows, rows.groups(&keys))?.is_some() {
        partial.push(Arc::clone(groups.schema()));
    } else if early(&two.partial, &mut vec![])?.is_none() {
        return Ok(None);
    }
    let columns = groups.schema().columns();
    let column = |key: &Expr| keys.iter().position(|known| known == key).map(|place| columns[place].clone());
    let Some(sets) = over_columns(sets, &column) else { return Ok(None) };
    two.merged_by(groups, vec![Expr::GroupingSet(sets)], aggregate).map(Some)
}

/// The same sets of columns.
fn over_columns(sets: &GroupingSet, column: &impl Fn(&Expr) -> Option<Column>) -> Option<GroupingSet> {
    let all = |keys: &[Expr]| keys.iter().map(|key| column(key).map(Expr::Column)).collect::<Option<Vec<_>>>();
    Some(match sets {
        GroupingSet::Rollup(keys) => GroupingSet::Rollup(all(keys)?),
        GroupingSet::Cube(keys) => GroupingSet::Cube(all(keys)?),
        GroupingSet::GroupingSets(sets) => {
            GroupingSet::GroupingSets(sets.iter().map(|keys| all(keys)).collect::<Option<_>>()?)
        }
    })
}
