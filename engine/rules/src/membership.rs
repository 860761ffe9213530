//! Tells false from NULL where a value is sought among those of a subquery.
//!
//! `x NOT IN (SELECT c FROM y)` is NULL where `x` is NULL or a `c` is, and nothing equals. DataFusion knows that of a condition that stands alone, of a subquery that reads nothing from outside, where
//! `x` is no constant: it is a join that knows of NULLs. Beneath `OR`, `NOT`, `CASE`, `IS NULL` and whatever else, the value is made a mark that is true or false alone
//! (`decorrelate_predicate_subquery` of datafusion-optimizer 55.2), and a join by more than one column, as of a subquery that reads from outside, is refused or takes a NULL of any row for one that
//! the row has met. Where it matters whether the value is false or NULL, it is written in parts that are never NULL: whether a row exists that equals, one that is NULL, and any at all.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InList, InSubquery};
use datafusion::logical_expr::utils::{conjunction, disjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Case, Distinct, Expr, ExprSchemable, FetchType, Filter, Limit, LogicalPlan, LogicalPlanBuilder,
    Operator, Projection, SkipType, Subquery, SubqueryAlias, Values, lit, not,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::correlated::{correlated, renamed};
use crate::zeros::{holds, input_schema, under_their_names};

/// The most rows that are made a list. More are joined.
const LISTED_MAX: usize = 1_000;

/// The optimizer rule. It runs before expressions are simplified, for which such a value is NULL as a column is.
#[derive(Debug, Default)]
pub struct KnownMembers;

/// What is told of a condition by what reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    /// Whether it is true, and it is one of the conditions that keep a row.
    Kept,
    /// Whether it is true.
    True,
    /// Whether it is false.
    False,
    /// Its value.
    Value,
}

impl OptimizerRule for KnownMembers {
    fn name(&self) -> &str {
        "headwater_known_members"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let listed = match holds(&plan, |part| matches!(part, Expr::InSubquery(_)))? {
            true => {
                let outer = input_schema(&plan)?;
                under_their_names(plan, |expr| expr.transform_up(|part| listed(part, &outer, config)))?
            }
            false => Transformed::no(plan),
        };
        listed.transform_data(|plan| match plan {
            LogicalPlan::Filter(_) => in_condition(plan, config),
            LogicalPlan::Projection(_) => as_values(plan, config),
            _ => Ok(Transformed::no(plan)),
        })
    }
}

/// Rows that are only written down (`IN (VALUES (1), (2))`) as a list. More than a list is good for stay rows, and get a list of what is selected of them, which DataFusion compares with.
fn listed(part: Expr, outer: &DFSchema, config: &dyn OptimizerConfig) -> Result<Transformed<Expr>> {
    let Expr::InSubquery(member) = part else { return Ok(Transformed::no(part)) };
    let InSubquery { expr, subquery, negated } = member;
    if let Some(list) = written_down(&subquery.subquery, outer)? {
        let list = list.into_iter().flatten().collect();
        return Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })));
    }
    if !matches!(subquery.subquery.as_ref(), LogicalPlan::Values(_)) {
        return Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated })));
    }
    let rows = SubqueryAlias::try_new(Arc::clone(&subquery.subquery), config.alias_generator().next("__values"))?;
    let rows = Arc::new(LogicalPlan::SubqueryAlias(rows));
    let columns = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let selected = Arc::new(LogicalPlan::Projection(Projection::try_new(columns, rows)?));
    let subquery = Subquery { subquery: selected, ..subquery };
    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })))
}

/// The rows of a plan as expressions over the rows outside; `None` of a plan that is more than rows written down.
fn written_down(plan: &LogicalPlan, outer: &DFSchema) -> Result<Option<Vec<Vec<Expr>>>> {
    let is_plain = |expr: &Expr| Ok::<_, DataFusionError>(!expr.is_volatile() && !expr.exists(|part| Ok(asks(part)))?);
    match plan {
        LogicalPlan::Values(Values { values, .. }) if values.len() <= LISTED_MAX => {
            for expr in values.iter().flatten() {
                if !is_plain(expr)? {
                    return Ok(None);
                }
            }
            let row = |row: &Vec<Expr>| row.iter().map(|expr| seen_from_outside(expr, outer)).collect();
            let rows: Vec<Vec<Expr>> = values.iter().map(row).collect::<Result<_>>()?;
            // The subqueries around it do not say that they read what a list of theirs would read from further outside.
            Ok((!rows.iter().flatten().any(Expr::contains_outer)).then_some(rows))
        }
        LogicalPlan::SubqueryAlias(named) => written_down(&named.input, outer),
        LogicalPlan::Projection(projection) => {
            for expr in &projection.expr {
                if !is_plain(expr)? || expr.contains_outer() {
                    return Ok(None);
                }
            }
            let Some(rows) = written_down(&projection.input, outer)? else { return Ok(None) };
            let schema = projection.input.schema();
            let of_row = |expr: &Expr, row: &[Expr]| {
                let computed = expr.clone().unalias_nested().data.transform_up(|part| match &part {
                    Expr::Column(column) => Ok(Transformed::yes(row[schema.index_of_column(column)?].clone())),
                    _ => Ok(Transformed::no(part)),
                });
                Ok(computed?.data)
            };
            let row = |row: Vec<Expr>| projection.expr.iter().map(|expr| of_row(expr, &row)).collect();
            rows.into_iter().map(row).collect::<Result<_>>().map(Some)
        }
        _ => Ok(None),
    }
}

/// An expression that reads from outside, as it is there.
fn seen_from_outside(expr: &Expr, outer: &DFSchema) -> Result<Expr> {
    let seen = expr.clone().transform_up(|part| match part {
        Expr::OuterReferenceColumn(_, column) if outer.has_column(&column) => {
            Ok(Transformed::yes(Expr::Column(column)))
        }
        _ => Ok(Transformed::no(part)),
    });
    Ok(seen?.data)
}

/// Whether it is a subquery, which has rows of its own.
fn asks(part: &Expr) -> bool {
    matches!(part, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
}

/// What is selected, with counts of rows in the place of conditions that ask whether there are rows: DataFusion makes joins of such conditions where they keep rows, and nowhere else.
fn as_values(plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(projection) = &plan else { return Ok(Transformed::no(plan)) };
    let asks = |part: &Expr| matches!(part, Expr::InSubquery(_) | Expr::Exists(_));
    if !holds(&plan, asks)? {
        return Ok(Transformed::no(plan));
    }
    let input = Arc::clone(&projection.input);
    let outer = Outer { schema: input.schema(), config };
    under_their_names(plan, |expr| {
        let members = expr.transform_up(|part| {
            let Expr::InSubquery(member) = &part else { return Ok(Transformed::no(part)) };
            let by_parts = match outer.by_parts(member, Told::Value)? {
                None if member.subquery.outer_ref_columns.is_empty() => outer.by_rows(member)?,
                by_parts => by_parts,
            };
            Ok(by_parts.map_or_else(|| Transformed::no(part.clone()), Transformed::yes))
        })?;
        members.transform_data(|expr| expr.transform_up(counted))
    })
}

/// Whether there is a row, by their count.
fn counted(part: Expr) -> Result<Transformed<Expr>> {
    let Expr::Exists(Exists { subquery, negated }) = part else { return Ok(Transformed::no(part)) };
    // The group of all rows is there without rows, too: counted above it, DataFusion would have none of it where the conditions that read from outside leave no row.
    let is_of_all = |node: &LogicalPlan| matches!(node, LogicalPlan::Aggregate(groups) if groups.group_expr.is_empty());
    if !subquery.outer_ref_columns.is_empty() && subquery.subquery.exists(|node| Ok(is_of_all(node)))? {
        return Ok(Transformed::no(Expr::Exists(Exists { subquery, negated })));
    }
    let mut rows = subquery.subquery.as_ref();
    // None of them decides whether there is a row.
    loop {
        rows = match rows {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::Limit(limit) if !subquery.outer_ref_columns.is_empty() && keeps_a_row(limit)? => &limit.input,
            _ => break,
        };
    }
    let count =
        LogicalPlanBuilder::from(rows.clone()).aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))])?.build()?;
    let count = Expr::ScalarSubquery(Subquery { subquery: Arc::new(count), ..subquery });
    // Never NULL, as the condition was.
    Ok(Transformed::yes(if negated { count.eq(lit(0_i64)) } else { count.gt(lit(0_i64)) }.is_true()))
}

/// Whether a limit leaves a row wherever there is one.
pub(crate) fn keeps_a_row(limit: &Limit) -> Result<bool> {
    let skips_none = matches!(limit.get_skip_type()?, SkipType::Literal(0));
    Ok(skips_none && matches!(limit.get_fetch_type()?, FetchType::Literal(fetch) if fetch != Some(0)))
}

fn in_condition(plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
    if !filter.predicate.exists(|part| Ok(matches!(part, Expr::InSubquery(_))))? {
        return Ok(Transformed::no(plan));
    }
    let outer = Outer { schema: filter.input.schema(), config };
    let mut changed = false;
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        let written = match joins_with_nulls(&condition) {
            true => Transformed::no(condition),
            false => outer.written(condition, Told::Kept)?,
        };
        changed |= written.transformed;
        conditions.push(written.data);
    }
    match conjunction(conditions) {
        Some(condition) if changed => {
            let filter = Filter::try_new(condition, Arc::clone(&filter.input))?;
            Ok(Transformed::yes(LogicalPlan::Filter(filter)))
        }
        _ => Ok(Transformed::no(plan)),
    }
}

/// Whether DataFusion makes the condition a join that knows of NULLs.
fn joins_with_nulls(condition: &Expr) -> bool {
    let (member, negated) = match condition {
        Expr::InSubquery(member) => (member, member.negated),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(member) => (member, !member.negated),
            _ => return false,
        },
        _ => return false,
    };
    negated && member.subquery.outer_ref_columns.is_empty() && !member.expr.column_refs().is_empty()
}

/// The rows whose conditions are written.
struct Outer<'a> {
    schema: &'a DFSchema,
    config: &'a dyn OptimizerConfig,
}

impl Outer<'_> {
    fn written(&self, expr: Expr, told: Told) -> Result<Transformed<Expr>> {
        match &expr {
            Expr::InSubquery(member) => Ok(match self.by_parts(member, told)? {
                Some(parts) => Transformed::yes(parts),
                None => Transformed::no(expr),
            }),
            Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. }) => {
                expr.map_children(|part| self.written(part, told))
            }
            Expr::Not(_) => {
                let told = match told {
                    Told::Kept | Told::True => Told::False,
                    Told::False => Told::True,
                    Told::Value => Told::Value,
                };
                expr.map_children(|part| self.written(part, told))
            }
            Expr::IsTrue(_) | Expr::IsNotTrue(_) => expr.map_children(|part| self.written(part, Told::True)),
            Expr::IsFalse(_) | Expr::IsNotFalse(_) => expr.map_children(|part| self.written(part, Told::False)),
            Expr::Case(Case { expr: None, .. }) => self.written_case(expr, told),
            _ => expr.map_children(|part| self.written(part, Told::Value)),
        }
    }

    /// A CASE takes a condition that is true; of what it takes, the same is told as of itself.
    fn written_case(&self, expr: Expr, told: Told) -> Result<Transformed<Expr>> {
        let Expr::Case(Case { expr: subject, when_then_expr, else_expr }) = expr else {
            return Ok(Transformed::no(expr));
        };
        let told = if told == Told::Kept { Told::True } else { told };
        let mut changed = false;
        let mut boxed = |part: Expr, told: Told| -> Result<Box<Expr>> {
            let written = self.written(part, told)?;
            changed |= written.transformed;
            Ok(Box::new(written.data))
        };
        let when_then_expr = when_then_expr
            .into_iter()
            .map(|(when, then)| Ok((boxed(*when, Told::True)?, boxed(*then, told)?)))
            .collect::<Result<Vec<_>>>()?;
        let else_expr = else_expr.map(|other| boxed(*other, told)).transpose()?;
        let case = Expr::Case(Case { expr: subject, when_then_expr, else_expr });
        Ok(Transformed::new(case, changed, TreeNodeRecursion::Continue))
    }

    /// The value as what is never NULL by itself; `None` where it is right as it is, or can't be written so.
    fn by_parts(&self, member: &InSubquery, told: Told) -> Result<Option<Expr>> {
        let InSubquery { expr: value, subquery, negated } = member;
        let is_correlated = !subquery.outer_ref_columns.is_empty();
        let is_one = is_correlated && is_one_row(&subquery.subquery);
        if told == Told::Kept && !negated && !is_one {
            return Ok(None);
        }
        let value_may_be_null = value.nullable(self.schema).unwrap_or(true);
        let column_may_be_null = subquery.subquery.schema().fields().first().is_none_or(|field| field.is_nullable());
        if !is_correlated && !value_may_be_null && !column_may_be_null {
            return Ok(None);
        }
        if value.is_volatile() || !can_be_outer(value)? {
            return Ok(None);
        }
        if is_one {
            let (value, only) = (value.as_ref().clone(), Expr::ScalarSubquery(subquery.clone()));
            return Ok(Some(if *negated { value.not_eq(only) } else { value.eq(only) }));
        }
        // Its conditions would be tested above the limit.
        if is_correlated && limits_correlated(&subquery.subquery)? {
            return Ok(None);
        }
        let (rows, column) = self.named(value, subquery)?;
        let exists = |test: Option<Expr>| exists(&rows, test, subquery);
        let equal = exists(Some(column.clone().eq(self.outside(value)?)))?;
        let is_null = || value.as_ref().clone().is_null();
        // What makes it NULL where nothing equals.
        let mut unknown = Vec::new();
        if column_may_be_null {
            unknown.push(exists(Some(column.is_null()))?);
        }
        if value_may_be_null {
            unknown.push(is_null().and(exists(None)?));
        }
        let asks_for_equal = matches!((told, negated), (Told::True, false) | (Told::False, true));
        if unknown.is_empty() || asks_for_equal {
            return Ok(Some(if *negated { opposite(equal) } else { equal }));
        }
        if told == Told::Value {
            let null = Expr::Literal(ScalarValue::Boolean(None), None);
            let unknown = disjunction(unknown).unwrap_or_else(|| lit(false));
            return Ok(Some(Expr::Case(Case {
                expr: None,
                when_then_expr: vec![(Box::new(equal), Box::new(lit(!negated))), (Box::new(unknown), Box::new(null))],
                else_expr: Some(Box::new(lit(*negated))),
            })));
        }
        let parts = std::iter::once(equal).chain(unknown);
        Ok(match negated {
            true => conjunction(parts.map(opposite)),
            false => disjunction(parts),
        })
    }

    /// The value as whether a row equals, where neither it nor a row is NULL; `None` where it can't be written so.
    fn by_rows(&self, member: &InSubquery) -> Result<Option<Expr>> {
        let InSubquery { expr: value, subquery, negated } = member;
        if value.is_volatile() || !can_be_outer(value)? {
            return Ok(None);
        }
        let (rows, column) = self.named(value, subquery)?;
        let equal = exists(&rows, Some(column.eq(self.outside(value)?)), subquery)?;
        Ok(Some(if *negated { opposite(equal) } else { equal }))
    }

    /// The subquery's rows with a name for its column that no other has, and the column.
    fn named(&self, value: &Expr, subquery: &Subquery) -> Result<(LogicalPlan, Expr)> {
        let mut rows = subquery.subquery.as_ref();
        // Neither decides whether there is a row.
        loop {
            rows = match rows {
                LogicalPlan::Distinct(Distinct::All(input)) => input,
                LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
                _ => break,
            };
        }
        let mut rows = rows.clone();
        if compares_namesakes(&rows, value)? {
            rows = rows.transform_up(|node| renamed(node, self.config))?.data;
        }
        let name = self.config.alias_generator().next("__member");
        let rows = match rows {
            LogicalPlan::Projection(Projection { expr, input, .. }) if expr.len() == 1 => {
                let named = expr.into_iter().map(|only| only.unalias().alias(&name)).collect();
                Projection::try_new(named, input)?
            }
            other => {
                let column = Expr::Column(Column::from(other.schema().qualified_field(0)));
                Projection::try_new(vec![column.alias(&name)], Arc::new(other))?
            }
        };
        Ok((LogicalPlan::Projection(rows), Expr::Column(Column::from_name(name))))
    }

    /// The value as a subquery reads it.
    fn outside(&self, value: &Expr) -> Result<Expr> {
        let outer = value.clone().transform_up(|part| match part {
            Expr::Column(column) => {
                let field = Arc::clone(self.schema.field_from_column(&column)?);
                Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(outer.data)
    }
}

/// Whether a subquery can read the value: nothing of it is from further outside.
fn can_be_outer(value: &Expr) -> Result<bool> {
    let is_beyond = |part: &Expr| match part {
        Expr::OuterReferenceColumn(..) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => true,
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        _ => false,
    };
    Ok(!value.exists(|part| Ok(is_beyond(part)))?)
}

/// Whether there is one row whatever the subquery reads.
pub(crate) fn is_one_row(subquery: &LogicalPlan) -> bool {
    match subquery {
        LogicalPlan::Projection(projection) => is_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(named) => is_one_row(&named.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => is_one_row(&sort.input),
        LogicalPlan::Aggregate(groups) => groups.group_expr.is_empty(),
        _ => false,
    }
}

/// Whether rows are left out by their number, or by others, above a condition that reads from outside.
fn limits_correlated(subquery: &LogicalPlan) -> Result<bool> {
    subquery.exists(|node| {
        let limits = match node {
            LogicalPlan::Limit(_) | LogicalPlan::Distinct(Distinct::On(_)) => true,
            LogicalPlan::Sort(sort) => sort.fetch.is_some(),
            _ => false,
        };
        Ok(limits && !node.all_out_ref_exprs().is_empty())
    })
}

/// Whether the subquery's conditions compare a column of its own that is named as one of the value is outside, with which it would be mixed up.
fn compares_namesakes(rows: &LogicalPlan, value: &Expr) -> Result<bool> {
    let outside = value.column_refs();
    rows.exists(|node| {
        Ok(match node {
            LogicalPlan::Filter(filter) => correlated(filter).iter().any(|column| outside.contains(column)),
            _ => false,
        })
    })
}

/// Whether there is a row of which the test is true.
fn exists(rows: &LogicalPlan, test: Option<Expr>, subquery: &Subquery) -> Result<Expr> {
    let mut rows = match test {
        Some(test) => LogicalPlan::Filter(Filter::try_new(test, Arc::new(rows.clone()))?),
        None => rows.clone(),
    };
    let outer_ref_columns = rows.all_out_ref_exprs();
    if outer_ref_columns.is_empty() {
        // One is enough, and is compared with each row outside.
        rows = LogicalPlan::Limit(Limit { skip: None, fetch: Some(Box::new(lit(1_i64))), input: Arc::new(rows) });
    }
    let subquery = Subquery { subquery: Arc::new(rows), outer_ref_columns, spans: subquery.spans.clone() };
    Ok(Expr::Exists(Exists { subquery, negated: false }))
}

/// The opposite of what is never NULL.
fn opposite(part: Expr) -> Expr {
    match part {
        Expr::Exists(Exists { subquery, negated }) => Expr::Exists(Exists { subquery, negated: !negated }),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => opposite(*left).or(opposite(*right)),
        Expr::IsNull(value) => Expr::IsNotNull(value),
        other => not(other),
    }
}
