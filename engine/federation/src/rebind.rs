//! Drafts that serve other values than those that they were planned with.
//!
//! A statement's parameter is a literal by the time it is planned, and planning may do anything with a literal. So a draft serves other values only where all that became of each of them
//! is to be compared with a column at a source, for equality, and the source does that exactly: then another value in its place is what planning with that
//! value would have come to, but for how often it was guessed to occur. The source is asked anew whether it does the same for the other value, and the statement is made anew.
//!
//! Who asks has made sure that the query itself compares the values with columns and nothing else, and that none of them equals another constant of it; see [`Draft::takes`].

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use headwater_source::{CompareOp, Expr, QueryRequest, ScanRequest, Source, Support};

use crate::RemoteScanExec;
use crate::draft::Draft;
use crate::narrow::Planned;
use crate::region::Asked;
use crate::scan::scans_of;

impl Draft {
    /// Whether the draft, which was planned with these values, serves others too: each of them is compared with a column at a source and is nowhere else.
    ///
    /// The query must compare the values with columns for equality, alone or as one of several conditions that must all hold, and none of its conditions may hold another constant.
    pub fn takes(&self, values: &[ScalarValue]) -> Result<bool> {
        let mut compared = vec![false; values.len()];
        for scan in scans_of(&self.0) {
            let planned = scan.planned();
            let plain = planned.bound.is_none() && planned.parts.is_none();
            let known = match &planned.asked {
                Asked::Table(request) => request.filters.iter().all(|filter| match literal(filter) {
                    Some(found) => match place(values, found) {
                        Some(place) if is_done(planned.service.source().as_ref(), request, filter) => {
                            compared[place] = true;
                            true
                        }
                        _ => false,
                    },
                    None => filter.literals() == 0,
                }),
                Asked::Query(request) => {
                    let mut found = |value: &ScalarValue| {
                        let place = place(values, value).filter(|_| is_plain(value))?;
                        compared[place] = true;
                        Some(value.clone())
                    };
                    request.relation.with_values(&mut found).is_some()
                }
            };
            if !plain || !known {
                return Ok(false);
            }
        }
        let mut elsewhere = false;
        self.0.apply(|node| {
            node.apply_expressions(&mut |expr| {
                elsewhere |= holds(expr, values)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(if elsewhere { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(!elsewhere && compared.into_iter().all(|found| found))
    }

    /// A plan that has not run yet, as `state` would have planned it, of the query with the other values in the place of those that it [takes](Self::takes); `None` where it has to be planned by
    /// itself.
    ///
    /// # Errors
    /// What DataFusion's rules and the sources say.
    pub async fn plan_with(
        &self,
        state: &SessionState,
        values: &[ScalarValue],
        others: &[ScalarValue],
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let are_same = values == others;
        let mut scans = Vec::new();
        for scan in scans_of(&self.0) {
            if are_same && scan.planned().scan.is_timeless() {
                scans.push(scan.clone());
                continue;
            }
            match rebound(scan, values, others).await? {
                Some(scan) => scans.push(scan),
                None => return Ok(None),
            }
        }
        // Scans are leaves: both ways through the plan meet them in one order.
        let mut scans = scans.into_iter();
        let with = Arc::clone(&self.0).transform_up(|node| {
            Ok(match node.is::<RemoteScanExec>().then(|| scans.next()).flatten() {
                Some(scan) => Transformed::yes(Arc::new(scan) as _),
                None => Transformed::no(node),
            })
        })?;
        Self(with.data).tied(state).map(Some)
    }
}

/// The scan with the other values; `None` where the source does not do the same for them.
async fn rebound(
    scan: &RemoteScanExec,
    values: &[ScalarValue],
    others: &[ScalarValue],
) -> Result<Option<RemoteScanExec>> {
    let planned = scan.planned();
    let source = planned.service.source();
    let other = |found: &ScalarValue| {
        let other = place(values, found).and_then(|place| others.get(place))?;
        as_type_of(found, other)
    };
    let asked = match &planned.asked {
        same if values == others => Some(same.clone()),
        Asked::Table(request) => exchanged(request, source.as_ref(), other).map(Asked::Table),
        Asked::Query(request) => {
            let relation = request.relation.with_values(&mut |found| other(found));
            relation.map(|relation| Asked::Query(QueryRequest { relation, ..request.clone() }))
        }
    };
    let Some(asked) = asked else { return Ok(None) };
    let prepared = planned.prepare(asked.clone(), None).await?;
    if prepared.partitions() != planned.scan.partitions() {
        return Ok(None);
    }
    Ok(Some(scan.with(Planned { asked, scan: prepared, ..planned.clone() })))
}

/// The request with the other values in its filters, where the source does them as they are.
fn exchanged(
    request: &ScanRequest,
    source: &dyn Source,
    other: impl Fn(&ScalarValue) -> Option<ScalarValue>,
) -> Option<ScanRequest> {
    let mut request = request.clone();
    let mut filters = Vec::with_capacity(request.filters.len());
    for filter in &request.filters {
        let Some(found) = literal(filter) else {
            filters.push(filter.clone());
            continue;
        };
        let (Expr::Compare { op, left, .. }, Some(other)) = (filter, other(found)) else { return None };
        let filter = Expr::compare(*op, left.as_ref().clone(), Expr::Literal(other));
        if !is_done(source, &request, &filter) {
            return None;
        }
        filters.push(filter);
    }
    request.filters = filters;
    Some(request)
}

/// What a filter compares a column with for equality.
fn literal(filter: &Expr) -> Option<&ScalarValue> {
    match filter {
        Expr::Compare { op: CompareOp::Equal, left, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(_), Expr::Literal(value)) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the source does the filter as it is, so that nothing of it is left to do here.
fn is_done(source: &dyn Source, request: &ScanRequest, filter: &Expr) -> bool {
    let offer = source.capabilities().offer(filter, &request.table);
    offer.support == Support::Exact && offer.filter.as_ref() == Some(filter)
}

/// Whether what a source does with a value of its type is the same for all of them: of a query that goes down whole the source is not asked again.
fn is_plain(value: &ScalarValue) -> bool {
    value.data_type().is_integer()
}

/// Which of the values the literal is, in a type of its own.
fn place(values: &[ScalarValue], literal: &ScalarValue) -> Option<usize> {
    values.iter().position(|value| as_type_of(literal, value).as_ref() == Some(literal))
}

/// The value in the literal's type, where that holds it.
fn as_type_of(literal: &ScalarValue, value: &ScalarValue) -> Option<ScalarValue> {
    let there = value.cast_to(&literal.data_type()).ok().filter(|there| !there.is_null())?;
    (there.cast_to(&value.data_type()).ok().as_ref() == Some(value)).then_some(there)
}

/// Whether one of the values is in the expression.
fn holds(expr: &Arc<dyn PhysicalExpr>, values: &[ScalarValue]) -> Result<bool> {
    let mut found = false;
    expr.apply(|part| {
        found |= part.downcast_ref::<Literal>().is_some_and(|literal| place(values, literal.value()).is_some());
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
