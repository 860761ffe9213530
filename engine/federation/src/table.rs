//! A service's table as DataFusion sees it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr as Logical, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;
use headwater_source::{Expr, Known, Offer, ScanRequest, SortKey, Support, TableDef, TableKind, TableStatistics};
use parking_lot::Mutex;

use crate::narrow::{KeyedCut, Planned};
use crate::region::{Asked, TableName};
use crate::region::{reads_much, rows_of_scan};
use crate::scan::failed;
use crate::translate::translate;
use crate::{Pushdown, RemoteScanExec, Service};

/// One table of one service, with the pushdown setting of the session that planned it.
#[derive(Debug, Clone)]
pub struct RemoteTable {
    service: Arc<Service>,
    /// The name in SQL, under which the service remembers it.
    name: String,
    definition: Arc<TableDef>,
    statistics: Arc<TableStatistics>,
    schema: SchemaRef,
    pushdown: Pushdown,
    first: Option<First>,
    /// What the rows are cut to where the keys of so many joins are complete.
    keyed_cut: Option<KeyedCut>,
    /// Which operators above stay local, and why; for EXPLAIN.
    notes: Vec<String>,
    /// The filters of which DataFusion was told that they stay in its plan.
    kept: Arc<Mutex<HashSet<Logical>>>,
    /// The filters that the plan checks right above the scan, as the scan sees them.
    checked_above: Vec<Logical>,
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

    /// How many rows a scan must be expected to have before it is worth several statements, unless its source reads many for the few.
    const SPLIT_ROWS_MIN: f64 = 200_000.0;

    /// A table as last described.
    pub fn new(
        service: Arc<Service>,
        name: &str,
        definition: Arc<TableDef>,
        statistics: Arc<TableStatistics>,
        pushdown: Pushdown,
    ) -> Self {
        let schema = definition.schema();
        let (name, kept) = (name.to_owned(), Arc::default());
        let (first, keyed_cut, notes, checked_above) = (None, None, vec![], vec![]);
        Self { service, name, definition, statistics, schema, pushdown, first, keyed_cut, notes, kept, checked_above }
    }

    /// What its source says of its rows. Has an entry for each column of the definition.
    pub(crate) fn statistics(&self) -> &Arc<TableStatistics> {
        &self.statistics
    }

    /// The table at the source.
    pub fn definition(&self) -> &Arc<TableDef> {
        &self.definition
    }

    /// Its name in SQL.
    pub fn name(&self) -> &str {
        &self.name
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

    /// The same table, cut to the first rows of an order over its columns where the keys of so many joins are complete; `None` where
    /// the source can't sort so.
    pub(crate) fn cut_when_keyed(&self, cut: KeyedCut) -> Option<Self> {
        let capabilities = self.service.source().capabilities();
        if self.pushdown == Pushdown::Off || capabilities.offer_sort(&cut.first.keys, &self.definition).is_err() {
            return None;
        }
        Some(Self { keyed_cut: Some(cut), ..self.clone() })
    }

    /// Whether it is read as far as its filters say, and no less.
    pub(crate) fn is_uncut(&self) -> bool {
        self.first.is_none() && self.keyed_cut.is_none()
    }

    /// The same table, whose scan says in EXPLAIN which operators above stay local.
    pub(crate) fn with_notes(&self, notes: &[String]) -> Self {
        Self { notes: notes.to_vec(), ..self.clone() }
    }

    /// The same table, whose scan leaves these filters to the plan above it.
    pub(crate) fn with_checked_above(&self, filters: Vec<Logical>) -> Self {
        Self { checked_above: filters, ..self.clone() }
    }

    /// The table by its name in SQL, with what is known of it.
    pub(crate) fn named(&self) -> TableName {
        TableName {
            service: Arc::clone(&self.service),
            name: self.name.clone(),
            definition: Arc::clone(&self.definition),
            statistics: Arc::clone(&self.statistics),
        }
    }

    /// The index of a column, where it exists.
    pub(crate) fn column_index(&self, name: &str) -> Option<usize> {
        self.definition.column_index(name)
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
        // A filter that stays local is still handed to `scan`, as inexact, so that EXPLAIN can say why it stays. One that becomes a join later does not stay.
        let told = |filter: &&Logical| match self.offer(filter).support {
            _ if becomes_join(filter) => TableProviderFilterPushDown::Unsupported,
            Support::Exact => TableProviderFilterPushDown::Exact,
            Support::Superset | Support::No => {
                self.kept.lock().insert((*filter).clone());
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(told).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Logical],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let unkept = self.unkept(filters);
        if !unkept.is_empty() {
            return self.checked_scan(state, projection, filters, &unkept).await;
        }
        self.scan_of(state, projection, filters, limit).await
    }
}

/// Whether a filter asks for rows of a subquery.
fn becomes_join(filter: &Logical) -> bool {
    let asks = |part: &Logical| matches!(part, Logical::InSubquery(_) | Logical::Exists(_) | Logical::SetComparison(_));
    filter.exists(|part| Ok(asks(part))).unwrap_or(false)
}

impl RemoteTable {
    /// The filters that the source does not do whole and that nothing is known to check above. DataFusion simplifies a filter after it has
    /// handed it down, and what was exact before may not be afterwards.
    pub(crate) fn unkept(&self, filters: &[Logical]) -> Vec<Logical> {
        let kept = self.kept.lock();
        let is_kept = |filter: &Logical| kept.contains(filter) || self.checked_above.contains(filter);
        let unkept = |filter: &&Logical| !is_kept(filter) && self.offer(filter).support != Support::Exact;
        filters.iter().filter(unkept).cloned().collect()
    }

    /// The scan with these filters checked above it.
    async fn checked_scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Logical],
        unkept: &[Logical],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = projection.cloned().unwrap_or_else(|| (0..self.definition.columns.len()).collect());
        let mut read = wanted.clone();
        for column in unkept.iter().flat_map(Logical::column_refs) {
            match self.definition.column_index(&column.name) {
                Some(index) if !read.contains(&index) => read.push(index),
                _ => {}
            }
        }
        let uncut = Self { keyed_cut: None, ..self.clone() };
        let scan = uncut.scan_of(state, Some(&read), filters, None).await?;
        let Some(predicate) = conjunction(unnormalize_cols(unkept.iter().cloned())) else { return Ok(scan) };
        let schema = DFSchema::try_from(scan.schema())?;
        let predicate = state.create_physical_expr(predicate, &schema)?;
        let places = (0..wanted.len()).collect();
        Ok(Arc::new(FilterExecBuilder::new(predicate, scan).apply_projection(Some(places))?.build()?))
    }

    async fn scan_of(
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
        let mut rows = rows_of_scan(self, filters);
        request.known = Some(Known { statistics: Arc::clone(&self.statistics), rows });
        if let Some(limit) = request.limit {
            rows = rows.min(limit as f64);
        } else if self.pushdown == Pushdown::On
            && (rows >= Self::SPLIT_ROWS_MIN || reads_much(&request.filters, &self.named()))
        {
            request.partitions_max = state.config().target_partitions();
        }
        let tables = vec![self.named()];
        let prepared = self.service.source().prepare(request.clone()).await;
        let scan = prepared.map_err(|error| failed(&tables, error))?;
        let notes = decisions.iter().filter_map(Decision::note).chain(self.notes.iter().cloned()).collect();
        // With a filter left to do locally, a cut at the source would lose rows that the filter keeps.
        let cut = self.keyed_cut.clone().filter(|_| exact && request.limit.is_none());
        let cut = cut.and_then(|cut| cut.projected(&request.projection));
        let planned = Planned {
            service: Arc::clone(&self.service),
            tables,
            asked: Asked::Table(request),
            scan,
            pushes: self.pushdown,
            rows,
            cut,
            bound: None,
            parts: None,
        };
        Ok(Arc::new(RemoteScanExec::new(planned, notes)))
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
