//! A finished region as DataFusion sees it: a relation like a table, read by one statement.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, Statistics};
use datafusion::logical_expr::{Expr as Logical, TableType};
use datafusion::physical_plan::ExecutionPlan;
use headwater_source::{ColumnDef, Error, Expr, QueryRequest, Relation, Scan, ScanRequest, Source};

use super::grow::TableName;
use crate::scan::{Planned, failed};
use crate::{RemoteScanExec, Service};

/// What a remote statement asks for.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// Rows of one table.
    Table(ScanRequest),
    /// The rows of a region.
    Query(QueryRequest),
}

impl Asked {
    /// The schema of the rows.
    pub(crate) fn schema(&self) -> SchemaRef {
        match self {
            Self::Table(request) => request.schema(),
            Self::Query(request) => Arc::clone(&request.schema),
        }
    }

    /// The columns that a filter may name.
    pub(crate) fn columns(&self) -> &[ColumnDef] {
        match self {
            Self::Table(request) => &request.table.columns,
            Self::Query(request) => request.relation.columns(),
        }
    }

    /// Which of [`Asked::columns`] each column of the rows is.
    pub(crate) fn positions(&self) -> Vec<usize> {
        match self {
            Self::Table(request) => request.projection.clone(),
            Self::Query(request) => (0..request.relation.columns().len()).collect(),
        }
    }

    /// Whether a limit cuts the rows: narrowing them would let others through.
    pub(crate) fn is_cut(&self) -> bool {
        match self {
            Self::Table(request) => request.limit.is_some(),
            Self::Query(request) => request.relation.is_cut(),
        }
    }

    /// The same, only of rows for which the filters are true; `None` where that would let other rows through a limit.
    pub(crate) fn narrowed(&self, filters: &[Expr]) -> Option<Self> {
        match self {
            Self::Table(request) if request.limit.is_some() => None,
            Self::Table(request) => {
                let mut request = request.clone();
                request.filters.extend_from_slice(filters);
                Some(Self::Table(request))
            }
            Self::Query(request) => {
                let start = Some(request.relation.clone());
                let relation = filters.iter().fold(start, |relation, filter| relation?.narrowed(filter))?;
                Some(Self::Query(QueryRequest { relation, ..request.clone() }))
            }
        }
    }

    /// Lets the source decide how to read it.
    pub(crate) async fn prepare(self, source: &dyn Source) -> Result<Arc<dyn Scan>, Error> {
        match self {
            Self::Table(request) => source.prepare(request).await,
            Self::Query(request) => source.prepare_query(request).await,
        }
    }
}

/// A region whose growth has ended.
#[derive(Debug)]
pub(super) struct RemoteQuery {
    pub(super) service: Arc<Service>,
    pub(super) relation: Relation,
    /// The relation's columns as `c0`, `c1`, ... with the nullability that the plan has for them.
    pub(super) schema: SchemaRef,
    pub(super) tables: Vec<TableName>,
}

#[async_trait]
impl TableProvider for RemoteQuery {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Logical],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (mut relation, mut schema) = (self.relation.clone(), Arc::clone(&self.schema));
        if let Some(projection) = projection {
            relation = relation.project(projection.iter().map(|index| Expr::Column(*index)).collect());
            schema = Arc::new(schema.project(projection)?);
        }
        let request = QueryRequest { relation, schema: Arc::clone(&schema), batch_rows: state.config().batch_size() };
        let asked = Asked::Query(request);
        let prepared = asked.clone().prepare(self.service.source().as_ref()).await;
        let scan = prepared.map_err(|error| failed(&self.tables, error))?;
        let planned = Planned {
            service: Arc::clone(&self.service),
            tables: self.tables.clone(),
            asked,
            scan,
            pushes: crate::Pushdown::On,
        };
        Ok(Arc::new(RemoteScanExec::new(planned, Statistics::new_unknown(&schema), vec![])))
    }
}
