//! A statement that was compiled: what its names mean is settled, and what it yields is known.
//!
//! A row of a SELECT is that of all that its FROM joins, side by side, in whatever order they are joined. What is computed of several rows (aggregates, windows) and what makes several of one (sets) is
//! put beside it under numbers of its own, in this order, before the columns are computed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::value::{Kind, Value};

/// A query, whole.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) id: usize,
    /// Whether it asks nothing of the queries around it, so that it yields the same each time.
    pub(super) is_free: bool,
    pub(super) tables: Vec<Cte>,
    pub(super) body: Body,
    pub(super) order: Vec<Key>,
    pub(super) limit: Option<Expr>,
    pub(super) offset: Option<Expr>,
    pub(super) columns: Vec<Column>,
}

/// What a query yields.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A query under WITH.
#[derive(Debug)]
pub(super) struct Cte {
    pub(super) id: usize,
    pub(super) query: Query,
    pub(super) is_recursive: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    Select(Box<Select>),
    Values(Vec<Vec<Expr>>),
    Query(Box<Query>),
    Set { how: SetHow, is_all: bool, left: Box<Body>, right: Box<Body> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetHow {
    Union,
    Except,
    Intersect,
}

/// What rows are ordered by.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) by: By,
    pub(super) is_descending: bool,
    pub(super) nulls_first: bool,
}

#[derive(Debug)]
pub(super) enum By {
    /// A column of the result.
    Output(usize),
    /// Something of the row that the result is computed of.
    Input(Expr),
}

#[derive(Debug, Default)]
pub(super) struct Select {
    pub(super) steps: Vec<Step>,
    /// How many values a joined row has.
    pub(super) width: usize,
    /// Conditions that ask nothing of the rows.
    pub(super) conditions: Vec<Expr>,
    pub(super) is_grouped: bool,
    pub(super) groups: Vec<Expr>,
    pub(super) having: Vec<Expr>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) windows: Vec<Window>,
    pub(super) sets: Vec<Call>,
    pub(super) columns: Vec<Expr>,
    pub(super) distinct: Distinct,
}

#[derive(Debug, Default)]
pub(super) enum Distinct {
    #[default]
    No,
    Rows,
    On(Vec<Expr>),
}

/// Which values of a row something asks.
pub(super) type Asks = BTreeSet<usize>;

/// One relation of a FROM, joined to those before it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) source: Source,
    pub(super) offset: usize,
    pub(super) width: usize,
    pub(super) join: Join,
    /// The conditions of the join, and which values of the row each asks.
    pub(super) on: Vec<Expr>,
    pub(super) on_asks: Vec<Asks>,
    /// The conditions of WHERE that can be looked at once this is joined.
    pub(super) filters: Vec<Expr>,
    /// A column of the relation and what it must be equal to.
    pub(super) key: Option<(usize, Expr)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Debug)]
pub(super) enum Source {
    /// A table of the catalog, by its place among them.
    Table(usize),
    Query {
        query: Box<Query>,
        /// Whether it may ask of what stands before it.
        is_lateral: bool,
    },
    Cte(usize),
    Function {
        calls: Vec<Call>,
        has_ordinality: bool,
    },
    Joined(Box<Select>),
}

/// A call that yields rows.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) set: Set,
    pub(super) arguments: Vec<Expr>,
    /// From which number the list counts that it is about.
    pub(super) first: i64,
}

/// A function that yields rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Unnest,
    Series,
    Subscripts,
    /// PostgreSQL's own: the items of a list with their numbers.
    Expand,
    SplitTable,
    Keywords,
    Nothing,
    /// A value, as one row.
    Once,
}

#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) how: How,
    pub(super) arguments: Vec<Expr>,
    pub(super) is_distinct: bool,
    pub(super) order: Vec<(Expr, bool, bool)>,
    pub(super) filter: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    CountRows,
    Count,
    Sum,
    Average,
    Min,
    Max,
    List,
    Text,
    Every,
    Any,
}

/// A function over the rows of a partition.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) how: WindowHow,
    pub(super) partition: Vec<Expr>,
    pub(super) order: Vec<(Expr, bool, bool)>,
}

#[derive(Debug)]
pub(super) enum WindowHow {
    RowNumber,
    Rank,
    DenseRank,
    Over(Aggregate),
}

#[derive(Debug)]
pub(super) enum Expr {
    Constant(Value),
    Parameter(usize),
    /// A value of the row, so many queries out.
    Column {
        up: usize,
        index: usize,
    },
    Aggregate(usize),
    Window(usize),
    Set(usize),
    Call(Arc<super::functions::Function>, Vec<Expr>),
    Cast {
        value: Box<Expr>,
        from: Kind,
        to: Kind,
    },
    Not(Box<Expr>),
    All(Vec<Expr>),
    Some(Vec<Expr>),
    IsNull(Box<Expr>),
    Is(Box<Expr>, bool),
    Distinct(Box<Expr>, Box<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    Compute(Compute, Box<Expr>, Box<Expr>),
    Matches(Pattern, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
    /// A comparison with each item of a list: whether one holds, or all do.
    Each {
        quantity: Quantity,
        compare: EachCompare,
        value: Box<Expr>,
        list: Box<Expr>,
    },
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Box<Expr>,
    },
    Coalesce(Vec<Expr>),
    List(Vec<Expr>),
    Record(Vec<Expr>),
    Item {
        list: Box<Expr>,
        index: Box<Expr>,
        first: i64,
    },
    Slice {
        list: Box<Expr>,
        from: Option<Box<Expr>>,
        to: Option<Box<Expr>>,
        first: i64,
    },
    Field(Box<Expr>, usize),
    Exists(Box<Query>),
    /// The only value of the only row.
    Value(Box<Query>),
    /// The first column as a list.
    ListOf(Box<Query>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Any,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EachCompare {
    Ordered(Compare),
    Matching(Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compute {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    ShiftLeft,
    ShiftRight,
    /// Texts, or lists, one after the other.
    Join,
    Overlaps,
    Contains,
}

/// How a text is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    Like { escape: Option<char>, ignores_case: bool, is_negated: bool },
    Regex { ignores_case: bool, is_negated: bool },
}
