//! What holds in every version of the bank's views.

use std::collections::BTreeMap;

use crate::watch::{Rows, Version, only};

/// Nothing is made or lost, each view agrees with the others, and every balance is what its transfers say.
pub(crate) fn bank(version: &Version<'_>) {
    let balances: BTreeMap<i64, i64> = version["balances"].keys().map(|row| (row[0], row[1])).collect();
    assert_eq!(balances.len(), crate::bank::ACCOUNTS, "every account is there once");
    assert_eq!(balances.values().sum::<i64>(), 0, "the balances sum to nothing");
    assert_eq!(only(version["total"]), 0, "the total is nothing");
    for (row, weight) in version["pairs"] {
        assert_eq!((row[2], *weight), (balances[&row[0]] + balances[&row[1]], 1), "pair {row:?}");
    }
    assert_eq!(version["pairs"].len(), 5);
    if let Some(ledger) = version.get("ledger") {
        for row in ledger.keys() {
            assert_eq!(row[1], balances[&row[0]], "the ledger's balance of account {}", row[0]);
            assert_eq!(row[1], row[2] - row[3], "account {}: came and went", row[0]);
        }
        assert_eq!(ledger.len(), crate::bank::ACCOUNTS);
    }
    let mut order: Vec<(i64, i64)> = balances.into_iter().map(|(id, balance)| (-balance, id)).collect();
    order.sort_unstable();
    let top: Rows = order.into_iter().take(3).map(|(balance, id)| (vec![id, -balance], 1)).collect();
    assert_eq!(version["top"], &top, "the three richest");
}

/// No credit shows before its debit, and nothing is made of nothing.
pub(crate) fn causal(version: &Version<'_>) {
    assert!(version["early"].is_empty(), "credits before their debits: {:?}", version["early"]);
    let (total, open) = (only(version["total"]), only(version["open"]));
    assert!(total <= 0, "the total is {total}: a credit shows before its debit");
    assert_eq!(total, -open, "what left one store and has not come to the other is what is missing");
}
