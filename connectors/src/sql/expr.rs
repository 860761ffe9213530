//! The expressions of a statement.
//!
//! A text holds no value: where one belongs it holds a mark, the value's number between two NULs, which no name or keyword can
//! contain. [`Writer::finish`] puts placeholders in the marks' places, in the order of the text.

use arrow::datatypes::DataType;
use headwater_source::{
    Aggregate, AggregateFunction, Bind, Call, ColumnDef, CompareOp, Error, Expr, Function, Like, RemoteStatement,
    Result, ScalarValue, SortKey,
};

use super::select::{Scope, Writer};
use super::{Context, Dialect, Finding, Hint, Numbering, Side, Use, chain};

/// What stands before and behind the number of a value.
const MARK: char = '\0';

impl<D: Dialect> Writer<'_, D> {
    /// A condition that keeps the rows for which it is true.
    pub(super) fn filter(&mut self, filter: &Expr, scope: &Scope) -> Result<String> {
        let lowered = self.dialect.lowered(filter.clone());
        self.condition(&lowered, scope, Context::Kept)
    }

    /// The same for one of WHERE's conjuncts: what is tested first, and what only those rows are tested for that are left.
    pub(super) fn required(&mut self, filter: &Expr, scope: &Scope) -> Result<(String, Vec<String>)> {
        let lowered = self.dialect.lowered(filter.clone());
        let first = self.condition(&lowered, scope, Context::Required)?;
        Ok((first, std::mem::take(&mut self.tested_last)))
    }

    fn condition(&mut self, condition: &Expr, scope: &Scope, context: Context) -> Result<String> {
        match condition {
            Expr::Column(_) => self.operand(condition, scope, Use::Equality),
            Expr::And(parts) => self.joined(parts, scope, context, " AND "),
            Expr::Or(parts) => self.joined(parts, scope, context.within_or(), " OR "),
            Expr::Not(inner) => Ok(format!("NOT ({})", self.condition(inner, scope, Context::Valued)?)),
            Expr::IsNull(inner) => Ok(format!("{} IS NULL", self.operand(inner, scope, Use::IsNull)?)),
            Expr::IsNotNull(inner) => match self.proviso(inner, scope)?.filter(|_| context != Context::Valued) {
                Some(proviso) => Ok(proviso),
                None => Ok(format!("{} IS NOT NULL", self.operand(inner, scope, Use::IsNull)?)),
            },
            Expr::Compare { op, left, right } => self.compare(*op, left, right, scope, context),
            Expr::InList { expr, values, negated } => self.in_list(expr, values, *negated, scope, context),
            Expr::Like(like) => self.like(like, scope, context),
            Expr::Call(_) => self.value(condition, scope),
            other => Err(self.unsupported(format!("the filter {other}"))),
        }
    }

    /// A value in the form in which the source keeps it.
    pub(super) fn value(&mut self, expr: &Expr, scope: &Scope) -> Result<String> {
        match expr {
            Expr::Column(index) => match scope.texts.get(*index) {
                Some(text) => Ok(text.clone()),
                None => Err(self.unsupported(format!("there is no column {index}"))),
            },
            Expr::Literal(value) => Ok(self.bind_as(value, &expr.describe(&[]), Use::Argument)),
            Expr::Call(call) => self.call(call, scope),
            condition => {
                let lowered = self.dialect.lowered(condition.clone());
                Ok(format!("({})", self.condition(&lowered, scope, Context::Valued)?))
            }
        }
    }

    /// A value as the source needs it spelt for a purpose.
    pub(super) fn operand(&mut self, expr: &Expr, scope: &Scope, purpose: Use) -> Result<String> {
        let text = self.value(expr, scope)?;
        Ok(self.spelt(&expr.describe(&scope.columns), text, purpose, scope))
    }

    /// A column's text as the source needs it spelt for a purpose: as it stands where all rows meet what it lacks. Not to be compared for equality so: what an index finds may be
    /// more than what is equal ([`Dialect::equals_exactly`]).
    pub(super) fn spelt(&self, column: &ColumnDef, text: String, purpose: Use, scope: &Scope) -> String {
        let is_met = || self.dialect.proviso(column, &text).is_some_and(|proviso| scope.met.contains(&proviso));
        match purpose {
            Use::Order | Use::Sort | Use::IsNull | Use::Argument | Use::Group if is_met() => {
                self.dialect.column(column, text, Use::Indexed)
            }
            _ => self.dialect.column(column, text, purpose),
        }
    }

    /// An aggregate. A condition makes its argument NULL for the rows that it leaves out, which every aggregate skips.
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, scope: &Scope) -> Result<String> {
        let purpose = match aggregate.function {
            AggregateFunction::CountDistinct => Use::Group,
            AggregateFunction::Min | AggregateFunction::Max => Use::Sort,
            _ => Use::Argument,
        };
        let arg = match &aggregate.arg {
            Some(arg) => self.operand(unwidened(aggregate.function, arg), scope, purpose)?,
            None if aggregate.condition.is_some() => "1".to_owned(),
            None => "*".to_owned(),
        };
        let arg = match &aggregate.condition {
            Some(condition) => format!("CASE WHEN {} THEN {arg} END", self.filter(condition, scope)?),
            None => arg,
        };
        Ok(self.dialect.aggregate(aggregate, &arg, &aggregate.describe(&scope.columns)))
    }

    /// A sort key over rows that meet the filters.
    pub(super) fn sort_key(&mut self, key: SortKey, scope: &Scope, filters: &[&String]) -> Result<String> {
        let sorted = Expr::Column(key.column);
        let expression = self.operand(&sorted, scope, Use::Sort)?;
        let proviso = self.proviso(&sorted, scope)?;
        let column = &scope.columns[key.column];
        // What a filter says of a column is not said of NULL.
        let nullable = column.nullable && !proviso.is_some_and(|proviso| filters.contains(&&proviso));
        Ok(self.dialect.sort_key(&ColumnDef { nullable, ..column.clone() }, &expression, key))
    }

    fn call(&mut self, call: &Call, scope: &Scope) -> Result<String> {
        if call.function == Function::Case {
            return self.case(call, scope);
        }
        let purpose = match call.function {
            Function::NullIf => Use::Equality,
            // A text is looked for by its characters, under no collation that folds.
            Function::Replace | Function::Position => Use::Like,
            _ => Use::Argument,
        };
        let args: Vec<String> = call.args.iter().map(|arg| self.operand(arg, scope, purpose)).collect::<Result<_>>()?;
        let text = self.dialect.call(call, &args);
        text.ok_or_else(|| self.unsupported(format!("the function {}", call.function.name())))
    }

    fn case(&mut self, call: &Call, scope: &Scope) -> Result<String> {
        let mut text = "CASE".to_owned();
        let (last, pairs) = call.args.split_last().ok_or_else(|| self.unsupported("an empty CASE".to_owned()))?;
        for pair in pairs.chunks(2) {
            let [condition, value] = pair else { return Err(self.unsupported("half a CASE".to_owned())) };
            let (condition, value) = (self.filter(condition, scope)?, self.operand(value, scope, Use::Argument)?);
            text.push_str(&format!(" WHEN {condition} THEN {value}"));
        }
        if !matches!(last, Expr::Literal(value) if value.is_null()) {
            text.push_str(&format!(" ELSE {}", self.operand(last, scope, Use::Argument)?));
        }
        text.push_str(" END");
        Ok(text)
    }

    fn joined(&mut self, parts: &[Expr], scope: &Scope, context: Context, separator: &str) -> Result<String> {
        let parts: Vec<String> =
            parts.iter().map(|part| self.condition(part, scope, context)).collect::<Result<_>>()?;
        Ok(format!("({})", chain(parts, separator)))
    }

    fn compare(&mut self, op: CompareOp, left: &Expr, right: &Expr, scope: &Scope, context: Context) -> Result<String> {
        if matches!(left, Expr::Literal(_)) && !matches!(right, Expr::Literal(_)) {
            return self.compare(op.swapped(), right, left, scope, context);
        }
        let purpose = match op {
            CompareOp::Equal | CompareOp::NotEqual => Use::Equality,
            _ => Use::Order,
        };
        if self.hint(op, left, scope, context) == Hint::Alone {
            return self.comparison(op, left, right, scope, purpose);
        }
        let beside = self.comparison(op, left, right, scope, Use::Indexed)?;
        let rest = match self.provisos(op, left, right, scope)? {
            Some(provisos) => provisos,
            None => vec![self.comparison(op, left, right, scope, purpose)?],
        };
        Ok(self.both(beside, rest, context))
    }

    /// What makes the comparison of [`Use::Indexed`] the exact one; `None` where that takes the exact one itself.
    fn provisos(&mut self, op: CompareOp, left: &Expr, right: &Expr, scope: &Scope) -> Result<Option<Vec<String>>> {
        let Some(of_left) = self.proviso(left, scope)? else { return Ok(None) };
        Ok(match (op, right) {
            (CompareOp::Equal, Expr::Literal(_)) => self.equals_exactly(left, scope).then(Vec::new),
            (_, Expr::Literal(_)) => Some(vec![of_left]),
            _ => Some([Some(of_left), self.proviso(right, scope)?].into_iter().flatten().collect()),
        })
    }

    fn proviso(&mut self, side: &Expr, scope: &Scope) -> Result<Option<String>> {
        let text = self.value(side, scope)?;
        Ok(self.dialect.proviso(&side.describe(&scope.columns), &text))
    }

    fn equals_exactly(&self, side: &Expr, scope: &Scope) -> bool {
        self.dialect.equals_exactly(&side.describe(&scope.columns))
    }

    /// A condition and what it lacks. As one of WHERE's conjuncts it is tested before all that others lack: it is the quicker one.
    fn both(&mut self, beside: String, mut rest: Vec<String>, context: Context) -> String {
        match context {
            Context::Required => {
                self.tested_last.append(&mut rest);
                beside
            }
            _ if rest.is_empty() => beside,
            _ => format!("({beside} AND {})", rest.join(" AND ")),
        }
    }

    fn comparison(&mut self, op: CompareOp, left: &Expr, right: &Expr, scope: &Scope, purpose: Use) -> Result<String> {
        let left = self.side(left, scope, purpose)?;
        let right = match right {
            Expr::Literal(value) => Side { text: self.bind_as(value, &left.column, purpose), ..left.clone() },
            right => self.side(right, scope, purpose)?,
        };
        Ok(self.dialect.compare(op, &left, &right))
    }

    fn hint(&self, op: CompareOp, left: &Expr, scope: &Scope, context: Context) -> Hint {
        match context {
            Context::Required | Context::Kept => self.dialect.hint(op, &left.describe(&scope.columns)),
            Context::Valued => Hint::Alone,
        }
    }

    fn side(&mut self, expr: &Expr, scope: &Scope, purpose: Use) -> Result<Side> {
        Ok(Side { column: expr.describe(&scope.columns), text: self.operand(expr, scope, purpose)? })
    }

    fn in_list(
        &mut self,
        expr: &Expr,
        values: &[ScalarValue],
        negated: bool,
        scope: &Scope,
        context: Context,
    ) -> Result<String> {
        let op = if negated { CompareOp::NotEqual } else { CompareOp::Equal };
        if let Some(keys) = self.keys(op, expr, values, scope, context)? {
            return Ok(keys);
        }
        let beside = self.hint(op, expr, scope, context) == Hint::Beside;
        if beside && op == CompareOp::Equal && self.equals_exactly(expr, scope) {
            return self.containment(op, expr, values, scope, Use::Indexed);
        }
        let exact = self.containment(op, expr, values, scope, Use::Equality)?;
        if !beside || values.len() > self.dialect.hinted_values_max() {
            return Ok(exact);
        }
        let beside = self.containment(op, expr, values, scope, Use::Indexed)?;
        Ok(self.both(beside, vec![exact], context))
    }

    /// A list that all rows must be in, as one value.
    fn keys(
        &mut self,
        op: CompareOp,
        expr: &Expr,
        values: &[ScalarValue],
        scope: &Scope,
        context: Context,
    ) -> Result<Option<String>> {
        let column = expr.describe(&scope.columns);
        let required = context == Context::Required && op == CompareOp::Equal;
        let Some(remote_type) = self.dialect.keys_type(&column, values.len()).filter(|_| required) else {
            return Ok(None);
        };
        let text = self.operand(expr, scope, Use::Equality)?;
        let finding = if matches!(expr, Expr::Column(_)) { Finding::ByIndex } else { Finding::ByTest };
        let list = ScalarValue::List(ScalarValue::new_list_nullable(values, &column.data_type));
        let list = self.bind(Bind { value: list, remote_type: remote_type.clone() });
        Ok(Some(self.dialect.one_of_keys(&text, &list, &remote_type, finding)))
    }

    fn containment(
        &mut self,
        op: CompareOp,
        expr: &Expr,
        values: &[ScalarValue],
        scope: &Scope,
        purpose: Use,
    ) -> Result<String> {
        let column = expr.describe(&scope.columns);
        let text = self.operand(expr, scope, purpose)?;
        let negated = op == CompareOp::NotEqual;
        if let Some(remote_type) = self.dialect.list_type(&column).filter(|_| values.len() > 1) {
            let list = ScalarValue::List(ScalarValue::new_list_nullable(values, &column.data_type));
            let list = self.bind(Bind { value: list, remote_type });
            return Ok(if negated { format!("{text} <> ALL ({list})") } else { format!("{text} = ANY ({list})") });
        }
        let binds: Vec<String> = values.iter().map(|value| self.bind_as(value, &column, purpose)).collect();
        Ok(format!("{text} {}IN ({})", if negated { "NOT " } else { "" }, binds.join(", ")))
    }

    fn like(&mut self, like: &Like, scope: &Scope, context: Context) -> Result<String> {
        if like.case_insensitive {
            return Err(self.unsupported("ILIKE".to_owned()));
        }
        let column = like.expr.describe(&scope.columns);
        // An index serves what a pattern starts with.
        let indexable = context != Context::Valued && !like.negated && !like.pattern.starts_with(['%', '_']);
        let exact = self.matching(like, &column, scope, self.dialect.like_use(&like.pattern))?;
        if !indexable || self.dialect.like_hint(&column) == Hint::Alone {
            return Ok(exact);
        }
        let beside = self.matching(like, &column, scope, Use::Indexed)?;
        Ok(self.both(beside, vec![exact], context))
    }

    fn matching(&mut self, like: &Like, column: &ColumnDef, scope: &Scope, purpose: Use) -> Result<String> {
        let text = self.operand(&like.expr, scope, purpose)?;
        let pattern = self.bind_as(&ScalarValue::from(like.pattern.as_str()), column, purpose);
        Ok(format!("{text} {}LIKE {pattern}{}", if like.negated { "NOT " } else { "" }, self.dialect.like_escape()))
    }

    /// Binds a value as what it is compared with; its mark.
    fn bind_as(&mut self, value: &ScalarValue, column: &ColumnDef, purpose: Use) -> String {
        let remote_type = self.dialect.bind_type(column, purpose);
        self.bind(Bind { value: value.clone(), remote_type })
    }

    fn bind(&mut self, bind: Bind) -> String {
        self.binds.push(bind);
        format!("{MARK}{}{MARK}", self.binds.len() - 1)
    }

    /// The statement: marks become placeholders.
    pub(super) fn finish(&mut self, text: &str) -> RemoteStatement {
        let mut finished = String::with_capacity(text.len());
        let mut sent: Vec<usize> = Vec::new();
        for (place, part) in text.split(MARK).enumerate() {
            match (place % 2, part.parse::<usize>()) {
                (1, Ok(index)) => {
                    let number = self.number_of(index, &mut sent);
                    finished.push_str(&self.dialect.placeholder(number, &self.binds[index].remote_type));
                }
                _ => finished.push_str(part),
            }
        }
        let binds = sent.into_iter().map(|index| self.binds[index].clone()).collect();
        RemoteStatement { text: finished, binds }
    }

    fn number_of(&self, index: usize, sent: &mut Vec<usize>) -> usize {
        let known = match D::NUMBERING {
            // Only a value whose text was used again has been sent before; lists of thousands are not searched through.
            Numbering::ByNumber if self.reused => sent.iter().position(|known| *known == index),
            _ => None,
        };
        known.map_or_else(
            || {
                sent.push(index);
                sent.len()
            },
            |place| place + 1,
        )
    }

    pub(super) fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { service: self.service.clone(), reason }
    }
}

impl Context {
    /// The context of a disjunction's parts.
    fn within_or(self) -> Self {
        match self {
            Self::Required => Self::Kept,
            other => other,
        }
    }
}

/// How much work a condition is: numbers and dates are compared most quickly, functions and patterns take longest.
pub(super) fn effort(condition: &Expr, columns: &[ColumnDef]) -> usize {
    match condition {
        Expr::Column(index) => match columns.get(*index).map(|column| &column.data_type) {
            Some(DataType::Utf8 | DataType::Binary | DataType::Decimal128(..) | DataType::Decimal256(..)) => 2,
            _ => 1,
        },
        Expr::Literal(_) => 1,
        Expr::IsNull(inner) | Expr::IsNotNull(inner) | Expr::Not(inner) => effort(inner, columns),
        Expr::Compare { left, right, .. } => effort(left, columns).max(effort(right, columns)),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().map(|part| effort(part, columns)).sum(),
        Expr::InList { expr, .. } => effort(expr, columns).max(3),
        _ => 4,
    }
}

/// A sum is as wide as the source makes it: widening what it sums only costs.
fn unwidened(function: AggregateFunction, arg: &Expr) -> &Expr {
    match arg {
        Expr::Call(Call { function: Function::Widen, args, .. }) if function == AggregateFunction::Sum => {
            args.first().unwrap_or(arg)
        }
        _ => arg,
    }
}
