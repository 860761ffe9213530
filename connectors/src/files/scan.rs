//! A prepared request: which files, in which parts, and their rows as one stream per part.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use headwater_source::{
    BatchStream, Bind, Error, Expr, ReadContext, RemoteStatement, Result, ScalarValue, Scan, ScanRequest, Threshold,
};
use object_store::ObjectStore;
use tokio::time::Instant;

use super::config::Config;
use super::discover::Format;
use super::error::{Failure, Site};
use super::read::{Piece, Reader};
use super::store::Place;
use super::table::Table;
use super::translate::{Translator, conjuncts};

/// The least bytes that are worth a partition of their own.
const PARTITION_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// The most partitions of a scan.
const PARTITIONS_MAX: usize = 16;

/// A request that is ready to be read.
#[derive(Debug)]
pub(super) struct FilesScan {
    reader: Arc<Reader>,
    site: Site,
    statement: RemoteStatement,
    partitions: Vec<Vec<Piece>>,
    timeout: Option<Duration>,
}

impl FilesScan {
    /// Plans a request over a table as its files are now.
    pub(super) fn plan(
        config: &Config,
        store: Arc<dyn ObjectStore>,
        site: Site,
        table: Table,
        request: ScanRequest,
    ) -> Result<Self, Failure> {
        if !request.sort.is_empty() {
            let reason = "files are not sorted by this connector".to_owned();
            return Err(Error::Unsupported { service: config.service.clone(), reason }.into());
        }
        let files = remaining(&table, &request)?;
        let most = match request.limit {
            Some(_) => 1,
            None => std::thread::available_parallelism().map_or(1, usize::from).min(PARTITIONS_MAX),
        };
        let partitions = split(config, &table, &files, most);
        let statement = describe(&table, &request, &files, partitions.len());
        let is_near = matches!(config.place, Place::Local(_));
        let reader = Arc::new(Reader::new(store, table, request, config.csv.clone(), is_near)?);
        Ok(Self { reader, site, statement, partitions, timeout: config.statement_timeout })
    }
}

#[async_trait]
impl Scan for FilesScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn heeds_threshold_of(&self, column: usize) -> bool {
        self.reader.leaves_out_by(column)
    }

    async fn open(&self, partition: usize) -> Result<BatchStream> {
        self.open_for(partition, &ReadContext::default()).await
    }

    async fn open_for(&self, partition: usize, context: &ReadContext) -> Result<BatchStream> {
        let Some(pieces) = self.partitions.get(partition).cloned() else {
            let reason = format!("there is no partition {partition}");
            return Err(Error::Unsupported { service: self.site.service.clone(), reason });
        };
        let (reader, site, threshold) = (Arc::clone(&self.reader), self.site.clone(), context.threshold.clone());
        let rows = stream::iter(pieces)
            .then(move |piece| read(Arc::clone(&reader), site.clone(), piece, threshold.clone()))
            .try_flatten();
        let rows = limited(rows.boxed(), self.reader.request.limit);
        Ok(match self.timeout {
            Some(limit) => timed(rows, limit, self.site.clone()),
            None => rows,
        })
    }
}

/// The rows of a piece, with errors that name the file.
async fn read(
    reader: Arc<Reader>,
    site: Site,
    piece: Piece,
    threshold: Option<Arc<dyn Threshold>>,
) -> Result<BatchStream> {
    let name = reader.table.listing.files[piece.file].name.clone();
    match reader.read(piece, threshold).await {
        Ok(rows) => Ok(rows.map_err(move |failure| site.file(&name, failure)).boxed()),
        Err(failure) => Err(site.file(&name, failure)),
    }
}

/// Stops reading once there are enough rows.
fn limited(rows: BatchStream, limit: Option<u64>) -> BatchStream {
    let Some(limit) = limit else { return rows };
    let limited = stream::try_unfold((rows, limit), |(mut rows, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = rows.try_next().await? else { return Ok(None) };
        let wanted = usize::try_from(left).map_or(batch.num_rows(), |left| left.min(batch.num_rows()));
        Ok(Some((batch.slice(0, wanted), (rows, left - wanted as u64))))
    });
    limited.boxed()
}

fn timed(rows: BatchStream, limit: Duration, site: Site) -> BatchStream {
    let deadline = Instant::now() + limit;
    let timed = stream::try_unfold((rows, site), move |(mut rows, site)| async move {
        match tokio::time::timeout_at(deadline, rows.try_next()).await {
            Ok(batch) => Ok(batch?.map(|batch| (batch, (rows, site)))),
            Err(_) => Err(Error::Timeout {
                service: site.service,
                what: "the statement",
                limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                option: "statement_timeout_ms",
            }),
        }
    });
    timed.boxed()
}

/// The files whose partitions pass the filters, before any is opened.
fn remaining(table: &Table, request: &ScanRequest) -> Result<Vec<usize>, Failure> {
    let count = table.listing.files.len();
    let is_partition = |index: usize| table.partitions.contains(&request.table.columns[index].name);
    let parts: Vec<&Expr> = conjuncts(&request.filters)
        .into_iter()
        .filter(|part| {
            let (mut any, mut all) = (false, true);
            part.visit_columns(&mut |index| {
                any = true;
                all &= is_partition(index);
            });
            any && all
        })
        .collect();
    if parts.is_empty() {
        return Ok((0..count).collect());
    }
    let names = table.partitions.iter().map(|name| Field::new(name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(names.collect::<Vec<_>>()));
    let columns = (0..table.partitions.len()).map(|key| -> ArrayRef {
        Arc::new(StringArray::from_iter(table.listing.files.iter().map(|file| file.partitions[key].1.as_deref())))
    });
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns.collect(), &options)?;
    let Some(filter) = (Translator { table: &request.table, schema: &schema }).all(parts)? else {
        return Ok((0..count).collect());
    };
    let passed = filter.evaluate(&batch)?.into_array(count)?;
    Ok(passed
        .as_boolean()
        .iter()
        .enumerate()
        .filter(|(_, passed)| *passed == Some(true))
        .map(|(index, _)| index)
        .collect())
}

/// Deals the files out to at most so many partitions of about one size. There is always one, perhaps without files.
fn split(config: &Config, table: &Table, files: &[usize], most: usize) -> Vec<Vec<Piece>> {
    let total: u64 = files.iter().map(|file| table.listing.files[*file].meta.size).sum();
    let share = total.div_ceil(most as u64).max(PARTITION_BYTES_MIN);
    let mut partitions = vec![vec![]];
    let mut room = share;
    for file in files {
        let listed = &table.listing.files[*file];
        let splittable = match table.listing.format {
            Format::Parquet => true,
            Format::Json => !listed.compression.is_compressed(),
            Format::Csv => !listed.compression.is_compressed() && !config.csv.newlines_in_values,
            Format::Arrow => false,
        };
        for range in ranges(listed.meta.size, room, share, splittable) {
            let bytes = range.end - range.start;
            if room == 0 {
                partitions.push(vec![]);
                room = share;
            }
            let whole = bytes == listed.meta.size;
            let piece = Piece { file: *file, range: (!whole).then_some(range), rows: None };
            if let Some(partition) = partitions.last_mut() {
                partition.push(piece);
            }
            room = room.saturating_sub(bytes);
        }
    }
    partitions
}

/// Cuts a file so that its first part fills the room that is left and each other one a share.
fn ranges(size: u64, room: u64, share: u64, splittable: bool) -> Vec<Range<u64>> {
    if !splittable || size == 0 {
        return vec![Range { start: 0, end: size }];
    }
    let mut ranges = vec![];
    let mut start = 0;
    let mut wanted = if room == 0 { share } else { room };
    while start < size {
        let end = size.min(start + wanted);
        ranges.push(start..end);
        start = end;
        wanted = share;
    }
    ranges
}

/// The statement for EXPLAIN. It names columns and files and holds no value.
fn describe(table: &Table, request: &ScanRequest, files: &[usize], partitions: usize) -> RemoteStatement {
    let mut statement = RemoteStatement::default();
    let column = |index: usize| request.table.columns[index].name.as_str();
    let columns: Vec<&str> = request.projection.iter().map(|index| column(*index)).collect();
    let bytes: u64 = files.iter().map(|file| table.listing.files[*file].meta.size).sum();
    let mut text = format!("{} {} columns=[{}]", table.listing.format.word(), table.listing.from, columns.join(", "));
    if !request.filters.is_empty() {
        let filters: Vec<String> =
            request.filters.iter().map(|filter| write_filter(filter, &column, &mut statement.binds)).collect();
        text.push_str(&format!(" filter=[{}]", filters.join(" AND ")));
    }
    if let Some(limit) = request.limit {
        text.push_str(&format!(" limit={limit}"));
    }
    text.push_str(&format!(
        " files={} of {} bytes={bytes} partitions={partitions}",
        files.len(),
        table.listing.files.len()
    ));
    statement.text = text;
    statement
}

fn write_filter<'a>(filter: &Expr, column: &impl Fn(usize) -> &'a str, binds: &mut Vec<Bind>) -> String {
    let mut join = |parts: &[Expr], word: &str| {
        let parts: Vec<String> = parts.iter().map(|part| write_filter(part, column, binds)).collect();
        format!("({})", parts.join(word))
    };
    match filter {
        Expr::And(parts) => join(parts, " AND "),
        Expr::Or(parts) => join(parts, " OR "),
        Expr::Column(index) => column(*index).to_owned(),
        Expr::Literal(value) => bind(value.clone(), binds),
        Expr::Compare { op, left, right } => {
            let left = write_filter(left, column, binds);
            format!("{left} {} {}", op.sql(), write_filter(right, column, binds))
        }
        Expr::Not(inner) => format!("NOT ({})", write_filter(inner, column, binds)),
        Expr::IsNull(inner) => format!("{} IS NULL", write_filter(inner, column, binds)),
        Expr::IsNotNull(inner) => format!("{} IS NOT NULL", write_filter(inner, column, binds)),
        Expr::InList { expr, values, negated } => {
            let tested = write_filter(expr, column, binds);
            let list: Vec<String> = values.iter().map(|value| bind(value.clone(), binds)).collect();
            format!("{tested}{} IN ({})", if *negated { " NOT" } else { "" }, list.join(", "))
        }
        Expr::Like(like) => {
            let tested = write_filter(&like.expr, column, binds);
            let pattern = bind(ScalarValue::Utf8(Some(like.pattern.clone())), binds);
            format!("{tested}{} LIKE {pattern}", if like.negated { " NOT" } else { "" })
        }
        other => other.to_string(),
    }
}

fn bind(value: ScalarValue, binds: &mut Vec<Bind>) -> String {
    let remote_type = value.data_type().to_string();
    binds.push(Bind { value, remote_type });
    format!("${}", binds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_a_file_once_and_fill_the_room_first() {
        assert_eq!(ranges(10, 4, 5, true), [0..4, 4..9, 9..10]);
        assert_eq!(ranges(10, 0, 5, true), [0..5, 5..10]);
        assert_eq!(ranges(10, 4, 5, false), [Range { start: 0, end: 10 }]);
        assert_eq!(ranges(0, 4, 5, true), [Range { start: 0, end: 0 }]);
    }
}
