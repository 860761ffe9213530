//! The leaves of a view's query: a table of a service or another view, in the shape in which DataFusion's planner wants a table.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableScan, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::maintain::{TableId, ViewId};

/// What a view reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// A table of a service.
    Table(TableId),
    /// Another view.
    View(ViewId),
}

/// Stands for an input in a plan. It is never read.
#[derive(Debug)]
pub(crate) struct Placeholder {
    pub(crate) input: Input,
    pub(crate) schema: SchemaRef,
}

/// The input of a scan, where it is one of a view's inputs.
pub(crate) fn placeholder(scan: &TableScan) -> Option<Arc<Placeholder>> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider
        .downcast_ref::<Placeholder>()
        .map(|found| Arc::new(Placeholder { input: found.input, schema: Arc::clone(&found.schema) }))
}

/// Stands for the output of an operator in the plan of one that is computed anew.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) place: usize,
    pub(crate) schema: SchemaRef,
}

/// Rows in memory under exactly the schema of the plan above them, whose names may repeat.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: Vec<RecordBatch>,
}

macro_rules! unread {
    ($kind:ty) => {
        #[async_trait]
        impl TableProvider for $kind {
            fn schema(&self) -> SchemaRef {
                Arc::clone(&self.schema)
            }

            fn table_type(&self) -> TableType {
                TableType::Base
            }

            async fn scan(
                &self,
                _: &dyn Session,
                _: Option<&Vec<usize>>,
                _: &[Expr],
                _: Option<usize>,
            ) -> Result<Arc<dyn ExecutionPlan>> {
                Err(DataFusionError::Internal("an input of a view was read without its rows".to_owned()))
            }
        }
    };
}

unread!(Placeholder);
unread!(Slot);

#[async_trait]
impl TableProvider for Held {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = vec![self.rows.clone()];
        Ok(MemorySourceConfig::try_new_exec(&rows, Arc::clone(&self.schema), projection.cloned())?)
    }
}
