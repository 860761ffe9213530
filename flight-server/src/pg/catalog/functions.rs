//! PostgreSQL's functions over its catalog.
//!
//! Each takes its values row by row: the tables of a catalog are small. What is not known is NULL, as in PostgreSQL.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use postgres_types::{Kind, Type};

use super::relations::Relations;
use super::{Context, SCHEMA};
use crate::pg::settings::{DATABASE, SERVER_VERSION};

type Compute = Arc<dyn Fn(&[ScalarValue]) -> ScalarValue + Send + Sync>;

/// A function of values.
struct Function {
    name: &'static str,
    returns: DataType,
    signature: Signature,
    compute: Compute,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_one = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_one { 1 } else { args.number_rows };
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows {
            let given = args.args.iter().map(|value| match value {
                ColumnarValue::Scalar(value) => Ok(value.clone()),
                ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
            });
            values.push((self.compute)(&given.collect::<Result<Vec<_>>>()?));
        }
        match (is_one, values.pop()) {
            (true, Some(value)) => Ok(ColumnarValue::Scalar(value)),
            (_, last) => {
                values.extend(last);
                if values.is_empty() {
                    return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.returns)));
                }
                Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?))
            }
        }
    }
}

/// Puts the functions into a context.
pub(super) fn register(context: &SessionContext, relations: &Arc<Relations>, asks: &Context) {
    let mut functions = about_relations(relations);
    functions.extend(about_the_server(relations, asks));
    for (name, returns, compute) in functions {
        let signature = Signature::one_of(vec![TypeSignature::VariadicAny, TypeSignature::Nullary], Volatility::Stable);
        context.register_udf(ScalarUDF::new_from_impl(Function { name, returns, signature, compute }));
    }
}

type Named = (&'static str, DataType, Compute);

fn text(name: &'static str, compute: impl Fn(&[ScalarValue]) -> Option<String> + Send + Sync + 'static) -> Named {
    (name, DataType::Utf8, Arc::new(move |values| ScalarValue::Utf8(compute(values))))
}

fn number(name: &'static str, compute: impl Fn(&[ScalarValue]) -> Option<i64> + Send + Sync + 'static) -> Named {
    (name, DataType::Int64, Arc::new(move |values| ScalarValue::Int64(compute(values))))
}

fn flag(name: &'static str, compute: impl Fn(&[ScalarValue]) -> Option<bool> + Send + Sync + 'static) -> Named {
    (name, DataType::Boolean, Arc::new(move |values| ScalarValue::Boolean(compute(values))))
}

fn about_relations(relations: &Arc<Relations>) -> Vec<Named> {
    let with = |relations: &Arc<Relations>| Arc::clone(relations);
    let (visible, named, oid_of, query, key, index, comment, space, of_space) = (
        with(relations),
        with(relations),
        with(relations),
        with(relations),
        with(relations),
        with(relations),
        with(relations),
        with(relations),
        with(relations),
    );
    vec![
        flag("pg_table_is_visible", move |values| Some(visible.is_visible(int(values, 0)?))),
        flag("pg_type_is_visible", |_| Some(true)),
        flag("pg_function_is_visible", |_| Some(true)),
        text("regclass_name", move |values| {
            let oid = int(values, 0)?;
            named.table_name(oid).or_else(|| Some(oid.to_string()))
        }),
        number("to_regclass", move |values| oid_of.table_oid(&string(values, 0)?)),
        text("regnamespace_name", move |values| space.schema_name(int(values, 0)?)),
        number("to_regnamespace", move |values| of_space.schema_oid(&string(values, 0)?)),
        number("to_regtype", |values| type_oid(&string(values, 0)?)),
        text("format_type", |values| format_type(int(values, 0)?, int(values, 1))),
        text("pg_get_viewdef", move |values| query.view_query(int(values, 0)?).map(|query| format!(" {query};"))),
        text("pg_get_constraintdef", move |values| {
            let (_, _, columns) = key.key(int(values, 0)?)?;
            Some(format!("PRIMARY KEY ({})", quoted(columns)))
        }),
        text("pg_get_indexdef", move |values| {
            let (schema, table, columns) = index.key(int(values, 0)?)?;
            // With a second value it is that column alone.
            match int(values, 1).and_then(|number| usize::try_from(number).ok()) {
                Some(number) if number > 0 => columns.get(number - 1).cloned(),
                _ => Some(format!(
                    "CREATE UNIQUE INDEX {} ON {} USING btree ({})",
                    quote(&format!("{table}_pkey")),
                    quoted_name(schema, table),
                    quoted(columns)
                )),
            }
        }),
        text("obj_description", move |values| comment.comment(int(values, 0)?).map(str::to_owned)),
        text("col_description", |_| None),
        text("shobj_description", |_| None),
        text("pg_get_expr", |_| None),
        text("pg_get_partkeydef", |_| None),
        text("pg_get_serial_sequence", |_| None),
        text("pg_get_statisticsobjdef_columns", |_| None),
        flag("pg_relation_is_publishable", |_| Some(false)),
        number("pg_relation_size", |_| Some(0)),
        number("pg_table_size", |_| Some(0)),
        number("pg_total_relation_size", |_| Some(0)),
        number("pg_indexes_size", |_| Some(0)),
        number("pg_database_size", |_| Some(0)),
    ]
}

fn about_the_server(relations: &Arc<Relations>, asks: &Context) -> Vec<Named> {
    let (user, settings) = (asks.user.clone(), asks.settings.clone());
    let path: Vec<String> = relations.search_path().to_vec();
    let (first, shown) = (path.first().cloned(), path.join(", "));
    let all = move |values: &[ScalarValue]| {
        let with_own = matches!(values.first(), Some(ScalarValue::Boolean(Some(true))));
        let own = with_own.then(|| SCHEMA.to_owned());
        let names: Vec<ScalarValue> =
            own.into_iter().chain(path.iter().cloned()).map(|name| ScalarValue::Utf8(Some(name))).collect();
        ScalarValue::List(ScalarValue::new_list_nullable(&names, &DataType::Utf8))
    };
    let list = DataType::new_list(DataType::Utf8, true);
    let mut functions = vec![
        text("version", |_| Some(format!("PostgreSQL {SERVER_VERSION} (Headwater {})", env!("CARGO_PKG_VERSION")))),
        text("current_database", |_| Some(DATABASE.to_owned())),
        text("current_schema", move |_| first.clone()),
        ("current_schemas", list, Arc::new(all) as Compute),
        text("session_user_name", move |_| Some(user.clone())),
        text("pg_get_userbyid", |values| (int(values, 0)? == 10).then(|| "headwater".to_owned())),
        text("pg_encoding_to_char", |values| (int(values, 0)? == 6).then(|| "UTF8".to_owned())),
        text("current_setting", move |values| match string(values, 0)?.to_ascii_lowercase().as_str() {
            "search_path" => Some(shown.clone()),
            name => settings.get(name).map(str::to_owned),
        }),
        text("quote_ident", |values| Some(quote(&string(values, 0)?))),
        text("pg_get_function_result", |_| None),
        text("pg_get_function_arguments", |_| None),
        text("pg_tablespace_location", |_| None),
        flag("pg_is_in_recovery", |_| Some(false)),
        text("pg_advisory_unlock_all", |_| Some(String::new())),
        number("pg_backend_pid", |_| Some(0)),
        number("txid_current", |_| Some(0)),
    ];
    for name in [
        "has_table_privilege",
        "has_schema_privilege",
        "has_database_privilege",
        "has_column_privilege",
        "has_any_column_privilege",
        "has_function_privilege",
        "has_type_privilege",
        "has_sequence_privilege",
        "pg_has_role",
    ] {
        // The last value names what is to be done, and here things are read.
        functions.push(flag(name, |values| {
            let wanted = string(values, values.len().checked_sub(1)?)?.to_ascii_uppercase();
            Some(wanted.split(',').any(|wanted| matches!(wanted.trim(), "SELECT" | "USAGE" | "CONNECT" | "MEMBER")))
        }));
    }
    functions
}

fn int(values: &[ScalarValue], index: usize) -> Option<i64> {
    match values.get(index)?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

fn string(values: &[ScalarValue], index: usize) -> Option<String> {
    match values.get(index)?.cast_to(&DataType::Utf8).ok()? {
        ScalarValue::Utf8(value) => value,
        _ => None,
    }
}

/// The oid of a type, by any name of it.
pub(super) fn type_oid(name: &str) -> Option<i64> {
    let name = name.trim().trim_start_matches("pg_catalog.").trim_matches('"').to_ascii_lowercase();
    let (name, is_array) = match name.strip_suffix("[]") {
        Some(name) => (name.to_owned(), true),
        None => (name, false),
    };
    let pg = match name.as_str() {
        "boolean" | "bool" => Type::BOOL,
        "smallint" | "int2" => Type::INT2,
        "integer" | "int" | "int4" => Type::INT4,
        "bigint" | "int8" => Type::INT8,
        "real" | "float4" => Type::FLOAT4,
        "double precision" | "float8" => Type::FLOAT8,
        "numeric" | "decimal" => Type::NUMERIC,
        "text" => Type::TEXT,
        "character varying" | "varchar" => Type::VARCHAR,
        "character" | "bpchar" => Type::BPCHAR,
        "char" => Type::CHAR,
        "name" => Type::NAME,
        "bytea" => Type::BYTEA,
        "date" => Type::DATE,
        "time" | "time without time zone" => Type::TIME,
        "timestamp" | "timestamp without time zone" => Type::TIMESTAMP,
        "timestamptz" | "timestamp with time zone" => Type::TIMESTAMPTZ,
        "interval" => Type::INTERVAL,
        "json" => Type::JSON,
        "uuid" => Type::UUID,
        "oid" => Type::OID,
        _ => return None,
    };
    match is_array {
        false => Some(i64::from(pg.oid())),
        true => {
            let arrays = [
                Type::BOOL_ARRAY,
                Type::INT2_ARRAY,
                Type::INT4_ARRAY,
                Type::INT8_ARRAY,
                Type::FLOAT4_ARRAY,
                Type::FLOAT8_ARRAY,
                Type::NUMERIC_ARRAY,
                Type::TEXT_ARRAY,
                Type::VARCHAR_ARRAY,
                Type::BYTEA_ARRAY,
                Type::DATE_ARRAY,
                Type::TIMESTAMP_ARRAY,
                Type::TIMESTAMPTZ_ARRAY,
                Type::UUID_ARRAY,
                Type::JSON_ARRAY,
            ];
            arrays
                .into_iter()
                .find(|array| *array.kind() == Kind::Array(pg.clone()))
                .map(|array| i64::from(array.oid()))
        }
    }
}

/// A type's name as SQL writes it.
pub(super) fn format_type(oid: i64, modifier: Option<i64>) -> Option<String> {
    if oid == 0 {
        return Some("-".to_owned());
    }
    let Some(pg) = u32::try_from(oid).ok().and_then(Type::from_oid) else { return Some("???".to_owned()) };
    if let Kind::Array(element) = pg.kind() {
        return format_type(i64::from(element.oid()), modifier).map(|name| format!("{name}[]"));
    }
    let name = match pg {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::VARCHAR => "character varying",
        Type::BPCHAR => "character",
        Type::CHAR => "\"char\"",
        Type::TIME => "time without time zone",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        ref other => other.name(),
    };
    match modifier.and_then(|modifier| modifier.checked_sub(4)) {
        Some(modifier) if pg == Type::NUMERIC && modifier >= 0 => {
            Some(format!("numeric({},{})", (modifier >> 16) & 0xffff, modifier & 0xffff))
        }
        _ => Some(name.to_owned()),
    }
}

fn quoted(columns: &[String]) -> String {
    columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ")
}

fn quoted_name(schema: &str, table: &str) -> String {
    format!("{}.{}", quote(schema), quote(table))
}

fn quote(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_that_sql_gives_them() {
        assert_eq!(format_type(1700, Some(((12 << 16) | 2) + 4)).as_deref(), Some("numeric(12,2)"));
        assert_eq!(format_type(1700, Some(-1)).as_deref(), Some("numeric"));
        assert_eq!(format_type(1016, None).as_deref(), Some("bigint[]"));
        assert_eq!(format_type(1184, None).as_deref(), Some("timestamp with time zone"));
        assert_eq!(type_oid("pg_catalog.int4"), Some(23));
        assert_eq!(type_oid("text[]"), Some(1009));
        assert_eq!(type_oid("hstore"), None);
    }
}
