//! EXPLAIN MATERIALIZED VIEW: the operators of a view, how each is kept, and what it takes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use headwater_views::Mode;

use super::ask::ViewName;
use super::registry::Shared;
use crate::Result;

impl Shared {
    /// A row for each operator, from the root.
    pub(crate) async fn explain(self: &Arc<Self>, name: &ViewName) -> Result<RecordBatch> {
        let view = self.definition(name)?.view;
        let lines = self.with_core(move |core| core.explain(view)).await??;
        let operators = lines.iter().map(|line| format!("{}{}", "  ".repeat(line.depth), line.description.operator));
        let modes = lines.iter().map(|line| match line.description.mode {
            Mode::Incremental => "incremental",
            Mode::RecomputeTouched => "recompute touched",
            Mode::Recompute => "recompute",
        });
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("operator", Arc::new(StringArray::from_iter_values(operators))),
            ("mode", Arc::new(StringArray::from_iter_values(modes))),
            (
                "state_rows",
                Arc::new(lines.iter().map(|line| Some(line.description.rows as u64)).collect::<UInt64Array>()),
            ),
            (
                "state_bytes",
                Arc::new(lines.iter().map(|line| Some(line.description.bytes as u64)).collect::<UInt64Array>()),
            ),
        ];
        Ok(RecordBatch::try_from_iter(columns).map_err(datafusion::error::DataFusionError::from)?)
    }
}
