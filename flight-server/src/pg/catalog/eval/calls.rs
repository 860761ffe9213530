//! Compiles calls of functions: of a row, of several rows, and those that yield rows.

use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, OrderByExpr, WindowSpec, WindowType,
};

use super::compile::{Compiler, Typed};
use super::names::last;
use super::plan::{Aggregate, Call, Expr, How, Set, Window, WindowHow};
use super::terms::{common, typed};
use super::value::{Kind, Value};
use super::{functions, sets};
use crate::pg::error::{PgError, UNSUPPORTED};

impl Compiler<'_> {
    pub(super) fn function(&mut self, function: &Function) -> Result<Typed, PgError> {
        let name = last(&function.name);
        let list = match &function.args {
            // ARRAY(SELECT ...)
            FunctionArguments::Subquery(query) => {
                let query = self.query(query)?;
                let kind = query.columns.first().map_or(Kind::Text, |column| column.kind.clone());
                return Ok(typed(Expr::ListOf(Box::new(query)), kind.list()));
            }
            FunctionArguments::None => {
                let value = match name.as_str() {
                    "current_user" | "session_user" | "user" | "current_role" => {
                        return Ok(typed(Expr::Constant(Value::text(&self.tables.user)), Kind::Name));
                    }
                    "current_date" => "now",
                    other => other,
                };
                return self.called(value, vec![]);
            }
            FunctionArguments::List(list) => list,
        };
        if let Some(over) = &function.over {
            return self.window(&name, function, list, over);
        }
        if let Some((aggregate, kind)) = self.aggregate(&name, function, list)? {
            let all = &mut self.beside()?.aggregates;
            all.push(aggregate);
            return Ok(typed(Expr::Aggregate(all.len() - 1), kind));
        }
        let arguments = self.arguments(&list.args)?;
        let kinds: Vec<Kind> = arguments.iter().map(|argument| argument.kind.clone()).collect();
        let Some((set, columns)) = sets::named(&name, &kinds) else { return self.called(&name, arguments) };
        let call = self.set_call(set, columns.len(), arguments)?;
        let all = &mut self.beside()?.sets;
        all.push(call);
        let index = all.len() - 1;
        let kind = match &columns[..] {
            [(_, kind)] => kind.clone(),
            columns => Kind::Record(columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect()),
        };
        Ok(typed(Expr::Set(index), kind))
    }

    fn beside(&mut self) -> Result<&mut super::compile::Beside, PgError> {
        self.beside.last_mut().ok_or_else(|| PgError::new(UNSUPPORTED, "such a function stands in a SELECT alone"))
    }

    pub(super) fn arguments(&mut self, arguments: &[FunctionArg]) -> Result<Vec<Typed>, PgError> {
        let value = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
            | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
            | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => self.term(expr),
            _ => Err(PgError::new(UNSUPPORTED, "a function takes values")),
        };
        arguments.iter().map(value).collect()
    }

    /// A function that yields rows, called with these values.
    pub(super) fn set_call(&mut self, set: Set, width: usize, arguments: Vec<Typed>) -> Result<Call, PgError> {
        let first = match set {
            Set::Nothing => width as i64,
            _ => arguments.first().map_or(1, |argument| argument.kind.first_index()),
        };
        let arguments = arguments.into_iter().map(|argument| {
            let kind = match set {
                Set::Series => Kind::Int8,
                Set::Unnest | Set::Expand if argument.kind.element().is_none() => Kind::Text.list(),
                _ => self.settled_kind(&argument),
            };
            self.coerced(argument, &kind)
        });
        Ok(Call { set, arguments: arguments.collect::<Result<_, _>>()?, first })
    }

    fn settled_kind(&self, term: &Typed) -> Kind {
        if term.kind == Kind::Unknown { Kind::Text } else { term.kind.clone() }
    }

    /// A function of a row, called with these values.
    pub(super) fn called(&mut self, name: &str, arguments: Vec<Typed>) -> Result<Typed, PgError> {
        match (name, arguments.len()) {
            ("coalesce" | "ifnull", 1..) => {
                let kind = common(&arguments);
                let parts = arguments.into_iter().map(|part| self.coerced(part, &kind)).collect::<Result<_, _>>()?;
                return Ok(typed(Expr::Coalesce(parts), kind));
            }
            ("nullif", 2) => return self.null_if(arguments),
            ("array_lower" | "array_upper", 2) if arguments[0].kind.first_index() == 0 => {
                // A vector counts from 0.
                let [list, _] = <[Typed; 2]>::try_from(arguments)
                    .map_err(|_| PgError::new("42883", "array_lower takes two values"))?;
                let list = typed(list.expr, list.kind.element().cloned().unwrap_or(Kind::Text).list());
                let dimension = typed(Expr::Constant(Value::Int(1)), Kind::Int4);
                let bound = self.called(name, vec![list, dimension])?;
                let one = Box::new(Expr::Constant(Value::Int(1)));
                let less = Expr::Compute(super::plan::Compute::Subtract, Box::new(bound.expr), one);
                return Ok(typed(less, Kind::Int4));
            }
            ("pg_typeof", 1) => {
                let oid = i64::from(arguments[0].kind.pg().oid());
                return Ok(typed(Expr::Constant(Value::Int(oid)), Kind::Reg(super::value::Reg::Type)));
            }
            _ => {}
        }
        let Some(function) = functions::named(name) else {
            let error = PgError::new("42883", format!("function {name} does not exist in questions of the catalog"));
            return Err(error.with_hint("one statement asks the catalog or services, and not both"));
        };
        let kinds: Vec<Kind> = arguments.iter().map(|argument| self.settled_kind(argument)).collect();
        let shows_texts = matches!(
            name,
            "concat" | "concat_ws" | "format" | "quote_literal" | "quote_nullable" | "length" | "lower" | "upper"
        );
        let arguments = arguments.into_iter().zip(&kinds).map(|(argument, kind)| {
            // What has a name is shown by it.
            let kind = if shows_texts && matches!(kind, Kind::Reg(_)) { &Kind::Text } else { kind };
            let kind = match (name, kind) {
                ("string_to_array" | "array_to_string", Kind::Vector(element)) => &element.as_ref().clone().list(),
                (_, kind) => kind,
            };
            self.coerced(argument, kind)
        });
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let kind = (function.returns)(&kinds);
        Ok(typed(Expr::Call(function, arguments), kind))
    }

    fn null_if(&mut self, arguments: Vec<Typed>) -> Result<Typed, PgError> {
        let Ok([one, other]) = <[Typed; 2]>::try_from(arguments) else {
            return Err(PgError::new("42883", "nullif takes two values"));
        };
        let kind = match one.kind.common(&other.kind) {
            Kind::Unknown => Kind::Text,
            kind => kind,
        };
        let arguments = vec![self.coerced(one, &kind)?, self.coerced(other, &kind)?];
        let Some(function) = functions::named("nullif") else {
            return Err(PgError::new("42883", "function nullif does not exist"));
        };
        Ok(typed(Expr::Call(function, arguments), kind))
    }

    // ---- of several rows

    fn aggregate(
        &mut self,
        name: &str,
        function: &Function,
        list: &FunctionArgumentList,
    ) -> Result<Option<(Aggregate, Kind)>, PgError> {
        let counts_rows = name == "count"
            && (list.args.is_empty() || matches!(&list.args[..], [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]));
        let how = match name {
            "count" if counts_rows => How::CountRows,
            "count" => How::Count,
            "sum" => How::Sum,
            "avg" => How::Average,
            "min" => How::Min,
            "max" => How::Max,
            "array_agg" => How::List,
            "string_agg" => How::Text,
            "bool_and" | "every" => How::Every,
            "bool_or" => How::Any,
            _ => return Ok(None),
        };
        let arguments = if counts_rows { vec![] } else { self.arguments(&list.args)? };
        let first = arguments.first().map_or(Kind::Text, |argument| self.settled_kind(argument));
        let kind = match how {
            How::CountRows | How::Count => Kind::Int8,
            How::Sum if first.is_integer() => Kind::Int8,
            How::Sum | How::Average => Kind::Float8,
            How::Min | How::Max => first.clone(),
            How::List => first.clone().list(),
            How::Text => Kind::Text,
            How::Every | How::Any => Kind::Bool,
        };
        let arguments = arguments.into_iter().map(|argument| {
            let kind = match how {
                How::Text => Kind::Text,
                How::Every | How::Any => Kind::Bool,
                _ => self.settled_kind(&argument),
            };
            self.coerced(argument, &kind)
        });
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let mut order = Vec::new();
        for clause in &list.clauses {
            if let FunctionArgumentClause::OrderBy(keys) = clause {
                order.extend(self.order(keys)?);
            }
        }
        let filter = function.filter.as_ref().map(|filter| self.flag(filter)).transpose()?;
        let is_distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        Ok(Some((Aggregate { how, arguments, is_distinct, order, filter }, kind)))
    }

    fn order(&mut self, keys: &[OrderByExpr]) -> Result<Vec<(Expr, bool, bool)>, PgError> {
        let key = |key: &OrderByExpr| {
            let is_descending = key.options.asc == Some(false);
            Ok((self.term(&key.expr)?.expr, is_descending, key.options.nulls_first.unwrap_or(is_descending)))
        };
        keys.iter().map(key).collect()
    }

    fn window(
        &mut self,
        name: &str,
        function: &Function,
        list: &FunctionArgumentList,
        over: &WindowType,
    ) -> Result<Typed, PgError> {
        let WindowType::WindowSpec(WindowSpec { partition_by, order_by, window_frame: None, .. }) = over else {
            return Err(PgError::new(
                UNSUPPORTED,
                "windows with a name or a frame are not supported in questions of the catalog",
            ));
        };
        let (how, kind) = match name {
            "row_number" => (WindowHow::RowNumber, Kind::Int8),
            "rank" => (WindowHow::Rank, Kind::Int8),
            "dense_rank" => (WindowHow::DenseRank, Kind::Int8),
            _ => match self.aggregate(name, function, list)? {
                Some(_) if !order_by.is_empty() => {
                    return Err(PgError::new(
                        UNSUPPORTED,
                        "running aggregates are not supported in questions of the catalog",
                    ));
                }
                Some((aggregate, kind)) => (WindowHow::Over(aggregate), kind),
                None => return Err(PgError::new("42883", format!("function {name} is none of windows"))),
            },
        };
        let partition =
            partition_by.iter().map(|expr: &Ast| Ok(self.term(expr)?.expr)).collect::<Result<_, PgError>>()?;
        let order = self.order(order_by)?;
        let all = &mut self.beside()?.windows;
        all.push(Window { how, partition, order });
        Ok(typed(Expr::Window(all.len() - 1), kind))
    }
}
