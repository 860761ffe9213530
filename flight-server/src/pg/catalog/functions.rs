//! Names of types and of what has one, as SQL writes them.

use postgres_types::{Kind, Type};

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
        "int2vector" => Type::INT2_VECTOR,
        "oidvector" => Type::OID_VECTOR,
        "regclass" => Type::REGCLASS,
        "regtype" => Type::REGTYPE,
        "regproc" => Type::REGPROC,
        "record" => Type::RECORD,
        "void" => Type::VOID,
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
                Type::BPCHAR_ARRAY,
                Type::NAME_ARRAY,
                Type::CHAR_ARRAY,
                Type::OID_ARRAY,
                Type::BYTEA_ARRAY,
                Type::DATE_ARRAY,
                Type::TIME_ARRAY,
                Type::TIMESTAMP_ARRAY,
                Type::TIMESTAMPTZ_ARRAY,
                Type::INTERVAL_ARRAY,
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

/// Names with commas between them.
pub(super) fn quoted_columns(columns: &[String]) -> String {
    columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ")
}

/// The name of a table with its schema.
pub(super) fn quoted_name(schema: &str, table: &str) -> String {
    format!("{}.{}", quote(schema), quote(table))
}

/// A name, in quotes where it needs them.
pub(super) fn quote(name: &str) -> String {
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
