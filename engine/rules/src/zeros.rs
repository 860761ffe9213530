//! Keeps 0.0 and -0.0 equal where DataFusion compares bits.
//!
//! `x = 0.0` is true of both zeros of floating-point numbers. Three other forms compare by bits and so tell them apart, as it falls: a list of four constants or more, which is a set
//! (`InListExpr` of datafusion-physical-expr 55.2), and as which `x = 0.0 OR x = 1.0 OR x = 2.0 OR x = 3.0` is written; `CASE x WHEN 0.0 THEN`; and `nullif(x, 0.0)`. A list gets the other zero too, and the others
//! are written as comparisons.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Case, Expr, ExprSchemable, LogicalPlan, when};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The optimizer rule. It runs after those that make lists of comparisons.
#[derive(Debug, Default)]
pub struct EqualZeros;

impl OptimizerRule for EqualZeros {
    fn name(&self) -> &str {
        "headwater_equal_zeros"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !compares_bits(&plan)? {
            return Ok(Transformed::no(plan));
        }
        let schema = input_schema(&plan)?;
        under_their_names(plan, |expr| expr.transform_up(|part| compared(part, &schema)))
    }
}

/// The plan with its own expressions written anew, each under the name that it had.
pub(crate) fn under_their_names(
    plan: LogicalPlan,
    written: impl Fn(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    let named = |expr: Expr| {
        let name = names.save(&expr);
        Ok(written(expr)?.update_data(|expr| name.restore(expr)))
    };
    plan.map_expressions(|expr| match expr {
        // The sets have no name of their own, and are known by their form.
        Expr::GroupingSet(_) => expr.map_children(named),
        _ => named(expr),
    })
}

/// What the node's expressions read.
pub(crate) fn input_schema(plan: &LogicalPlan) -> Result<DFSchema> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())
        }
        _ => Ok(merge_schema(&plan.inputs())),
    }
}

/// Whether any part of the node's expressions is such a one.
pub(crate) fn holds(plan: &LogicalPlan, is_such: impl Fn(&Expr) -> bool) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(is_such(part)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether anything in the node may be one of the three forms.
fn compares_bits(plan: &LogicalPlan) -> Result<bool> {
    holds(plan, |part| is_list_with_one_zero(part) || is_switch(part) || is_nullif(part))
}

fn is_list_with_one_zero(expr: &Expr) -> bool {
    matches!(expr, Expr::InList(list) if missing_zero(list).is_some())
}

fn is_switch(expr: &Expr) -> bool {
    matches!(expr, Expr::Case(case) if case.expr.as_ref().is_some_and(|tested| !tested.is_volatile()))
}

fn is_nullif(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.name() == "nullif" && call.args.len() == 2 && !call.args[0].is_volatile())
}

fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_float = |expr: &Expr| expr.get_type(schema).is_ok_and(|data_type| data_type.is_floating());
    Ok(match expr {
        Expr::InList(mut list) => match missing_zero(&list) {
            Some(zero) => {
                list.list.push(Expr::Literal(zero, None));
                Transformed::yes(Expr::InList(list))
            }
            None => Transformed::no(Expr::InList(list)),
        },
        Expr::Case(Case { expr: Some(tested), when_then_expr, else_expr })
            if is_float(&tested) && !tested.is_volatile() =>
        {
            let compared = |(value, then): (Box<Expr>, Box<Expr>)| (Box::new(tested.as_ref().clone().eq(*value)), then);
            let when_then_expr = when_then_expr.into_iter().map(compared).collect();
            Transformed::yes(Expr::Case(Case { expr: None, when_then_expr, else_expr }))
        }
        Expr::ScalarFunction(call) if is_nullif(&Expr::ScalarFunction(call.clone())) && is_float(&call.args[0]) => {
            let ScalarFunction { args, .. } = call;
            let [value, other]: [Expr; 2] = args.try_into().expect("Invariant: nullif has two arguments");
            let null = ScalarValue::try_from(&value.get_type(schema)?)?;
            Transformed::yes(when(value.clone().eq(other), Expr::Literal(null, None)).otherwise(value)?)
        }
        other => Transformed::no(other),
    })
}

/// The zero that a list of constants lacks, where it has the other one.
fn missing_zero(list: &InList) -> Option<ScalarValue> {
    let values = || list.list.iter().filter_map(Expr::as_literal);
    let other = values().find_map(other_zero)?;
    // Values that are equal here have the same bits.
    (!values().any(|value| *value == other)).then_some(other)
}

/// Of a floating-point zero the one of the other sign; `None` of all else.
pub fn other_zero(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Float16(Some(value)) if value.to_f32() == 0.0 => Some(ScalarValue::Float16(Some(-*value))),
        ScalarValue::Float32(Some(value)) if *value == 0.0 => Some(ScalarValue::Float32(Some(-value))),
        ScalarValue::Float64(Some(value)) if *value == 0.0 => Some(ScalarValue::Float64(Some(-value))),
        _ => None,
    }
}
