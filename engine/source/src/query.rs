//! What a source computes just as the engine does: the capability table of whole queries.
//!
//! A superset helps only where the engine filters again, so here everything is exact or not at all. Like the table of filters it is data:
//! functions and aggregates by the class of what they are applied to, classes that make groups, kinds of joins. What is
//! not in it stays local.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;

use crate::bounds::{fits, magnitude};
use crate::capability::value_fits;
use crate::{
    Aggregate, AggregateFunction, Call, Capabilities, ColumnDef, Expr, Function, JoinKind, Operator, Purpose, SortKey,
    Support, ValueClass,
};

/// What a source computes exactly, beyond filters on columns.
#[derive(Debug, Clone, Copy)]
pub struct Queries {
    /// Functions, by the class of their first value.
    pub functions: &'static [(Function, ValueClass)],
    /// Aggregates, by the class of their argument. `count(*)` needs no entry, and `count` counts the classes on which IS NULL is exact.
    pub aggregates: &'static [(AggregateFunction, ValueClass)],
    /// The integer types that it computes with and sums up.
    pub integers: &'static [DataType],
    /// Classes whose values fall into groups by their bytes: GROUP BY, DISTINCT, count(DISTINCT).
    pub groups: &'static [ValueClass],
    /// Classes of texts of which LOWER and UPPER change ASCII's letters as the engine does: a condition on them is a superset beside one for texts with others.
    pub cases: &'static [ValueClass],
    /// Joins.
    pub joins: &'static [JoinKind],
    /// Whether a condition (`a < b`) may also stand where a value does.
    pub conditions: Conditions,
    /// The most digits behind the point that its decimals keep.
    pub scale_max: i8,
}

/// Whether a source has conditions as values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// A condition is a value of type boolean.
    AreValues,
    /// A condition as a value is a number there, or nothing.
    AreNot,
}

/// The most values of which the greatest or the least is computed.
const EXTREMES_MAX: usize = 4;

/// Why something stays local.
type Reason = String;

impl Capabilities {
    /// Whether the source computes the expression, over these columns, to the engine's values; what the result is as a column.
    pub fn computes(&self, expr: &Expr, columns: &[ColumnDef]) -> Result<ColumnDef, Reason> {
        match expr {
            Expr::Column(index) if *index < columns.len() => Ok(columns[*index].clone()),
            Expr::Column(index) => Err(format!("there is no column {index}")),
            Expr::Literal(value) => {
                self.unobjected(expr, Purpose::Value, columns)?;
                self.computes_literal(value)
            }
            Expr::Call(call) => {
                self.computes_call(call, columns)?;
                self.unobjected(expr, Purpose::Value, columns)?;
                Ok(expr.describe(columns))
            }
            condition => {
                if self.queries_or_reason()?.conditions == Conditions::AreNot {
                    return Err(format!("{} has no boolean values", self.source()));
                }
                self.decides(condition, columns).map(|()| expr.describe(columns))
            }
        }
    }

    /// Whether the source decides the condition as the engine does: true, false and NULL.
    pub fn decides(&self, condition: &Expr, columns: &[ColumnDef]) -> Result<(), Reason> {
        let offer = self.offer_over(condition, columns);
        if offer.support == Support::Exact { Ok(()) } else { Err(offer.reason) }
    }

    /// Whether the source groups by the expression as the engine does.
    pub fn groups(&self, key: &Expr, columns: &[ColumnDef]) -> Result<(), Reason> {
        if matches!(key, Expr::Literal(_)) {
            return Err("a constant is no key of groups".to_owned());
        }
        let column = self.computes(key, columns)?;
        if self.queries_or_reason()?.groups.contains(&column.class) {
            return self.unobjected(key, Purpose::Key, columns);
        }
        Err(format!("GROUP BY \"{}\" ({}) differs in {}", column.name, column.remote_type, self.source()))
    }

    /// Whether the source aggregates as the engine does.
    pub fn aggregates(&self, aggregate: &Aggregate, columns: &[ColumnDef]) -> Result<(), Reason> {
        if let Some(condition) = &aggregate.condition {
            self.decides(condition, columns)?;
        }
        let Some(arg) = &aggregate.arg else { return self.queries_or_reason().map(|_| ()) };
        if aggregate.function == AggregateFunction::CountDistinct {
            self.groups(arg, columns)?;
        }
        let column = self.computes(arg, columns)?;
        if aggregate.function == AggregateFunction::Sum {
            self.takes_integer(&column)?;
        }
        let class = column.class;
        let known = self.queries_or_reason()?.aggregates;
        let exact = match aggregate.function {
            // A value is counted where it is not NULL.
            AggregateFunction::Count => self.support(Operator::IsNull, class) == Support::Exact,
            function => known.contains(&(function, class)),
        };
        if !exact {
            return Err(format!("{} of {class:?} differs in {}", aggregate.function.name(), self.source()));
        }
        match (aggregate.function, &aggregate.data_type) {
            (AggregateFunction::Sum, DataType::Decimal256(..)) => {
                Err(format!("{} has no sums of more than 65 digits", self.source()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the source joins so.
    pub fn joins(&self, kind: JoinKind) -> Result<(), Reason> {
        if self.queries_or_reason()?.joins.contains(&kind) {
            return Ok(());
        }
        Err(format!("{} has no {kind:?} join that is the engine's", self.source()))
    }

    /// Whether the source can sort by these columns just as Arrow does, or why not.
    pub fn sorts(&self, keys: &[SortKey], columns: &[ColumnDef]) -> Result<(), Reason> {
        for key in keys {
            let column = &columns[key.column];
            if self.support(Operator::Sort, column.class) != Support::Exact {
                return Err(self.reason(Operator::Sort, column));
            }
            self.unobjected(&Expr::Column(key.column), Purpose::Key, columns)?;
        }
        Ok(())
    }

    fn takes_integer(&self, column: &ColumnDef) -> Result<(), Reason> {
        let known = self.queries_or_reason()?.integers;
        if column.class != ValueClass::Integer || known.contains(&column.data_type) {
            return Ok(());
        }
        Err(format!("{} does not compute with {}", self.source(), column.data_type))
    }

    fn queries_or_reason(&self) -> Result<&'static Queries, Reason> {
        self.queries().ok_or_else(|| format!("{} only filters by its columns", self.source()))
    }

    fn computes_literal(&self, value: &ScalarValue) -> Result<ColumnDef, Reason> {
        value_fits(value).map_err(str::to_owned)?;
        if value.is_null() {
            return Err("a NULL of no column".to_owned());
        }
        let column = Expr::Literal(value.clone()).describe(&[]);
        self.takes_integer(&column)?;
        if !self.takes_constant(column.class) {
            return Err(format!("a constant of type {} is no value in {}", column.data_type, self.source()));
        }
        // The types that every source has a bind for.
        let bound = matches!(
            value,
            ScalarValue::Boolean(_)
                | ScalarValue::Int16(_)
                | ScalarValue::Int32(_)
                | ScalarValue::Int64(_)
                | ScalarValue::Decimal128(..)
                | ScalarValue::Utf8(_)
                | ScalarValue::Date32(_)
                | ScalarValue::TimestampMicrosecond(..)
        );
        if bound { Ok(column) } else { Err(format!("a constant of type {}", value.data_type())) }
    }

    fn computes_call(&self, call: &Call, columns: &[ColumnDef]) -> Result<(), Reason> {
        let queries = self.queries_or_reason()?;
        let classes = match call.function {
            Function::Case => self.computes_case(call, columns)?,
            _ => self.computes_args(call, columns)?,
        };
        if let Some(class) = classes.iter().find(|class| !queries.functions.contains(&(call.function, **class))) {
            return Err(format!("{} of {class:?} differs in {}", call.function.name(), self.source()));
        }
        match call.function {
            Function::Substring => substring_args(call)?,
            Function::Right => right_args(call)?,
            Function::Divide | Function::Remainder => positive_literal(call.args.get(1))?,
            _ => {}
        }
        let arithmetic = matches!(classes[..], [ValueClass::Integer | ValueClass::Decimal, ..]);
        let args = call.args.iter().map(|arg| arg.describe(columns));
        args.chain([Expr::Call(call.clone()).describe(columns)]).try_for_each(|column| self.takes_integer(&column))?;
        if arithmetic && !in_range(call, columns, queries.scale_max) {
            let name = call.function.name();
            return Err(format!(
                "{name} may leave the range of {}, which the engine and {} take otherwise",
                call.data_type,
                self.source()
            ));
        }
        Ok(())
    }

    /// The class of the first argument, of which all others are; of each argument, where texts of several classes meet.
    fn computes_args(&self, call: &Call, columns: &[ColumnDef]) -> Result<Vec<ValueClass>, Reason> {
        let args: Vec<ColumnDef> = call.args.iter().map(|arg| self.computes(arg, columns)).collect::<Result<_, _>>()?;
        let Some(first) = args.first() else { return Err("a function of nothing".to_owned()) };
        let alike = match call.function {
            Function::Add | Function::Subtract | Function::Multiply => args.iter().all(|arg| arg.class == first.class),
            // Sources that want each argument several times write so many.
            Function::Greatest | Function::Least if args.len() > EXTREMES_MAX => {
                return Err(format!("{} of more than {EXTREMES_MAX} values", call.function.name()));
            }
            Function::Coalesce | Function::Greatest | Function::Least => {
                args.iter().all(|arg| arg.data_type == first.data_type && is_alike(arg, first))
            }
            Function::NullIf => {
                self.decides(
                    &Expr::compare(crate::CompareOp::Equal, call.args[0].clone(), call.args[1].clone()),
                    columns,
                )?;
                true
            }
            Function::Concat | Function::Replace | Function::Position => {
                args.iter().all(|arg| arg.data_type == DataType::Utf8)
            }
            _ => true,
        };
        match call.function {
            _ if !alike => Err(format!("{} of unlike values", call.function.name())),
            Function::Coalesce
            | Function::Greatest
            | Function::Least
            | Function::Concat
            | Function::Replace
            | Function::Position => Ok(args.iter().map(|arg| arg.class).collect()),
            _ => Ok(vec![first.class]),
        }
    }

    /// The classes of the values; each condition decided.
    fn computes_case(&self, call: &Call, columns: &[ColumnDef]) -> Result<Vec<ValueClass>, Reason> {
        let (last, pairs) = call.args.split_last().ok_or("an empty CASE")?;
        let mut values: Vec<ColumnDef> = Vec::new();
        for pair in pairs.chunks(2) {
            let [condition, value] = pair else { return Err("half a CASE".to_owned()) };
            self.decides(condition, columns)?;
            values.push(self.computes(value, columns)?);
        }
        if !matches!(last, Expr::Literal(value) if value.is_null()) {
            values.push(self.computes(last, columns)?);
        }
        let Some(first) = values.first() else { return Err("an empty CASE".to_owned()) };
        let alike = values.iter().all(|value| value.data_type == call.data_type && is_alike(value, first));
        if alike {
            Ok(values.iter().map(|value| value.class).collect())
        } else {
            Err("CASE of unlike values".to_owned())
        }
    }
}

/// Of one class, or both texts.
fn is_alike(a: &ColumnDef, b: &ColumnDef) -> bool {
    a.class == b.class || (a.data_type == DataType::Utf8 && b.data_type == DataType::Utf8)
}

fn in_range(call: &Call, columns: &[ColumnDef], scale_max: i8) -> bool {
    let scale_fits = match call.data_type {
        DataType::Decimal128(_, scale) => (0..=scale_max).contains(&scale),
        DataType::Decimal256(..) => false,
        _ => true,
    };
    let magnitude = magnitude(&Expr::Call(call.clone()), columns);
    match call.function {
        // Of each decimal its type has the negative, too.
        Function::Negate if call.args.first().is_some_and(|arg| is_decimal_of(arg, &call.data_type, columns)) => true,
        Function::Add | Function::Subtract | Function::Multiply | Function::Negate | Function::Widen => {
            scale_fits && magnitude.is_some_and(|most| fits(most, &call.data_type))
        }
        _ => true,
    }
}

fn is_decimal_of(expr: &Expr, data_type: &DataType, columns: &[ColumnDef]) -> bool {
    matches!(data_type, DataType::Decimal128(..)) && expr.describe(columns).data_type == *data_type
}

fn substring_args(call: &Call) -> Result<(), Reason> {
    let length = call.args.len() == 2 || is_number_from(call.args.get(2), 0);
    if is_number_from(call.args.get(1), 1) && length { Ok(()) } else { Err("SUBSTRING at a computed place".to_owned()) }
}

fn right_args(call: &Call) -> Result<(), Reason> {
    if is_number_from(call.args.get(1), 0) { Ok(()) } else { Err("RIGHT of a computed length".to_owned()) }
}

/// Whether it is a constant number of at least so many.
fn is_number_from(arg: Option<&Expr>, least: i64) -> bool {
    match arg {
        Some(Expr::Literal(ScalarValue::Int64(Some(number)))) => (least..=i64::from(i32::MAX)).contains(number),
        _ => false,
    }
}

fn positive_literal(arg: Option<&Expr>) -> Result<(), Reason> {
    let positive = match arg {
        Some(Expr::Literal(value)) => {
            matches!(value.cast_to(&DataType::Int64), Ok(ScalarValue::Int64(Some(number))) if number > 0)
        }
        _ => false,
    };
    if positive { Ok(()) } else { Err("a division by what may be zero or -1".to_owned()) }
}
