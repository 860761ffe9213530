//! Values of the catalog, and their types.
//!
//! A value is what an expression yields; its [`Kind`] is known when the statement is compiled. Numbers are one and texts are one while they are compared, whatever
//! their types are called, so that no two that PostgreSQL holds for equal differ here.

use std::cmp::Ordering;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

use postgres_types::Type;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::pg::catalog) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(Real),
    Text(Arc<str>),
    List(Arc<[Value]>),
    Record(Arc<[Value]>),
}

/// A float that is equal to itself.
#[derive(Debug, Clone, Copy)]
pub(in crate::pg::catalog) struct Real(pub(super) f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0) == Ordering::Equal
    }
}

impl Eq for Real {}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// The type of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A literal or a parameter whose place decides.
    Unknown,
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Text,
    Name,
    /// PostgreSQL's `"char"`: one byte.
    Char,
    /// A number that is shown as the name of what it is of.
    Reg(Reg),
    List(Box<Kind>),
    /// `int2vector` and `oidvector`: lists that count from 0 and are written with spaces.
    Vector(Box<Kind>),
    Record(Arc<[(String, Kind)]>),
}

/// Of what a number is the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reg {
    Class,
    Type,
    Namespace,
    Proc,
    Role,
}

impl Kind {
    /// The type of this name in `pg_type`.
    pub(super) fn named(name: &str) -> Self {
        if let Some(element) = name.strip_prefix('_').or_else(|| name.strip_suffix("[]")) {
            return Self::List(Box::new(Self::named(element)));
        }
        match name {
            "bool" | "boolean" => Self::Bool,
            "int2" | "smallint" => Self::Int2,
            "int4" | "integer" | "int" | "cardinal_number" => Self::Int4,
            "int8" | "bigint" => Self::Int8,
            "oid" | "xid" | "cid" | "xid8" => Self::Oid,
            "float4" | "real" => Self::Float4,
            "float8" | "double precision" | "numeric" | "decimal" => Self::Float8,
            "name" | "sql_identifier" => Self::Name,
            "char" => Self::Char,
            "regclass" => Self::Reg(Reg::Class),
            "regtype" => Self::Reg(Reg::Type),
            "regnamespace" => Self::Reg(Reg::Namespace),
            "regproc" | "regprocedure" => Self::Reg(Reg::Proc),
            "regrole" => Self::Reg(Reg::Role),
            "int2vector" => Self::Vector(Box::new(Self::Int2)),
            "oidvector" => Self::Vector(Box::new(Self::Oid)),
            _ => Self::Text,
        }
    }

    pub(super) fn list(self) -> Self {
        Self::List(Box::new(self))
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8 | Self::Oid | Self::Reg(_))
    }

    pub(super) fn is_number(&self) -> bool {
        self.is_integer() || matches!(self, Self::Float4 | Self::Float8)
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Name | Self::Char | Self::Unknown)
    }

    pub(super) fn element(&self) -> Option<&Self> {
        match self {
            Self::List(element) | Self::Vector(element) => Some(element),
            _ => None,
        }
    }

    /// From which number a list of this type counts.
    pub(super) fn first_index(&self) -> i64 {
        i64::from(!matches!(self, Self::Vector(_)))
    }

    /// The type that two have in common.
    pub(super) fn common(&self, other: &Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one.clone(),
            (Self::Unknown, other) | (other, Self::Unknown) => other.clone(),
            (one, other) if one.is_text() && other.is_text() => Self::Text,
            (one, other) if one.is_integer() && other.is_integer() => {
                if matches!((one, other), (Self::Oid | Self::Reg(_), _) | (_, Self::Oid | Self::Reg(_))) {
                    Self::Oid
                } else if *one == Self::Int8 || *other == Self::Int8 {
                    Self::Int8
                } else {
                    Self::Int4
                }
            }
            (one, other) if one.is_number() && other.is_number() => Self::Float8,
            (one, other) => match (one.element(), other.element()) {
                (Some(one), Some(other)) => one.common(other).list(),
                _ => Self::Text,
            },
        }
    }

    /// What clients are told.
    pub(super) fn pg(&self) -> Type {
        match self {
            Self::Bool => Type::BOOL,
            Self::Int2 => Type::INT2,
            Self::Int4 => Type::INT4,
            Self::Int8 => Type::INT8,
            Self::Oid => Type::OID,
            Self::Float4 => Type::FLOAT4,
            Self::Float8 => Type::FLOAT8,
            Self::Name => Type::NAME,
            Self::Char => Type::CHAR,
            Self::Text | Self::Unknown | Self::Reg(_) | Self::Record(_) => Type::TEXT,
            Self::Vector(element) if **element == Self::Oid => Type::OID_VECTOR,
            Self::Vector(_) => Type::INT2_VECTOR,
            Self::List(element) => match element.pg() {
                Type::BOOL => Type::BOOL_ARRAY,
                Type::INT2 => Type::INT2_ARRAY,
                Type::INT4 => Type::INT4_ARRAY,
                Type::INT8 => Type::INT8_ARRAY,
                Type::OID => Type::OID_ARRAY,
                Type::FLOAT4 => Type::FLOAT4_ARRAY,
                Type::FLOAT8 => Type::FLOAT8_ARRAY,
                Type::NAME => Type::NAME_ARRAY,
                Type::CHAR => Type::CHAR_ARRAY,
                _ => Type::TEXT_ARRAY,
            },
        }
    }
}

impl Value {
    pub(in crate::pg::catalog) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Float(Real(number)) => Some(number.round() as i64),
            Self::Bool(flag) => Some(i64::from(*flag)),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub(super) fn float(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(Real(number)) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// A list of what is there.
    pub(in crate::pg::catalog) fn list(items: Vec<Self>) -> Self {
        Self::List(items.into())
    }

    /// A text as `Option`.
    pub(super) fn maybe(text: Option<String>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }

    /// How two values stand to one another; `None` where one is NULL.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        if self.is_null() || other.is_null() {
            return None;
        }
        Some(self.order(other))
    }

    /// The order of values, in which NULL comes last.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Greater,
            (_, Self::Null) => Ordering::Less,
            (Self::Int(one), Self::Int(other)) => one.cmp(other),
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::List(one), Self::List(other)) | (Self::Record(one), Self::Record(other)) => {
                let differs = one.iter().zip(other.iter()).map(|(one, other)| one.order(other));
                differs
                    .into_iter()
                    .find(|order| *order != Ordering::Equal)
                    .unwrap_or_else(|| one.len().cmp(&other.len()))
            }
            (one, other) => match (one.float(), other.float()) {
                (Some(one), Some(other)) => one.total_cmp(&other),
                _ => one.shown().cmp(&other.shown()),
            },
        }
    }

    /// The value as text, where no name stands for it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(flag) => if *flag { "true" } else { "false" }.to_owned(),
            Self::Int(number) => number.to_string(),
            Self::Float(Real(number)) => number.to_string(),
            Self::Text(text) => text.to_string(),
            Self::List(items) => listed(items, '{', '}', "NULL"),
            Self::Record(items) => listed(items, '(', ')', ""),
        }
    }
}

fn listed(items: &[Value], open: char, close: char, null: &str) -> String {
    let mut out = String::from(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        if item.is_null() {
            out.push_str(null);
            continue;
        }
        let text = match item {
            Value::Bool(flag) => if *flag { "t" } else { "f" }.to_owned(),
            item => item.shown(),
        };
        let is_list = matches!(item, Value::List(_));
        let is_special = |c: char| matches!(c, '{' | '}' | '(' | ')' | ',' | '"' | '\\') || c.is_whitespace();
        if !is_list && (text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(is_special)) {
            let _never = write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        } else {
            out.push_str(&text);
        }
    }
    out.push(close);
    out
}

/// The items of a list that is written as PostgreSQL reads them; `None` where it is no list. A list within the list is an item as it is written.
pub(in crate::pg) fn split_list(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.trim().is_empty() {
        return Some(items);
    }
    let mut rest = inner.chars().peekable();
    loop {
        items.push(item(&mut rest)?);
        // An item ends at a comma or with the list.
        if rest.next().is_none() {
            return Some(items);
        }
    }
}

/// An item, up to the comma behind it. Space around it is not part of it, space in quotes is.
fn item(rest: &mut Peekable<Chars<'_>>) -> Option<Option<String>> {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
    let mut item = String::new();
    // How long the item is without the space behind it, and how deep in lists its end is.
    let (mut length, mut depth, mut is_quoted) = (0, 0_usize, false);
    while let Some(next) = rest.next_if(|c| *c != ',' || depth > 0) {
        match next {
            '"' => {
                is_quoted |= depth == 0;
                quoted(rest, depth > 0, &mut item)?;
                length = item.len();
                continue;
            }
            '\\' if depth == 0 => item.push(rest.next()?),
            other => item.push(other),
        }
        match next {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if !next.is_whitespace() {
            length = item.len();
        }
    }
    item.truncate(length);
    match (is_quoted, depth) {
        (_, 1..) => None,
        (false, _) if item.is_empty() => None,
        (false, _) if item.eq_ignore_ascii_case("null") => Some(None),
        _ => Some(Some(item)),
    }
}

/// What stands in quotes, up to the one that ends it; with its quotes and backslashes where it is of a list within the list.
fn quoted(rest: &mut Peekable<Chars<'_>>, as_written: bool, item: &mut String) -> Option<()> {
    if as_written {
        item.push('"');
    }
    loop {
        let next = rest.next()?;
        match next {
            '"' => break,
            '\\' => {
                if as_written {
                    item.push('\\');
                }
                item.push(rest.next()?);
            }
            other => item.push(other),
        }
    }
    if as_written {
        item.push('"');
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_as_it_is_written() {
        let items = ["a", "", "null", "a b", "a\"b", "a\\b", "{x}"].map(Value::text);
        let all = [&items[..], &[Value::Null]].concat();
        let text = Value::list(all).shown();
        let read = split_list(&text).unwrap();
        let expected: Vec<Option<&str>> =
            vec![Some("a"), Some(""), Some("null"), Some("a b"), Some("a\"b"), Some("a\\b"), Some("{x}"), None];
        assert_eq!(read.iter().map(|item| item.as_deref()).collect::<Vec<_>>(), expected, "{text}");
        assert_eq!(split_list("{}"), Some(vec![]));
        for text in ["x", "{a", "{a,}", "{,a}", "{\"a}", "{{a}", "{a\\"] {
            assert_eq!(split_list(text), None, "{text}");
        }
    }

    #[test]
    fn space_around_items_of_a_list_is_none_of_theirs() {
        let read =
            |text| split_list(text).map(|items| items.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
        let list = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
        // As ADBC's driver for PostgreSQL writes the kinds of relations that it lists.
        assert_eq!(read("{\"p\", \"m\", \"r\"}"), list(&["p", "m", "r"]));
        assert_eq!(read(" { a b , \" c \" ,\td } "), list(&["a b", " c ", "d"]));
        assert_eq!(read("{ }"), list(&[]));
        assert_eq!(read("{{a, \"b, }\"}, {c}}"), list(&["{a, \"b, }\"}", "{c}"]));
    }

    #[test]
    fn numbers_compare_as_numbers_and_null_comes_last() {
        assert_eq!(Value::Int(2).compare(&Value::Float(Real(2.5))), Some(Ordering::Less));
        assert_eq!(Value::Null.compare(&Value::Int(1)), None);
        assert_eq!(Value::Null.order(&Value::Int(1)), Ordering::Greater);
        assert_eq!(Kind::Oid.common(&Kind::Int4), Kind::Oid);
        assert_eq!(Kind::Name.common(&Kind::Char), Kind::Text);
    }
}
