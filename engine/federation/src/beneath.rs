//! The way from an operator down to the scans that its rows come from, by the places of columns.
//!
//! It goes through operators that only pass rows on, drop them or repeat them: a row that is left out beneath such an operator leaves out only rows that have its
//! values. It ends at what chooses rows, as a limit, at groups, and at the side of an outer join of which a row that has a partner would become one that has none.

use std::sync::Arc;

use datafusion::common::{JoinType, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use crate::RemoteScanExec;
use crate::keys::column_behind;

/// What becomes of a scan that is told something; the columns of the plan that was begun with are the scan's at these places. `None` where it stays as it is.
type ScanToTell<'a> = dyn Fn(&RemoteScanExec, &[Option<usize>]) -> Option<RemoteScanExec> + 'a;

/// The plan with what its scans are told. `of` is an expression over the plan's columns: what is told is of use where one of them comes from.
pub(crate) fn tell_scans(
    plan: &Arc<dyn ExecutionPlan>,
    of: &Arc<dyn PhysicalExpr>,
    scan: &ScanToTell<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let columns = collect_columns(of).into_iter().map(|column| column.index()).collect();
    let places: Vec<_> = (0..plan.schema().fields().len()).map(Some).collect();
    Way { columns, scan }.descend(plan, &places)
}

struct Way<'a> {
    columns: Vec<usize>,
    scan: &'a ScanToTell<'a>,
}

impl Way<'_> {
    fn descend(&self, plan: &Arc<dyn ExecutionPlan>, places: &[Option<usize>]) -> Result<Arc<dyn ExecutionPlan>> {
        let unchanged = Arc::clone(plan);
        // Of a choice of rows that an operator makes, none may be missing beneath it.
        if plan.fetch().is_some() || self.columns.iter().all(|column| places[*column].is_none()) {
            return Ok(unchanged);
        }
        if let Some(scan) = plan.downcast_ref::<RemoteScanExec>() {
            return Ok((self.scan)(scan, places).map_or(unchanged, |scan| Arc::new(scan)));
        }
        let children: Vec<Arc<dyn ExecutionPlan>> = plan
            .children()
            .into_iter()
            .enumerate()
            .map(|(index, child)| match places_beneath(plan, index, places) {
                Some(places) => self.descend(child, &places),
                None => Ok(Arc::clone(child)),
            })
            .collect::<Result<_>>()?;
        replace_children_if_necessary(unchanged, children)
    }
}

/// Where an operator's input has the columns; `None` where nothing may be told it.
fn places_beneath(plan: &Arc<dyn ExecutionPlan>, child: usize, places: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    let beneath = |below: &dyn Fn(usize) -> Option<usize>| places.iter().map(|place| place.and_then(below)).collect();
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let schema = projection.input().schema();
        let column = |place: usize| column_behind(&projection.expr()[place].expr, &schema);
        return Some(beneath(&column));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return Some(beneath(&|place| match filter.projection() {
            Some(projection) => Some(projection[place]),
            None => Some(place),
        }));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        // The other side is read before the first row leaves the join.
        let start = if child == 1 { start_of_second_side(join)? } else { return None };
        let fields = join.right().schema().fields().len();
        return Some(beneath(&|place| {
            let place = join.projection.as_ref().map_or(place, |projection| projection[place]);
            place.checked_sub(start).filter(|place| *place < fields)
        }));
    }
    let passes_on = plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<UnionExec>();
    passes_on.then(|| places.to_vec())
}

/// Where the columns of the side begin that is read second, if none of its rows decides what becomes of the other side's.
fn start_of_second_side(join: &HashJoinExec) -> Option<usize> {
    match join.join_type() {
        JoinType::Inner | JoinType::Right => Some(join.left().schema().fields().len()),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => Some(0),
        _ => None,
    }
}
