//! The value of an expression for one row.

use std::rc::Rc;

use super::plan::{Compare, Compute, EachCompare, Expr, Pattern, Quantity};
use super::run::{Frame, World};
use super::value::{Kind, Real, Reg, Value, split_list};
use crate::pg::catalog::fixed;
use crate::pg::catalog::functions::{format_type, type_oid};
use crate::pg::error::{INVALID_TEXT, PgError, UNDEFINED_OBJECT, UNDEFINED_TABLE};

impl World<'_> {
    pub(super) fn eval(&self, expr: &Expr, frame: &Frame<'_>) -> Result<Value, PgError> {
        Ok(match expr {
            Expr::Constant(value) => value.clone(),
            Expr::Parameter(index) => self.parameter(*index),
            Expr::Column { up, index } => {
                let mut frame = Some(frame);
                for _ in 0..*up {
                    frame = frame.and_then(|frame| frame.up);
                }
                frame.and_then(|frame| frame.tuple.row.get(*index)).cloned().unwrap_or(Value::Null)
            }
            Expr::Aggregate(index) => frame.tuple.aggregates.get(*index).cloned().unwrap_or(Value::Null),
            Expr::Window(index) => frame.tuple.windows.get(*index).cloned().unwrap_or(Value::Null),
            Expr::Set(index) => frame.tuple.sets.get(*index).cloned().unwrap_or(Value::Null),
            Expr::Call(function, arguments) => {
                let values = self.all(arguments, frame)?;
                if function.is_strict && values.iter().any(Value::is_null) {
                    return Ok(Value::Null);
                }
                (function.compute)(self, &values)?
            }
            Expr::Cast { value, from, to } => self.cast(self.eval(value, frame)?, from, to)?,
            Expr::Not(inner) => match self.eval(inner, frame)? {
                Value::Bool(flag) => Value::Bool(!flag),
                _ => Value::Null,
            },
            Expr::All(parts) => self.joined_flags(parts, frame, false)?,
            Expr::Some(parts) => self.joined_flags(parts, frame, true)?,
            Expr::IsNull(inner) => Value::Bool(self.eval(inner, frame)?.is_null()),
            Expr::Is(inner, wanted) => Value::Bool(self.eval(inner, frame)? == Value::Bool(*wanted)),
            Expr::Distinct(one, other) => Value::Bool(self.eval(one, frame)?.order(&self.eval(other, frame)?).is_ne()),
            Expr::Compare(how, one, other) => compared(*how, &self.eval(one, frame)?, &self.eval(other, frame)?),
            Expr::Compute(how, one, other) => computed(*how, self.eval(one, frame)?, self.eval(other, frame)?)?,
            Expr::Matches(pattern, text, wanted) => {
                self.matches(*pattern, &self.eval(text, frame)?, &self.eval(wanted, frame)?)?
            }
            Expr::In(value, list) => {
                let value = self.eval(value, frame)?;
                let items = self.all(list, frame)?;
                each(Quantity::Any, &items, |item| Ok(compared(Compare::Equal, &value, item)))?
            }
            Expr::Each { quantity, compare, value, list } => {
                let value = self.eval(value, frame)?;
                let list = self.eval(list, frame)?;
                let Some(items) = list.items() else { return Ok(Value::Null) };
                each(*quantity, items, |item| match compare {
                    EachCompare::Ordered(how) => Ok(compared(*how, &value, item)),
                    EachCompare::Matching(pattern) => self.matches(*pattern, &value, item),
                })?
            }
            Expr::Case { branches, otherwise } => {
                for (condition, result) in branches {
                    if self.eval(condition, frame)?.is_true() {
                        return self.eval(result, frame);
                    }
                }
                self.eval(otherwise, frame)?
            }
            Expr::Coalesce(parts) => {
                for part in parts {
                    let value = self.eval(part, frame)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Value::Null
            }
            Expr::List(items) => Value::list(self.all(items, frame)?),
            Expr::Record(items) => Value::Record(self.all(items, frame)?.into()),
            Expr::Item { list, index, first } => {
                let (list, index) = (self.eval(list, frame)?, self.eval(index, frame)?);
                let place = index.int().and_then(|index| usize::try_from(index - first).ok());
                list.items().zip(place).and_then(|(items, place)| items.get(place)).cloned().unwrap_or(Value::Null)
            }
            Expr::Slice { list, from, to, first } => {
                let list = self.eval(list, frame)?;
                let Some(items) = list.items() else { return Ok(Value::Null) };
                let bound = |expr: &Option<Box<Expr>>, open: i64| match expr {
                    Some(expr) => Ok::<_, PgError>(self.eval(expr, frame)?.int().map(|number| number - first)),
                    None => Ok(Some(open)),
                };
                let (Some(from), Some(to)) = (bound(from, 0)?, bound(to, items.len() as i64 - 1)?) else {
                    return Ok(Value::Null);
                };
                let from = usize::try_from(from).unwrap_or_default();
                let end = usize::try_from(to + 1).unwrap_or_default().min(items.len());
                Value::list(items.get(from..end).unwrap_or_default().to_vec())
            }
            Expr::Field(record, index) => match self.eval(record, frame)? {
                Value::Record(fields) => fields.get(*index).cloned().unwrap_or(Value::Null),
                _ => Value::Null,
            },
            Expr::Exists(query) => Value::Bool(!self.query(query, Some(frame))?.is_empty()),
            Expr::Value(query) => {
                let rows = self.query(query, Some(frame))?;
                match &rows[..] {
                    [] => Value::Null,
                    [row] => row.first().cloned().unwrap_or(Value::Null),
                    _ => {
                        let message = "more than one row returned by a subquery used as an expression";
                        return Err(PgError::new("21000", message));
                    }
                }
            }
            Expr::ListOf(query) => {
                let rows = self.query(query, Some(frame))?;
                Value::list(rows.iter().filter_map(|row| row.first().cloned()).collect())
            }
        })
    }

    pub(super) fn all(&self, parts: &[Expr], frame: &Frame<'_>) -> Result<Vec<Value>, PgError> {
        parts.iter().map(|part| self.eval(part, frame)).collect()
    }

    /// AND, or OR: what decides ends it.
    fn joined_flags(&self, parts: &[Expr], frame: &Frame<'_>, decides: bool) -> Result<Value, PgError> {
        let mut is_unknown = false;
        for part in parts {
            match self.eval(part, frame)? {
                Value::Bool(flag) if flag == decides => return Ok(Value::Bool(decides)),
                Value::Bool(_) => {}
                _ => is_unknown = true,
            }
        }
        Ok(if is_unknown { Value::Null } else { Value::Bool(!decides) })
    }

    fn matches(&self, pattern: Pattern, text: &Value, wanted: &Value) -> Result<Value, PgError> {
        let (Value::Text(text), Value::Text(wanted)) = (text, wanted) else { return Ok(Value::Null) };
        let (source, ignores_case, is_negated) = match pattern {
            Pattern::Like { escape, ignores_case, is_negated } => (like(wanted, escape), ignores_case, is_negated),
            Pattern::Regex { ignores_case, is_negated } => (wanted.to_string(), ignores_case, is_negated),
        };
        Ok(Value::Bool(self.regex(&source, ignores_case)?.is_match(text) != is_negated))
    }

    /// A pattern, compiled once.
    pub(super) fn regex(&self, source: &str, ignores_case: bool) -> Result<Rc<regex::Regex>, PgError> {
        let key = (source.to_owned(), ignores_case);
        if let Some(known) = self.patterns.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let built = regex::RegexBuilder::new(source)
            .case_insensitive(ignores_case)
            .dot_matches_new_line(true)
            .size_limit(1 << 20)
            .build()
            .map_err(|_| PgError::new("2201B", "invalid regular expression"))?;
        let built = Rc::new(built);
        self.patterns.borrow_mut().insert(key, Rc::clone(&built));
        Ok(built)
    }

    /// A value as another type.
    pub(super) fn cast(&self, value: Value, from: &Kind, to: &Kind) -> Result<Value, PgError> {
        if value.is_null() {
            return Ok(value);
        }
        let wrong = |what: &str| PgError::new(INVALID_TEXT, format!("a value can't be taken for {what}"));
        Ok(match to {
            Kind::Unknown | Kind::Text | Kind::Name => Value::text(&self.text_of(&value, from)),
            Kind::Char => Value::text(self.text_of(&value, from).get(..1).unwrap_or_default()),
            Kind::Bool => match &value {
                Value::Bool(_) => value,
                Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                    "t" | "true" | "y" | "yes" | "on" | "1" => Value::Bool(true),
                    "f" | "false" | "n" | "no" | "off" | "0" => Value::Bool(false),
                    _ => return Err(wrong("a boolean")),
                },
                other => Value::Bool(other.int().ok_or_else(|| wrong("a boolean"))? != 0),
            },
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Oid => {
                Value::Int(value.int().ok_or_else(|| wrong("a number"))?)
            }
            Kind::Float4 | Kind::Float8 => Value::Float(Real(value.float().ok_or_else(|| wrong("a number"))?)),
            Kind::Reg(reg) => match &value {
                Value::Text(text) => Value::Int(self.number_of(*reg, text)?),
                other => other.clone(),
            },
            Kind::List(element) | Kind::Vector(element) => match value {
                Value::List(items) => {
                    let from = from.element().cloned().unwrap_or(Kind::Unknown);
                    let items = items.iter().map(|item| self.cast(item.clone(), &from, element));
                    Value::list(items.collect::<Result<_, _>>()?)
                }
                Value::Text(text) => {
                    let items = match (split_list(&text), to) {
                        (Some(items), _) => items,
                        (None, Kind::Vector(_)) => text.split_whitespace().map(|item| Some(item.to_owned())).collect(),
                        (None, _) => return Err(wrong("a list")),
                    };
                    let items = items.into_iter().map(|item| self.cast(Value::maybe(item), &Kind::Text, element));
                    Value::list(items.collect::<Result<_, _>>()?)
                }
                _ => return Err(wrong("a list")),
            },
            Kind::Record(_) => value,
        })
    }

    /// A value as text: of what has a name, the name.
    pub(super) fn text_of(&self, value: &Value, kind: &Kind) -> String {
        match (kind, value) {
            (Kind::Reg(reg), Value::Int(number)) => self.name_of(*reg, *number),
            (Kind::Vector(_), Value::List(items)) => items.iter().map(Value::shown).collect::<Vec<_>>().join(" "),
            (_, value) => value.shown(),
        }
    }

    fn name_of(&self, reg: Reg, number: i64) -> String {
        if number == 0 {
            return "-".to_owned();
        }
        let name = match reg {
            Reg::Class => self.relations.table_name(number),
            Reg::Type => format_type(number, None).filter(|name| name != "???"),
            Reg::Namespace => self.relations.schema_name(number),
            Reg::Proc => fixed::procedure_name(number),
            Reg::Role => fixed::role_name(number, &self.tables.user),
        };
        name.unwrap_or_else(|| number.to_string())
    }

    /// The number of what has this name.
    pub(super) fn number_of(&self, reg: Reg, name: &str) -> Result<i64, PgError> {
        if let Ok(number) = name.parse::<i64>() {
            return Ok(number);
        }
        let (found, what, code) = match reg {
            Reg::Class => (self.relations.table_oid(name), "relation", UNDEFINED_TABLE),
            Reg::Type => (type_oid(name), "type", UNDEFINED_OBJECT),
            Reg::Namespace => (self.relations.schema_oid(name.trim_matches('"')), "schema", "3F000"),
            Reg::Proc => (fixed::procedure_oid(name), "function", "42883"),
            Reg::Role => (fixed::role_oid(name.trim_matches('"'), &self.tables.user), "role", UNDEFINED_OBJECT),
        };
        found.ok_or_else(|| PgError::new(code, format!("{what} \"{name}\" does not exist")))
    }
}

fn compared(how: Compare, one: &Value, other: &Value) -> Value {
    let Some(order) = one.compare(other) else { return Value::Null };
    Value::Bool(match how {
        Compare::Equal => order.is_eq(),
        Compare::Unequal => order.is_ne(),
        Compare::Less => order.is_lt(),
        Compare::AtMost => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::AtLeast => order.is_ge(),
    })
}

/// Whether a comparison holds for one item, or for all.
fn each(
    quantity: Quantity,
    items: &[Value],
    mut holds: impl FnMut(&Value) -> Result<Value, PgError>,
) -> Result<Value, PgError> {
    let decides = quantity == Quantity::Any;
    let mut is_unknown = false;
    for item in items {
        match holds(item)? {
            Value::Bool(flag) if flag == decides => return Ok(Value::Bool(decides)),
            Value::Bool(_) => {}
            _ => is_unknown = true,
        }
    }
    Ok(if is_unknown { Value::Null } else { Value::Bool(!decides) })
}

fn computed(how: Compute, one: Value, other: Value) -> Result<Value, PgError> {
    if let Compute::Join = how
        && let (one, Value::Null) | (Value::Null, one) = (&one, &other)
        && matches!(one, Value::List(_))
    {
        return Ok(one.clone());
    }
    if one.is_null() || other.is_null() {
        return Ok(Value::Null);
    }
    Ok(match (how, &one, &other) {
        (Compute::Join, Value::List(one), Value::List(other)) => Value::list([&one[..], &other[..]].concat()),
        (Compute::Join, Value::List(items), item) => Value::list([&items[..], std::slice::from_ref(item)].concat()),
        (Compute::Join, item, Value::List(items)) => Value::list([std::slice::from_ref(item), &items[..]].concat()),
        (Compute::Join, one, other) => Value::Text(format!("{}{}", one.shown(), other.shown()).into()),
        (Compute::Overlaps, Value::List(one), Value::List(other)) => {
            Value::Bool(one.iter().any(|item| !item.is_null() && other.contains(item)))
        }
        (Compute::Contains, Value::List(one), Value::List(other)) => {
            Value::Bool(other.iter().all(|item| one.contains(item)))
        }
        (how, Value::Int(one), Value::Int(other)) => Value::Int(whole(how, *one, *other)?),
        (how, one, other) => {
            let (Some(one), Some(other)) = (one.float(), other.float()) else {
                return Err(PgError::new("42883", "there is no such operator for values of these types"));
            };
            Value::Float(Real(match how {
                Compute::Add => one + other,
                Compute::Subtract => one - other,
                Compute::Multiply => one * other,
                Compute::Divide if other == 0.0 => return Err(divided_by_zero()),
                Compute::Divide => one / other,
                Compute::Remainder => one % other,
                _ => return Err(PgError::new("42883", "there is no such operator for values of these types")),
            }))
        }
    })
}

fn whole(how: Compute, one: i64, other: i64) -> Result<i64, PgError> {
    let shift = || u32::try_from(other).unwrap_or(u32::MAX);
    let result = match how {
        Compute::Add => one.checked_add(other),
        Compute::Subtract => one.checked_sub(other),
        Compute::Multiply => one.checked_mul(other),
        Compute::Divide | Compute::Remainder if other == 0 => return Err(divided_by_zero()),
        Compute::Divide => one.checked_div(other),
        Compute::Remainder => one.checked_rem(other),
        Compute::And => Some(one & other),
        Compute::Or => Some(one | other),
        Compute::ShiftLeft => Some(one.checked_shl(shift()).unwrap_or_default()),
        Compute::ShiftRight => Some(one.checked_shr(shift()).unwrap_or_default()),
        Compute::Join | Compute::Overlaps | Compute::Contains => None,
    };
    result.ok_or_else(|| PgError::new("22003", "a number is out of range"))
}

fn divided_by_zero() -> PgError {
    PgError::new("22012", "division by zero")
}

/// A pattern of LIKE as a regular expression.
fn like(pattern: &str, escape: Option<char>) -> String {
    let mut source = String::from("^");
    let mut chars = pattern.chars();
    while let Some(next) = chars.next() {
        match next {
            next if Some(next) == escape => {
                source.push_str(&chars.next().map(|c| regex::escape(&c.to_string())).unwrap_or_default());
            }
            '%' => source.push_str(".*"),
            '_' => source.push('.'),
            other => source.push_str(&regex::escape(&other.to_string())),
        }
    }
    source.push('$');
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_of_like_takes_its_escape_literally() {
        let matches = |pattern: &str, escape: Option<char>, text: &str| {
            regex::Regex::new(&like(pattern, escape)).unwrap().is_match(text)
        };
        assert!(matches("pg/_%", Some('/'), "pg_class") && !matches("pg/_%", Some('/'), "pgx"));
        assert!(matches("a\\%b", Some('\\'), "a%b") && !matches("a\\%b", Some('\\'), "axb"));
        assert!(matches("a.c", None, "a.c") && !matches("a.c", None, "abc"));
    }
}
