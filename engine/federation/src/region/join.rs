//! Joins of two regions of one source.

use datafusion::common::{Column, DFSchemaRef, NullEquality};
use datafusion::logical_expr::{Expr as Logical, ExprSchemable, Join, JoinType, Operator, binary_expr};
use headwater_source::{ColumnDef, CompareOp, Expr, JoinKind, Locality, Node, Relation};

use super::estimate::estimate;
use super::grow::kind_of;
use super::grown::{Reason, Region, check_types};
use crate::translate::Translator;

/// Whether the left side of a join as DataFusion has it is the left one at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sides {
    AsWritten,
    Exchanged,
}

/// How many rows one side of a join in this process has at most for the source to do it, by its index on the other side. Beyond, reading both
/// sides and hashing is the faster.
const LOOKUPS_MAX: f64 = 1_000.0;

/// The join as one relation, or why there is none.
pub(super) fn joined(join: &Join, left: &Region, right: &Region) -> Result<(Relation, DFSchemaRef), Reason> {
    if !left.is_of_one_source(right) {
        return Err("the sides are of different sources".to_owned());
    }
    if join.null_equality == NullEquality::NullEqualsNull && may_meet_nulls(join)? {
        return Err("NULLs are compared in the engine's own way".to_owned());
    }
    let Some((kind, sides)) = kind_of(join.join_type) else {
        return Err(format!("a {} join is done locally", join.join_type));
    };
    left.capabilities().joins(kind)?;
    let fewest = estimate(&join.left).rows.min(estimate(&join.right).rows);
    if left.capabilities().locality() == Locality::InProcess && fewest > LOOKUPS_MAX {
        return Err("both sides are read from this process, and are many rows".to_owned());
    }
    let (first, second) = match sides {
        Sides::AsWritten => (left, right),
        Sides::Exchanged => (right, left),
    };
    let on = conditions(join, first, second)?;
    if !on.iter().any(|condition| is_equality(condition, first.relation.columns().len())) {
        return Err("a join without an equality of its sides ships less when it is done locally".to_owned());
    }
    let unknown = if join.null_aware { Some(unknown(join, first, second, &on)?) } else { None };
    let mut relation = first.relation.clone().join(kind, second.relation.clone(), on);
    for (rows, condition) in unknown.into_iter().flatten() {
        relation = relation.join(JoinKind::Anti, rows, vec![condition]);
    }
    if relation.literals() > left.capabilities().max_binds() {
        return Err("the statement would hold too many values".to_owned());
    }
    if kind == JoinKind::Left && sides == Sides::Exchanged {
        let (outer, inner) = (first.relation.columns().len(), second.relation.columns().len());
        relation = relation.project((outer..outer + inner).chain(0..outer).map(Expr::Column).collect());
    }
    check_types(&relation, &join.schema)?;
    Ok((relation, join.schema.clone()))
}

/// What makes `a NOT IN (SELECT b ...)` NULL where nothing equals, and so keeps out a row: a `b` that is NULL, or of an `a` that is NULL any row at all. Each as the
/// rows of which there must be none, with the condition of a join.
fn unknown(join: &Join, first: &Region, second: &Region, on: &[Expr]) -> Result<Vec<(Relation, Expr)>, Reason> {
    let other = || Err("NULLs are compared in the engine's own way".to_owned());
    let ([(left, right)], [Expr::Compare { op: CompareOp::Equal, left: a, right: b }]) = (&join.on[..], on) else {
        return other();
    };
    // Its rows are read several times, and a limit may leave others each time.
    if join.join_type != JoinType::LeftAnti || join.filter.is_some() || has_limit(&second.relation) {
        return other();
    }
    let may_be_null = |expr: &Logical, side: &DFSchemaRef| expr.nullable(side).map_err(|error| error.to_string());
    let split = first.relation.columns().len();
    let (value, member) = if side_of(a, split) == Some(true) { (a, b) } else { (b, a) };
    let columns: Vec<ColumnDef> = first.relation.columns().iter().chain(second.relation.columns()).cloned().collect();
    let is_null = |expr: &Expr| {
        let test = Expr::IsNull(Box::new(expr.clone()));
        first.capabilities().decides(&test, &columns).map(|()| test)
    };
    let mut unknown = vec![];
    if may_be_null(right, join.right.schema())? {
        unknown.push((second.relation.clone(), is_null(member)?));
    }
    if may_be_null(left, join.left.schema())? {
        unknown.push((second.relation.clone().top(vec![], 0, 1), is_null(value)?));
    }
    Ok(unknown)
}

fn has_limit(relation: &Relation) -> bool {
    matches!(relation.node(), Node::Top { .. }) || relation.inputs().into_iter().any(has_limit)
}

/// Whether both sides of an equality may be NULL.
fn may_meet_nulls(join: &Join) -> Result<bool, Reason> {
    let may_be_null = |expr: &Logical, side: &DFSchemaRef| expr.nullable(side).map_err(|error| error.to_string());
    for (left, right) in &join.on {
        if may_be_null(left, join.left.schema())? && may_be_null(right, join.right.schema())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The join's conditions over the columns of the first side followed by those of the second.
fn conditions(join: &Join, first: &Region, second: &Region) -> Result<Vec<Expr>, Reason> {
    let split = first.relation.columns().len();
    let columns: Vec<ColumnDef> = first.relation.columns().iter().chain(second.relation.columns()).cloned().collect();
    let resolve = |column: &Column| {
        let of_second = || second.schema.maybe_index_of_column(column).map(|index| index + split);
        first.schema.maybe_index_of_column(column).or_else(of_second)
    };
    let translator = Translator { columns: &columns, resolve: &resolve };
    let equal = |(left, right): &(Logical, Logical)| binary_expr(left.clone(), Operator::Eq, right.clone());
    let mut conditions = Vec::new();
    for condition in join.on.iter().map(equal).chain(join.filter.clone()) {
        let condition = translator.expr(&condition)?;
        first.capabilities().decides(&condition, &columns)?;
        match condition {
            Expr::And(parts) => conditions.extend(parts),
            other => conditions.push(other),
        }
    }
    Ok(conditions)
}

fn is_equality(condition: &Expr, split: usize) -> bool {
    let Expr::Compare { op: CompareOp::Equal, left, right } = condition else { return false };
    matches!((side_of(left, split), side_of(right, split)), (Some(a), Some(b)) if a != b)
}

/// Whether the expression is over columns of the first side alone; `None` where it reads no column.
fn side_of(expr: &Expr, split: usize) -> Option<bool> {
    let (mut any, mut all) = (false, true);
    expr.visit_columns(&mut |index| {
        any = true;
        all &= index < split;
    });
    any.then_some(all)
}
