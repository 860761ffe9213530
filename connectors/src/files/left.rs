//! What is left to be read of a Parquet file, while the query that reads it wants less and less.
//!
//! The threshold's condition becomes a dynamic filter of DataFusion's Parquet scan. Before each batch it is looked at again; what it says counts from the next row group
//! on. The scan drops row groups that hold no such row by their statistics, and tests the rows of the others before it decodes their other columns.
//! Since one row group may be all there is, the first rows are read by themselves.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, lit};
use futures::stream::{self, StreamExt};
use headwater_source::{Expr, TableDef, Threshold};

use super::read::Batches;
use super::translate::Translator;

/// So many rows are read before what is wanted of the others is looked at.
const FIRST_ROWS: usize = 16_384;

/// A threshold over one file.
#[derive(Debug)]
pub(super) struct Left {
    threshold: Arc<dyn Threshold>,
    filter: Arc<DynamicFilterPhysicalExpr>,
    /// The generation of the threshold that the filter has.
    seen: Option<u64>,
    table: Arc<TableDef>,
    /// The file's columns.
    schema: SchemaRef,
    /// Which of the table's columns may be tested in the file.
    usable: Vec<bool>,
}

impl Left {
    pub(super) fn new(
        threshold: Arc<dyn Threshold>,
        table: &Arc<TableDef>,
        schema: &SchemaRef,
        usable: Vec<bool>,
    ) -> Self {
        let columns = threshold.columns().iter().filter(|column| usable[**column]).filter_map(|column| {
            let name = &table.columns[*column].name;
            let index = schema.index_of(name).ok()?;
            Some(Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>)
        });
        let filter = Arc::new(DynamicFilterPhysicalExpr::new(columns.collect(), lit(true)));
        Self { threshold, filter, seen: None, table: Arc::clone(table), schema: Arc::clone(schema), usable }
    }

    /// The filter for the scan of the file.
    pub(super) fn predicate(&self) -> Arc<dyn PhysicalExpr> {
        Arc::clone(&self.filter) as Arc<dyn PhysicalExpr>
    }

    /// The batches of a scan that has the filter, which is up to date whenever one is asked for.
    pub(super) fn reading(self, batches: Batches) -> Batches {
        let rows = stream::unfold((self, batches), |(mut left, mut batches)| async move {
            let batch = match left.refresh() {
                Ok(()) => batches.next().await?,
                Err(error) => Err(error.into()),
            };
            Some((batch, (left, batches)))
        });
        rows.boxed()
    }

    fn refresh(&mut self) -> Result<()> {
        let generation = self.threshold.generation();
        if self.seen == Some(generation) {
            return Ok(());
        }
        self.seen = Some(generation);
        let Some(wanted) = self.threshold.current().and_then(|wanted| weaker(wanted, &self.usable)) else {
            return Ok(());
        };
        match (Translator { table: &self.table, schema: &self.schema }).all([&wanted])? {
            Some(filter) => self.filter.update(filter),
            None => Ok(()),
        }
    }
}

/// In which parts the row groups of a range of a file are read, one after the other: the first rows, the rest of their row group, and the others. What is left
/// out of the others while they are read is whole row groups, which DataFusion does not do where single rows were chosen. Where the file does not tell its pages
/// and is not near, the first row group is not divided: it would be fetched twice.
pub(super) fn parts(footer: &ParquetMetaData, range: Option<&Range<u64>>, is_near: bool) -> Vec<ParquetAccessPlan> {
    let groups = footer.row_groups();
    // As DataFusion tells which row groups lie in a range.
    let starts = |group: &RowGroupMetaData| {
        let first = group.columns().first()?;
        u64::try_from(first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset())).ok()
    };
    let is_read =
        |group: &RowGroupMetaData| range.is_none_or(|range| starts(group).is_some_and(|at| range.contains(&at)));
    let read: Vec<usize> = (0..groups.len()).filter(|index| is_read(&groups[*index])).collect();
    let Some((first, others)) = read.split_first() else { return vec![] };
    let of_group = |index: usize, access: RowGroupAccess| {
        let mut plan = ParquetAccessPlan::new_none(groups.len());
        plan.set(index, access);
        plan
    };
    let rows = usize::try_from(groups[*first].num_rows()).unwrap_or_default();
    let mut rest = ParquetAccessPlan::new_none(groups.len());
    others.iter().for_each(|index| rest.scan(*index));
    if rows <= FIRST_ROWS || !(is_near || footer.offset_index().is_some()) {
        rest.scan(*first);
        return vec![rest];
    }
    let after = rows - FIRST_ROWS;
    let selection = |selectors: [RowSelector; 2]| RowGroupAccess::Selection(RowSelection::from(selectors.to_vec()));
    let mut parts = vec![
        of_group(*first, selection([RowSelector::select(FIRST_ROWS), RowSelector::skip(after)])),
        of_group(*first, selection([RowSelector::skip(FIRST_ROWS), RowSelector::select(after)])),
    ];
    if !others.is_empty() {
        parts.push(rest);
    }
    parts
}

/// Whether an expression reads no other columns.
pub(super) fn reads_only(expr: &Expr, usable: &[bool]) -> bool {
    let mut all = true;
    expr.visit_columns(&mut |index| all &= usable[index]);
    all
}

/// A condition over these columns alone, true wherever the other is; `None` where that would be always.
fn weaker(condition: Expr, usable: &[bool]) -> Option<Expr> {
    match condition {
        Expr::And(parts) => {
            let mut parts: Vec<Expr> = parts.into_iter().filter_map(|part| weaker(part, usable)).collect();
            if parts.len() > 1 { Some(Expr::And(parts)) } else { parts.pop() }
        }
        Expr::Or(parts) => parts.into_iter().map(|part| weaker(part, usable)).collect::<Option<_>>().map(Expr::Or),
        other => reads_only(&other, usable).then_some(other),
    }
}

#[cfg(test)]
mod tests {
    use headwater_source::{CompareOp, ScalarValue};

    use super::*;

    #[test]
    fn condition_without_a_column_is_weaker_and_never_stronger() {
        let test = |op, column| Expr::compare(op, Expr::Column(column), Expr::Literal(ScalarValue::Int64(Some(1))));
        let (less, equal) = (test(CompareOp::Less, 0), test(CompareOp::Equal, 0));
        let second = test(CompareOp::Less, 1);
        let both = Expr::Or(vec![less.clone(), Expr::And(vec![equal.clone(), second])]);
        assert_eq!(weaker(both.clone(), &[true, true]), Some(both.clone()));
        assert_eq!(weaker(both.clone(), &[true, false]), Some(Expr::Or(vec![less, equal])));
        assert_eq!(weaker(both, &[false, true]), None);
    }
}
