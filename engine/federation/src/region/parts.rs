//! Large queries of a source that works on one statement with one core: asked in parts, at the same time.
//!
//! The rows of the largest table are divided into ranges of the first column of its key. The outermost ranges are open, so that rows beyond what
//! the statistics have seen are read too. A part is the query over one range; see [`Relation::part`] for when the parts make the whole.
//! All parts read one state of the source: where it can't hold one, the first part asks for everything and the others for nothing.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use headwater_source::{
    BatchStream, CompareOp, Expr, Groups, Locality, Node, Parallel, ReadContext, Relation, RemoteStatement, Result,
    Scan, TableDef,
};

use super::estimate::estimate;
use super::grown::{Region, TableName};
use super::selectivity::number;
use crate::RemoteTable;

/// How many rows the largest table must have for a query's parts to pay.
const ROWS_MIN: f64 = 300_000.0;

/// How many rows a table in this process must have for the parts of a scan to pay.
const ROWS_MIN_IN_PROCESS: f64 = 50_000.0;

/// The share of a table that an index may be expected to leave and the source still read all of it.
const INDEXED_SHARE_MIN: f64 = 0.15;

/// The share of the largest table that is looked up, one row for another of the joins' other sides, and is still worth parts.
const LOOKED_UP_SHARE_MIN: f64 = 0.01;

/// How many groups a source with several processes makes with one: each process would make all of them, and hand them on one by one.
const GROUPS_MANY: f64 = 50_000.0;

/// How many rows a group must have for those of two parts to be worth sending.
const ROWS_PER_GROUP_MIN: f64 = 4.0;

/// Along which column a query is divided.
#[derive(Debug, Clone)]
pub(crate) struct Division {
    table: Arc<TableDef>,
    column: usize,
    /// The column's least and greatest value, as the source's statistics have them.
    range: (i64, i64),
    groups: Groups,
}

/// How a query of the region's tables is best divided; `None` where it is asked whole. The region itself, or `relation` over it, of which so many rows
/// are expected.
pub(super) fn division(region: &Region, relation: &Relation, groups: Groups, expected: f64) -> Option<Division> {
    let Region { service, tables, .. } = region;
    let parallel = service.source().capabilities().parallel();
    let is_quick = || groups == Groups::Merged && is_along_index(relation, tables) || is_at_ends(relation, tables);
    if parallel == Parallel::ByItself || is_quick() {
        return None;
    }
    let rows = |table: &TableName| table.statistics.rows.map_or(0.0, |rows| rows as f64);
    let largest = tables.iter().max_by(|a, b| rows(a).total_cmp(&rows(b))).filter(|table| rows(table) >= ROWS_MIN)?;
    let key = largest.definition.key.as_ref()?.first()?;
    let column = largest.definition.column_index(key)?;
    if parallel == Parallel::ByGroups
        && !groups_by(relation, &largest.definition, column)
        && !(groups == Groups::Merged && makes_many_groups(relation, rows(largest), expected))
    {
        return None;
    }
    let integer = matches!(largest.definition.columns[column].data_type, DataType::Int32 | DataType::Int64);
    let known = largest.statistics.columns.get(column)?;
    let range = (known.min.as_ref().and_then(whole)?, known.max.as_ref().and_then(whole)?);
    if !integer || range.0 >= range.1 || indexed_share(relation, largest) < INDEXED_SHARE_MIN {
        return None;
    }
    let begins_with_few = tables.iter().any(|table| indexed_share(relation, table) < INDEXED_SHARE_MIN);
    if begins_with_few && share_looked_up(&region.plan, largest) < LOOKED_UP_SHARE_MIN {
        return None;
    }
    let division = Division { table: Arc::clone(&largest.definition), column, range, groups };
    division.parts(relation, 2).map(|_| division)
}

impl Division {
    /// The query in so many parts; `None` where it can't be divided.
    pub(crate) fn parts(&self, relation: &Relation, count: usize) -> Option<Vec<Relation>> {
        let data_type = &self.table.columns[self.column].data_type;
        let (first, last) = (i128::from(self.range.0), i128::from(self.range.1));
        let bound = |part: usize| {
            let at = first + (last - first) * part as i128 / count as i128;
            let at = ScalarValue::Int64(Some(i64::try_from(at).ok()?));
            at.cast_to(data_type).ok()
        };
        let compare = |op, value| Expr::compare(op, Expr::Column(self.column), Expr::Literal(value));
        let filter = |part: usize| {
            let from = if part == 0 { None } else { Some(compare(CompareOp::GreaterOrEqual, bound(part)?)) };
            let until = if part + 1 == count { None } else { Some(compare(CompareOp::Less, bound(part + 1)?)) };
            Some(from.into_iter().chain(until).collect::<Vec<Expr>>())
        };
        (0..count)
            .map(|part| {
                let filters = filter(part)?;
                let filter = if filters.len() == 1 { filters.into_iter().next()? } else { Expr::And(filters) };
                relation.part(&self.table, &filter, self.column, self.groups)
            })
            .collect()
    }
}

/// Whether the query is groups that lie in an index as they are grouped, of which nothing else is read: the source goes along the index once, and through the table not at all.
pub(super) fn is_along_index(relation: &Relation, tables: &[TableName]) -> bool {
    let (aggregate, keys) = match relation.node() {
        Node::Project { input, .. } => return is_along_index(input, tables),
        Node::Aggregate { input, keys, .. } => (input, keys),
        _ => return false,
    };
    let [(table, read)] = &relation.used_columns()[..] else { return false };
    if keys.is_empty() {
        return false;
    }
    let known = tables.iter().find(|known| Arc::ptr_eq(&known.definition, table));
    let key = |key: &Expr| match key {
        Expr::Column(index) => aggregate.origin(*index).map(|(_, column)| column),
        _ => None,
    };
    let Some(keys) = keys.iter().map(key).collect::<Option<Vec<usize>>>() else { return false };
    known.is_some_and(|known| {
        let serves = |index: &[usize]| {
            let begins = index.len() >= keys.len() && index[..keys.len()].iter().all(|column| keys.contains(column));
            begins && read.iter().all(|column| index.contains(column))
        };
        known.statistics.indexes.iter().any(|index| serves(&index.columns))
    })
}

/// Whether the query is least and greatest values alone, each at an end of an index: the source reads no rows for them. Texts are compared as bytes, in whose order an index may not be.
fn is_at_ends(relation: &Relation, tables: &[TableName]) -> bool {
    let Some((table, columns)) = relation.extremes() else { return false };
    let known = tables.iter().find(|known| Arc::ptr_eq(&known.definition, table));
    let leads =
        |known: &TableName, column| known.statistics.indexes.iter().any(|of| of.columns.first() == Some(column));
    let is_text = |column: &usize| matches!(table.columns[*column].data_type, DataType::Utf8 | DataType::Binary);
    known.is_some_and(|known| columns.iter().all(|column| leads(known, column) && !is_text(column)))
}

/// Whether rows lie as they are grouped: in an index, or by the leading column of their table's key.
pub(super) fn lies_in_groups(relation: &Relation, tables: &[TableName]) -> bool {
    let by_key = |table: &TableName| {
        let leading = table.definition.key.as_ref().and_then(|key| table.definition.column_index(key.first()?));
        leading.is_some_and(|column| groups_by(relation, &table.definition, column))
    };
    is_along_index(relation, tables) || tables.iter().any(by_key)
}

/// Whether the query is groups of a table's column.
fn groups_by(relation: &Relation, table: &Arc<TableDef>, column: usize) -> bool {
    match relation.node() {
        Node::Filter { input, .. } | Node::Project { input, .. } => groups_by(input, table, column),
        Node::Aggregate { input, keys, .. } => keys.iter().any(|key| {
            let Expr::Column(index) = key else { return false };
            input.origin(*index).is_some_and(|(of, origin)| Arc::ptr_eq(of, table) && origin == column)
        }),
        _ => false,
    }
}

/// Whether the query is many groups of many rows.
fn makes_many_groups(relation: &Relation, rows: f64, groups: f64) -> bool {
    match relation.node() {
        Node::Filter { input, .. } | Node::Project { input, .. } => makes_many_groups(input, rows, groups),
        Node::Aggregate { .. } => groups >= GROUPS_MANY && groups * ROWS_PER_GROUP_MIN <= rows,
        _ => false,
    }
}

fn whole(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

/// The share of a table's rows that the plan's joins are expected to look up, if they begin with the others: what is joined, before it is
/// grouped or cut, and what conditions on the table's own rows keep out of that.
fn share_looked_up(plan: &LogicalPlan, table: &TableName) -> f64 {
    let joined = match plan {
        LogicalPlan::Filter(filter) if !matches!(&*filter.input, LogicalPlan::Aggregate(_)) => estimate(plan).rows,
        LogicalPlan::Join(_) => estimate(plan).rows,
        other => match other.inputs().as_slice() {
            [input] => return share_looked_up(input, table),
            _ => estimate(plan).rows,
        },
    };
    joined / rows_kept(plan, table).unwrap_or(1.0).max(1.0)
}

/// How many of the table's rows the conditions right above its scan are expected to keep.
fn rows_kept(plan: &LogicalPlan, table: &TableName) -> Option<f64> {
    let is_scan = |plan: &LogicalPlan| {
        let LogicalPlan::TableScan(scan) = plan else { return false };
        let provider = source_as_provider(&scan.source).ok();
        let remote = provider.as_ref().and_then(|provider| provider.downcast_ref::<RemoteTable>());
        remote.is_some_and(|remote| Arc::ptr_eq(remote.definition(), &table.definition))
    };
    match plan {
        LogicalPlan::Filter(filter) if is_scan(&filter.input) => Some(estimate(plan).rows),
        scan if is_scan(scan) => Some(estimate(scan).rows),
        other => other.inputs().into_iter().find_map(|input| rows_kept(input, table)),
    }
}

/// Whether a scan with these filters makes the source read much of a large table, whatever it sends of that.
pub(crate) fn reads_much(filters: &[Expr], table: &TableName) -> bool {
    let rows_min = match table.service.source().capabilities().locality() {
        Locality::Server => ROWS_MIN,
        // A part takes no round trip.
        Locality::InProcess => ROWS_MIN_IN_PROCESS,
    };
    let share = filters.iter().map(|filter| filter_share(filter, table)).fold(1.0, f64::min);
    table.statistics.rows.is_some_and(|rows| rows as f64 >= rows_min) && share >= INDEXED_SHARE_MIN
}

/// The share of the table's rows that its best index is expected to leave.
fn indexed_share(relation: &Relation, table: &TableName) -> f64 {
    let mut least: f64 = 1.0;
    visit_filters(relation, &table.definition, &mut |filter| {
        least = least.min(filter_share(filter, table));
    });
    least
}

/// Every filter that stands right above the table.
fn visit_filters(relation: &Relation, table: &Arc<TableDef>, visit: &mut impl FnMut(&Expr)) {
    if let Node::Filter { input, filters } = relation.node()
        && let Node::Table(own) = input.node()
        && Arc::ptr_eq(own, table)
    {
        filters.iter().for_each(&mut *visit);
    }
    relation.inputs().into_iter().for_each(|input| visit_filters(input, table, visit));
}

fn filter_share(filter: &Expr, table: &TableName) -> f64 {
    let leads = |index: usize| table.statistics.indexes.iter().any(|of| of.columns.first() == Some(&index));
    let known = |index: usize| table.statistics.columns.get(index).cloned().unwrap_or_default();
    match filter {
        Expr::And(parts) => parts.iter().map(|part| filter_share(part, table)).fold(1.0, f64::min),
        Expr::InList { expr, negated: false, .. } => match **expr {
            Expr::Column(index) if leads(index) => 0.0,
            _ => 1.0,
        },
        Expr::Compare { op, left, right } => match (&**left, &**right) {
            (Expr::Column(index), Expr::Literal(value)) if leads(*index) => {
                let known = known(*index);
                let range = known.min.as_ref().and_then(number).zip(known.max.as_ref().and_then(number));
                match (op, range.zip(number(value))) {
                    (CompareOp::Equal, _) => 0.0,
                    (CompareOp::NotEqual, _) => 1.0,
                    (CompareOp::Less | CompareOp::LessOrEqual, Some(((min, max), value))) => {
                        ((value - min) / (max - min).max(1.0)).clamp(0.0, 1.0)
                    }
                    (_, Some(((min, max), value))) => ((max - value) / (max - min).max(1.0)).clamp(0.0, 1.0),
                    (_, None) => 1.0,
                }
            }
            _ => 1.0,
        },
        _ => 1.0,
    }
}

/// Several statements that make one answer.
pub(crate) struct Parted {
    whole: Arc<dyn Scan>,
    parts: Vec<Arc<dyn Scan>>,
}

impl Parted {
    /// The parts of a query, and the query itself for where they could not read one state.
    pub(crate) fn new(whole: Arc<dyn Scan>, parts: Vec<Arc<dyn Scan>>) -> Self {
        Self { whole, parts }
    }
}

impl fmt::Debug for Parted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.parts).finish()
    }
}

#[async_trait]
impl Scan for Parted {
    fn statement(&self) -> &RemoteStatement {
        self.parts.first().unwrap_or(&self.whole).statement()
    }

    fn partitions(&self) -> usize {
        self.parts.len().max(1)
    }

    fn is_timeless(&self) -> bool {
        self.whole.is_timeless() && self.parts.iter().all(|part| part.is_timeless())
    }

    fn asks(&self, partition: usize, context: &ReadContext) -> bool {
        partition == 0 || context.snapshot.is_some()
    }

    async fn open(&self, partition: usize) -> Result<BatchStream> {
        self.open_for(partition, &ReadContext::default()).await
    }

    /// Without a common state the first part is the whole.
    async fn open_for(&self, partition: usize, context: &ReadContext) -> Result<BatchStream> {
        match (self.parts.get(partition).filter(|_| context.snapshot.is_some()), partition) {
            (Some(part), _) => part.open_for(0, context).await,
            (None, 0) => self.whole.open_for(0, context).await,
            (None, _) => Ok(Box::pin(futures::stream::empty())),
        }
    }
}
