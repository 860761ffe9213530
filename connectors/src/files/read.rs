//! Reads one file, or a range of one, as the rows and columns that a request asks for.
//!
//! Parquet and Arrow IPC are read by DataFusion's own scans, CSV and JSON by [`text`]. The request's filters are always
//! applied to the rows; what Parquet skips by its statistics is an optimization on top.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetAccessPlan};
use datafusion::datasource::physical_plan::{ArrowSource, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::Operator;
use datafusion::parquet::file::metadata::PageIndexPolicy;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use headwater_source::{ColumnDef, Expr, ScanRequest, Threshold};
use object_store::ObjectStore;

use super::adapt::{Adapter, Origin};
use super::config::CsvDialect;
use super::discover::Format;
use super::error::Failure;
use super::infer::{self, Framing};
use super::left::{self, Left, reads_only};
use super::pinned::Pinned;
use super::table::Table;
use super::text::{self, Decode};
use super::translate::{Translator, conjuncts};

/// A file or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// The index of the file in the table's listing.
    pub(super) file: usize,
    /// The bytes to read; `None` for all.
    pub(super) range: Option<Range<u64>>,
    /// Of Parquet the rows to read; `None` for all of the bytes'.
    pub(super) rows: Option<ParquetAccessPlan>,
}

/// What is read of every file of a scan.
#[derive(Debug)]
pub(super) struct Reader {
    /// The store.
    pub(super) store: Arc<dyn ObjectStore>,
    /// The table.
    pub(super) table: Table,
    /// The request.
    pub(super) request: ScanRequest,
    /// How CSV is written.
    pub(super) csv: CsvDialect,
    /// Whether reading a part of a file twice costs no network.
    is_near: bool,
    /// The columns that are read: the projected ones and those that filters need, with the table's types.
    schema: SchemaRef,
    /// The whole filter over `schema`.
    filter: Option<Arc<dyn PhysicalExpr>>,
    /// Where each projected column is in `schema`.
    output: Vec<usize>,
}

pub(super) type Batches = BoxStream<'static, Result<RecordBatch, Failure>>;

impl Reader {
    /// Plans the columns and filters of a request.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        table: Table,
        request: ScanRequest,
        csv: CsvDialect,
        is_near: bool,
    ) -> Result<Self, Failure> {
        let mut needed = request.projection.clone();
        request.filters.iter().for_each(|filter| filter.visit_columns(&mut |index| needed.push(index)));
        needed.sort_unstable();
        needed.dedup();
        let fields: Vec<_> = needed.iter().map(|index| request.table.columns[*index].field()).collect();
        let schema = Arc::new(Schema::new(fields));
        let output = request.projection.iter().filter_map(|index| needed.binary_search(index).ok()).collect();
        let filter = Translator { table: &request.table, schema: &schema }.all(&request.filters)?;
        Ok(Self { store, table, request, csv, is_near, schema, filter, output })
    }

    /// The rows of a piece, in the request's schema, perhaps without such as the threshold does not want any more. Ends with an error unless
    /// the file is still what it was.
    pub(super) async fn read(&self, piece: Piece, threshold: Option<Arc<dyn Threshold>>) -> Result<Batches, Failure> {
        let file = self.table.listing.files[piece.file].clone();
        let pinned = Arc::new(Pinned::new(Arc::clone(&self.store), file.meta));
        let (adapter, columns) = self.adapter(piece.file)?;
        let raw = self.raw(&piece, Arc::clone(&pinned), columns, threshold).await;
        let raw = raw.map_err(|failure| pinned.explain(failure))?;
        let finish = Finish {
            adapter,
            filter: self.filter.clone(),
            output: self.output.clone(),
            schema: self.request.schema(),
            batch_rows: self.request.batch_rows.max(1),
        };
        let explain = Arc::clone(&pinned);
        let raw = raw.map_err(move |failure| explain.explain(failure));
        let rows = raw.map(move |batch| batch.and_then(|batch| finish.apply(&batch)));
        let rows = rows.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten();
        let verified = stream::once(async move { pinned.verify().await.map_err(Failure::from) });
        Ok(rows.chain(verified.filter_map(|result| async { result.err().map(Err) })).boxed())
    }

    /// How a file's columns become the table's, and the indexes of the columns to read.
    fn adapter(&self, file: usize) -> Result<(Adapter, Vec<usize>), Failure> {
        let own = &self.table.shapes[file].schema;
        let partitions = &self.table.listing.files[file].partitions;
        let mut columns = vec![];
        let mut origins = vec![];
        for field in self.schema.fields() {
            let partition = partitions.iter().find(|(key, _)| key == field.name());
            origins.push(match (partition, own.index_of(field.name())) {
                (Some((_, value)), _) => Origin::Partition(value.clone()),
                (None, Ok(index)) => {
                    columns.push(index);
                    Origin::File(columns.len() - 1)
                }
                (None, Err(_)) => Origin::Missing,
            });
        }
        Ok((Adapter { schema: Arc::clone(&self.schema), origins }, columns))
    }

    /// The file's own batches with the columns at the given indexes, in their order.
    async fn raw(
        &self,
        piece: &Piece,
        pinned: Arc<Pinned>,
        columns: Vec<usize>,
        threshold: Option<Arc<dyn Threshold>>,
    ) -> Result<Batches, Failure> {
        let format = self.table.listing.format;
        let schema = self.table.read_schema(piece.file);
        match format {
            Format::Parquet => match threshold {
                Some(threshold) => {
                    let usable = self.usable(piece.file, &schema);
                    let left = Left::new(threshold, &self.request.table, &schema, usable);
                    self.left(piece, pinned, &columns, left).await
                }
                None => self.scan(piece, pinned, &columns, Arc::new(self.parquet(piece.file, &schema, None)?)),
            },
            Format::Arrow => {
                let source = match infer::framing(&pinned, &self.table.listing.files[piece.file].meta).await? {
                    Framing::File => ArrowSource::new_file_source(schema),
                    Framing::Stream => ArrowSource::new_stream_file_source(schema),
                };
                self.scan(piece, pinned, &columns, Arc::new(source))
            }
            Format::Csv => self.text(piece, pinned, schema, columns).await,
            Format::Json => {
                let projected = Arc::new(schema.project(&columns)?);
                let all = (0..columns.len()).collect();
                self.text(piece, pinned, projected, all).await
            }
        }
    }

    /// A file of which less and less is wanted: its first rows before the others, so that they tell what is wanted of those.
    async fn left(
        &self,
        piece: &Piece,
        pinned: Arc<Pinned>,
        columns: &[usize],
        left: Left,
    ) -> Result<Batches, Failure> {
        let meta = &self.table.listing.files[piece.file].meta;
        // All parts share the footer. Of this version of the file: the cache lives no longer than the read.
        let cache = RuntimeEnv::default().cache_manager.get_file_metadata_cache();
        let index = PageIndexPolicy::Optional;
        let (_, footer) = infer::footer(&pinned, meta, index, Some(Arc::clone(&cache))).await?;
        let factory = CachedParquetFileReaderFactory::new(Arc::clone(&pinned) as _, cache);
        let source = self.parquet(piece.file, &self.table.read_schema(piece.file), Some(&left))?;
        let source = Arc::new(source.with_parquet_file_reader_factory(Arc::new(factory)));
        let mut parts = Vec::new();
        for rows in left::parts(&footer, piece.range.as_ref(), self.is_near) {
            let part = Piece { rows: Some(rows), ..piece.clone() };
            parts.push(self.scan(&part, Arc::clone(&pinned), columns, Arc::clone(&source) as _)?);
        }
        Ok(left.reading(stream::iter(parts).flatten().boxed()))
    }

    async fn text(
        &self,
        piece: &Piece,
        pinned: Arc<Pinned>,
        schema: SchemaRef,
        projection: Vec<usize>,
    ) -> Result<Batches, Failure> {
        let decode = Decode {
            format: self.table.listing.format,
            csv: &self.csv,
            schema,
            projection,
            batch_rows: self.request.batch_rows.max(1),
        };
        text::batches(pinned, self.table.listing.files[piece.file].clone(), piece.range.clone(), decode).await
    }

    fn parquet(&self, file: usize, schema: &SchemaRef, left: Option<&Left>) -> Result<ParquetSource, Failure> {
        let mut options = TableParquetOptions::default();
        options.global.coerce_int96 = Some("us".to_owned());
        options.global.schema_force_view_types = false;
        // Of rows that are not wanted any more, only the columns that tell so are decoded.
        options.global.pushdown_filters = left.is_some();
        let source = ParquetSource::new(Arc::clone(schema)).with_table_parquet_options(options);
        let skipping = self.skipping(file, schema)?.into_iter();
        let predicate = skipping
            .chain(left.map(Left::predicate))
            .reduce(|all, part| Arc::new(BinaryExpr::new(all, Operator::And, part)) as Arc<dyn PhysicalExpr>);
        Ok(match predicate {
            Some(predicate) => source.with_predicate(predicate),
            None => source,
        })
    }

    /// The columns by which Parquet may skip row groups and pages, and rows before they are the table's.
    ///
    /// Only columns that the file stores as the table reads them, whose NULLs are counted where their ends are told, and no floats: Parquet's statistics leave NaN
    /// out, which the engine orders above all numbers, and do not tell -0.0 from 0.0, as IN does.
    fn usable(&self, file: usize, schema: &SchemaRef) -> Vec<bool> {
        let partitions = &self.table.listing.files[file].partitions;
        let usable = |column: &ColumnDef| {
            let stored = schema.field_with_name(&column.name).ok();
            let partition = partitions.iter().any(|(key, _)| *key == column.name);
            let float = matches!(column.data_type, DataType::Float32 | DataType::Float64);
            let is_stored = |field: &Field| *field.data_type() == column.data_type;
            let counts_nulls = |index: usize| self.table.shapes[file].nulls_counted.get(index) == Some(&true);
            let index = schema.index_of(&column.name).ok();
            !partition && !float && stored.is_some_and(is_stored) && index.is_some_and(counts_nulls)
        };
        self.request.table.columns.iter().map(usable).collect()
    }

    /// Whether rows can be left out of some file by this column of the request's table.
    pub(super) fn leaves_out_by(&self, column: usize) -> bool {
        self.table.listing.format == Format::Parquet
            && (0..self.table.shapes.len()).any(|file| self.usable(file, &self.table.read_schema(file))[column])
    }

    /// The part of the filter by which Parquet may skip row groups and pages.
    fn skipping(&self, file: usize, schema: &SchemaRef) -> Result<Option<Arc<dyn PhysicalExpr>>, Failure> {
        let usable = self.usable(file, schema);
        let parts: Vec<&Expr> =
            conjuncts(&self.request.filters).into_iter().filter(|part| reads_only(part, &usable)).collect();
        Ok(Translator { table: &self.request.table, schema }.all(parts)?)
    }

    /// Runs DataFusion's scan of one file.
    fn scan(
        &self,
        piece: &Piece,
        pinned: Arc<Pinned>,
        columns: &[usize],
        source: Arc<dyn FileSource>,
    ) -> Result<Batches, Failure> {
        let url = ObjectStoreUrl::parse("files://source")?;
        let runtime = RuntimeEnv::default();
        runtime.register_object_store(url.as_ref(), pinned);
        let mut file = PartitionedFile::new_from_meta(self.table.listing.files[piece.file].meta.clone());
        if let Some(rows) = &piece.rows {
            file = file.with_extension(rows.clone());
        } else if let Some(range) = &piece.range {
            // Sizes of files fit i64.
            file = file.with_range(range.start.cast_signed(), range.end.cast_signed());
        }
        let limit = self.request.limit.filter(|_| self.filter.is_none()).and_then(|limit| usize::try_from(limit).ok());
        let batch_rows = self.request.batch_rows.max(1);
        let config = FileScanConfigBuilder::new(url, source)
            .with_file(file)
            .with_limit(limit)
            .with_batch_size(Some(batch_rows))
            .with_projection_indices(Some(columns.to_vec()))?
            .build();
        let context = TaskContext::default()
            .with_session_config(SessionConfig::new().with_batch_size(batch_rows))
            .with_runtime(Arc::new(runtime));
        let stream = DataSourceExec::from_data_source(config).execute(0, Arc::new(context))?;
        Ok(stream.map_err(Failure::from).boxed())
    }
}

/// What happens to each batch of a file.
struct Finish {
    adapter: Adapter,
    filter: Option<Arc<dyn PhysicalExpr>>,
    output: Vec<usize>,
    schema: SchemaRef,
    batch_rows: usize,
}

impl Finish {
    /// The rows that pass, projected, in batches that are not too long.
    fn apply(&self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, Failure> {
        let mut batch = self.adapter.adapt(batch)?;
        if let Some(filter) = &self.filter {
            let passed = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
            batch = filter_record_batch(&batch, passed.as_boolean())?;
        }
        let columns = self.output.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let starts = (0..batch.num_rows()).step_by(self.batch_rows);
        Ok(starts.map(|start| batch.slice(start, self.batch_rows.min(batch.num_rows() - start))).collect())
    }
}
