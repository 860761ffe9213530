//! Computes what may fail of the rows that a condition leaves, and of no others.
//!
//! `SELECT a, (b + c) / a FROM t WHERE abs(a) > 0` failed: where a projection is narrower than what it reads, DataFusion moves it beneath a filter (`ProjectionPushdown` of
//! datafusion-physical-optimizer 55.2, by `FilterExec` of datafusion-physical-plan), and divides by the zeros that the filter takes away. It also computes beneath a nested loop join what
//! the join's condition says of one side, though `CASE WHEN a.x <> 0 THEN 1 / a.x + b.y END` divides by what is not zero.
//!
//! While that rule runs, a filter stands behind an operator that takes a projection in where it only picks and compares columns, and otherwise keeps of it which columns are
//! read. A join whose condition has a CASE, and divides or reads a text as something else, stands behind such an operator, too.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::projection_pushdown::ProjectionPushdown;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::projection::{ProjectionExec, try_embed_projection};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary,
};

/// DataFusion's rule that moves projections down, in whose place it stands.
#[derive(Debug, Default)]
pub struct LateProjections(ProjectionPushdown);

impl PhysicalOptimizerRule for LateProjections {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = plan.transform_up(|node| {
            Ok(match node.is::<FilterExec>() || may_fail_beneath(&node)? {
                true => Transformed::yes(Arc::new(GuardExec(node)) as Arc<dyn ExecutionPlan>),
                false => Transformed::no(node),
            })
        })?;
        let moved = self.0.optimize(guarded.data, config)?;
        let bare = moved.transform_up(|node| {
            Ok(match node.downcast_ref::<GuardExec>() {
                Some(guard) => Transformed::yes(Arc::clone(&guard.0)),
                None => Transformed::no(node),
            })
        })?;
        Ok(bare.data)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Whether the node is a join whose condition fails for rows of which it does not ask.
fn may_fail_beneath(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let Some(filter) = node.downcast_ref::<NestedLoopJoinExec>().and_then(NestedLoopJoinExec::filter) else {
        return Ok(false);
    };
    let mut has_case = false;
    let mut may_fail = false;
    filter.expression().apply(|part| {
        if let Some(binary) = part.downcast_ref::<BinaryExpr>() {
            may_fail |= matches!(binary.op(), Operator::Divide | Operator::Modulo);
        }
        has_case |= part.is::<CaseExpr>();
        may_fail |= part.downcast_ref::<CastExpr>().is_some_and(|cast| reads_text(cast, filter.schema()));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(has_case && may_fail)
}

fn reads_text(cast: &CastExpr, schema: &Schema) -> bool {
    cast.expr().data_type(schema).is_ok_and(|from| from.is_string()) && !cast.cast_type().is_string()
}

/// Whether the expression fails for no row: columns, constants and comparisons of them.
fn never_fails(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut never = true;
    let looked = expr.apply(|part| {
        let compares = |binary: &BinaryExpr| {
            matches!(
                binary.op(),
                Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
                    | Operator::And
                    | Operator::Or
            )
        };
        never = part.is::<Column>()
            || part.is::<Literal>()
            || part.is::<NotExpr>()
            || part.is::<IsNullExpr>()
            || part.is::<IsNotNullExpr>()
            || part.downcast_ref::<BinaryExpr>().is_some_and(compares);
        Ok(if never { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    looked.is_ok() && never
}

/// The operator behind it, which takes in of a projection what fails for no row. It is in no plan that runs.
#[derive(Debug)]
struct GuardExec(Arc<dyn ExecutionPlan>);

impl DisplayAs for GuardExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardExec")
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &'static str {
        "GuardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.0.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.0.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self(replace_children_if_necessary(Arc::clone(&self.0), children)?)))
    }

    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match self.0.downcast_ref::<FilterExec>() {
            Some(filter) if !projection.expr().iter().all(|column| never_fails(&column.expr)) => {
                try_embed_projection(projection, filter)
            }
            _ => self.0.try_swapping_with_projection(projection),
        }
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("GuardExec is in no plan that runs")
    }
}
