//! A finished region as DataFusion sees it: a relation like a table, read by one statement.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr as Logical, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use futures::future::try_join_all;
use headwater_source::{
    ColumnDef, Error, Expr, QueryRequest, Relation, ScalarValue, Scan, ScanRequest, SortKey, Source,
};

use super::grown::TableName;
use super::parts::{Division, Parted};
use crate::narrow::{BoundKeys, KeyedCut, Planned};
use crate::scan::failed;
use crate::table::First;
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
                if let Some(known) = &mut request.known {
                    known.rows = 0.0;
                }
                Some(Self::Table(request))
            }
            Self::Query(request) => {
                let start = Some(request.relation.clone());
                let relation = filters.iter().fold(start, |relation, filter| relation?.narrowed(filter))?;
                Some(Self::Query(QueryRequest { relation, ..request.clone() }))
            }
        }
    }

    /// The same, read by one statement.
    pub(crate) fn unsplit(self) -> Self {
        match self {
            Self::Table(request) => Self::Table(ScanRequest { partitions_max: 1, ..request }),
            query => query,
        }
    }

    /// The same, only of the first rows of an order over the rows' own columns.
    pub(crate) fn cut(self, first: &First) -> Self {
        match self {
            Self::Table(mut request) => {
                let of_table = |key: &SortKey| SortKey { column: request.projection[key.column], ..*key };
                request.sort = first.keys.iter().map(of_table).collect();
                request.limit = Some(first.rows);
                request.partitions_max = 1;
                Self::Table(request)
            }
            Self::Query(request) => {
                let relation = request.relation.top(first.keys.clone(), 0, first.rows);
                Self::Query(QueryRequest { relation, ..request })
            }
        }
    }

    /// The same with a filter of the keys that came.
    pub(crate) fn with_keys(&self, filter: &impl Fn(&Relation, usize) -> Expr) -> Self {
        match self {
            Self::Table(request) => Self::Table(request.clone()),
            Self::Query(request) => {
                Self::Query(QueryRequest { relation: request.relation.with_keys(filter), ..request.clone() })
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

    /// The same, divided where that is possible.
    pub(crate) async fn prepare_parts(
        self,
        source: &dyn Source,
        division: Option<&Parts>,
    ) -> Result<Arc<dyn Scan>, Error> {
        let parts = match (&self, division) {
            (Self::Query(request), Some(Parts { division, count })) => division.parts(&request.relation, *count),
            _ => None,
        };
        let (Some(parts), Self::Query(request)) = (parts, &self) else { return self.prepare(source).await };
        let part = |relation| source.prepare_query(QueryRequest { relation, ..request.clone() });
        let parts = try_join_all(parts.into_iter().map(part)).await?;
        Ok(Arc::new(Parted::new(self.prepare(source).await?, parts)))
    }
}

/// A region whose growth has ended.
#[derive(Debug, Clone)]
pub(crate) struct RemoteQuery {
    pub(super) service: Arc<Service>,
    pub(super) relation: Relation,
    /// The relation's columns as `c0`, `c1`, ... with the nullability that the plan has for them.
    pub(super) schema: SchemaRef,
    pub(super) tables: Vec<TableName>,
    /// How many rows are guessed to come.
    pub(super) rows: f64,
    /// What the rows are cut to where the keys of so many joins are complete.
    pub(super) cut: Option<KeyedCut>,
    /// Keys that come before the statement is made.
    pub(super) bound: Option<Bound>,
    /// Which operators above stay local, and why.
    pub(super) notes: Vec<String>,
    /// How it is divided where the session reads in several parts.
    pub(super) division: Option<Division>,
    pub(super) needed: Needed,
}

/// How often a query needs a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    Once,
    /// Several times, and perhaps other columns of it: all of them are asked for, so that the statements are equal.
    Again,
}

/// How a query is divided, and into how many parts.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    division: Division,
    count: usize,
}

/// Keys that come before a statement is made.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) keys: Arc<BoundKeys>,
    /// Stands for them in a plan that is only shown.
    pub(super) sample: ScalarValue,
}

impl RemoteQuery {
    /// The same, cut to the first rows of an order where the keys of so many joins are complete; `None` where the source can't sort so.
    pub(crate) fn cut_when_keyed(&self, cut: KeyedCut) -> Option<Self> {
        let capabilities = self.service.source().capabilities();
        capabilities.sorts(&cut.first.keys, self.relation.columns()).ok()?;
        Some(Self { cut: Some(cut), ..self.clone() })
    }
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
        let mut cut = self.cut.clone();
        if let Some(projection) = projection.filter(|_| self.needed == Needed::Once) {
            relation = relation.project(projection.iter().map(|index| Expr::Column(*index)).collect());
            schema = Arc::new(schema.project(projection)?);
            cut = cut.and_then(|cut| cut.projected(projection));
        }
        let known = |table: &TableName| (Arc::clone(&table.definition), Arc::clone(&table.statistics));
        let statistics = self.tables.iter().map(known).collect();
        let batch_rows = state.config().batch_size();
        let asked = Asked::Query(QueryRequest { relation, schema, batch_rows, statistics });
        let shown = match &self.bound {
            Some(bound) => asked.with_keys(&|_, column| Expr::Column(column).one_of(vec![bound.sample.clone()])),
            None => asked.clone(),
        };
        let count = state.config().target_partitions();
        let parts = self.division.clone().filter(|_| count > 1).map(|division| Parts { division, count });
        let prepared = shown.prepare_parts(self.service.source().as_ref(), parts.as_ref()).await;
        let planned = Planned {
            service: Arc::clone(&self.service),
            tables: self.tables.clone(),
            asked,
            scan: prepared.map_err(|error| failed(&self.tables, error))?,
            pushes: crate::Pushdown::On,
            rows: self.rows,
            cut,
            bound: self.bound.as_ref().map(|bound| Arc::clone(&bound.keys)),
            parts,
        };
        let scan = Arc::new(RemoteScanExec::new(planned, self.notes.clone()));
        match projection.filter(|_| self.needed == Needed::Again) {
            Some(projection) => chosen(scan, projection),
            None => Ok(scan),
        }
    }
}

/// Some of the columns of a plan.
fn chosen(plan: Arc<dyn ExecutionPlan>, projection: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let column = |index: &usize| {
        let name = schema.field(*index).name();
        (Arc::new(PhysicalColumn::new(name, *index)) as Arc<dyn PhysicalExpr>, name.clone())
    };
    let columns: Vec<(Arc<dyn PhysicalExpr>, String)> = projection.iter().map(column).collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
