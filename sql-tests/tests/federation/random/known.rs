//! Defects of DataFusion itself, in which its answer depends on the plan and not only on the question. Each has a reason and
//! a way to see it. Nothing of ours stands here.

use super::judge::{Answers, Fault};

/// Why this is a defect that is known, or `None`.
pub(super) fn reason(_fault: Fault, _answers: &Answers) -> Option<&'static str> {
    None
}
