//! DataFusion's optimizer rules, with those that keep it from answering wrong.
//!
//! Each mends a defect of DataFusion itself that has nothing to do with services; its own page says which one and how it shows. A rule goes when DataFusion no longer needs it.

use std::sync::Arc;

use datafusion::optimizer::{Optimizer, OptimizerRule};

use crate::constants::{ConstantsRight, ListsOfConstants};
use crate::correlated::UnambiguousSubqueries;

/// DataFusion's rules, mended.
pub fn mended_optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let mends: [(&str, Arc<dyn OptimizerRule + Send + Sync>); 3] = [
        ("simplify_expressions", Arc::new(ListsOfConstants)),
        ("decorrelate_predicate_subquery", Arc::new(UnambiguousSubqueries)),
        ("push_down_filter", Arc::new(ConstantsRight)),
    ];
    for (before, mend) in mends {
        let place = rules.iter().position(|rule| rule.name() == before).unwrap_or(rules.len());
        rules.insert(place, mend);
    }
    rules
}
