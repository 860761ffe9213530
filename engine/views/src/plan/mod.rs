//! From a query to operators: which tables it reads, DataFusion's optimizer over it, and the tree of operators.

mod compile;
mod evaluate;
mod input;
mod refuse;
mod sets;
mod time;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, TableScan};

pub(crate) use evaluate::Evaluator;
pub use input::Input;
pub(crate) use input::{Placeholder, placeholder};
pub(crate) use time::{Moved, NOW_COLUMN, When, nanos_per};

use crate::delta::same_columns;
use crate::maintain::TableId;
use crate::operator::{Operator, lookups};
use crate::table::By;
use crate::{Error, Result};

/// The query of a view, optimized, over tables that are known.
#[derive(Debug, Clone)]
pub struct Query {
    plan: LogicalPlan,
    schema: SchemaRef,
    inputs: Vec<Input>,
    evaluator: Arc<Evaluator>,
    tells_time: bool,
    lookups: Vec<(TableId, By)>,
}

/// What a name in a query stands for: an input, and its columns.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The table or view.
    pub input: Input,
    /// Its columns.
    pub schema: SchemaRef,
}

impl Query {
    /// Makes a view's query out of a logical plan as DataFusion's SQL planner makes it, neither analyzed nor optimized. `resolve` says what each
    /// table of the plan is.
    ///
    /// # Errors
    /// [`Error::Query`] names what can't be a view: volatile functions, functions of the time but where a filter compares with it, two columns of
    /// one name, a type without order. Errors of `resolve` and of DataFusion's planner.
    pub fn new(plan: LogicalPlan, resolve: &mut dyn FnMut(&TableScan) -> Result<Resolved>) -> Result<Self> {
        refuse::unstable(&plan)?;
        let evaluator = Arc::new(Evaluator::new());
        let plan = time::with_parameter(bind(plan, resolve)?)?;
        let plan = evaluator.optimize(plan)?;
        let mut inputs = BTreeSet::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Some(placeholder) = placeholder(scan)
            {
                inputs.insert(placeholder.input);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let schema = output_schema(&plan)?;
        let tells_time = time::plan_tells_time(&plan)?;
        let inputs = inputs.into_iter().collect();
        let mut query = Self { plan, schema, inputs, evaluator, tells_time, lookups: vec![] };
        query.lookups = lookups(query.compile()?.as_ref());
        Ok(query)
    }

    /// The view's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The tables and views that it reads, each once.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Whether its rows come and go with the time.
    pub fn tells_time(&self) -> bool {
        self.tells_time
    }

    /// The plan that is followed.
    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The tables in which its operators look rows up, and by which columns.
    pub(crate) fn lookups(&self) -> &[(TableId, By)] {
        &self.lookups
    }

    /// Operators that have seen nothing yet.
    pub(crate) fn compile(&self) -> Result<Box<dyn Operator>> {
        compile::compile(&self.plan, &self.evaluator)
    }
}

/// Puts inputs in the place of the plan's tables.
fn bind(plan: LogicalPlan, resolve: &mut dyn FnMut(&TableScan) -> Result<Resolved>) -> Result<LogicalPlan> {
    let mut failed = None;
    let bound = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
        if is_work_table(&scan) {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        }
        let resolved = match resolve(&scan).and_then(|resolved| fits(&scan, resolved)) {
            Ok(resolved) => resolved,
            Err(error) => {
                failed.get_or_insert(error);
                return Ok(Transformed::new(LogicalPlan::TableScan(scan), false, TreeNodeRecursion::Stop));
            }
        };
        let source = provider_as_source(Arc::new(Placeholder { input: resolved.input, schema: resolved.schema }));
        Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(bound?.data),
    }
}

/// The table in which a recursive query keeps what it found last.
fn is_work_table(scan: &TableScan) -> bool {
    datafusion::datasource::source_as_provider(&scan.source)
        .is_ok_and(|provider| provider.is::<datafusion::datasource::cte_worktable::CteWorkTable>())
}

fn fits(scan: &TableScan, resolved: Resolved) -> Result<Resolved> {
    if !same_columns(&scan.source.schema(), &resolved.schema) {
        return Err(Error::query(format!("the columns of \"{}\" are not those that are held", scan.table_name)));
    }
    Ok(resolved)
}

fn output_schema(plan: &LogicalPlan) -> Result<SchemaRef> {
    let mut names = BTreeSet::new();
    let mut fields = Vec::new();
    for field in plan.schema().fields() {
        if !names.insert(field.name().clone()) {
            return Err(Error::query(format!(
                "it has two columns named \"{}\"; name them apart with AS",
                field.name()
            )));
        }
        if *field.data_type() == DataType::Null {
            let reason = format!("column \"{}\" has no type; cast it, as in CAST(NULL AS bigint)", field.name());
            return Err(Error::query(reason));
        }
        fields.push(Field::new(field.name(), field.data_type().clone(), field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}
