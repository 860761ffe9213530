//! What operators of one plan hand to each other, for another run of it.
//!
//! The keys and rows that [`KeyedExec`] reads go to operators beneath it through places that they share. Another run of the plan has places of its own.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_plan::ExecutionPlan;

use super::keyed_exec::KeyedExec;
use super::replay::{Replay, ReplayExec};
use crate::RemoteScanExec;
use crate::narrow::BoundKeys;

/// The places of one run, each beside that of the plan that it takes the place of.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    keys: Vec<(Arc<BoundKeys>, Arc<BoundKeys>)>,
    rows: Vec<(Arc<Replay>, Arc<Replay>)>,
}

impl Handed {
    /// The operator as it is before it runs. Its inputs are those of the run already.
    ///
    /// # Errors
    /// What DataFusion's operators say.
    pub(crate) fn afresh(&mut self, node: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(scan) = node.downcast_ref::<RemoteScanExec>() {
            return Ok(Arc::new(scan.afresh(|keys| anew(&mut self.keys, keys))));
        }
        if let Some(keyed) = node.downcast_ref::<KeyedExec>() {
            let keyed = keyed.afresh(|keys| anew(&mut self.keys, keys), |rows| anew(&mut self.rows, rows));
            return Ok(Arc::new(keyed));
        }
        match node.downcast_ref::<ReplayExec>() {
            Some(replay) => Ok(Arc::new(replay.afresh(|rows| anew(&mut self.rows, rows)))),
            None => node.reset_state(),
        }
    }
}

fn anew<T: Default>(places: &mut Vec<(Arc<T>, Arc<T>)>, of: &Arc<T>) -> Arc<T> {
    if let Some((_, ours)) = places.iter().find(|(theirs, _)| Arc::ptr_eq(theirs, of)) {
        return Arc::clone(ours);
    }
    let ours = Arc::<T>::default();
    places.push((Arc::clone(of), Arc::clone(&ours)));
    ours
}
