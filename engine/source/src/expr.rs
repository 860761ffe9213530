//! The expressions that may travel to a source.
//!
//! They are typed and closed: a literal is a [`ScalarValue`], a column an index into the table. Comparison, logic and
//! NULLs mean what they mean in the engine: three-valued logic, bytewise text. On floats NaN equals itself and is greater than all
//! else; comparisons and IN take -0.0 and 0.0 for equal, ORDER BY tells them apart (IEEE 754's total order).

use std::fmt;

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;

use crate::{ColumnDef, ValueClass};

/// An expression over the columns of a table or of a [`Relation`](crate::Relation).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Expr {
    /// A column, by its index in [`TableDef::columns`](crate::TableDef::columns) or
    /// [`Relation::columns`](crate::Relation::columns).
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
    /// A computed value.
    Call(Call),
}

/// A function of values, with the type that the engine gives its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function.
    pub function: Function,
    /// Its arguments, in order.
    pub args: Vec<Expr>,
    /// The result's type.
    pub data_type: DataType,
}

/// A function, meant as the engine computes it. A NULL argument makes a NULL result unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Function {
    /// The sum of two numbers of one type.
    Add,
    /// The difference of two numbers of one type.
    Subtract,
    /// The product of two integers of one type, or of two decimals: the scales add up.
    Multiply,
    /// The quotient of two integers, towards zero.
    Divide,
    /// The remainder of two integers, with the sign of the first.
    Remainder,
    /// The number with its sign changed.
    Negate,
    /// The same number in a type that holds every value of the argument's.
    Widen,
    /// `CASE WHEN a THEN b ... ELSE z END`: condition and value in turn, then the value for no condition; it may be a NULL.
    Case,
    /// The first argument that is not NULL.
    Coalesce,
    /// The first argument, or NULL where both are equal.
    NullIf,
    /// The number of characters.
    CharLength,
    /// The characters from a position (counted from 1, a literal of at least 1) on; a third argument is how many (a literal, not negative).
    Substring,
    /// The texts one after the other.
    Concat,
    /// The year of a date or timestamp.
    Year,
    /// The month of a date or timestamp.
    Month,
    /// The day of the month of a date or timestamp.
    Day,
    /// The quarter of a date or timestamp, from 1 on.
    Quarter,
    /// The week of a date or timestamp by ISO 8601, from 1 on.
    Week,
    /// The day of the week of a date or timestamp; Sunday is 0.
    DayOfWeek,
    /// The day of the year of a date or timestamp, from 1 on.
    DayOfYear,
    /// The hour of a timestamp.
    Hour,
    /// The minute of a timestamp.
    Minute,
    /// The whole second of a timestamp.
    Second,
    /// The beginning of the unit that a date or timestamp is in, as a timestamp. Infinities stay.
    Truncate(CalendarUnit),
    /// The date of a timestamp's day. Infinities stay.
    DateOf,
    /// The number without its sign. An error where its type has no such number.
    Absolute,
    /// The greatest of values of one type that are not NULL; NULL of none.
    Greatest,
    /// The least of values of one type that are not NULL; NULL of none.
    Least,
    /// The text without spaces at both ends.
    Trim,
    /// The text without spaces at its start.
    TrimStart,
    /// The text without spaces at its end.
    TrimEnd,
    /// The first text with the third in the place of each occurrence of the second; of an empty text there is none.
    Replace,
    /// The last characters of a text, as many as the second argument (a literal, not negative) says.
    Right,
    /// Where the second text begins in the first, in characters from 1 on; 0 where it does not.
    Position,
    /// An integer in decimal digits.
    Digits,
    /// The text in small letters. Of letters beyond ASCII sources differ; see [`Queries::cases`](crate::Queries::cases).
    Lower,
    /// The text in capital letters. Of letters beyond ASCII sources differ.
    Upper,
    /// Whether a text has other characters than ASCII's.
    BeyondAscii,
}

/// What moments are truncated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CalendarUnit {
    /// From January 1st on.
    Year,
    /// From the first of January, April, July or October on.
    Quarter,
    /// From the first on.
    Month,
    /// From Monday on.
    Week,
    /// From midnight on.
    Day,
    /// From the full hour on.
    Hour,
    /// From the full minute on.
    Minute,
    /// From the full second on.
    Second,
}

impl CalendarUnit {
    /// The unit of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "year" => Self::Year,
            "quarter" => Self::Quarter,
            "month" => Self::Month,
            "week" => Self::Week,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "minute" => Self::Minute,
            "second" => Self::Second,
            _ => return None,
        })
    }
}

impl Function {
    /// Every function, in declaration order; for generated documentation and for tests.
    pub const ALL: [Self; 45] = [
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
        Self::Negate,
        Self::Widen,
        Self::Case,
        Self::Coalesce,
        Self::NullIf,
        Self::CharLength,
        Self::Substring,
        Self::Concat,
        Self::Year,
        Self::Month,
        Self::Day,
        Self::Quarter,
        Self::Week,
        Self::DayOfWeek,
        Self::DayOfYear,
        Self::Hour,
        Self::Minute,
        Self::Second,
        Self::Truncate(CalendarUnit::Year),
        Self::Truncate(CalendarUnit::Quarter),
        Self::Truncate(CalendarUnit::Month),
        Self::Truncate(CalendarUnit::Week),
        Self::Truncate(CalendarUnit::Day),
        Self::Truncate(CalendarUnit::Hour),
        Self::Truncate(CalendarUnit::Minute),
        Self::Truncate(CalendarUnit::Second),
        Self::DateOf,
        Self::Absolute,
        Self::Greatest,
        Self::Least,
        Self::Trim,
        Self::TrimStart,
        Self::TrimEnd,
        Self::Replace,
        Self::Right,
        Self::Position,
        Self::Digits,
        Self::Lower,
        Self::Upper,
        Self::BeyondAscii,
    ];

    /// The function's name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Negate => "negation",
            Self::Widen => "CAST to a wider type",
            Self::Case => "CASE",
            Self::Coalesce => "COALESCE",
            Self::NullIf => "NULLIF",
            Self::CharLength => "CHARACTER_LENGTH",
            Self::Substring => "SUBSTRING",
            Self::Concat => "||",
            Self::Year => "EXTRACT(YEAR)",
            Self::Month => "EXTRACT(MONTH)",
            Self::Day => "EXTRACT(DAY)",
            Self::Quarter => "EXTRACT(QUARTER)",
            Self::Week => "EXTRACT(WEEK)",
            Self::DayOfWeek => "EXTRACT(DOW)",
            Self::DayOfYear => "EXTRACT(DOY)",
            Self::Hour => "EXTRACT(HOUR)",
            Self::Minute => "EXTRACT(MINUTE)",
            Self::Second => "EXTRACT(SECOND)",
            Self::Truncate(unit) => match unit {
                CalendarUnit::Year => "DATE_TRUNC('year')",
                CalendarUnit::Quarter => "DATE_TRUNC('quarter')",
                CalendarUnit::Month => "DATE_TRUNC('month')",
                CalendarUnit::Week => "DATE_TRUNC('week')",
                CalendarUnit::Day => "DATE_TRUNC('day')",
                CalendarUnit::Hour => "DATE_TRUNC('hour')",
                CalendarUnit::Minute => "DATE_TRUNC('minute')",
                CalendarUnit::Second => "DATE_TRUNC('second')",
            },
            Self::DateOf => "CAST of a timestamp AS DATE",
            Self::Absolute => "ABS",
            Self::Greatest => "GREATEST",
            Self::Least => "LEAST",
            Self::Trim => "TRIM",
            Self::TrimStart => "LTRIM",
            Self::TrimEnd => "RTRIM",
            Self::Replace => "REPLACE",
            Self::Right => "RIGHT",
            Self::Position => "STRPOS",
            Self::Digits => "CAST of an integer AS VARCHAR",
            Self::Lower => "LOWER",
            Self::Upper => "UPPER",
            Self::BeyondAscii => "other characters than ASCII's",
        }
    }
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

    /// The texts whose case the expression changes.
    pub(crate) fn visit_cases(&self, visit: &mut impl FnMut(&Expr)) {
        match self {
            Self::Column(_) | Self::Literal(_) => {}
            Self::Compare { left, right, .. } => {
                left.visit_cases(visit);
                right.visit_cases(visit);
            }
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.visit_cases(visit)),
            Self::Not(inner) | Self::IsNull(inner) | Self::IsNotNull(inner) => inner.visit_cases(visit),
            Self::InList { expr, .. } => expr.visit_cases(visit),
            Self::Like(like) => like.expr.visit_cases(visit),
            Self::Call(Call { function: Function::Lower | Function::Upper, args, .. }) => args.iter().for_each(visit),
            Self::Call(call) => call.args.iter().for_each(|arg| arg.visit_cases(visit)),
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
            Self::Call(call) => call.args.iter().map(Self::literals).sum(),
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
            Self::Call(call) => call.args.iter().for_each(|arg| arg.visit_columns(visit)),
        }
    }

    /// A function of values.
    pub fn call(function: Function, args: Vec<Expr>, data_type: DataType) -> Self {
        Self::Call(Call { function, args, data_type })
    }

    /// Whether it equals one of the values, of which there is at least one and none is NULL.
    pub fn one_of(self, values: Vec<ScalarValue>) -> Self {
        Self::InList { expr: Box::new(self), values, negated: false }
    }

    /// The same value in a form that no index of a source serves.
    pub fn unindexed(self, data_type: DataType) -> Self {
        Self::call(Function::Coalesce, vec![self], data_type)
    }

    /// The expression with each column replaced by what `column` gives for its index.
    pub fn map_columns(&self, column: &impl Fn(usize) -> Expr) -> Self {
        let boxed = |expr: &Expr| Box::new(expr.map_columns(column));
        let all = |exprs: &[Expr]| exprs.iter().map(|expr| expr.map_columns(column)).collect();
        match self {
            Self::Column(index) => column(*index),
            Self::Literal(_) => self.clone(),
            Self::Compare { op, left, right } => Self::Compare { op: *op, left: boxed(left), right: boxed(right) },
            Self::And(parts) => Self::And(all(parts)),
            Self::Or(parts) => Self::Or(all(parts)),
            Self::Not(inner) => Self::Not(boxed(inner)),
            Self::IsNull(inner) => Self::IsNull(boxed(inner)),
            Self::IsNotNull(inner) => Self::IsNotNull(boxed(inner)),
            Self::InList { expr, values, negated } => {
                Self::InList { expr: boxed(expr), values: values.clone(), negated: *negated }
            }
            Self::Like(like) => Self::Like(Like { expr: boxed(&like.expr), ..like.clone() }),
            Self::Call(call) => Self::call(call.function, all(&call.args), call.data_type.clone()),
        }
    }

    /// The expression with each function replaced by what `other` gives for it, the outermost first.
    pub(crate) fn map_calls(&self, other: &mut impl FnMut(&Call) -> Option<Expr>) -> Self {
        let boxed = |expr: &Expr, other: &mut _| Box::new(expr.map_calls(other));
        match self {
            Self::Column(_) | Self::Literal(_) => self.clone(),
            Self::Compare { op, left, right } => {
                Self::Compare { op: *op, left: boxed(left, other), right: boxed(right, other) }
            }
            Self::And(parts) => Self::And(parts.iter().map(|part| part.map_calls(other)).collect()),
            Self::Or(parts) => Self::Or(parts.iter().map(|part| part.map_calls(other)).collect()),
            Self::Not(inner) => Self::Not(boxed(inner, other)),
            Self::IsNull(inner) => Self::IsNull(boxed(inner, other)),
            Self::IsNotNull(inner) => Self::IsNotNull(boxed(inner, other)),
            Self::InList { expr, values, negated } => {
                Self::InList { expr: boxed(expr, other), values: values.clone(), negated: *negated }
            }
            Self::Like(like) => Self::Like(Like { expr: boxed(&like.expr, other), ..like.clone() }),
            Self::Call(call) => other(call).unwrap_or_else(|| {
                let args = call.args.iter().map(|arg| arg.map_calls(other)).collect();
                Self::call(call.function, args, call.data_type.clone())
            }),
        }
    }

    /// What the expression is as a column over `columns`: its own description for a column, one made from its type otherwise.
    pub fn describe(&self, columns: &[ColumnDef]) -> ColumnDef {
        let data_type = match self {
            Self::Column(index) => return columns[*index].clone(),
            Self::Literal(value) => value.data_type(),
            Self::Call(call) => call.data_type.clone(),
            _ => DataType::Boolean,
        };
        let class = ValueClass::of_computed(&data_type);
        ColumnDef::new("", data_type, "", class)
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
            Self::Call(call) => {
                write!(f, "{} of ", call.function.name())?;
                join(f, &call.args, ", ")
            }
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expr], separator: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        write!(f, "{}({part})", if index > 0 { separator } else { "" })?;
    }
    Ok(())
}
