//! Sends the values of subqueries to the scans that are filtered by them.
//!
//! `WHERE placed_at > (SELECT max(at) FROM other.checkpoints)`: the subquery is a plan of its own, which DataFusion runs before the rest (`ScalarSubqueryExec`). Where
//! it reads another source its value is not known when the statement is planned, and the table would be shipped whole. So a filter that compares a column
//! with such a value is told to the scan, which reads the value when it starts. The filter itself stays.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Literal, NegativeExpr};
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use crate::beneath::tell_scans;

/// The physical optimizer rule.
#[derive(Debug, Default)]
pub struct SubqueryValues;

impl PhysicalOptimizerRule for SubqueryValues {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(tell)?.data)
    }

    fn name(&self) -> &str {
        "headwater_subquery_values"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn tell(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = plan.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(plan)) };
    let conditions = split_conjunction(filter.predicate());
    let mut input = Arc::clone(filter.input());
    for condition in conditions.into_iter().filter(|condition| reads_subquery(condition)) {
        input = tell_scans(&input, condition, &|scan, places| scan.with_condition(condition, places))?;
    }
    replace_children_if_necessary(plan, vec![input]).map(Transformed::yes)
}

fn reads_subquery(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.is::<ScalarSubqueryExpr>() || expr.children().into_iter().any(reads_subquery)
}

/// What an expression of subqueries' values and literals comes to; `None` of another, and before the subqueries have run.
pub(crate) fn value_of(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    if !reads_subquery(expr) || !is_constant(expr) {
        return None;
    }
    match expr.evaluate(&RecordBatch::new_empty(Arc::new(Schema::empty()))).ok()? {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(_) => None,
    }
}

/// Whether an expression is made of subqueries' values and literals alone.
pub(crate) fn is_constant(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let is_computed = expr.is::<CastExpr>() || expr.is::<BinaryExpr>() || expr.is::<NegativeExpr>();
    let is_value = expr.is::<Literal>() || expr.is::<ScalarSubqueryExpr>();
    is_value || (is_computed && expr.children().into_iter().all(is_constant))
}
