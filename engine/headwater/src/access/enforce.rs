//! Opens the guarded tables of a plan: what may be read of each, and nothing else.
//!
//! Called once for each plan, before anything is optimized. Invariant: what it returns holds no guarded table, and every table of it was decided with the
//! same rights.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{
    Expr, Filter, LogicalPlan, LogicalPlanBuilder, SubqueryAlias, TableScan, TableScanBuilder,
};
use headwater_federation::Barrier;
use tracing::warn;

use super::guard::{Guarded, Sight};
use super::reads::table_name;
use super::rights::Seen;
use super::rule::null;
use crate::Error;
use crate::error::Passed;
use crate::views::{SystemTable, ViewTable};

/// A plan that may run.
#[derive(Debug)]
pub(crate) struct Enforced {
    pub(crate) plan: LogicalPlan,
    /// The tables of which rows are filtered or columns masked, and the views of which the inputs may not be read: how they are read is not to be told.
    pub(crate) limited: Vec<String>,
}

/// Decides a plan for somebody who sees so much; `None` where that is everything.
///
/// # Errors
/// A rule of the file does not fit its table; the rights have changed since the plan's names were looked up.
pub(crate) fn enforce(plan: LogicalPlan, sight: Option<&Sight>) -> Result<Enforced> {
    let mut limited = BTreeSet::new();
    let opened = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let Ok(provider) = source_as_provider(&scan.source) else { return Ok(Transformed::no(node)) };
        match (provider.downcast_ref::<Guarded>(), sight) {
            (Some(guarded), Some(sight)) if guarded.sight.rights == sight.rights => {
                if guarded.rights.is_limited() || hides_inputs(guarded) {
                    let (schema, table) = guarded.name();
                    limited.insert(format!("{schema}.{table}"));
                }
                opened(scan, guarded).map(Transformed::yes)
            }
            (None, None) => Ok(Transformed::no(node)),
            // What is no table of anybody's, as information_schema, is as its own provider shows it.
            (None, Some(_)) if table_name(&provider).is_none() => Ok(Transformed::no(node)),
            _ => Err(Passed::Rights.into_datafusion()),
        }
    })?;
    Ok(Enforced { plan: opened.data, limited: limited.into_iter().collect() })
}

/// The tables of a plan that may not be read whole, and as they are.
pub(crate) fn parts(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut parts = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(guarded) = provider.downcast_ref::<Guarded>()
            && !guarded.rights.is_whole()
        {
            let (schema, table) = guarded.name();
            parts.insert(format!("{schema}.{table}"));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(parts.into_iter().collect())
}

/// Whether it is a view whose query may not be known.
fn hides_inputs(guarded: &Guarded) -> bool {
    guarded.provider.downcast_ref::<ViewTable>().is_some_and(|view| !guarded.sight.reads_inputs(view))
}

fn opened(scan: &TableScan, guarded: &Guarded) -> Result<LogicalPlan> {
    let name = scan.table_name.clone();
    let provider = match guarded.provider.downcast_ref::<SystemTable>() {
        Some(table) => table.seen_by(guarded.sight.clone()),
        None => Arc::clone(&guarded.provider),
    };
    let source = provider_as_source(provider);
    if !guarded.rights.is_limited() {
        let places = guarded.rights.columns.iter().map(|seen| seen.index);
        let projection = (!guarded.rights.is_whole()).then(|| places.collect());
        let opened = TableScanBuilder::new(name, source).with_projection(projection).build()?;
        return Ok(LogicalPlan::TableScan(opened));
    }
    let whole = LogicalPlanBuilder::scan(name.clone(), source, None)?.build()?;
    limited(whole, &name, guarded).map_err(|error| misfit(guarded, &error))
}

/// The rows that may be read, with columns as they may be shown.
fn limited(whole: LogicalPlan, name: &TableReference, guarded: &Guarded) -> Result<LogicalPlan> {
    let state = guarded.sight.planner.as_ref();
    let user = guarded.sight.rights.user();
    let schema = Arc::clone(whole.schema());
    let shown: Vec<Expr> = guarded
        .rights
        .columns
        .iter()
        .map(|seen| {
            let field = schema.field(seen.index);
            let column = Expr::Column(Column::new(Some(name.clone()), field.name()));
            match seen.cases.is_empty() {
                true => Ok(column),
                false => Ok(value(seen, column, user, &schema, state)?.alias(field.name())),
            }
        })
        .collect::<Result<_>>()?;
    let rows = guarded.rights.rows.iter().map(|rule| rule.condition(user, &schema, state));
    let below = match disjunction(rows.collect::<Result<Vec<_>>>()?) {
        Some(condition) => Barrier::above(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(whole))?)),
        None => whole,
    };
    let projected = LogicalPlanBuilder::from(below).project(shown)?.build()?;
    Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(projected), name.clone())?))
}

/// What is shown of a column.
fn value(seen: &Seen, column: Expr, user: Option<&str>, schema: &DFSchema, state: &SessionState) -> Result<Expr> {
    let wanted = schema.field(seen.index).data_type();
    let (mut when_then, mut otherwise) = (Vec::new(), null(wanted)?);
    for case in &seen.cases {
        let value = match &case.mask {
            Some(mask) => mask.value(user, wanted, schema, state)?,
            None => column.clone(),
        };
        match &case.when {
            Some(when) => when_then.push((Box::new(when.condition(user, schema, state)?), Box::new(value))),
            None => otherwise = value,
        }
    }
    match when_then.is_empty() {
        true => Ok(otherwise),
        false => Ok(Expr::Case(Case::new(None, when_then, Some(Box::new(otherwise))))),
    }
}

/// The error of a rule that does not fit. What it says goes to the log, since the caller is not to know the rule.
fn misfit(guarded: &Guarded, error: &DataFusionError) -> DataFusionError {
    let (schema, table) = guarded.name();
    warn!(
        table = format!("{schema}.{table}"),
        error = error.strip_backtrace(),
        "a rule of the access file does not fit its table"
    );
    Error::Denied(format!(
        "what may be read of table \"{schema}.{table}\" can't be decided, since a rule of the access file does not fit it; tell who keeps that file"
    ))
    .into()
}
