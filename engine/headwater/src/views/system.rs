//! Tables about views: `headwater.views`, `headwater.freshness`, `headwater.feeds`. Each tells a caller of what they may read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use headwater_source::ServiceName;
use headwater_source::async_trait;
use headwater_views::{Epoch, ViewState};

use super::ask::ViewName;
use super::registry::{Definition, Shared};
use super::table::Pin;
use crate::access::Sight;
use crate::access::guard::{may_know, may_read};

/// The schema in which the tables stand.
pub(crate) const SCHEMA: &str = "headwater";

/// The zone of times.
const UTC: &str = "+00:00";

/// Which table it is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Views,
    Freshness,
    Feeds,
}

/// A table about views. It tells a caller of what they may read, and no more of it than that.
#[derive(Debug, Clone)]
pub(crate) struct SystemTable {
    kind: Kind,
    schema: SchemaRef,
    /// The catalog holds the table, and what the table tells of holds the catalog.
    shared: std::sync::Weak<Shared>,
    sight: Option<Sight>,
}

impl SystemTable {
    /// Its name in the schema.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Views => "views",
            Kind::Freshness => "freshness",
            Kind::Feeds => "feeds",
        }
    }

    /// The same table for somebody who sees so much.
    pub(crate) fn seen_by(&self, sight: Sight) -> Arc<dyn TableProvider> {
        Arc::new(Self { sight: Some(sight), ..self.clone() })
    }
}

impl Shared {
    /// Registers the tables, unless a service has taken their schema's name.
    pub(crate) fn register_system_tables(self: &Arc<Self>) -> crate::Result<()> {
        let schema = ServiceName::parse(SCHEMA)?;
        if self.catalog.service(SCHEMA).is_some() {
            return Ok(());
        }
        for kind in [Kind::Views, Kind::Freshness, Kind::Feeds] {
            let table = SystemTable { kind, schema: columns(kind), shared: Arc::downgrade(self), sight: None };
            self.catalog.register_local(&schema, table.name(), Arc::new(table))?;
        }
        Ok(())
    }

    async fn views_now(self: &Arc<Self>, sight: Option<&Sight>) -> crate::Result<Vec<ArrayRef>> {
        let epoch = self.published.latest();
        let mut rows = Vec::new();
        for (name, definition) in self.definitions.read().iter() {
            if may_read(sight, &definition.shape.table) {
                rows.push((name.clone(), definition.clone()));
            }
        }
        // A view's query, how many rows it has and why it failed tell of its inputs.
        let knows = |name: &ViewName, definition: &Definition| may_know(sight, &definition.shape.table, name);
        let known: Vec<bool> = rows.iter().map(|(name, definition)| knows(name, definition)).collect();
        let views: Vec<_> = rows.iter().map(|(_, definition)| definition.view).collect();
        let statuses =
            self.with_core(move |core| views.iter().map(|view| core.view_status(*view).ok()).collect::<Vec<_>>());
        let statuses = statuses.await?;
        let state = |status: &Option<headwater_views::ViewStatus>| match status.as_ref().map(|status| &status.state) {
            Some(ViewState::Live) => ("live", None),
            Some(ViewState::Failed(reason)) => ("failed", Some(reason.clone())),
            Some(ViewState::Loading) | None => ("loading", None),
        };
        let shown = |definition: &Definition| epoch.view(definition.view);
        Ok(vec![
            text(rows.iter().map(|(name, _)| Some(name.schema.clone()))),
            text(rows.iter().map(|(name, _)| Some(name.name.clone()))),
            text(statuses.iter().map(|status| Some(state(status).0.to_owned()))),
            text(statuses.iter().zip(&known).map(|(status, known)| state(status).1.filter(|_| *known))),
            number(rows.iter().map(|(_, definition)| shown(definition).map(|shown| shown.epoch))),
            text(rows.iter().zip(&known).map(|((_, definition), known)| {
                shown(definition).filter(|_| *known).map(|shown| shown.vector.to_string())
            })),
            number(rows.iter().zip(&known).map(|((_, definition), known)| {
                shown(definition).filter(|_| *known).map(|shown| shown.version.num_rows() as u64)
            })),
            number(
                statuses
                    .iter()
                    .zip(&known)
                    .map(|(status, known)| status.as_ref().filter(|_| *known).map(|status| status.bytes as u64)),
            ),
            text(rows.iter().zip(&known).map(|((_, definition), known)| known.then(|| definition.sql.clone()))),
            text(rows.iter().map(|(_, definition)| definition.file.clone())),
            number(rows.iter().map(|(_, definition)| self.history(definition.view).since())),
            Arc::new(
                rows.iter()
                    .map(|(_, definition)| shown(definition).filter(|_| definition.tells_time).map(|_| epoch.now))
                    .collect::<TimestampNanosecondArray>()
                    .with_timezone(UTC),
            ),
        ])
    }

    fn freshness_now(&self, epoch: &Epoch, sight: Option<&Sight>) -> Vec<ArrayRef> {
        let mut rows = Vec::new();
        for (name, definition) in self.definitions.read().iter() {
            if !may_read(sight, &definition.shape.table) {
                continue;
            }
            let Some(shown) = epoch.view(definition.view) else { continue };
            for (service, position) in shown.vector.iter() {
                // Who may read a view and not its inputs need not know where it comes from.
                if sight.is_some_and(|sight| !sight.rights.monitors() && !sight.sees_schema(service)) {
                    continue;
                }
                let followed = self.followed.read().get(service).cloned();
                let age = self.age(service, position).map(|age| age.as_secs_f64() * 1_000.0);
                let head = followed.as_ref().and_then(|followed| followed.head());
                let class = followed.as_ref().map(|followed| followed.class().to_owned());
                rows.push((name.clone(), service.to_owned(), position.clone(), head, age, class, shown.epoch));
            }
        }
        vec![
            text(rows.iter().map(|row| Some(row.0.schema.clone()))),
            text(rows.iter().map(|row| Some(row.0.name.clone()))),
            text(rows.iter().map(|row| Some(row.1.clone()))),
            text(rows.iter().map(|row| Some(row.2.to_string()))),
            text(rows.iter().map(|row| row.3.as_ref().map(ToString::to_string))),
            Arc::new(rows.iter().map(|row| row.4).collect::<Float64Array>()),
            text(rows.iter().map(|row| row.5.clone())),
            number(rows.iter().map(|row| Some(row.6))),
        ]
    }

    /// The feeds of services that may be read whole: what is told of one is of all its tables.
    async fn feeds_now(self: &Arc<Self>, sight: Option<&Sight>) -> crate::Result<Vec<ArrayRef>> {
        let mut followed: Vec<_> = self.followed.read().values().cloned().collect();
        if let Some(Sight { rights, .. }) = sight {
            followed.retain(|followed| rights.monitors() || rights.reads_service(followed.name()));
        }
        let mut rows = Vec::new();
        for followed in followed {
            let source = followed.source;
            let status = self.with_core(move |core| core.source_status(source)).await?.ok();
            let retained = match &followed.feed {
                // What a source can't tell now is NULL; its error shows in its own column.
                Some(feed) => feed.status().await.ok().and_then(|status| status.retained_bytes),
                None => None,
            };
            rows.push((followed, status, retained));
        }
        let held = |status: &headwater_views::SourceStatus| {
            status.held.as_ref().map(|held| {
                let fault = held.fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default();
                format!("{} waits for {} at {}{fault}", held.position, held.service, held.token)
            })
        };
        Ok(vec![
            text(rows.iter().map(|row| Some(row.0.name().to_owned()))),
            text(rows.iter().map(|row| Some(row.0.mode().to_owned()))),
            text(rows.iter().map(|row| Some(row.0.class().to_owned()))),
            text(rows.iter().map(|row| Some(row.0.stage().0.word().to_owned()))),
            text(rows.iter().map(|row| row.0.stage().1)),
            text(rows.iter().map(|row| row.1.as_ref()?.position.as_ref().map(ToString::to_string))),
            text(rows.iter().map(|row| row.0.head().map(|head| head.to_string()))),
            number(rows.iter().map(|row| row.1.as_ref().map(|status| status.waiting as u64))),
            text(rows.iter().map(|row| row.1.as_ref().and_then(held))),
            number(rows.iter().map(|row| Some(row.0.rows_loaded()))),
            number(rows.iter().map(|row| row.2)),
            Arc::new(
                rows.iter()
                    .map(|row| {
                        Some(row.1.as_ref().is_some_and(|status| status.held.is_some() || status.failed.is_some()))
                    })
                    .collect::<BooleanArray>(),
            ),
            text(rows.iter().map(|row| row.0.last_error())),
            number(rows.iter().map(|row| Some(row.0.snapshots.load(Ordering::Relaxed)))),
        ])
    }
}

fn columns(kind: Kind) -> SchemaRef {
    use DataType::{Boolean, Float64, UInt64, Utf8};
    let fields: &[(&str, DataType)] = match kind {
        Kind::Views => &[
            ("schema", Utf8),
            ("name", Utf8),
            ("state", Utf8),
            ("reason", Utf8),
            ("epoch", UInt64),
            ("vector", Utf8),
            ("rows", UInt64),
            ("bytes", UInt64),
            ("definition", Utf8),
            ("file", Utf8),
            ("oldest_epoch", UInt64),
            ("now", DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))),
        ],
        Kind::Freshness => &[
            ("schema", Utf8),
            ("name", Utf8),
            ("service", Utf8),
            ("position", Utf8),
            ("head", Utf8),
            ("lag_ms_max", Float64),
            ("class", Utf8),
            ("epoch", UInt64),
        ],
        Kind::Feeds => &[
            ("service", Utf8),
            ("mode", Utf8),
            ("class", Utf8),
            ("state", Utf8),
            ("error", Utf8),
            ("position", Utf8),
            ("head", Utf8),
            ("waiting_transactions", UInt64),
            ("held_back", Utf8),
            ("loaded_rows", UInt64),
            ("retained_bytes", UInt64),
            ("stalled", Boolean),
            ("last_error", Utf8),
            ("snapshots", UInt64),
        ],
    };
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

fn text(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn number(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let ended = || DataFusionError::Execution("the engine has ended".to_owned());
        let shared = self.shared.upgrade().ok_or_else(ended)?;
        // Beside views it tells of the epoch at which they are read.
        let pin = session.config().get_extension::<Pin>();
        let epoch = pin.map_or_else(|| shared.published.latest(), |pin| pin.epoch(&shared.published));
        let columns = match self.kind {
            Kind::Views => shared.views_now(self.sight.as_ref()).await,
            Kind::Freshness => Ok(shared.freshness_now(&epoch, self.sight.as_ref())),
            Kind::Feeds => shared.feeds_now(self.sight.as_ref()).await,
        };
        let columns = columns.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], Arc::clone(&self.schema), projection.cloned())?)
    }
}
