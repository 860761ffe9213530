//! Lets a subquery that reads from outside take the first rows of an order.
//!
//! `(SELECT o.state FROM orders o WHERE o.customer = c.id ORDER BY o.placed DESC LIMIT 1)`, and a LATERAL join with the three dearest orders of each customer: DataFusion moves a condition that reads
//! from outside out of a subquery, and can't move it above a limit (`decorrelate`, `scalar_subquery_to_join`, `decorrelate_lateral_join` of datafusion-optimizer 55.2), so that it refuses
//! these. Where what is compared with the outside is equal to it, the limit is one for each of its values: the one row is a `first_value` (or an `nth_value`), and several are those of which the
//! `row_number()` among the rows of one value is small enough. The condition then stands above. Functions over windows, above which DataFusion moves such a condition as if it were nothing, are partitioned by what
//! is compared.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_aggregate::nth_value::nth_value_udaf;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprFunctionExt, ExprSchemable, FetchType, Filter, Join, JoinType, Limit,
    LogicalPlan, Operator, Projection, SkipType, Sort, SortExpr, Subquery, SubqueryAlias, Window, lit,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::correlated::{asks_beyond, is_ambiguous, reads, refused_subquery, renamed, without_aliases};
use crate::membership::{is_one_row, keeps_a_row};
use crate::one_row::is_group;
use crate::zeros::{holds, under_their_names};

/// The optimizer rule. It runs before subqueries are made joins.
#[derive(Debug, Default)]
pub struct FirstsOfEach;

impl OptimizerRule for FirstsOfEach {
    fn name(&self) -> &str {
        "headwater_firsts_of_each"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Join(join) = plan {
            if let Some(kept) = asked_above(&join)? {
                return Ok(Transformed::yes(self.rewrite(kept, config)?.data));
            }
            let Some(right) = lateral(&join.right, config)? else {
                return Ok(Transformed::no(LogicalPlan::Join(join)));
            };
            return Ok(Transformed::yes(LogicalPlan::Join(Join { right: Arc::new(right), ..join })));
        }
        if !holds(&plan, asks)? {
            return Ok(Transformed::no(plan));
        }
        under_their_names(plan, |expr| expr.transform_up(|part| of_subquery(part, config)))
    }
}

/// An inner join with those of its conditions that hold subqueries above it, where DataFusion makes joins of them; `None` where it has none.
fn asked_above(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some(filter) = join.filter.clone().filter(|_| join.join_type == JoinType::Inner) else { return Ok(None) };
    let (mut asking, mut plain) = (Vec::new(), Vec::new());
    for condition in split_conjunction_owned(filter) {
        let asks = condition.exists(|part| Ok(asks(part)))?;
        if asks { asking.push(condition) } else { plain.push(condition) }
    }
    let Some(condition) = conjunction(asking) else { return Ok(None) };
    let join = LogicalPlan::Join(Join { filter: conjunction(plain), ..join.clone() });
    Ok(Some(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(join))?)))
}

fn asks(part: &Expr) -> bool {
    matches!(part, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_))
}

/// The right side of a lateral join without its limits; `None` where it has none that are in the way.
fn lateral(side: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Option<LogicalPlan>> {
    Ok(match side {
        LogicalPlan::SubqueryAlias(named) => match lateral(&named.input, config)? {
            Some(input) => {
                let named = SubqueryAlias::try_new(Arc::new(input), named.alias.clone())?;
                Some(LogicalPlan::SubqueryAlias(named))
            }
            None => None,
        },
        LogicalPlan::Subquery(subquery) => {
            let of_each = |rows| Subquery { subquery: Arc::new(rows), ..subquery.clone() };
            let cut = Reader::of(subquery, config).of_each(subquery.subquery.as_ref().clone())?;
            let rows = without_aliases(&of_each(cut.data), true)?;
            let named = match is_ambiguous(&rows.data)? {
                true => rows.data.transform_up(|node| renamed(node, config))?,
                false => Transformed::no(rows.data),
            };
            let is_other = cut.transformed || rows.transformed || named.transformed;
            is_other.then(|| LogicalPlan::Subquery(of_each(named.data)))
        }
        _ => None,
    })
}

fn of_subquery(part: Expr, config: &dyn OptimizerConfig) -> Result<Transformed<Expr>> {
    let written = |subquery: Subquery, rows: Transformed<LogicalPlan>| {
        rows.update_data(|rows| Subquery { subquery: Arc::new(rows), ..subquery })
    };
    let rows_of = |subquery: &Subquery| subquery.subquery.as_ref().clone();
    match part {
        // What reads nothing from outside is cut once.
        Expr::ScalarSubquery(ref subquery)
        | Expr::InSubquery(InSubquery { ref subquery, .. })
        | Expr::Exists(Exists { ref subquery, .. })
            if subquery.outer_ref_columns.is_empty() =>
        {
            Ok(Transformed::no(part))
        }
        Expr::ScalarSubquery(subquery) => {
            let reader = Reader::of(&subquery, config);
            let rows = reader.of_each_below(limited_last(rows_of(&subquery))?)?;
            let rows = rows.transform_data(|rows| one_value(rows, config))?;
            let rows = rows.transform_data(|rows| reader.of_each(rows))?;
            let rows = match rows.transformed && !is_group(&rows.data) {
                true => Transformed::yes(first_of_group(rows.data, None, vec![], 0, config)?),
                false => rows,
            };
            Ok(written(subquery, rows).update_data(Expr::ScalarSubquery))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let rows = Reader::of(&subquery, config).of_each(rows_of(&subquery))?;
            let member = |subquery| Expr::InSubquery(InSubquery { expr, subquery, negated });
            Ok(written(subquery, rows).update_data(member))
        }
        Expr::Exists(Exists { subquery, negated }) => {
            let reader = Reader { drops_limits: true, ..Reader::of(&subquery, config) };
            let rows = rows_of(&subquery);
            let rows = match &rows {
                // Whether there is a row is known beneath it, too.
                LogicalPlan::Limit(limit) if keeps_a_row(limit)? => reader.of_each_below(rows)?,
                _ => reader.of_each(rows)?,
            };
            Ok(written(subquery, rows).update_data(|subquery| Expr::Exists(Exists { subquery, negated })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// How the rows of a subquery are read that reads from outside.
struct Reader<'a> {
    outside: &'a [Expr],
    /// Whether DataFusion leaves out limits that it does not move.
    drops_limits: bool,
    config: &'a dyn OptimizerConfig,
}

impl<'a> Reader<'a> {
    fn of(subquery: &'a Subquery, config: &'a dyn OptimizerConfig) -> Self {
        Self { outside: &subquery.outer_ref_columns, drops_limits: false, config }
    }

    /// The rows with each limit and window above a condition that reads from outside as one for each value that is compared.
    fn of_each(&self, rows: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        rows.transform_up(|node| {
            if !reads(&node, self.outside) {
                return Ok(Transformed::no(node));
            }
            let written = match &node {
                LogicalPlan::Limit(limit) => numbered(limit, self.config)?,
                LogicalPlan::Window(window) => partitioned(window, self.config)?,
                _ => return Ok(Transformed::no(node)),
            };
            match written {
                Some(rows) => Ok(Transformed::yes(rows)),
                // The condition would be moved above it.
                None if self.drops_limits || matches!(node, LogicalPlan::Window(_)) => Err(refused_subquery()),
                None => Ok(Transformed::no(node)),
            }
        })
    }

    /// The same of what is beneath the outermost limit.
    fn of_each_below(&self, rows: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match rows {
            LogicalPlan::Limit(limit) => {
                let input = self.of_each(limit.input.as_ref().clone())?;
                Ok(input.update_data(|input| LogicalPlan::Limit(Limit { input: Arc::new(input), ..limit })))
            }
            other => self.of_each(other),
        }
    }
}

/// Functions over windows of the rows that are compared with one value; `None` where none is compared so.
fn partitioned(window: &Window, config: &dyn OptimizerConfig) -> Result<Option<LogicalPlan>> {
    if window.window_expr.iter().any(Expr::contains_outer) {
        return Ok(None);
    }
    let Some((rows, keys)) = lifted(&window.input, config)?.filter(|(_, keys)| !keys.is_empty()) else {
        return Ok(None);
    };
    let by = |part: Expr| match part {
        Expr::WindowFunction(mut function) => {
            function.params.partition_by.extend(keys.iter().map(|key| Expr::Column(key.column.clone())));
            Ok(Transformed::yes(Expr::WindowFunction(function)))
        }
        other => Ok(Transformed::no(other)),
    };
    let functions = window.window_expr.iter().map(|function| Ok(function.clone().transform_up(by)?.data));
    let functions: Vec<Expr> = functions.collect::<Result<_>>()?;
    let computed = LogicalPlan::Window(Window::try_new(functions.clone(), Arc::new(rows))?);
    let name = |function: &Expr| function.schema_name().to_string();
    let named = functions.iter().zip(&window.window_expr);
    let named = named.map(|(now, before)| Expr::Column(Column::from_name(name(now))).alias(name(before)));
    let columns = window.input.schema().columns().into_iter().map(Expr::Column).chain(named).collect();
    let Some(condition) = conjunction(keys.into_iter().map(Key::equal)) else { return Ok(None) };
    let kept = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(computed))?);
    Ok(Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(kept))?)))
}

/// The rows of a limit, and in which order they are.
struct Cut<'a> {
    /// The rows that are ordered.
    rows: &'a LogicalPlan,
    order: Vec<SortExpr>,
    /// What is selected of them, the innermost last.
    selected: Vec<&'a Projection>,
    skip: usize,
    fetch: Option<usize>,
}

impl<'a> Cut<'a> {
    /// `None` where the limit is no number, or leaves no row.
    fn of(limit: &'a Limit) -> Result<Option<Self>> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Ok(None);
        };
        if fetch == Some(0) {
            return Ok(None);
        }
        let mut selected = Vec::new();
        let mut rows = limit.input.as_ref();
        while let LogicalPlan::Projection(projection) = rows {
            selected.push(projection);
            rows = &projection.input;
        }
        Ok(Some(match rows {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                Self { rows: &sort.input, order: sort.expr.clone(), selected, skip, fetch }
            }
            _ => Self { rows: &limit.input, order: vec![], selected: vec![], skip, fetch },
        }))
    }
}

/// The value of a subquery that is cut to one row, as that of a group. The limit stays where nothing beneath it reads from outside.
fn one_value(rows: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Limit(limit) = &rows else { return Ok(Transformed::no(rows)) };
    let Some(cut) = Cut::of(limit)?.filter(|cut| cut.fetch == Some(1)) else { return Ok(Transformed::no(rows)) };
    if rows.all_out_ref_exprs().is_empty() || rows.schema().fields().len() != 1 {
        return Ok(Transformed::no(rows));
    }
    // An aggregate of all that is found has a row where nothing is.
    if is_one_row(&limit.input) {
        return if cut.skip == 0 { unordered(&limit.input).map(Transformed::yes) } else { Err(refused_subquery()) };
    }
    let value = match &cut.selected[..] {
        [] => Some(None),
        [projection] => Some(Some(projection.expr[0].clone().unalias_nested().data)),
        _ => None,
    };
    let group = match value {
        // Other comparisons than equality are made for each row.
        Some(value) => {
            let plain = || is_plain(cut.rows).then(|| cut.rows.clone());
            let Some(input) = compared(cut.rows, config)?.or_else(plain) else { return Ok(Transformed::no(rows)) };
            let value = value.unwrap_or_else(|| Expr::Column(Column::from(cut.rows.schema().qualified_field(0))));
            first_of_group(input, Some(value), cut.order, cut.skip, config)?
        }
        // A row for each value at most.
        None => match numbered(limit, config)? {
            Some(rows) => first_of_group(rows, None, vec![], 0, config)?,
            None => return Ok(Transformed::no(rows)),
        },
    };
    Ok(Transformed::yes(group))
}

/// The one row, which no order says anything of.
fn unordered(row: &LogicalPlan) -> Result<LogicalPlan> {
    Ok(match row {
        LogicalPlan::Sort(sort) => unordered(&sort.input)?,
        LogicalPlan::Projection(projection) => {
            let input = Arc::new(unordered(&projection.input)?);
            LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), input)?)
        }
        other => other.clone(),
    })
}

/// Whether nothing but conditions and choices of columns stands between the rows and what reads from outside.
fn is_plain(rows: &LogicalPlan) -> bool {
    match rows {
        _ if rows.all_out_ref_exprs().is_empty() => true,
        LogicalPlan::Filter(filter) => is_plain(&filter.input),
        LogicalPlan::Projection(projection) => is_plain(&projection.input),
        LogicalPlan::SubqueryAlias(named) => is_plain(&named.input),
        _ => false,
    }
}

/// The value (that of the first column where none is said) of one of the rows in their order, as a group.
fn first_of_group(
    rows: LogicalPlan,
    value: Option<Expr>,
    order: Vec<SortExpr>,
    skip: usize,
    config: &dyn OptimizerConfig,
) -> Result<LogicalPlan> {
    let value = value.unwrap_or_else(|| Expr::Column(Column::from(rows.schema().qualified_field(0))));
    let function = match skip {
        0 => first_value_udaf().call(vec![value]),
        skip => nth_value_udaf().call(vec![value, lit(i64::try_from(skip).unwrap_or(i64::MAX).saturating_add(1))]),
    };
    let function = if order.is_empty() { function } else { function.order_by(order).build()? };
    let name = Column::from_name(function.schema_name().to_string());
    let groups = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(rows), vec![], vec![function])?);
    // What is compared may be the value itself, and has its name.
    let named = Expr::Column(name).alias(config.alias_generator().next("__first"));
    Ok(LogicalPlan::Projection(Projection::try_new(vec![named], Arc::new(groups))?))
}

/// The rows with a limit that stands beneath what is selected of them above it.
fn limited_last(rows: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = &rows else { return Ok(rows) };
    let LogicalPlan::Limit(limit) = limited_last(projection.input.as_ref().clone())? else { return Ok(rows) };
    let selected = Projection::try_new(projection.expr.clone(), limit.input)?;
    Ok(LogicalPlan::Limit(Limit { input: Arc::new(LogicalPlan::Projection(selected)), ..limit }))
}

/// The rows with all that they compare with the outside in one condition above them; `None` where they do more than to ask whether it is equal.
fn compared(rows: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Option<LogicalPlan>> {
    let Some((rows, keys)) = lifted(rows, config)? else { return Ok(None) };
    let Some(condition) = conjunction(keys.into_iter().map(Key::equal)) else { return Ok(None) };
    Ok(Some(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(rows))?)))
}

/// The rows of a limit by their number among those that are compared with one value; `None` where none is compared so.
fn numbered(limit: &Limit, config: &dyn OptimizerConfig) -> Result<Option<LogicalPlan>> {
    let Some(cut) = Cut::of(limit)? else { return Ok(None) };
    let Some((rows, keys)) = lifted(cut.rows, config)?.filter(|(_, keys)| !keys.is_empty()) else { return Ok(None) };
    let columns = keys.iter().map(|key| Expr::Column(key.column.clone())).collect();
    let number = row_number().partition_by(columns).order_by(cut.order).build()?;
    let place = Expr::Column(Column::from_name(number.schema_name().to_string()));
    let window = LogicalPlan::Window(Window::try_new(vec![number], Arc::new(rows))?);
    let count = |rows: usize| lit(u64::try_from(rows).unwrap_or(u64::MAX));
    let mut conditions: Vec<Expr> = Vec::new();
    if cut.skip > 0 {
        conditions.push(place.clone().gt(count(cut.skip)));
    }
    if let Some(fetch) = cut.fetch {
        conditions.push(place.lt_eq(count(cut.skip.saturating_add(fetch))));
    }
    conditions.extend(keys.into_iter().map(Key::equal));
    let Some(condition) = conjunction(conditions) else { return Ok(None) };
    let kept = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(window))?);
    let columns = cut.rows.schema().columns().into_iter().map(Expr::Column).collect();
    let mut rows = Projection::try_new(columns, Arc::new(kept))?;
    for projection in cut.selected.into_iter().rev() {
        rows = Projection::try_new(projection.expr.clone(), Arc::new(LogicalPlan::Projection(rows)))?;
    }
    Ok(Some(LogicalPlan::Projection(rows)))
}

/// A column that is compared with what is outside.
struct Key {
    column: Column,
    outside: Expr,
}

impl Key {
    fn equal(self) -> Expr {
        Expr::Column(self.column).eq(self.outside)
    }
}

/// The rows without their conditions that read from outside, and with what those compare; `None` where they do more than to ask whether it is equal.
fn lifted(rows: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Option<(LogicalPlan, Vec<Key>)>> {
    if rows.all_out_ref_exprs().is_empty() {
        return Ok(Some((rows.clone(), vec![])));
    }
    let input = match rows {
        LogicalPlan::Filter(filter) => &filter.input,
        LogicalPlan::Projection(projection) => &projection.input,
        LogicalPlan::SubqueryAlias(named) => &named.input,
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
        LogicalPlan::Distinct(Distinct::All(input)) => input,
        LogicalPlan::Aggregate(groups) if is_by_columns(groups) => &groups.input,
        _ => return Ok(None),
    };
    let Some((input, mut keys)) = lifted(input, config)? else { return Ok(None) };
    let columns = |keys: &[Key]| keys.iter().map(|key| Expr::Column(key.column.clone())).collect::<Vec<_>>();
    Ok(Some(match rows {
        LogicalPlan::Filter(filter) => match without_outside(filter, input, &mut keys, config)? {
            Some(rows) => (rows, keys),
            None => return Ok(None),
        },
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(Expr::contains_outer) => {
            let selected = projection.expr.iter().cloned().chain(columns(&keys)).collect();
            (LogicalPlan::Projection(Projection::try_new(selected, Arc::new(input))?), keys)
        }
        LogicalPlan::SubqueryAlias(named) => {
            keys.iter_mut().for_each(|key| key.column.relation = Some(named.alias.clone()));
            let named = SubqueryAlias::try_new(Arc::new(input), named.alias.clone())?;
            (LogicalPlan::SubqueryAlias(named), keys)
        }
        LogicalPlan::Sort(sort) => (LogicalPlan::Sort(Sort { input: Arc::new(input), ..sort.clone() }), keys),
        LogicalPlan::Distinct(_) => (LogicalPlan::Distinct(Distinct::All(Arc::new(input))), keys),
        LogicalPlan::Aggregate(groups) => {
            let by = groups.group_expr.iter().cloned().chain(columns(&keys)).collect();
            let groups = Aggregate::try_new(Arc::new(input), by, groups.aggr_expr.clone())?;
            (LogicalPlan::Aggregate(groups), keys)
        }
        _ => return Ok(None),
    }))
}

/// Groups of which there are none without rows.
fn is_by_columns(groups: &Aggregate) -> bool {
    let own = |expr: &Expr| !matches!(expr, Expr::GroupingSet(_)) && !expr.contains_outer();
    !groups.group_expr.is_empty() && groups.group_expr.iter().chain(&groups.aggr_expr).all(own)
}

/// The rows that the filter's own conditions keep, with a column for each thing that is compared with the outside.
fn without_outside(
    filter: &Filter,
    input: LogicalPlan,
    keys: &mut Vec<Key>,
    config: &dyn OptimizerConfig,
) -> Result<Option<LogicalPlan>> {
    let mut own = Vec::new();
    let mut compared = Vec::new();
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        if asks_beyond(&condition, &input)? {
            return Ok(None);
        }
        if !condition.contains_outer() {
            own.push(condition);
            continue;
        }
        let Some(pair) = equal(condition) else { return Ok(None) };
        compared.push(pair);
    }
    let rows = match conjunction(own) {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(input))?),
        None => input,
    };
    let mut columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    for (inside, outside) in compared {
        let name = config.alias_generator().next("__first");
        // Of the two zeros, which are equal, it makes one.
        let inside = match inside.get_type(rows.schema())? {
            float if float.is_floating() => inside + Expr::Literal(ScalarValue::new_zero(&float)?, None),
            _ => inside,
        };
        columns.push(inside.alias(&name));
        keys.push(Key { column: Column::from_name(name), outside });
    }
    Ok(Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(rows))?)))
}

/// What is compared on the inside, and with what on the outside, where the condition asks whether they are equal.
fn equal(condition: Expr) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let inside = |expr: &Expr| !expr.contains_outer() && !expr.is_volatile() && !expr.column_refs().is_empty();
    let outside = |expr: &Expr| expr.contains_outer() && !expr.is_volatile() && expr.column_refs().is_empty();
    if inside(&left) && outside(&right) {
        Some((*left, *right))
    } else if inside(&right) && outside(&left) {
        Some((*right, *left))
    } else {
        None
    }
}
