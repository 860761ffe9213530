//! Whole queries over the tables of one source: the relational algebra that may travel.
//!
//! A [`Relation`] is built bottom up by its constructors, which also work out its [columns](Relation::columns); expressions name
//! the columns of an input by position. Its meaning is the engine's: bags of rows, three-valued logic, groups by the bytes of a
//! value. Whether a source computes all of it just so is for [`Capabilities`](crate::Capabilities) to say, node by node.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::ScalarValue;

use crate::bounds::{ROWS_MAX, fits, magnitude};
use crate::{ColumnDef, CompareOp, Expr, SortKey, TableDef, TableStatistics, ValueClass};

/// A query over tables of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    node: Node,
    columns: Vec<ColumnDef>,
}

/// The operator at the top of a [`Relation`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Node {
    /// A table, with all its columns.
    Table(Arc<TableDef>),
    /// The rows for which every filter is true.
    Filter {
        /// The rows.
        input: Box<Relation>,
        /// The filters; at least one.
        filters: Vec<Expr>,
    },
    /// The rows whose column is one of keys that are not known yet: those of a join whose other side is read first. No statement is made
    /// of it before [`Relation::with_keys`] has put a filter in its place.
    Keyed {
        /// The rows.
        input: Box<Relation>,
        /// The column, by its index in the input.
        column: usize,
    },
    /// One column for each expression.
    Project {
        /// The rows.
        input: Box<Relation>,
        /// The expressions.
        exprs: Vec<Expr>,
    },
    /// A row for each group of rows that agree in all keys; the keys, then the aggregates. Without keys there is one row, and without
    /// aggregates this is DISTINCT.
    Aggregate {
        /// The rows.
        input: Box<Relation>,
        /// The keys.
        keys: Vec<Expr>,
        /// The aggregates.
        aggregates: Vec<Aggregate>,
    },
    /// The pairs of rows for which every condition is true; see [`JoinKind`].
    Join {
        /// Which rows are kept.
        kind: JoinKind,
        /// The left rows.
        left: Box<Relation>,
        /// The right rows.
        right: Box<Relation>,
        /// The conditions, over the left columns followed by the right ones. Empty for a cross join.
        on: Vec<Expr>,
    },
    /// The first rows of an order, or any where there is none.
    Top {
        /// The rows.
        input: Box<Relation>,
        /// The order.
        sort: Vec<SortKey>,
        /// How many rows are left out before the first.
        skip: u64,
        /// The most rows.
        limit: u64,
    },
    /// The rows of all inputs, which have the same types.
    UnionAll(Vec<Relation>),
}

/// What becomes of groups that hold rows of several parts; see [`Relation::part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// They must be whole.
    Whole,
    /// Whoever asks puts them together.
    Merged,
}

/// Which rows a join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JoinKind {
    /// The pairs.
    Inner,
    /// The pairs, and each left row without one beside NULLs.
    Left,
    /// The left rows that have a partner. Only the left columns.
    Semi,
    /// The left rows that have no partner. Only the left columns.
    Anti,
}

/// An aggregate over a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The function.
    pub function: AggregateFunction,
    /// What is aggregated; `None` for `count(*)`.
    pub arg: Option<Expr>,
    /// Only rows for which this is true: FILTER (WHERE ...).
    pub condition: Option<Expr>,
    /// The type that the engine gives the result.
    pub data_type: DataType,
}

/// An aggregate function, meant as the engine computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AggregateFunction {
    /// The number of rows, or of values that are not NULL.
    Count,
    /// The number of different values that are not NULL.
    CountDistinct,
    /// The sum, modulo the width of its type. NULL of nothing.
    Sum,
    /// The least value. NULL of nothing.
    Min,
    /// The greatest value. NULL of nothing.
    Max,
}

/// A query, and how its answer is to be yielded.
#[derive(Debug, Clone)]
pub struct QueryRequest {
    /// The query.
    pub relation: Relation,
    /// The schema of the batches: the types of the relation's columns, under the names and the nullability that the engine has for
    /// them.
    pub schema: SchemaRef,
    /// The most rows of a batch.
    pub batch_rows: usize,
    /// What its source says of the rows of tables that it reads: estimates. A table that is not among them may be anything.
    pub statistics: Vec<(Arc<TableDef>, Arc<TableStatistics>)>,
}

impl QueryRequest {
    /// The relation's columns under the schema's names and nullability: what a reader decodes.
    pub fn columns(&self) -> Vec<ColumnDef> {
        let named = self.schema.fields().iter().zip(self.relation.columns());
        named
            .map(|(field, column)| ColumnDef {
                name: field.name().clone(),
                nullable: field.is_nullable(),
                ..column.clone()
            })
            .collect()
    }
}

impl AggregateFunction {
    /// Every function, in declaration order; for generated documentation and for tests.
    pub const ALL: [Self; 5] = [Self::Count, Self::CountDistinct, Self::Sum, Self::Min, Self::Max];

    /// The function's name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::CountDistinct => "count(DISTINCT)",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

impl Aggregate {
    /// `count(*)`.
    pub fn count_rows() -> Self {
        Self { function: AggregateFunction::Count, arg: None, condition: None, data_type: DataType::Int64 }
    }

    /// What the aggregate is as a column. A sum that may leave its type's range is a [`ValueClass::Total`]; the least and the greatest text is that
    /// of the bytes, which a source may find under another collation than the column's.
    pub fn describe(&self, columns: &[ColumnDef]) -> ColumnDef {
        let computed = || ColumnDef::new("", self.data_type.clone(), "", ValueClass::of_computed(&self.data_type));
        match (self.function, &self.arg) {
            (AggregateFunction::Count | AggregateFunction::CountDistinct, _) => computed().not_null(),
            (AggregateFunction::Min | AggregateFunction::Max, _) if self.data_type == DataType::Utf8 => computed(),
            (AggregateFunction::Min | AggregateFunction::Max, Some(arg)) => {
                ColumnDef { nullable: true, ..arg.describe(columns) }
            }
            (AggregateFunction::Sum, Some(arg)) => {
                let most = magnitude(arg, columns).map(|value| value * ROWS_MAX);
                let bounded = most.is_some_and(|most| fits(most, &self.data_type));
                let class = if bounded { ValueClass::of_computed(&self.data_type) } else { ValueClass::Total };
                ColumnDef { class, ..computed() }
            }
            _ => computed(),
        }
    }
}

impl Relation {
    /// A table.
    pub fn table(table: Arc<TableDef>) -> Self {
        let columns = table.columns.clone();
        Self { node: Node::Table(table), columns }
    }

    /// The rows for which every filter is true.
    pub fn filter(self, filters: Vec<Expr>) -> Self {
        if filters.is_empty() {
            return self;
        }
        let columns = self.columns.clone();
        Self { node: Node::Filter { input: Box::new(self), filters }, columns }
    }

    /// The rows whose column is one of keys to come.
    pub fn keyed(self, column: usize) -> Self {
        let columns = self.columns.clone();
        Self { node: Node::Keyed { input: Box::new(self), column }, columns }
    }

    /// The same with a filter over the rows in place of every [`Node::Keyed`], made of the column that the keys are of.
    pub fn with_keys(&self, filter: &impl Fn(&Self, usize) -> Expr) -> Self {
        let inner = |input: &Self| Box::new(input.with_keys(filter));
        let node = match &self.node {
            Node::Keyed { input, column } => {
                Node::Filter { input: inner(input), filters: vec![filter(input, *column)] }
            }
            Node::Table(table) => Node::Table(Arc::clone(table)),
            Node::Filter { input, filters } => Node::Filter { input: inner(input), filters: filters.clone() },
            Node::Project { input, exprs } => Node::Project { input: inner(input), exprs: exprs.clone() },
            Node::Aggregate { input, keys: by, aggregates } => {
                Node::Aggregate { input: inner(input), keys: by.clone(), aggregates: aggregates.clone() }
            }
            Node::Join { kind, left, right, on } => {
                Node::Join { kind: *kind, left: inner(left), right: inner(right), on: on.clone() }
            }
            Node::Top { input, sort, skip, limit } => {
                Node::Top { input: inner(input), sort: sort.clone(), skip: *skip, limit: *limit }
            }
            Node::UnionAll(inputs) => Node::UnionAll(inputs.iter().map(|input| input.with_keys(filter)).collect()),
        };
        Self { node, columns: self.columns.clone() }
    }

    /// The same with other values: where a filter says that a column equals a value, with the one that `other` has for that. `None` where the query holds a value
    /// elsewhere, or `other` has none.
    pub fn with_values(&self, other: &mut dyn FnMut(&ScalarValue) -> Option<ScalarValue>) -> Option<Self> {
        let (mut with, mut exchanged) = (self.clone(), 0);
        with.exchange(&mut |value| {
            exchanged += 1;
            other(value)
        })?;
        (exchanged == self.literals()).then_some(with)
    }

    fn exchange(&mut self, other: &mut dyn FnMut(&ScalarValue) -> Option<ScalarValue>) -> Option<()> {
        match &mut self.node {
            Node::Filter { input, filters } => {
                for filter in filters {
                    if let Expr::Compare { op: CompareOp::Equal, left, right } = filter
                        && let (Expr::Column(_), Expr::Literal(value)) = (left.as_ref(), right.as_mut())
                    {
                        *value = other(value)?;
                    }
                }
                input.exchange(other)
            }
            Node::Keyed { input, .. }
            | Node::Project { input, .. }
            | Node::Aggregate { input, .. }
            | Node::Top { input, .. } => input.exchange(other),
            Node::Join { left, right, .. } => {
                left.exchange(other)?;
                right.exchange(other)
            }
            Node::UnionAll(inputs) => inputs.iter_mut().try_for_each(|input| input.exchange(other)),
            Node::Table(_) => Some(()),
        }
    }

    /// The same, over only those rows of one of its tables for which the filter (over the table's own columns) is true. The results for
    /// disjoint filters, one after the other, are the result for all of their rows. `None` where they would not be: below a limit, on a
    /// side of a join that is not kept, below groups that hold rows of several parts. Groups at the top are let through where `groups`
    /// says that whoever asks puts them together.
    pub fn part(&self, table: &Arc<TableDef>, filter: &Expr, column: usize, groups: Groups) -> Option<Self> {
        let inner = |input: &Self, groups| Some(Box::new(input.part(table, filter, column, groups)?));
        let node = match &self.node {
            Node::Table(own) if Arc::ptr_eq(own, table) => {
                return Some(self.clone().filter(vec![filter.clone()]));
            }
            Node::Table(_) | Node::Keyed { .. } | Node::Top { .. } | Node::UnionAll(_) => return None,
            // What stands above groups must see them whole.
            Node::Filter { input, filters } => {
                Node::Filter { input: inner(input, Groups::Whole)?, filters: filters.clone() }
            }
            Node::Project { input, exprs } => {
                let chosen = exprs.iter().all(|expr| matches!(expr, Expr::Column(_)));
                let groups = if chosen { groups } else { Groups::Whole };
                Node::Project { input: inner(input, groups)?, exprs: exprs.clone() }
            }
            Node::Aggregate { input, keys, aggregates } => {
                let by_column = keys.iter().any(|key| match key {
                    Expr::Column(index) => {
                        input.origin(*index).is_some_and(|(of, at)| Arc::ptr_eq(of, table) && at == column)
                    }
                    _ => false,
                });
                if !by_column && groups == Groups::Whole {
                    return None;
                }
                let (keys, aggregates) = (keys.clone(), aggregates.clone());
                Node::Aggregate { input: inner(input, Groups::Whole)?, keys, aggregates }
            }
            Node::Join { kind, left, right, on } => {
                let (left, right) = match (left.holds(table), kind) {
                    (true, _) => (inner(left, Groups::Whole)?, right.clone()),
                    (false, JoinKind::Inner) => (left.clone(), inner(right, Groups::Whole)?),
                    (false, _) => return None,
                };
                Node::Join { kind: *kind, left, right, on: on.clone() }
            }
        };
        Some(Self { node, columns: self.columns.clone() })
    }

    fn holds(&self, table: &Arc<TableDef>) -> bool {
        self.tables().into_iter().any(|own| Arc::ptr_eq(own, table))
    }

    /// The table's column that a column of the result is, unchanged; `None` of what is computed, and beneath a union.
    pub fn origin(&self, column: usize) -> Option<(&Arc<TableDef>, usize)> {
        match &self.node {
            Node::Table(table) => Some((table, column)),
            Node::Filter { input, .. } | Node::Keyed { input, .. } | Node::Top { input, .. } => input.origin(column),
            Node::Project { input, exprs } => match exprs.get(column)? {
                Expr::Column(index) => input.origin(*index),
                _ => None,
            },
            Node::Aggregate { input, keys, .. } => match keys.get(column)? {
                Expr::Column(index) => input.origin(*index),
                _ => None,
            },
            Node::Join { left, right, .. } => match column.checked_sub(left.columns.len()) {
                None => left.origin(column),
                Some(index) => right.origin(index),
            },
            Node::UnionAll(_) => None,
        }
    }

    /// The columns of which the query is the least and greatest values and nothing else, of all rows of one table; `None` of any other query. An index that
    /// a column leads has them at its ends.
    pub fn extremes(&self) -> Option<(&Arc<TableDef>, Vec<usize>)> {
        fn whole(relation: &Relation) -> Option<&Arc<TableDef>> {
            match &relation.node {
                Node::Table(table) => Some(table),
                Node::Project { input, .. } => whole(input),
                _ => None,
            }
        }
        match &self.node {
            Node::Project { input, .. } => input.extremes(),
            Node::Aggregate { input, keys, aggregates } if keys.is_empty() && !aggregates.is_empty() => {
                let column = |aggregate: &Aggregate| match (aggregate.function, &aggregate.arg, &aggregate.condition) {
                    (AggregateFunction::Min | AggregateFunction::Max, Some(Expr::Column(index)), None) => {
                        input.origin(*index).map(|(_, column)| column)
                    }
                    _ => None,
                };
                whole(input).zip(aggregates.iter().map(column).collect())
            }
            _ => None,
        }
    }

    /// One column for each expression.
    pub fn project(self, exprs: Vec<Expr>) -> Self {
        let columns = exprs.iter().map(|expr| expr.describe(&self.columns)).collect();
        Self { node: Node::Project { input: Box::new(self), exprs }, columns }
    }

    /// Groups.
    pub fn aggregate(self, keys: Vec<Expr>, aggregates: Vec<Aggregate>) -> Self {
        let keyed = keys.iter().map(|key| key.describe(&self.columns));
        let columns = keyed.chain(aggregates.iter().map(|aggregate| aggregate.describe(&self.columns))).collect();
        Self { node: Node::Aggregate { input: Box::new(self), keys, aggregates }, columns }
    }

    /// A join.
    pub fn join(self, kind: JoinKind, right: Self, on: Vec<Expr>) -> Self {
        let mut columns = self.columns.clone();
        match kind {
            JoinKind::Inner => columns.extend(right.columns.iter().cloned()),
            JoinKind::Left => {
                columns.extend(right.columns.iter().map(|column| ColumnDef { nullable: true, ..column.clone() }));
            }
            JoinKind::Semi | JoinKind::Anti => {}
        }
        Self { node: Node::Join { kind, left: Box::new(self), right: Box::new(right), on }, columns }
    }

    /// The first rows.
    pub fn top(self, sort: Vec<SortKey>, skip: u64, limit: u64) -> Self {
        let columns = self.columns.clone();
        Self { node: Node::Top { input: Box::new(self), sort, skip, limit }, columns }
    }

    /// The rows of all inputs; `None` of none, or where their columns are not of one type, class and collation.
    pub fn union_all(inputs: Vec<Self>) -> Option<Self> {
        let mut columns = inputs.first()?.columns.clone();
        for input in &inputs[1..] {
            let alike = |(a, b): (&ColumnDef, &ColumnDef)| a.is_like(b);
            if input.columns.len() != columns.len() || !columns.iter().zip(&input.columns).all(alike) {
                return None;
            }
            for (column, other) in columns.iter_mut().zip(&input.columns) {
                column.nullable |= other.nullable;
            }
        }
        Some(Self { node: Node::UnionAll(inputs), columns })
    }

    /// The operator at the top.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The columns of the result. A column of a table keeps its description.
    pub fn columns(&self) -> &[ColumnDef] {
        &self.columns
    }

    /// The inputs of the operator at the top.
    pub fn inputs(&self) -> Vec<&Self> {
        match &self.node {
            Node::Table(_) => vec![],
            Node::Filter { input, .. }
            | Node::Keyed { input, .. }
            | Node::Project { input, .. }
            | Node::Aggregate { input, .. }
            | Node::Top { input, .. } => vec![input],
            Node::Join { left, right, .. } => vec![left, right],
            Node::UnionAll(inputs) => inputs.iter().collect(),
        }
    }

    /// Every table, as often as it is read, in the order of the text.
    pub fn tables(&self) -> Vec<&Arc<TableDef>> {
        match &self.node {
            Node::Table(table) => vec![table],
            _ => self.inputs().into_iter().flat_map(Self::tables).collect(),
        }
    }

    /// Every table with the columns of it that the result depends on, as often as it is read.
    pub fn used_columns(&self) -> Vec<(&Arc<TableDef>, BTreeSet<usize>)> {
        let mut used = Vec::new();
        self.visit_used((0..self.columns.len()).collect(), &mut used);
        used
    }

    fn visit_used<'a>(&'a self, mut needed: BTreeSet<usize>, used: &mut Vec<(&'a Arc<TableDef>, BTreeSet<usize>)>) {
        let mut columns_of = |expr: &Expr| expr.visit_columns(&mut |index| _ = needed.insert(index));
        match &self.node {
            Node::Table(table) => used.push((table, needed)),
            Node::Filter { input, filters } => {
                filters.iter().for_each(columns_of);
                input.visit_used(needed, used);
            }
            Node::Keyed { input, column } => {
                needed.insert(*column);
                input.visit_used(needed, used);
            }
            Node::Top { input, sort, .. } => {
                needed.extend(sort.iter().map(|key| key.column));
                input.visit_used(needed, used);
            }
            Node::Project { input, exprs } => {
                let wanted: Vec<&Expr> = needed.iter().map(|index| &exprs[*index]).collect();
                input.visit_used(columns_read(wanted), used);
            }
            Node::Aggregate { input, keys, aggregates } => {
                let values = aggregates.iter().flat_map(|aggregate| aggregate.arg.iter().chain(&aggregate.condition));
                input.visit_used(columns_read(keys.iter().chain(values)), used);
            }
            Node::Join { left, right, on, .. } => {
                on.iter().for_each(&mut columns_of);
                let split = left.columns.len();
                let (of_left, of_right): (BTreeSet<usize>, BTreeSet<usize>) =
                    needed.into_iter().partition(|index| *index < split);
                left.visit_used(of_left, used);
                right.visit_used(of_right.into_iter().map(|index| index - split).collect(), used);
            }
            Node::UnionAll(inputs) => inputs.iter().for_each(|input| input.visit_used(needed.clone(), used)),
        }
    }

    /// Only the rows of the result for which the filter is true, asked for as early as possible. `None` beneath a limit, which would
    /// then let other rows through.
    pub fn narrowed(&self, filter: &Expr) -> Option<Self> {
        match &self.node {
            Node::Top { .. } => None,
            Node::Project { input, exprs } => {
                let below = filter.map_columns(&|index| exprs[index].clone());
                Some(input.narrowed(&below)?.project(exprs.clone()))
            }
            Node::Filter { input, filters } => {
                let mut filters = filters.clone();
                filters.push(filter.clone());
                Some(input.as_ref().clone().filter(filters))
            }
            Node::Aggregate { input, keys, aggregates } => {
                let mut by_keys = true;
                filter.visit_columns(&mut |index| by_keys &= index < keys.len());
                if !by_keys {
                    return Some(self.clone().filter(vec![filter.clone()]));
                }
                let below = filter.map_columns(&|index| keys[index].clone());
                Some(input.narrowed(&below)?.aggregate(keys.clone(), aggregates.clone()))
            }
            Node::UnionAll(inputs) => {
                Self::union_all(inputs.iter().map(|input| input.narrowed(filter)).collect::<Option<_>>()?)
            }
            Node::Table(_) | Node::Keyed { .. } | Node::Join { .. } => Some(self.clone().filter(vec![filter.clone()])),
        }
    }

    /// Whether a limit stands where [`Relation::narrowed`] would have to pass it.
    pub fn is_cut(&self) -> bool {
        match &self.node {
            Node::Top { .. } => true,
            Node::Project { input, .. } | Node::Aggregate { input, .. } => input.is_cut(),
            Node::UnionAll(inputs) => inputs.iter().any(Self::is_cut),
            Node::Table(_) | Node::Filter { .. } | Node::Keyed { .. } | Node::Join { .. } => false,
        }
    }

    /// How many values the query holds: what its statement has to bind.
    pub fn literals(&self) -> usize {
        let own: usize = match &self.node {
            Node::Filter { filters, .. } => filters.iter().map(Expr::literals).sum(),
            Node::Project { exprs, .. } => exprs.iter().map(Expr::literals).sum(),
            Node::Aggregate { keys, aggregates, .. } => {
                let values = aggregates.iter().flat_map(|aggregate| aggregate.arg.iter().chain(&aggregate.condition));
                keys.iter().chain(values).map(Expr::literals).sum()
            }
            Node::Join { on, .. } => on.iter().map(Expr::literals).sum(),
            Node::Table(_) | Node::Keyed { .. } | Node::Top { .. } | Node::UnionAll(_) => 0,
        };
        own + self.inputs().into_iter().map(Self::literals).sum::<usize>()
    }
}

fn columns_read<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> BTreeSet<usize> {
    let mut read = BTreeSet::new();
    exprs.into_iter().for_each(|expr| expr.visit_columns(&mut |index| _ = read.insert(index)));
    read
}

/// For plans and logs: the operators, without expressions.
impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.node {
            Node::Table(table) => return f.write_str(&table.full_name()),
            Node::Filter { input, .. } | Node::Keyed { input, .. } | Node::Project { input, .. } => {
                return input.fmt(f);
            }
            Node::Aggregate { aggregates, .. } if aggregates.is_empty() => "distinct",
            Node::Aggregate { .. } => "aggregate",
            Node::Join { kind: JoinKind::Inner, .. } => "join",
            Node::Join { kind: JoinKind::Left, .. } => "left join",
            Node::Join { kind: JoinKind::Semi, .. } => "semi join",
            Node::Join { kind: JoinKind::Anti, .. } => "anti join",
            Node::Top { .. } => "top",
            Node::UnionAll(_) => "union all",
        };
        write!(f, "{name}(")?;
        for (index, input) in self.inputs().into_iter().enumerate() {
            write!(f, "{}{input}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}
