//! Turns DataFusion's logical expressions into the expressions that may travel to a source.
//!
//! Only shapes whose meaning is fixed by their name are translated: columns, literals, comparisons, logic, IN, BETWEEN, LIKE,
//! arithmetic, casts that lose nothing, CASE and a few functions. Everything else says why it stays local. Whether a source
//! computes a translated expression as the engine does is for its capability table to say.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, InList, Like as LogicalLike, ScalarFunction};
use datafusion::logical_expr::{Expr as Logical, Operator};
use headwater_rules::DAY_OF;
use headwater_source::{CalendarUnit, ColumnDef, CompareOp, Expr, Function, Like, TableDef};

/// Translates a filter over `table`, or says why it has no counterpart.
pub(crate) fn translate(filter: &Logical, table: &TableDef) -> Result<Expr, String> {
    let resolve = |column: &Column| table.column_index(&column.name);
    Translator { columns: &table.columns, resolve: &resolve }.expr(filter)
}

/// Translates expressions over columns.
pub(crate) struct Translator<'a> {
    /// What the columns are.
    pub(crate) columns: &'a [ColumnDef],
    /// Which of them a name is.
    pub(crate) resolve: &'a dyn Fn(&Column) -> Option<usize>,
}

impl Translator<'_> {
    /// The expression, or why it has no counterpart.
    pub(crate) fn expr(&self, expr: &Logical) -> Result<Expr, String> {
        match expr {
            Logical::Column(column) => match (self.resolve)(column) {
                Some(index) => Ok(Expr::Column(index)),
                None => Err(format!("column \"{}\" is not of this table", column.name)),
            },
            Logical::Literal(value, _) => Ok(Expr::Literal(plain_text(value.clone()))),
            Logical::Alias(alias) => self.expr(&alias.expr),
            Logical::Not(inner) => Ok(Expr::Not(Box::new(self.expr(inner)?))),
            Logical::IsNull(inner) => Ok(Expr::IsNull(Box::new(self.expr(inner)?))),
            Logical::IsNotNull(inner) => Ok(Expr::IsNotNull(Box::new(self.expr(inner)?))),
            Logical::IsTrue(inner) => Ok(surely(self.expr(inner)?)),
            Logical::IsFalse(inner) => Ok(surely(Expr::Not(Box::new(self.expr(inner)?)))),
            Logical::IsNotTrue(inner) => Ok(maybe(Expr::Not(Box::new(self.expr(inner)?)))),
            Logical::IsNotFalse(inner) => Ok(maybe(self.expr(inner)?)),
            Logical::BinaryExpr(binary) => self.binary(binary),
            Logical::Between(between) => self.between(between),
            Logical::InList(list) => self.in_list(list),
            Logical::Like(like) => self.like(like),
            Logical::Negative(inner) => {
                let inner = self.expr(inner)?;
                let data_type = self.type_of(&inner);
                Ok(Expr::call(Function::Negate, vec![inner], data_type))
            }
            Logical::Cast(cast) => self.cast(&cast.expr, cast.field.data_type()),
            Logical::Case(case) => self.case(case),
            Logical::ScalarFunction(function) => self.function(function),
            other => Err(format!("{} is evaluated locally", kind(other))),
        }
    }

    fn type_of(&self, expr: &Expr) -> DataType {
        expr.describe(self.columns).data_type
    }

    fn binary(&self, binary: &BinaryExpr) -> Result<Expr, String> {
        let (left, right) = (&binary.left, &binary.right);
        let op = match binary.op {
            Operator::And => return self.flat(left, right, Operator::And),
            Operator::Or => return self.flat(left, right, Operator::Or),
            Operator::IsDistinctFrom => return Ok(distinct(self.expr(left)?, self.expr(right)?)),
            Operator::IsNotDistinctFrom => return Ok(not_distinct(self.expr(left)?, self.expr(right)?)),
            Operator::Eq => CompareOp::Equal,
            Operator::NotEq => CompareOp::NotEqual,
            Operator::Lt => CompareOp::Less,
            Operator::LtEq => CompareOp::LessOrEqual,
            Operator::Gt => CompareOp::Greater,
            Operator::GtEq => CompareOp::GreaterOrEqual,
            other => return self.arithmetic(binary, other),
        };
        Ok(Expr::compare(op, self.expr(left)?, self.expr(right)?))
    }

    fn arithmetic(&self, binary: &BinaryExpr, op: Operator) -> Result<Expr, String> {
        let function = match op {
            Operator::Plus => Function::Add,
            Operator::Minus => Function::Subtract,
            Operator::Multiply => Function::Multiply,
            Operator::Divide => Function::Divide,
            Operator::Modulo => Function::Remainder,
            Operator::StringConcat => Function::Concat,
            other => return Err(format!("the operator {other} is evaluated locally")),
        };
        let args = vec![self.expr(&binary.left)?, self.expr(&binary.right)?];
        if function == Function::Concat {
            return Ok(Expr::call(function, args, DataType::Utf8));
        }
        let (left, right) = (self.type_of(&args[0]), self.type_of(&args[1]));
        let data_type = BinaryTypeCoercer::new(&left, &op, &right)
            .get_result_type()
            .map_err(|_| format!("the operator {op} is evaluated locally"))?;
        // Decimals of different scales are as they are; all else must have been made alike by the planner.
        let alike = left == right || (left.is_decimal() && right.is_decimal());
        match alike && (left.is_integer() || left.is_decimal()) {
            true => Ok(Expr::call(function, args, data_type)),
            false => Err(format!("{left} {op} {right} is evaluated locally")),
        }
    }

    /// A cast that keeps every value as it is.
    fn cast(&self, inner: &Logical, to: &DataType) -> Result<Expr, String> {
        let inner = self.expr(inner)?;
        let from = self.type_of(&inner);
        let widens = match (&from, to) {
            (from, to) if from == to => return Ok(inner),
            (from, to) if from.is_integer() => to.is_integer() || matches!(to, DataType::Decimal128(_, 0..)),
            (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) => to >= from,
            _ => false,
        };
        if from.is_integer() && *to == DataType::Utf8 {
            return Ok(Expr::call(Function::Digits, vec![inner], DataType::Utf8));
        }
        match widens {
            true => Ok(Expr::call(Function::Widen, vec![inner], to.clone())),
            false => Err(format!("a cast of {from} to {to} is evaluated locally")),
        }
    }

    fn case(&self, case: &Case) -> Result<Expr, String> {
        let subject = case.expr.as_ref().map(|expr| self.expr(expr)).transpose()?;
        let mut args = Vec::new();
        for (when, then) in &case.when_then_expr {
            let when = self.expr(when)?;
            args.push(match &subject {
                Some(subject) => Expr::compare(CompareOp::Equal, subject.clone(), when),
                None => when,
            });
            args.push(self.expr(then)?);
        }
        let data_type = args
            .iter()
            .skip(1)
            .step_by(2)
            .map(|value| self.type_of(value))
            .find(|data_type| *data_type != DataType::Null)
            .ok_or("a CASE of NULLs")?;
        args.push(match &case.else_expr {
            Some(expr) => self.expr(expr)?,
            None => Expr::Literal(ScalarValue::try_from(&data_type).map_err(|error| error.to_string())?),
        });
        Ok(Expr::call(Function::Case, args, data_type))
    }

    fn function(&self, function: &ScalarFunction) -> Result<Expr, String> {
        let args = || function.args.iter().map(|arg| self.expr(arg)).collect::<Result<Vec<Expr>, String>>();
        let first_type = |args: &[Expr]| args.first().map_or(DataType::Null, |arg| self.type_of(arg));
        match function.name() {
            "substr" => Ok(Expr::call(Function::Substring, args()?, DataType::Utf8)),
            "character_length" => Ok(Expr::call(Function::CharLength, args()?, DataType::Int32)),
            "coalesce" => {
                let args = args()?;
                let data_type = first_type(&args);
                Ok(Expr::call(Function::Coalesce, args, data_type))
            }
            "nullif" => {
                let args = args()?;
                let data_type = first_type(&args);
                Ok(Expr::call(Function::NullIf, args, data_type))
            }
            "date_part" => self.date_part(function),
            "date_trunc" => self.date_trunc(function),
            DAY_OF => Ok(Expr::call(Function::DateOf, args()?, DataType::Date32)),
            "abs" => {
                let args = args()?;
                let data_type = first_type(&args);
                Ok(Expr::call(Function::Absolute, args, data_type))
            }
            name @ ("greatest" | "least") => {
                let mut args = args()?;
                if args.len() == 1 {
                    return Ok(args.remove(0));
                }
                let data_type = first_type(&args);
                let function = if name == "greatest" { Function::Greatest } else { Function::Least };
                Ok(Expr::call(function, args, data_type))
            }
            name @ ("btrim" | "ltrim" | "rtrim") if function.args.len() == 1 => {
                let function = match name {
                    "ltrim" => Function::TrimStart,
                    "rtrim" => Function::TrimEnd,
                    _ => Function::Trim,
                };
                Ok(Expr::call(function, args()?, DataType::Utf8))
            }
            "lower" => Ok(Expr::call(Function::Lower, args()?, DataType::Utf8)),
            "upper" => Ok(Expr::call(Function::Upper, args()?, DataType::Utf8)),
            "replace" => Ok(Expr::call(Function::Replace, args()?, DataType::Utf8)),
            "left" => {
                let mut args = args()?;
                match args.get(1) {
                    Some(Expr::Literal(ScalarValue::Int64(Some(0..)))) => {
                        args.insert(1, Expr::Literal(ScalarValue::from(1_i64)));
                        Ok(Expr::call(Function::Substring, args, DataType::Utf8))
                    }
                    _ => Err("LEFT of a computed length is evaluated locally".to_owned()),
                }
            }
            "right" => Ok(Expr::call(Function::Right, args()?, DataType::Utf8)),
            "strpos" => Ok(Expr::call(Function::Position, args()?, DataType::Int32)),
            "concat" => Ok(self.concat(args()?)),
            name => Err(format!("the function {name} is evaluated locally")),
        }
    }

    /// Texts one after the other, of which NULLs are nothing.
    fn concat(&self, args: Vec<Expr>) -> Expr {
        let empty = || Expr::Literal(ScalarValue::from(""));
        let given = args.into_iter().map(|arg| match arg {
            Expr::Literal(ref value) if !value.is_null() => arg,
            Expr::Literal(_) => empty(),
            arg => Expr::call(Function::Coalesce, vec![arg, empty()], DataType::Utf8),
        });
        Expr::call(Function::Concat, given.collect(), DataType::Utf8)
    }

    fn date_trunc(&self, function: &ScalarFunction) -> Result<Expr, String> {
        let [unit, moment] = function.args.as_slice() else { return Err("date_trunc of other than two".to_owned()) };
        let Some(ScalarValue::Utf8(Some(unit))) = literal(unit) else { return Err("a computed date_trunc".to_owned()) };
        let Some(unit) = CalendarUnit::parse(&unit) else {
            return Err(format!("date_trunc to a {unit} is evaluated locally"));
        };
        let moment = self.expr(moment)?;
        let data_type = match self.type_of(&moment) {
            DataType::Date32 => DataType::Timestamp(TimeUnit::Microsecond, None),
            own @ DataType::Timestamp(TimeUnit::Microsecond, _) => own,
            other => return Err(format!("date_trunc of {other} is evaluated locally")),
        };
        Ok(Expr::call(Function::Truncate(unit), vec![moment], data_type))
    }

    fn date_part(&self, function: &ScalarFunction) -> Result<Expr, String> {
        let [part, date] = function.args.as_slice() else { return Err("date_part of other than two".to_owned()) };
        let Some(ScalarValue::Utf8(Some(part))) = literal(part) else { return Err("a computed date_part".to_owned()) };
        let function = match part.to_ascii_lowercase().as_str() {
            "year" => Function::Year,
            "month" => Function::Month,
            "day" => Function::Day,
            "quarter" | "qtr" => Function::Quarter,
            "week" => Function::Week,
            "dow" => Function::DayOfWeek,
            "doy" => Function::DayOfYear,
            "hour" => Function::Hour,
            "minute" => Function::Minute,
            "second" => Function::Second,
            other => return Err(format!("date_part of {other} is evaluated locally")),
        };
        Ok(Expr::call(function, vec![self.expr(date)?], DataType::Int32))
    }

    /// A chain of AND or OR as one n-ary node. A part without a counterpart fails the whole: DataFusion splits top-level
    /// conjunctions before it asks, so only what stands under OR or NOT is lost.
    fn flat(&self, left: &Logical, right: &Logical, op: Operator) -> Result<Expr, String> {
        let mut parts = Vec::new();
        for side in [self.expr(left)?, self.expr(right)?] {
            match (op, side) {
                (Operator::And, Expr::And(inner)) | (Operator::Or, Expr::Or(inner)) => parts.extend(inner),
                (_, other) => parts.push(other),
            }
        }
        Ok(if op == Operator::And { Expr::And(parts) } else { Expr::Or(parts) })
    }

    fn between(&self, between: &Between) -> Result<Expr, String> {
        let expr = self.expr(&between.expr)?;
        let (low, high) = (self.expr(&between.low)?, self.expr(&between.high)?);
        let (below, above) = match between.negated {
            true => (CompareOp::Less, CompareOp::Greater),
            false => (CompareOp::GreaterOrEqual, CompareOp::LessOrEqual),
        };
        let parts = vec![Expr::compare(below, expr.clone(), low), Expr::compare(above, expr, high)];
        Ok(if between.negated { Expr::Or(parts) } else { Expr::And(parts) })
    }

    fn in_list(&self, list: &InList) -> Result<Expr, String> {
        let expr = self.expr(&list.expr)?;
        let values = list.list.iter().map(literal).collect::<Option<Vec<ScalarValue>>>();
        match values {
            Some(values) if values.is_empty() => Err("IN of nothing".to_owned()),
            Some(values) if values.iter().any(ScalarValue::is_null) => {
                Err("IN with NULL is evaluated locally".to_owned())
            }
            Some(values) => Ok(Expr::InList { expr: Box::new(expr), values, negated: list.negated }),
            None => Err("IN of computed values".to_owned()),
        }
    }

    fn like(&self, like: &LogicalLike) -> Result<Expr, String> {
        if !matches!(like.escape_char, None | Some('\\')) {
            return Err("LIKE with an escape character of its own".to_owned());
        }
        match literal(&like.pattern) {
            Some(ScalarValue::Utf8(Some(pattern))) => Ok(Expr::Like(Like {
                expr: Box::new(self.expr(&like.expr)?),
                pattern,
                negated: like.negated,
                case_insensitive: like.case_insensitive,
            })),
            _ => Err("LIKE with a computed pattern".to_owned()),
        }
    }
}

/// Whether the condition is true, and not NULL.
fn surely(condition: Expr) -> Expr {
    Expr::And(vec![condition.clone(), Expr::IsNotNull(Box::new(condition))])
}

/// Whether the condition is true or NULL.
fn maybe(condition: Expr) -> Expr {
    Expr::Or(vec![condition.clone(), Expr::IsNull(Box::new(condition))])
}

/// Whether two values differ, where a NULL is a value too.
fn distinct(a: Expr, b: Expr) -> Expr {
    let (nulls, knowns) = (tests(&a, &b, Expr::IsNull), tests(&a, &b, Expr::IsNotNull));
    let differ = Expr::Or([Expr::compare(CompareOp::NotEqual, a, b)].into_iter().chain(nulls).collect());
    // A constant is never NULL: where the other is, they differ.
    if knowns.len() < 2 { differ } else { Expr::And(vec![differ, Expr::Or(knowns)]) }
}

/// Whether two values are the same, where a NULL is a value too.
fn not_distinct(a: Expr, b: Expr) -> Expr {
    let (nulls, knowns) = (tests(&a, &b, Expr::IsNull), tests(&a, &b, Expr::IsNotNull));
    let same = Expr::And([Expr::compare(CompareOp::Equal, a, b)].into_iter().chain(knowns).collect());
    if nulls.len() < 2 { same } else { Expr::Or(vec![same, Expr::And(nulls)]) }
}

/// A test of each of the two that is no constant.
fn tests(a: &Expr, b: &Expr, test: impl Fn(Box<Expr>) -> Expr) -> Vec<Expr> {
    let values = [a, b].into_iter().filter(|value| !matches!(value, Expr::Literal(value) if !value.is_null()));
    values.map(|value| test(Box::new(value.clone()))).collect()
}

fn literal(expr: &Logical) -> Option<ScalarValue> {
    match expr {
        Logical::Literal(value, _) => Some(plain_text(value.clone())),
        _ => None,
    }
}

/// The three layouts of text hold the same values; sources speak of one.
fn plain_text(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => ScalarValue::Utf8(text),
        ScalarValue::BinaryView(bytes) | ScalarValue::LargeBinary(bytes) => ScalarValue::Binary(bytes),
        other => other,
    }
}

/// What people call a kind of expression; never its literals.
fn kind(expr: &Logical) -> String {
    match expr {
        Logical::TryCast(cast) => format!("try_cast to {}", cast.field.data_type()),
        Logical::SimilarTo(_) => "SIMILAR TO".to_owned(),
        Logical::InSubquery(_) | Logical::Exists(_) | Logical::ScalarSubquery(_) => "a subquery".to_owned(),
        other => format!("{} expression", other.variant_name()),
    }
}
