//! The expressions that may travel to a source.
//!
//! They are typed and closed: a literal is a [`ScalarValue`], a column an index into the table. Comparison, logic and
//! NULLs mean what they mean in the engine: three-valued logic, bytewise text. On floats NaN equals itself and is greater than all
//! else; the comparison operators take -0.0 and 0.0 for equal, IN tells them apart (it compares bits), and so does ORDER BY
//! (IEEE 754's total order).

use std::fmt;

use datafusion_common::ScalarValue;

/// An expression over the columns of one table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Expr {
    /// A column, by its index in [`TableDef::columns`](crate::TableDef::columns).
    Column(usize),
    /// A value of a known type.
    Literal(ScalarValue),
    /// A comparison of two expressions of one type.
    Compare {
        /// The operator.
        op: CompareOp,
        /// The left side.
        left: Box<Expr>,
        /// The right side.
        right: Box<Expr>,
    },
    /// All of them. Never empty.
    And(Vec<Expr>),
    /// Any of them. Never empty.
    Or(Vec<Expr>),
    /// The negation.
    Not(Box<Expr>),
    /// Whether the expression is NULL.
    IsNull(Box<Expr>),
    /// Whether the expression is not NULL.
    IsNotNull(Box<Expr>),
    /// Whether the expression equals one of the values. Holds no NULL and at least one value.
    InList {
        /// The expression.
        expr: Box<Expr>,
        /// The values, all of the expression's type.
        values: Vec<ScalarValue>,
        /// Whether this is NOT IN.
        negated: bool,
    },
    /// A pattern match.
    Like(Like),
}

/// `expr [NOT] LIKE pattern`, with `\` as the escape character.
#[derive(Debug, Clone, PartialEq)]
pub struct Like {
    /// The text that is matched.
    pub expr: Box<Expr>,
    /// The pattern: `%` any run, `_` one character, `\` takes the next character literally.
    pub pattern: String,
    /// Whether this is NOT LIKE.
    pub negated: bool,
    /// Whether this is ILIKE.
    pub case_insensitive: bool,
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl CompareOp {
    /// The operator as every SQL dialect writes it.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// The operator with its sides exchanged: `a < b` is `b > a`.
    pub fn swapped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Equal | Self::NotEqual => self,
        }
    }

    /// The operator that also holds for equal sides: what a superset of an order comparison asks for.
    pub fn widened(self) -> Self {
        match self {
            Self::Less => Self::LessOrEqual,
            Self::Greater => Self::GreaterOrEqual,
            other => other,
        }
    }
}

impl Expr {
    /// A comparison.
    pub fn compare(op: CompareOp, left: Expr, right: Expr) -> Self {
        Self::Compare { op, left: Box::new(left), right: Box::new(right) }
    }

    /// The conjunction of the filters, or `None` of none.
    pub fn all(mut filters: Vec<Expr>) -> Option<Self> {
        match filters.len() {
            0 => None,
            1 => filters.pop(),
            _ => Some(Self::And(filters)),
        }
    }

    /// How many values the expression holds: what a statement has to bind for it.
    pub fn literals(&self) -> usize {
        match self {
            Self::Column(_) => 0,
            Self::Literal(_) | Self::Like(_) => 1,
            Self::Compare { left, right, .. } => left.literals() + right.literals(),
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::literals).sum(),
            Self::Not(inner) | Self::IsNull(inner) | Self::IsNotNull(inner) => inner.literals(),
            Self::InList { expr, values, .. } => expr.literals() + values.len(),
        }
    }

    /// Calls `visit` with the index of every column that the expression reads, as often as it reads it.
    pub fn visit_columns(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Self::Column(index) => visit(*index),
            Self::Literal(_) => {}
            Self::Compare { left, right, .. } => {
                left.visit_columns(visit);
                right.visit_columns(visit);
            }
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.visit_columns(visit)),
            Self::Not(inner) | Self::IsNull(inner) | Self::IsNotNull(inner) => inner.visit_columns(visit),
            Self::InList { expr, .. } => expr.visit_columns(visit),
            Self::Like(like) => like.expr.visit_columns(visit),
        }
    }
}

/// For logs and reasons: shows the shape and the literals' types, never a literal.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(index) => write!(f, "#{index}"),
            Self::Literal(value) => write!(f, "<{}>", value.data_type()),
            Self::Compare { op, left, right } => write!(f, "{left} {} {right}", op.sql()),
            Self::And(parts) => join(f, parts, " AND "),
            Self::Or(parts) => join(f, parts, " OR "),
            Self::Not(inner) => write!(f, "NOT ({inner})"),
            Self::IsNull(inner) => write!(f, "{inner} IS NULL"),
            Self::IsNotNull(inner) => write!(f, "{inner} IS NOT NULL"),
            Self::InList { expr, values, negated } => {
                write!(f, "{expr}{} IN <{} values>", if *negated { " NOT" } else { "" }, values.len())
            }
            Self::Like(like) => write!(f, "{}{} LIKE <pattern>", like.expr, if like.negated { " NOT" } else { "" }),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expr], separator: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        write!(f, "{}({part})", if index > 0 { separator } else { "" })?;
    }
    Ok(())
}
