//! DataFusion's optimizer rules and functions, with those that keep it from answering wrong.
//!
//! Each mends a defect of DataFusion itself that has nothing to do with services; its own page says which one and how it shows. A rule goes when
//! DataFusion no longer needs it. Whoever optimizes a plan, for a query, a view or a check of rights, takes the rules from here.

mod calendar;
mod constants;
mod correlated;
mod distinct;
mod each_row;
mod existence;
mod firsts;
mod instants;
mod intervals;
mod late;
mod lookalikes;
mod membership;
mod multisets;
mod narrowing;
mod one_row;
mod redundant;
mod repeated;
mod sameness;
mod similar;
mod sorted;
mod top_groups;
mod truth;
mod zeros;

use std::sync::Arc;

use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

pub use calendar::{DAY_OF, WholeDays, mended_scalar_functions};
pub use constants::{ListsOfConstants, PushFilters};
pub use correlated::{UnambiguousSubqueries, refused_subquery};
pub use distinct::DistinctToGroups;
pub use each_row::AggregatesOfEachRow;
pub use existence::RowsOfNoRows;
pub use firsts::FirstsOfEach;
pub use instants::OwnInstants;
pub use intervals::mended_expr_planners;
pub use late::LateProjections;
pub use lookalikes::ComputedOnce;
pub use membership::KnownMembers;
pub use multisets::{KeysOfJoins, NumberedRows};
pub use narrowing::NarrowingCasts;
pub use one_row::OneRowOfEach;
pub use redundant::RedundantKeys;
pub use repeated::OrdersWithoutRepeats;
pub use sameness::{HideSameness, UnlikeRowsExec};
pub use similar::SimilarTexts;
pub use sorted::{SortedInputs, WrittenOrders};
pub use top_groups::ExactTopGroups;
pub use truth::TruthsAsNulls;
pub use zeros::{EqualZeros, other_zero};

/// DataFusion's analyzer rules, mended.
pub fn mended_analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    rules.push(Arc::new(OneRowOfEach));
    rules
}

/// DataFusion's optimizer rules, mended.
pub fn mended_optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let mends: [(&str, Arc<dyn OptimizerRule + Send + Sync>); 6] = [
        ("simplify_expressions", Arc::new(WholeDays)),
        ("simplify_expressions", Arc::new(OwnInstants)),
        ("simplify_expressions", Arc::new(NarrowingCasts)),
        ("simplify_expressions", Arc::new(ListsOfConstants)),
        ("decorrelate_predicate_subquery", Arc::new(UnambiguousSubqueries)),
        ("scalar_subquery_to_join", Arc::new(AggregatesOfEachRow)),
    ];
    for (before, mend) in mends {
        let place = rules.iter().position(|rule| rule.name() == before).unwrap_or(rules.len());
        rules.insert(place, mend);
    }
    let in_place: [Arc<dyn OptimizerRule + Send + Sync>; 5] = [
        Arc::new(RedundantKeys::default()),
        Arc::new(KeysOfJoins::default()),
        Arc::new(PushFilters::default()),
        Arc::new(DistinctToGroups::default()),
        Arc::new(ComputedOnce::default()),
    ];
    for mend in in_place {
        rules.iter_mut().filter(|rule| rule.name() == mend.name()).for_each(|rule| *rule = Arc::clone(&mend));
    }
    // What a query says is seen before anything is made of it.
    let first: [Arc<dyn OptimizerRule + Send + Sync>; 5] = [
        Arc::new(NumberedRows),
        Arc::new(SimilarTexts),
        Arc::new(RowsOfNoRows),
        Arc::new(FirstsOfEach),
        Arc::new(KnownMembers),
    ];
    rules.splice(0..0, first);
    // Once more: constants have met other expressions by now.
    rules.push(Arc::new(OwnInstants));
    rules.push(Arc::new(NarrowingCasts));
    rules.push(Arc::new(EqualZeros));
    rules.push(Arc::new(OrdersWithoutRepeats));
    rules.push(Arc::new(TruthsAsNulls));
    rules
}

/// Physical rules of DataFusion that are wrong, and of no use here.
///
/// - `FilterPushdown` moves filters by the names of columns, and where a join's sides were exchanged, one about the side that may be NULL went to the other side's
///   column of that name. What can be moved has been moved while the plan was a logical one.
/// - `aggregate_statistics` answers from counts of rows that are exact: the sum of a constant over no rows is 0 for it, and beneath a second aggregate it leaves a
///   column that may be NULL where none was planned. What a service tells of its tables is never exact.
const LEFT_OUT: [&str; 2] = ["FilterPushdown", "aggregate_statistics"];

/// DataFusion's physical rules, mended.
pub fn mended_physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let place = |rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>], name: &str| {
        rules.iter().position(|rule| rule.name() == name).unwrap_or(rules.len())
    };
    rules.retain(|rule| !LEFT_OUT.contains(&rule.name()));
    let sorts = place(&rules, "EnsureRequirements");
    rules.insert(sorts, Arc::new(HideSameness));
    let ties = place(&rules, "FilterPushdown(Post)");
    rules.insert(ties, Arc::new(SortedInputs));
    // An order that was not known before has come by now.
    rules.insert(ties, Arc::new(ExactTopGroups));
    let in_place: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 2] =
        [Arc::new(WrittenOrders), Arc::new(LateProjections::default())];
    for mend in in_place {
        rules.iter_mut().filter(|rule| rule.name() == mend.name()).for_each(|rule| *rule = Arc::clone(&mend));
    }
    rules
}

/// Those of the mended rules that have these names, in the rules' order, with the mends that they need.
pub fn mended_optimizer_rules_of(names: &[&str]) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let rules = mended_optimizer_rules();
    // Forms that DataFusion's operators need are a matter of plans that run.
    let forms = [OrdersWithoutRepeats.name(), TruthsAsNulls.name()];
    let mends = |name: &str| name.starts_with("headwater_") && !forms.contains(&name);
    let own = rules.iter().filter(|rule| names.contains(&rule.name()) || mends(rule.name()));
    own.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule of DataFusion that has another name would be mended nowhere.
    #[test]
    fn every_mend_is_before_the_rule_that_it_mends() {
        let names: Vec<String> = mended_optimizer_rules().iter().map(|rule| rule.name().to_owned()).collect();
        for pair in [
            ["headwater_whole_days", "headwater_own_instants"],
            ["headwater_own_instants", "headwater_narrowing_casts"],
            ["headwater_narrowing_casts", "headwater_lists_of_constants"],
            ["headwater_lists_of_constants", "simplify_expressions"],
            ["headwater_unambiguous_subqueries", "decorrelate_predicate_subquery"],
            ["headwater_aggregates_of_each_row", "scalar_subquery_to_join"],
        ] {
            assert!(names.windows(2).any(|two| two == pair), "{pair:?} in {names:?}");
        }
        assert_eq!(
            names[..5],
            [
                "headwater_numbered_rows",
                "headwater_similar_texts",
                "headwater_rows_of_no_rows",
                "headwater_firsts_of_each",
                "headwater_known_members"
            ]
        );
        for name in [
            "eliminate_group_by_constant",
            "extract_equijoin_predicate",
            "push_down_filter",
            "single_distinct_aggregation_to_group_by",
            "common_sub_expression_eliminate",
        ] {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} in {names:?}");
        }
        assert_eq!(names.last().map(String::as_str), Some("headwater_truths_as_nulls"));
        assert_eq!(names.len(), Optimizer::new().rules.len() + 16);
    }

    #[test]
    fn every_physical_mend_has_its_place() {
        let plain: Vec<String> = PhysicalOptimizer::new().rules.iter().map(|rule| rule.name().to_owned()).collect();
        let names: Vec<String> = mended_physical_optimizer_rules().iter().map(|rule| rule.name().to_owned()).collect();
        for pair in [
            ["headwater_hide_sameness", "EnsureRequirements"],
            ["headwater_exact_top_groups", "headwater_sorted_inputs"],
            ["headwater_sorted_inputs", "FilterPushdown(Post)"],
        ] {
            assert!(names.windows(2).any(|two| two == pair), "{pair:?} in {names:?}");
        }
        assert_eq!(names.last().map(String::as_str), Some("SanityCheckPlan"));
        assert_eq!(names.iter().filter(|name| *name == LateProjections::default().name()).count(), 2, "{names:?}");
        for left_out in LEFT_OUT {
            assert!(plain.iter().any(|name| name == left_out), "{left_out} in {plain:?}");
            assert!(!names.iter().any(|name| name == left_out), "{left_out} in {names:?}");
        }
    }
}
