//! The normal form of a query block, by which a query is held against a view.
//!
//! A block is inner joins over leaves, filters, at most one GROUP BY, filters above that, and outputs. Every expression in it speaks of the
//! columns of leaves, so aliases, the order of joins, nested SELECTs and where a filter stands make no difference. What has no such form (outer
//! joins aside, which are leaves made of two blocks) is a leaf by itself: two of them are equal where their plans are, over the same tables.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result, TableReference};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Aggregate, BinaryExpr, Distinct, Expr, Join, LogicalPlan, Operator, TableScan};
use headwater_federation::RemoteTable;

use crate::views::table::ViewTable;

/// A query block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    /// What is joined, in the order of their names.
    pub(super) leaves: Vec<Leaf>,
    /// What rows must satisfy, joins' conditions among it; each once.
    pub(super) filters: Vec<Expr>,
    /// By what rows are grouped, where they are.
    pub(super) group: Option<Vec<Expr>>,
    /// What groups must satisfy.
    pub(super) having: Vec<Expr>,
    /// The columns, in the order of the plan's schema; over groups and aggregates where there are groups.
    pub(super) outputs: Vec<Expr>,
    /// The leaves' columns of floating-point numbers, of which equal ones need not be the same.
    pub(super) floating: Vec<Expr>,
}

/// What a block joins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leaf {
    /// What its columns are qualified with; no other leaf of the block has it.
    name: String,
    what: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// A table of a service, or a view: `schema.table`.
    Table(String),
    Outer(Box<Outer>),
    /// Anything else: the plan, which does not tell apart tables of one name in two schemas, and so the tables too.
    Plan(Box<LogicalPlan>, Vec<String>),
}

/// An outer, semi or anti join of two blocks; their outputs are no part of what it is.
#[derive(Debug, Clone, PartialEq)]
struct Outer {
    kind: JoinType,
    left: Block,
    right: Block,
    conditions: Vec<Expr>,
}

/// Names leaves: the same leaf twice in one block is numbered.
#[derive(Debug)]
struct Namer {
    prefix: String,
    seen: BTreeMap<String, usize>,
}

impl Block {
    /// The normal form of a plan that is analyzed and simplified.
    pub(super) fn of(plan: &LogicalPlan) -> Result<Self> {
        block(plan, &mut Namer::new(""))
    }

    fn sorted(mut self) -> Self {
        self.leaves.sort_by(|one, other| one.name.cmp(&other.name));
        for expressions in [&mut self.filters, &mut self.having] {
            expressions.sort_by_key(|expression| format!("{expression:?}"));
            expressions.dedup();
        }
        self
    }

    /// What this plan's schema calls a column, in terms of the leaves.
    fn expression(&self, expression: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
        let mut known = true;
        let replaced = expression.clone().transform_down(|part| match &part {
            Expr::Column(column) => match schema.maybe_index_of_column(column) {
                Some(index) => Ok(Transformed::new(self.outputs[index].clone(), true, TreeNodeRecursion::Jump)),
                None => {
                    known = false;
                    Ok(Transformed::new(part, false, TreeNodeRecursion::Stop))
                }
            },
            Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::WindowFunction(_)
            | Expr::GroupingSet(_)
            | Expr::Unnest(_)
            | Expr::Placeholder(_) => {
                known = false;
                Ok(Transformed::new(part, false, TreeNodeRecursion::Stop))
            }
            _ => Ok(Transformed::no(part)),
        })?;
        Ok(known.then_some(replaced.data.unalias_nested().data))
    }

    fn expressions(&self, expressions: &[Expr], schema: &DFSchema) -> Result<Option<Vec<Expr>>> {
        expressions.iter().map(|expression| self.expression(expression, schema)).collect()
    }
}

impl Namer {
    fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), seen: BTreeMap::new() }
    }

    fn name(&mut self, name: &str) -> String {
        let count = self.seen.entry(name.to_owned()).or_default();
        *count += 1;
        format!("{}{name}#{count}", self.prefix)
    }
}

/// The parts of a conjunction, an equality with its sides in a fixed order.
pub(super) fn conjuncts(expression: Expr) -> Vec<Expr> {
    split_conjunction_owned(expression).into_iter().map(ordered).collect()
}

/// `schema.table` of what a scan reads: a table of a service or a view.
pub(super) fn scanned(scan: &TableScan) -> Option<String> {
    let provider = source_as_provider(&scan.source).ok()?;
    if let Some(table) = provider.downcast_ref::<RemoteTable>() {
        return Some(format!("{}.{}", table.service().name(), table.name()));
    }
    provider.downcast_ref::<ViewTable>().map(|view| view.name.to_string())
}

/// All that a plan scans, in the order of the plan.
pub(super) fn tables(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.push(scanned(scan).unwrap_or_else(|| format!("?{}", scan.table_name)));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

fn ordered(expression: Expr) -> Expr {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right })
            if format!("{left:?}") > format!("{right:?}") && !matches!(*right, Expr::Literal(..)) =>
        {
            Expr::BinaryExpr(BinaryExpr { left: right, op: Operator::Eq, right: left })
        }
        other => other,
    }
}

fn block(plan: &LogicalPlan, namer: &mut Namer) -> Result<Block> {
    let found = match plan {
        LogicalPlan::TableScan(scan) => table(scan, namer),
        LogicalPlan::SubqueryAlias(alias) => Some(block(&alias.input, namer)?),
        LogicalPlan::Projection(projection) => {
            let input = block(&projection.input, namer)?;
            let outputs = input.expressions(&projection.expr, projection.input.schema())?;
            outputs.map(|outputs| Block { outputs, ..input })
        }
        LogicalPlan::Filter(filter) => {
            let mut input = block(&filter.input, namer)?;
            input.expression(&filter.predicate, filter.input.schema())?.map(|predicate| {
                let place = if input.group.is_some() { &mut input.having } else { &mut input.filters };
                place.extend(conjuncts(predicate));
                input.sorted()
            })
        }
        LogicalPlan::Join(join) => joined(join, namer)?,
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate, namer)?,
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let input = block(input, namer)?;
            input.group.is_none().then(|| Block { group: Some(unique(&input.outputs)), ..input })
        }
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => opaque(plan, namer),
    }
}

fn table(scan: &TableScan, namer: &mut Namer) -> Option<Block> {
    if scan.fetch.is_some() {
        return None;
    }
    let table = scanned(scan)?;
    let name = namer.name(&table);
    let outputs = scan.projected_schema.fields().iter().map(|field| column(&name, field.name())).collect();
    let mut leaf =
        Block::leaf(Leaf { name: name.clone(), what: Source::Table(table) }, outputs, &scan.projected_schema);
    // What was moved into the scan speaks of the table's columns.
    for filter in &scan.filters {
        let of_leaf = filter.clone().transform_down(|part| match part {
            Expr::Column(inner) => Ok(Transformed::new(column(&name, &inner.name), true, TreeNodeRecursion::Jump)),
            other => Ok(Transformed::no(other)),
        });
        leaf.filters.extend(conjuncts(of_leaf.ok()?.data));
    }
    Some(leaf.sorted())
}

impl Block {
    fn leaf(leaf: Leaf, outputs: Vec<Expr>, schema: &DFSchema) -> Self {
        let columns = outputs.iter().zip(schema.fields());
        let floating = columns.filter(|(_, field)| field.data_type().is_floating()).map(|(column, _)| column.clone());
        let floating = floating.collect();
        Self { leaves: vec![leaf], filters: vec![], group: None, having: vec![], outputs, floating }
    }
}

fn joined(join: &Join, namer: &mut Namer) -> Result<Option<Block>> {
    if join.null_equality != NullEquality::NullEqualsNothing || join.null_aware {
        return Ok(None);
    }
    if join.join_type != JoinType::Inner {
        return outer(join, namer);
    }
    let (left, right) = (block(&join.left, namer)?, block(&join.right, namer)?);
    if left.group.is_some() || right.group.is_some() {
        return Ok(None);
    }
    let Some(conditions) = conditions(join, &left, &right)? else { return Ok(None) };
    let both = Block {
        leaves: [left.leaves, right.leaves].concat(),
        filters: [left.filters, right.filters, conditions].concat(),
        group: None,
        having: vec![],
        outputs: [left.outputs, right.outputs].concat(),
        floating: [left.floating, right.floating].concat(),
    };
    Ok(Some(both.sorted()))
}

fn conditions(join: &Join, left: &Block, right: &Block) -> Result<Option<Vec<Expr>>> {
    let both = Block { outputs: [left.outputs.clone(), right.outputs.clone()].concat(), ..left.clone() };
    let schema = join.left.schema().join(join.right.schema())?;
    let equalities = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let all: Vec<Expr> = equalities.chain(join.filter.clone()).collect();
    let found = both.expressions(&all, &schema)?;
    Ok(found.map(|found| found.into_iter().flat_map(conjuncts).collect()))
}

fn outer(join: &Join, namer: &mut Namer) -> Result<Option<Block>> {
    let (left, right) = (block(&join.left, &mut Namer::new("l "))?, block(&join.right, &mut Namer::new("r "))?);
    let Some(mut conditions) = conditions(join, &left, &right)? else { return Ok(None) };
    conditions.sort_by_key(|condition| format!("{condition:?}"));
    conditions.dedup();
    // With its side, since what one side computes without a column is NULL where the join fills that side up.
    let named = |side: &str, block: &Block| -> Vec<String> {
        block.outputs.iter().map(|output| format!("{side} {output:?}")).collect()
    };
    let shown: Vec<String> = match join.join_type {
        JoinType::Left | JoinType::Right | JoinType::Full => [named("l", &left), named("r", &right)].concat(),
        JoinType::LeftSemi | JoinType::LeftAnti => named("l", &left),
        JoinType::RightSemi | JoinType::RightAnti => named("r", &right),
        _ => return Ok(None),
    };
    let bare = |side: Block| Block { outputs: vec![], floating: vec![], ..side };
    let what = Outer { kind: join.join_type, left: bare(left), right: bare(right), conditions };
    let name = namer.name(&format!("join {:016x}", hash(&format!("{what:?}"))));
    let outputs = shown.iter().map(|output| column(&name, output)).collect();
    Ok(Some(Block::leaf(Leaf { name, what: Source::Outer(Box::new(what)) }, outputs, &join.schema)))
}

fn grouped(aggregate: &Aggregate, namer: &mut Namer) -> Result<Option<Block>> {
    let input = block(&aggregate.input, namer)?;
    if input.group.is_some() {
        return Ok(None);
    }
    let schema = aggregate.input.schema();
    let group = input.expressions(&aggregate.group_expr, schema)?;
    let aggregates = input.expressions(&aggregate.aggr_expr, schema)?;
    let Some((group, aggregates)) = group.zip(aggregates) else { return Ok(None) };
    let outputs = [group.clone(), aggregates].concat();
    Ok(Some(Block { group: Some(unique(&group)), outputs, ..input }))
}

fn opaque(plan: &LogicalPlan, namer: &mut Namer) -> Result<Block> {
    let tables = tables(plan)?;
    let mut hasher = DefaultHasher::new();
    plan.hash(&mut hasher);
    tables.hash(&mut hasher);
    let name = namer.name(&format!("plan {:016x}", hasher.finish()));
    let outputs = (0..plan.schema().fields().len()).map(|index| column(&name, &index.to_string())).collect();
    Ok(Block::leaf(Leaf { name, what: Source::Plan(Box::new(plan.clone()), tables) }, outputs, plan.schema()))
}

fn unique(expressions: &[Expr]) -> Vec<Expr> {
    let mut found: Vec<Expr> = Vec::new();
    for expression in expressions {
        if !found.contains(expression) {
            found.push(expression.clone());
        }
    }
    found
}

fn column(leaf: &str, name: &str) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(leaf)), name))
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
