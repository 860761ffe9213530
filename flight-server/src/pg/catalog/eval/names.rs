//! What names mean: columns of the relations in scope, tables, queries of WITH, and the names that columns of a result have.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, Ident, ObjectName, ObjectNamePart, SelectItem, SetExpr,
};

use super::plan::Column;
use super::value::Kind;
use crate::pg::error::{PgError, UNDEFINED_TABLE};

const UNDEFINED_COLUMN: &str = "42703";

/// The relations of a FROM, side by side.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) relations: Vec<Relation>,
    pub(super) width: usize,
}

/// A relation of a FROM.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Columns that USING has put together with one before.
    pub(super) hidden: Vec<bool>,
    pub(super) offset: usize,
    /// The oid of the table that it is, 0 where it is none.
    pub(super) oid: i64,
}

/// Where a name leads.
pub(super) enum Found {
    Column(usize, Kind),
    /// A whole row: its first value and its columns.
    Row(usize, Vec<Column>),
}

impl Scope {
    /// Puts a relation beside those that are there; where its values begin.
    pub(super) fn add(&mut self, name: String, columns: Vec<Column>) -> usize {
        let offset = self.width;
        self.width += columns.len();
        self.relations.push(Relation { name, hidden: vec![false; columns.len()], columns, offset, oid: 0 });
        offset
    }

    /// What a name leads to here; `None` where it leads nowhere.
    pub(super) fn find(&self, names: &[String]) -> Result<Option<Found>, PgError> {
        let (column, relation) = match names {
            [column] => (column, None),
            // What stands before the relation is its schema, which the statement has used to find it.
            [.., relation, column] => (column, Some(relation)),
            [] => return Ok(None),
        };
        let mut found = None;
        for known in &self.relations {
            if relation.is_some_and(|name| *name != known.name) {
                continue;
            }
            for (index, known_column) in known.columns.iter().enumerate() {
                if known_column.name != *column || (relation.is_none() && known.hidden[index]) {
                    continue;
                }
                if found.is_some() && relation.is_none() {
                    return Err(PgError::new("42702", format!("column reference \"{column}\" is ambiguous")));
                }
                if found.is_none() {
                    found = Some(Found::Column(known.offset + index, known_column.kind.clone()));
                }
            }
        }
        if found.is_none() && relation.is_none() {
            let whole = self.relations.iter().find(|known| known.name == *column);
            found = whole.map(|known| Found::Row(known.offset, known.columns.clone()));
        }
        Ok(found)
    }

    /// What `tableoid` is here.
    pub(super) fn table_oid(&self, names: &[String]) -> Option<i64> {
        let mut tables = self.relations.iter().filter(|relation| relation.oid != 0);
        match names {
            [column] if column == "tableoid" => tables.next().map(|table| table.oid),
            [.., table, column] if column == "tableoid" => {
                tables.find(|known| known.name == *table).map(|known| known.oid)
            }
            _ => None,
        }
    }

    /// The relation of this name.
    pub(super) fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.name == name)
    }
}

pub(super) fn unknown_column(names: &[String]) -> PgError {
    PgError::new(UNDEFINED_COLUMN, format!("column \"{}\" does not exist", names.join(".")))
}

pub(super) fn unknown_table(name: &str) -> PgError {
    let error = PgError::new(UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"));
    error.with_hint("one statement asks the catalog or services, and not both")
}

/// A name as it is looked up: folded to lower case where it is not quoted.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// The parts of a name.
pub(super) fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(ObjectNamePart::as_ident).map(folded).collect()
}

/// The last part of a name.
pub(super) fn last(name: &ObjectName) -> String {
    parts(name).pop().unwrap_or_default()
}

/// The name that PostgreSQL gives a column of this expression.
pub(super) fn name_of(expr: &Expr) -> String {
    const NONE: &str = "?column?";
    match expr {
        Expr::Identifier(name) => folded(name),
        Expr::CompoundIdentifier(names) => names.last().map(folded).unwrap_or_default(),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(name)) => Some(folded(name)),
                _ => None,
            });
            field.unwrap_or_else(|| name_of(root))
        }
        Expr::Function(function) => last(&function.name),
        Expr::Cast { expr, data_type, .. } => match name_of(expr) {
            name if name == NONE => type_name(data_type),
            name => name,
        },
        Expr::Nested(expr) | Expr::Collate { expr, .. } => name_of(expr),
        Expr::Case { else_result: Some(result), .. } => match name_of(result) {
            name if name == NONE => "case".to_owned(),
            name => name,
        },
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => name_of(expr),
                Some(SelectItem::ExprWithAlias { alias, .. }) => folded(alias),
                _ => NONE.to_owned(),
            },
            _ => NONE.to_owned(),
        },
        _ => NONE.to_owned(),
    }
}

/// The type that a cast names, as `pg_type` calls it.
pub(super) fn type_name(data_type: &DataType) -> String {
    let text = match data_type {
        DataType::Custom(name, _) => last(name),
        DataType::Int(_) | DataType::Integer(_) => "int4".to_owned(),
        DataType::BigInt(_) => "int8".to_owned(),
        DataType::SmallInt(_) => "int2".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Float(_) | DataType::Double(_) | DataType::DoublePrecision => "float8".to_owned(),
        DataType::Real => "float4".to_owned(),
        DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::CharVarying(_) => "varchar".to_owned(),
        DataType::Char(_) | DataType::Character(_) => "bpchar".to_owned(),
        DataType::Array(_) => {
            return element_name(data_type).map_or_else(|| "text".to_owned(), |name| format!("_{name}"));
        }
        other => other.to_string().to_ascii_lowercase(),
    };
    text.split('(').next().unwrap_or_default().trim().to_owned()
}

fn element_name(data_type: &DataType) -> Option<String> {
    use datafusion::sql::sqlparser::ast::ArrayElemTypeDef;
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _) | ArrayElemTypeDef::AngleBracket(inner)) => {
            Some(type_name(inner))
        }
        _ => None,
    }
}

/// The type that a cast is to.
pub(super) fn kind_of(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Array(_) => Kind::named(&type_name(data_type)),
        // `"char"` in quotes is a byte, and char without them a text.
        DataType::Custom(name, _) if last(name) == "char" => Kind::Char,
        other => match Kind::named(&type_name(other)) {
            Kind::Char => Kind::Text,
            kind => kind,
        },
    }
}
