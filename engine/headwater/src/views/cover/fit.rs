//! Whether a view has what a query block asks for, and how it is read out of the view.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_fn::cast;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator};

use super::block::Block;
use super::implied::implies;

/// Whether a view answers a query block.
pub(super) enum Fit {
    /// It does: the plan over the view, and in a few words how.
    Answers(LogicalPlan, &'static str),
    /// It does not, and why. `close` where it reads what the block reads.
    Not { close: bool, why: String },
}

/// One attempt to read a block out of a view.
struct Attempt<'a> {
    query: &'a Block,
    view: &'a Block,
    /// Columns that are equal in every row of the view: each one's representative.
    equal: Vec<(Expr, Expr)>,
    /// What the view's columns hold, and the column.
    held: Vec<(Expr, Expr)>,
    /// The view's columns.
    columns: &'a DFSchema,
}

/// Why something can't be read out of a view, in words.
type Found<T> = std::result::Result<T, String>;

/// Reads `query`, whose plan has this schema, out of a view whose query is `view` and whose rows `scan` reads.
pub(super) fn fit(query: &Block, schema: &DFSchema, view: &Block, scan: &LogicalPlan) -> Result<Fit> {
    if query.leaves != view.leaves {
        return Ok(Fit::Not { close: false, why: "no part of the query joins just what it reads".to_owned() });
    }
    let equal = equalities(view);
    let columns = scan.schema().columns();
    let held = view.outputs.iter().map(|output| represented(output, &equal)).zip(columns.into_iter().map(Expr::Column));
    let attempt = Attempt { query, view, held: held.collect(), equal, columns: scan.schema() };
    match attempt.read(schema, scan)? {
        Ok((plan, how)) => Ok(Fit::Answers(plan, how)),
        Err(why) => Ok(Fit::Not { close: true, why }),
    }
}

impl Attempt<'_> {
    fn read(&self, schema: &DFSchema, scan: &LogicalPlan) -> Result<Found<(LogicalPlan, &'static str)>> {
        let filters = match self.filters() {
            Ok(filters) => filters,
            Err(why) => return Ok(Err(why)),
        };
        let narrowed = !filters.is_empty();
        let mut plan = LogicalPlanBuilder::from(scan.clone());
        if let Some(filter) = conjunction(filters) {
            plan = plan.filter(filter)?;
        }
        let grouping = match self.grouping() {
            Ok(grouping) => grouping,
            Err(why) => return Ok(Err(why)),
        };
        let (plan, how) = match grouping {
            // Of no rows at all a query without GROUP BY still has an answer.
            Grouping::AsHeld if narrowed && self.query.group.as_ref().is_some_and(Vec::is_empty) => {
                return Ok(Err("it holds one row about all rows, and the query asks about a part of them".to_owned()));
            }
            Grouping::AsHeld => {
                let outputs = self.query.outputs.iter().map(|output| self.held_as(output)).collect::<Found<Vec<_>>>();
                let having = self.having().iter().map(|part| self.held_as(part)).collect::<Found<Vec<_>>>();
                let (outputs, having) = match (outputs, having) {
                    (Ok(outputs), Ok(having)) => (outputs, having),
                    (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
                };
                if let Some(having) = conjunction(having) {
                    plan = plan.filter(having)?;
                }
                (project(plan, outputs, schema)?, if narrowed { "a part of its rows" } else { "its rows" })
            }
            Grouping::Anew(group) => match self.group_anew(plan, &group, schema)? {
                Ok(plan) => (plan, "its rows, grouped"),
                Err(why) => return Ok(Err(why)),
            },
        };
        Ok(Ok((plan, how)))
    }

    /// What the view's rows must satisfy beyond what they all do, over its columns.
    fn filters(&self) -> Found<Vec<Expr>> {
        let equal = equalities(self.query);
        let given: Vec<Expr> = self.query.filters.iter().map(|part| represented(part, &equal)).collect();
        let holds = |wanted: &Expr| match column_equality(wanted) {
            Some((left, right)) => represented(left, &equal) == represented(right, &equal),
            None => {
                let wanted = represented(wanted, &equal);
                given.iter().any(|given| implies(given, &wanted))
            }
        };
        if let Some(missing) =
            self.view.filters.iter().find(|wanted| !self.query.filters.contains(wanted) && !holds(wanted))
        {
            return Err(format!("it holds only rows with {}, and the query does not ask for that", said(missing)));
        }
        let rest = self.query.filters.iter().filter(|part| !self.view.filters.contains(part));
        rest.map(|part| self.held_of_rows(part)).collect()
    }

    fn grouping(&self) -> Found<Grouping> {
        let of = |block: &Block| -> Option<Vec<Expr>> {
            let group = block.group.as_ref()?;
            Some(group.iter().map(|part| represented(part, &self.equal)).collect())
        };
        match (of(self.query), of(self.view)) {
            (None, None) => Ok(Grouping::AsHeld),
            (Some(group), None) => Ok(Grouping::Anew(group)),
            (None, Some(_)) => Err("it is grouped, and the query is not".to_owned()),
            (Some(query), Some(view)) => {
                let same = query.iter().all(|part| view.contains(part)) && view.iter().all(|part| query.contains(part));
                if same {
                    let missing = self
                        .view
                        .having
                        .iter()
                        .find(|wanted| !self.query.having.iter().any(|given| implies(given, wanted)));
                    return match missing {
                        Some(missing) => Err(format!("it holds only groups with {}", said(missing))),
                        None => Ok(Grouping::AsHeld),
                    };
                }
                if let Some(first) = self.view.having.first() {
                    return Err(format!("it holds only groups with {}, so others can't be made of them", said(first)));
                }
                Ok(Grouping::Anew(query))
            }
        }
    }

    /// What groups must satisfy beyond what the view's all do.
    fn having(&self) -> Vec<&Expr> {
        self.query.having.iter().filter(|part| !self.view.having.contains(part)).collect()
    }

    fn group_anew(&self, plan: LogicalPlanBuilder, group: &[Expr], schema: &DFSchema) -> Result<Found<LogicalPlan>> {
        let mut keys = Vec::new();
        for (index, part) in group.iter().enumerate() {
            match self.held_of_rows(part) {
                Ok(part) => keys.push(part.alias(format!("g{index}"))),
                Err(why) => return Ok(Err(why)),
            }
        }
        let mut asked: Vec<AggregateFunction> = Vec::new();
        for expression in self.query.outputs.iter().chain(&self.query.having) {
            expression.apply(|part| {
                if let Expr::AggregateFunction(call) = part
                    && !asked.contains(call)
                {
                    asked.push(call.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        let (mut computed, mut results) = (Vec::new(), Vec::new());
        for (index, call) in asked.iter().enumerate() {
            let name = format!("a{index}");
            let result = Expr::Column(Column::from_name(&name));
            let (partial, result) = match self.view.group {
                None => match self.over_rows(call) {
                    Ok(partial) => (partial, result),
                    Err(why) => return Ok(Err(why)),
                },
                Some(_) => match self.over_groups(call, result, group.is_empty()) {
                    Ok(found) => found,
                    Err(why) => return Ok(Err(why)),
                },
            };
            computed.push(partial.alias(name));
            results.push((Expr::AggregateFunction(call.clone()), result));
        }
        let groups = group
            .iter()
            .enumerate()
            .map(|(index, part)| (part.clone(), Expr::Column(Column::from_name(format!("g{index}")))));
        let found: Vec<(Expr, Expr)> = groups.chain(results).collect();
        let mut plan = plan.aggregate(keys, computed)?;
        let read = |part: &Expr| replaced(&represented(part, &self.equal), &found).or_else(|_| replaced(part, &found));
        let having = self.query.having.iter().map(read).collect::<Found<Vec<_>>>();
        let outputs = self.query.outputs.iter().map(read).collect::<Found<Vec<_>>>();
        match (having, outputs) {
            (Ok(having), Ok(outputs)) => {
                if let Some(having) = conjunction(having) {
                    plan = plan.filter(having)?;
                }
                Ok(Ok(project(plan, outputs, schema)?))
            }
            (Err(why), _) | (_, Err(why)) => Ok(Err(why)),
        }
    }

    /// An aggregate over the rows of a view that has them all, or over the keys of its groups.
    fn over_rows(&self, call: &AggregateFunction) -> Found<Expr> {
        let mut call = call.clone();
        let read = |part: &Expr| self.held_of_rows(part);
        // An aggregate may tell zeros apart by itself, as min and count(DISTINCT) do.
        let value = |part: &Expr| match self.held_as(part)? {
            held if self.view.group.is_some() && self.reads_floats(&held) => Err(has_one_group_of_zeros(part)),
            held => Ok(held),
        };
        call.params.args = call.params.args.iter().map(value).collect::<Found<_>>()?;
        if let Some(filter) = call.params.filter.take() {
            call.params.filter = Some(Box::new(read(&filter)?));
        }
        for sort in &mut call.params.order_by {
            sort.expr = read(&sort.expr)?;
        }
        Ok(Expr::AggregateFunction(call))
    }

    /// An aggregate over all rows, made of what a view holds of groups of them: what is computed over the groups, and the result out of it.
    fn over_groups(&self, call: &AggregateFunction, result: Expr, is_global: bool) -> Found<(Expr, Expr)> {
        let name = call.func.name();
        let cannot = |why: &str| {
            Err(format!("{} can't be made of its groups: {why}", said(&Expr::AggregateFunction(call.clone()))))
        };
        // What takes each value once takes it from the groups too, if they are grouped by it.
        let idempotent = matches!(name, "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or");
        if call.params.filter.is_none() && call.params.order_by.is_empty() && (idempotent || call.params.distinct) {
            let over_keys = self.over_rows(call);
            if let Ok(over_keys) = over_keys {
                return Ok((over_keys, result));
            }
            if call.params.distinct && !idempotent {
                return cannot("it counts each value once, and the view is not grouped by it");
            }
        }
        let held = self.held_as(&represented(&Expr::AggregateFunction(call.clone()), &self.equal));
        let Ok(held) = held else {
            return cannot(if name == "avg" {
                "keep sum and count and divide"
            } else {
                "it does not hold it by group"
            });
        };
        match name {
            "count" if !call.params.distinct => {
                let zero = Expr::Literal(ScalarValue::Int64(Some(0)), None);
                let result = if is_global { coalesce(vec![result, zero]) } else { result };
                Ok((sum(held), result))
            }
            "sum" if held.get_type(self.columns).is_ok_and(|kind| kind.is_floating()) => {
                cannot("a sum of floating-point numbers depends on their order")
            }
            "sum" if !call.params.distinct => Ok((sum(held), result)),
            _ if idempotent => {
                let mut over = call.clone();
                over.params.args = vec![held];
                over.params.filter = None;
                Ok((Expr::AggregateFunction(over), result))
            }
            "avg" => cannot("keep sum and count and divide"),
            _ => cannot("it is not known how"),
        }
    }

    /// What is computed of the rows, or for a grouped view of its keys. Floating-point keys 0.0 and -0.0 are one group, so nothing that tells them apart
    /// can be computed of it.
    fn held_of_rows(&self, expression: &Expr) -> Found<Expr> {
        let held = self.held_as(expression)?;
        match self.view.group.is_some() && self.tells_zeros_apart(&held) {
            true => Err(has_one_group_of_zeros(expression)),
            false => Ok(held),
        }
    }

    fn tells_zeros_apart(&self, held: &Expr) -> bool {
        match held {
            Expr::Column(_) => false,
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if has_one_zero(*op) => {
                self.tells_zeros_apart(left) || self.tells_zeros_apart(right)
            }
            Expr::Not(part) | Expr::IsNull(part) | Expr::IsNotNull(part) => self.tells_zeros_apart(part),
            other => self.reads_floats(other),
        }
    }

    fn reads_floats(&self, held: &Expr) -> bool {
        let is_float =
            |column| self.columns.field_from_column(column).is_ok_and(|field| field.data_type().is_floating());
        held.column_refs().into_iter().any(is_float)
    }

    fn held_as(&self, expression: &Expr) -> Found<Expr> {
        replaced(&represented(expression, &self.equal), &self.held)
    }
}

enum Grouping {
    /// The view's rows are the query's, or some of them.
    AsHeld,
    /// They are grouped by these expressions.
    Anew(Vec<Expr>),
}

/// The block's columns under the names, and of the types, of the plan that it stands for.
fn project(plan: LogicalPlanBuilder, outputs: Vec<Expr>, schema: &DFSchema) -> Result<LogicalPlan> {
    let mut columns = Vec::new();
    for (output, (qualifier, field)) in outputs.into_iter().zip(schema.iter()) {
        let same = output.get_type(plan.schema())? == *field.data_type();
        let output = if same { output } else { cast(output, field.data_type().clone()) };
        columns.push(output.alias_qualified(qualifier.cloned(), field.name().as_str()));
    }
    plan.project(columns)?.build()
}

/// An expression with what is found in the place of what it is computed from; fails at a column that is not.
fn replaced(expression: &Expr, found: &[(Expr, Expr)]) -> Found<Expr> {
    let mut missing = None;
    let replaced = expression.clone().transform_down(|part| {
        if let Some((_, column)) = found.iter().find(|(held, _)| *held == part) {
            return Ok(Transformed::new(column.clone(), true, TreeNodeRecursion::Jump));
        }
        if matches!(part, Expr::Column(_) | Expr::AggregateFunction(_)) {
            missing = Some(said(&part));
            return Ok(Transformed::new(part, false, TreeNodeRecursion::Stop));
        }
        Ok(Transformed::no(part))
    });
    match (replaced, missing) {
        (Ok(replaced), None) => Ok(replaced.data),
        (_, Some(missing)) => Err(format!("it does not hold {missing}")),
        (Err(error), None) => Err(error.to_string()),
    }
}

fn has_one_group_of_zeros(expression: &Expr) -> String {
    format!("0.0 and -0.0 are one group of it, and {} may tell them apart", said(expression))
}

/// Whether what the operator says is the same of 0.0 and of -0.0.
fn has_one_zero(op: Operator) -> bool {
    use Operator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
    matches!(op, And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// Columns of one type that a filter makes equal. Floating-point numbers are left out: 0.0 equals -0.0 and is another value.
fn equalities(block: &Block) -> Vec<(Expr, Expr)> {
    let mut equal: Vec<(Expr, Expr)> = Vec::new();
    for filter in &block.filters {
        let Some((left, right)) = column_equality(filter) else { continue };
        if block.floating.contains(left) || block.floating.contains(right) {
            continue;
        }
        let (one, other) = (represented(left, &equal), represented(right, &equal));
        if one != other {
            equal.iter_mut().filter(|(_, stands)| *stands == other).for_each(|(_, stands)| *stands = one.clone());
            equal.push((other, one));
        }
    }
    equal
}

fn column_equality(condition: &Expr) -> Option<(&Expr, &Expr)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right })
            if matches!((&**left, &**right), (Expr::Column(_), Expr::Column(_))) =>
        {
            Some((left, right))
        }
        _ => None,
    }
}

fn represented(expression: &Expr, equal: &[(Expr, Expr)]) -> Expr {
    let replaced = expression.clone().transform_up(|part| {
        let stands = equal.iter().find(|(column, _)| *column == part);
        Ok(stands.map_or_else(|| Transformed::no(part), |(_, stands)| Transformed::yes(stands.clone())))
    });
    replaced.map_or_else(|_| expression.clone(), |replaced| replaced.data)
}

/// An expression in words: columns without their leaves.
fn said(expression: &Expr) -> String {
    let bare = expression.clone().transform_up(|part| {
        Ok(match part {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    bare.map_or_else(|_| expression.to_string(), |bare| bare.data.to_string())
}
