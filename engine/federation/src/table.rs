//! A service's table as DataFusion sees it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, Statistics, stats::Precision};
use datafusion::logical_expr::{Expr as Logical, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use headwater_source::{Expr, Offer, ScanRequest, SortKey, Support, TableDef, TableKind};

use crate::region::{Asked, TableName};
use crate::scan::{Planned, failed};
use crate::translate::translate;
use crate::{Pushdown, RemoteScanExec, Service};

/// One table of one service, with the pushdown setting of the session that planned it.
#[derive(Debug, Clone)]
pub struct RemoteTable {
    service: Arc<Service>,
    /// The name in SQL, under which the service remembers it.
    name: String,
    definition: Arc<TableDef>,
    schema: SchemaRef,
    pushdown: Pushdown,
    first: Option<First>,
}

/// The first rows of an order, for a top-N that stands above the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) keys: Vec<SortKey>,
    pub(crate) rows: u64,
}

/// What became of one filter, for EXPLAIN.
#[derive(Debug, Clone)]
struct Decision {
    filter: String,
    offer: Offer,
}

impl RemoteTable {
    /// The share of a statement's values that one filter may bind and still replace the local filter. One that binds more is checked
    /// again, so that it may be left out of a statement that would bind too many: an exact filter never may.
    const EXACT_BINDS_SHARE: usize = 256;

    /// A table as last described.
    pub fn new(service: Arc<Service>, name: &str, definition: Arc<TableDef>, pushdown: Pushdown) -> Self {
        let schema = definition.schema();
        Self { service, name: name.to_owned(), definition, schema, pushdown, first: None }
    }

    /// The table at the source.
    pub fn definition(&self) -> &Arc<TableDef> {
        &self.definition
    }

    /// The service that owns the table.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The same table, read only as far as a top-N needs; `None` where the source can't sort so, or it is said already.
    pub(crate) fn cut(&self, keys: Vec<SortKey>, rows: u64) -> Option<Self> {
        let capabilities = self.service.source().capabilities();
        if self.pushdown == Pushdown::Off || capabilities.offer_sort(&keys, &self.definition).is_err() {
            return None;
        }
        let first = Some(First { keys, rows });
        (self.first != first).then(|| Self { first, ..self.clone() })
    }

    /// The index of a column, where it exists.
    pub(crate) fn column_index(&self, name: &str) -> Option<usize> {
        self.definition.column_index(name)
    }

    /// The table's name in SQL.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The column that is the table's key by itself.
    pub(crate) fn single_key(&self) -> Option<&str> {
        match self.definition.key.as_deref() {
            Some([column]) => Some(column),
            _ => None,
        }
    }

    /// Whether anything is pushed.
    pub(crate) fn pushdown(&self) -> Pushdown {
        self.pushdown
    }

    /// What the source makes of a filter.
    pub(crate) fn offer(&self, filter: &Logical) -> Offer {
        if self.pushdown == Pushdown::Off {
            return Offer { filter: None, support: Support::No, reason: "headwater.pushdown is off".to_owned() };
        }
        let capabilities = self.service.source().capabilities();
        let offer = match translate(filter, &self.definition) {
            Ok(filter) => capabilities.offer(&filter, &self.definition),
            Err(reason) => Offer { filter: None, support: Support::No, reason },
        };
        let many = capabilities.max_binds() / Self::EXACT_BINDS_SHARE;
        match &offer.filter {
            Some(filter) if offer.support == Support::Exact && filter.literals() > many => {
                Offer { support: Support::Superset, reason: format!("it has more than {many} values"), ..offer }
            }
            _ => offer,
        }
    }

    /// The filters to send, and the decisions to show. Supersets are left out while there are too many values.
    fn choose(&self, filters: &[Logical]) -> (Vec<Expr>, Vec<Decision>) {
        let mut room = self.service.source().capabilities().max_binds();
        let mut decisions: Vec<Decision> =
            filters.iter().map(|filter| Decision { filter: shape(filter), offer: self.offer(filter) }).collect();
        let (exact, others): (Vec<_>, Vec<_>) =
            decisions.iter_mut().partition(|decision| decision.offer.support == Support::Exact);
        let mut chosen = Vec::new();
        for decision in exact.into_iter().chain(others) {
            let Some(filter) = &decision.offer.filter else { continue };
            let needed = filter.literals();
            if needed > room && decision.offer.support != Support::Exact {
                decision.offer.reason =
                    format!("{}; the statement has no room for its {needed} values", decision.offer.reason);
                continue;
            }
            room = room.saturating_sub(needed);
            chosen.push(filter.clone());
        }
        (chosen, decisions)
    }

    fn request(
        &self,
        projection: Option<&Vec<usize>>,
        filters: Vec<Expr>,
        exact: bool,
        limit: Option<usize>,
    ) -> ScanRequest {
        let mut request = ScanRequest::all(Arc::clone(&self.definition));
        if let Some(projection) = projection {
            request.projection.clone_from(projection);
        }
        request.filters = filters;
        // With a filter left to do locally, a cut at the source would lose rows that the filter keeps.
        if exact && self.pushdown == Pushdown::On {
            request.limit = limit.map(|rows| rows as u64);
            if let Some(first) = &self.first {
                request.limit = Some(request.limit.map_or(first.rows, |rows| rows.max(first.rows)));
                request.sort.clone_from(&first.keys);
            }
        }
        request
    }

    fn estimated_rows(&self, filters: usize, limit: Option<u64>) -> Precision<usize> {
        /// The share of rows that a filter is guessed to keep where nothing is known of it.
        const GUESSED_SELECTIVITY: f64 = 0.2;
        let Some(rows) = self.definition.rows_estimate else { return Precision::Absent };
        let kept = (rows as f64 * GUESSED_SELECTIVITY.powi(filters.min(8) as i32)).ceil() as u64;
        Precision::Inexact(limit.map_or(kept, |limit| kept.min(limit)) as usize)
    }
}

#[async_trait]
impl TableProvider for RemoteTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        match self.definition.kind {
            TableKind::Table => TableType::Base,
            TableKind::View => TableType::View,
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Logical]) -> Result<Vec<TableProviderFilterPushDown>> {
        // A filter that stays local is still handed to `scan`, as inexact, so that EXPLAIN can say why it stays.
        Ok(filters
            .iter()
            .map(|filter| match self.offer(filter).support {
                Support::Exact => TableProviderFilterPushDown::Exact,
                Support::Superset | Support::No => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Logical],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (chosen, decisions) = self.choose(filters);
        let exact = decisions.iter().all(|decision| decision.offer.support == Support::Exact);
        let mut request = self.request(projection, chosen, exact, limit);
        request.batch_rows = state.config().batch_size();
        let rows = self.estimated_rows(request.filters.len(), request.limit);
        let schema = request.schema();
        let tables = vec![TableName { service: Arc::clone(&self.service), name: self.name.clone() }];
        let prepared = self.service.source().prepare(request.clone()).await;
        let scan = prepared.map_err(|error| failed(&tables, error))?;
        let mut statistics = Statistics::new_unknown(&schema);
        statistics.num_rows = rows;
        let notes = decisions.iter().filter_map(Decision::note).collect();
        let planned = Planned {
            service: Arc::clone(&self.service),
            tables,
            asked: Asked::Table(request),
            scan,
            pushes: self.pushdown,
        };
        Ok(Arc::new(RemoteScanExec::new(planned, statistics, notes)))
    }
}

impl Decision {
    /// What EXPLAIN says of a filter that the source does not do whole.
    fn note(&self) -> Option<String> {
        let how = match self.offer.support {
            Support::Exact => return None,
            Support::Superset => "checked again",
            Support::No => "not pushed",
        };
        Some(format!("{} {how}: {}", self.filter, self.offer.reason))
    }
}

/// A filter as EXPLAIN writes it. EXPLAIN shows a user's own statement to that user, as DataFusion's own plan lines do.
fn shape(filter: &Logical) -> String {
    const LONGEST: usize = 120;
    let text = filter.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
