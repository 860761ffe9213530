//! When a batch is handed on before it is full.

use std::time::Duration;

/// How long the first row of a batch waits for others where nothing more is there: a source that makes few rows a second is read as they come.
pub(crate) const BATCH_WAIT: Duration = Duration::from_millis(100);
