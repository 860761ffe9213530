//! What the first rows of an order leave to be read.
//!
//! A sort that keeps only the first rows of its order knows, once it has so many, that what comes after the last of them is not wanted any
//! more. Where its rows come from a scan by operators that only pass on, drop or repeat them, the scan need not read it: a reader of Parquet
//! leaves out row groups by their statistics, and of the others all columns of those rows but the order's.
//!
//! DataFusion has a rule that hands such a filter down by itself. It is off: it goes by the names of columns (see [`ambiguous`](crate::ambiguous)), and
//! what it hands down looks as a join's keys do, for which a scan waits before it asks. Here the way down goes by the places of columns.
//! A statement that a source already answers can be told nothing more, so only scans that say so are told.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};
use headwater_source::{ColumnDef, Expr, Threshold};

use crate::beneath::tell_scans;
use crate::keys::{KeyFilter, row_filter};

/// The physical optimizer rule. It runs after DataFusion's own: a sort that is made anew has another filter.
#[derive(Debug, Default)]
pub struct FirstRows;

impl PhysicalOptimizerRule for FirstRows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(tell)?.data)
    }

    fn name(&self) -> &str {
        "headwater_first_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn tell(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = plan.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_some()) else {
        return Ok(Transformed::no(plan));
    };
    let Some(filter) = plan.dynamic_expressions_produced().into_iter().next() else { return Ok(Transformed::no(plan)) };
    let first = Arc::clone(&sort.expr().first().expr);
    let told = tell_scans(sort.input(), &first, &|scan, places| scan.with_threshold(&filter, &first, places))?;
    replace_children_if_necessary(plan, vec![told]).map(Transformed::yes)
}

/// What a sort has told a scan.
#[derive(Debug)]
pub(crate) struct SortThreshold {
    filter: Arc<dyn PhysicalExpr>,
    /// Which of the table's columns each column of the sort's input is.
    places: Vec<Option<usize>>,
    columns: Vec<ColumnDef>,
    /// The table's columns that the sort's keys are made of.
    read: Vec<usize>,
}

impl SortThreshold {
    pub(crate) fn new(filter: Arc<dyn PhysicalExpr>, places: Vec<Option<usize>>, columns: Vec<ColumnDef>) -> Self {
        let keys = filter.children().into_iter().flat_map(collect_columns);
        let mut read: Vec<usize> = keys.filter_map(|key| places.get(key.index()).copied().flatten()).collect();
        read.sort_unstable();
        read.dedup();
        Self { filter, places, columns, read }
    }
}

impl Threshold for SortThreshold {
    fn columns(&self) -> &[usize] {
        &self.read
    }

    fn generation(&self) -> u64 {
        self.filter.snapshot_generation()
    }

    fn current(&self) -> Option<Expr> {
        match row_filter(&self.filter, &self.columns, &self.places) {
            KeyFilter::Nothing => None,
            KeyFilter::NoRow => Some(Expr::Literal(ScalarValue::Boolean(Some(false)))),
            KeyFilter::Rows(filter, _) => Some(filter),
        }
    }
}
