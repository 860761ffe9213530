//! What turns the rows of a table before into those now.

use crate::rows::same;

/// Rows with weights, as bytes.
#[derive(Default)]
pub(super) struct Difference<'a> {
    pub(super) keys: Vec<&'a [u8]>,
    pub(super) others: Vec<&'a [u8]>,
    pub(super) weights: Vec<i64>,
}

impl<'a> Difference<'a> {
    pub(super) fn push(&mut self, key: &'a [u8], others: &'a [u8], weight: i64) {
        self.keys.push(key);
        self.others.push(others);
        self.weights.push(weight);
    }

    /// What turns the row before into the row now.
    pub(super) fn add(&mut self, key: &'a [u8], before: Option<(&'a [u8], i64)>, now: Option<(&'a [u8], i64)>) {
        match (before, now) {
            (Some((old, before)), Some((new, now))) if same(old, new) => {
                if now != before {
                    self.push(key, new, now - before);
                }
            }
            (before, now) => {
                if let Some((others, count)) = before {
                    self.push(key, others, -count);
                }
                if let Some((others, count)) = now {
                    self.push(key, others, count);
                }
            }
        }
    }
}
