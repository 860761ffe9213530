//! GROUP BY with grouping sets, ROLLUP and CUBE: which sets there are, and the number that each has in `__grouping_id`.
//!
//! A row counts once in each set, with NULL for the keys that the set leaves out. DataFusion numbers the sets, which is how `grouping()`
//! tells a key that is NULL from one that is left out; the numbers here are the same.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet};

use crate::Result;

/// More sets than this (a CUBE of more than eight keys) are left to DataFusion.
const SETS_MAX: usize = 256;

/// One set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeySet {
    /// For each key whether the set groups by it.
    pub(super) has: Vec<bool>,
    /// Its number.
    pub(super) id: ScalarValue,
}

/// The keys of an aggregate with grouping sets, and its sets; `None` where it has none, or more than are worth an operator.
pub(super) fn grouping_sets(aggregate: &Aggregate) -> Result<Option<(Vec<Expr>, Vec<KeySet>)>> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(None) };
    let keys: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let shape = aggregate.schema.fields();
    let (Some(id), true) = (shape.get(keys.len()), keys.len() < 32) else { return Ok(None) };
    let written: Vec<Vec<&Expr>> = match sets {
        GroupingSet::Rollup(keys) => (0..=keys.len()).map(|count| keys[..count].iter().collect()).collect(),
        GroupingSet::Cube(keys) if keys.len() < 32 && 1 << keys.len() <= SETS_MAX => {
            let subset = |bits: u32| keys.iter().enumerate().filter(move |(place, _)| bits >> place & 1 == 1);
            (0..1_u32 << keys.len()).map(|bits| subset(bits).map(|(_, key)| key).collect()).collect()
        }
        GroupingSet::GroupingSets(sets) => sets.iter().map(|set| set.iter().collect()).collect(),
        GroupingSet::Cube(_) => return Ok(None),
    };
    if written.len() > SETS_MAX {
        return Ok(None);
    }
    let mut found: Vec<KeySet> = Vec::with_capacity(written.len());
    for set in written {
        let has: Vec<bool> = keys.iter().map(|key| set.contains(&key)).collect();
        let left_out = has.iter().fold(0_u64, |bits, has| bits << 1 | u64::from(!has));
        // A set that is written twice is there twice.
        let again = found.iter().filter(|known| known.has == has).count() as u64;
        let number = ScalarValue::UInt64(Some(left_out | again << keys.len()));
        found.push(KeySet { has, id: number.cast_to(id.data_type())? });
    }
    Ok(Some((keys, found)))
}
