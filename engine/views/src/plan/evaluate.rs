//! DataFusion over rows in memory, without a runtime: one partition, driven by the caller's thread.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionConfig;
use headwater_rules::{mended_analyzer_rules, mended_optimizer_rules, mended_physical_optimizer_rules};

use super::input::{Held, Slot};
use super::time::plan_tells_time;
use crate::Result;

/// Optimizes views' queries, and computes what no operator follows.
pub(crate) struct Evaluator {
    state: SessionState,
    optimizer: Optimizer,
    /// For plans that depend on the time.
    temporal: Optimizer,
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Evaluator")
    }
}

/// Rules that are left out. A limit that moves down turns into hints at sorts and scans, which no operator here reads.
const LEFT_OUT: &[&str] = &["push_down_limit"];

/// Left out besides where a plan depends on the time, which must stay in the filter that compares with it.
const LEFT_OUT_TEMPORAL: &str = "common_sub_expression_eliminate";

impl Evaluator {
    pub(crate) fn new() -> Self {
        let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
        let options = config.options_mut();
        // Scalar subqueries become joins, which operators follow.
        options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.optimizer.enable_dynamic_filter_pushdown = false;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_analyzer_rules(mended_analyzer_rules())
            .with_physical_optimizer_rules(mended_physical_optimizer_rules())
            .build();
        let rules: Vec<_> =
            mended_optimizer_rules().into_iter().filter(|rule| !LEFT_OUT.contains(&rule.name())).collect();
        let temporal = rules.iter().filter(|rule| rule.name() != LEFT_OUT_TEMPORAL).cloned().collect();
        Self { state, optimizer: Optimizer::with_rules(rules), temporal: Optimizer::with_rules(temporal) }
    }

    pub(crate) fn properties(&self) -> &ExecutionProps {
        self.state.execution_props()
    }

    pub(crate) fn optimize(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {})?;
        let optimizer = if plan_tells_time(&plan)? { &self.temporal } else { &self.optimizer };
        Ok(optimizer.optimize(plan, &self.state, |_, _| {})?)
    }

    /// Runs a plan whose slots are filled with these rows.
    pub(crate) fn run(&self, plan: &LogicalPlan, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        let mut inputs: Vec<Option<Vec<RecordBatch>>> = inputs.into_iter().map(Some).collect();
        let plan = plan
            .clone()
            .transform_up_with_subqueries(|node| {
                let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
                let Some((place, schema)) = slot(&scan) else {
                    return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
                };
                let rows = inputs.get_mut(place).and_then(Option::take).unwrap_or_default();
                let source = provider_as_source(Arc::new(Held { schema, rows }));
                Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
            })?
            .data;
        let run = async {
            let physical = self.state.query_planner().create_physical_plan(&plan, &self.state).await?;
            collect(physical, self.state.task_ctx()).await
        };
        Ok(drive(run)?)
    }
}

/// Runs a future on this thread, which may be driving another already.
fn drive<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn slot(scan: &TableScan) -> Option<(usize, arrow::datatypes::SchemaRef)> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<Slot>().map(|slot| (slot.place, Arc::clone(&slot.schema)))
}
