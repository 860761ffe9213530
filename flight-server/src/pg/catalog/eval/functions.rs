//! PostgreSQL's functions over its catalog and its server.
//!
//! What is not known here (sizes, statistics, definitions of what there is none of) is NULL or 0, as PostgreSQL says it of what is not there.

use std::sync::{Arc, LazyLock};

use super::run::World;
use super::texts;
use super::value::{Kind, Reg, Value};
use crate::pg::catalog::functions::{format_type, quote, quoted_columns, quoted_name, type_oid};
use crate::pg::catalog::{SCHEMA, fixed, shape};
use crate::pg::error::{PgError, UNDEFINED_OBJECT, UNSUPPORTED};
use crate::pg::settings::{DATABASE, SERVER_VERSION};

type Compute = Box<dyn Fn(&World<'_>, &[Value]) -> Result<Value, PgError> + Send + Sync>;
pub(super) type Returns = Box<dyn Fn(&[Kind]) -> Kind + Send + Sync>;

/// A function of values.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) returns: Returns,
    /// Whether it is NULL where one of its values is.
    pub(super) is_strict: bool,
    pub(super) compute: Compute,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The function of this name.
pub(super) fn named(name: &str) -> Option<Arc<Function>> {
    static ALL: LazyLock<std::collections::HashMap<&'static str, Arc<Function>>> = LazyLock::new(|| {
        let mut all = texts::all();
        all.extend(about_relations());
        all.extend(definitions());
        all.extend(about_the_server());
        all.extend(privileges());
        all.into_iter().map(|function| (function.name, Arc::new(function))).collect()
    });
    ALL.get(name).map(Arc::clone)
}

/// A function that is NULL where one of its values is.
pub(super) fn strict(
    name: &'static str,
    returns: Kind,
    compute: impl Fn(&World<'_>, &[Value]) -> Result<Value, PgError> + Send + Sync + 'static,
) -> Function {
    Function { name, returns: Box::new(move |_| returns.clone()), is_strict: true, compute: Box::new(compute) }
}

/// A function that sees NULL.
pub(super) fn lenient(
    name: &'static str,
    returns: Kind,
    compute: impl Fn(&World<'_>, &[Value]) -> Result<Value, PgError> + Send + Sync + 'static,
) -> Function {
    Function { is_strict: false, ..strict(name, returns, compute) }
}

fn constant(name: &'static str, returns: Kind, value: Value) -> Function {
    lenient(name, returns, move |_, _| Ok(value.clone()))
}

fn oid(values: &[Value]) -> i64 {
    values.first().and_then(Value::int).unwrap_or_default()
}

fn about_relations() -> Vec<Function> {
    let mut all = vec![
        strict("pg_table_is_visible", Kind::Bool, |world, values| {
            let number = oid(values);
            // The tables of the catalog are found by their names alone.
            let is_own = shape::of_oid(number).is_some_and(|shape| shape.schema == SCHEMA);
            Ok(Value::Bool(is_own || world.relations.is_visible(number)))
        }),
        strict("to_regclass", Kind::Reg(Reg::Class), |world, values| {
            Ok(world.number_of(Reg::Class, &values[0].shown()).map_or(Value::Null, Value::Int))
        }),
        strict("to_regtype", Kind::Reg(Reg::Type), |_, values| {
            Ok(type_oid(&values[0].shown()).map_or(Value::Null, Value::Int))
        }),
        strict("to_regnamespace", Kind::Reg(Reg::Namespace), |world, values| {
            Ok(world.number_of(Reg::Namespace, &values[0].shown()).map_or(Value::Null, Value::Int))
        }),
        constant("to_regproc", Kind::Reg(Reg::Proc), Value::Null),
        strict("to_regrole", Kind::Reg(Reg::Role), |world, values| {
            Ok(world.number_of(Reg::Role, &values[0].shown()).map_or(Value::Null, Value::Int))
        }),
        lenient("format_type", Kind::Text, |_, values| {
            let modifier = values.get(1).and_then(Value::int);
            Ok(match values.first().and_then(Value::int) {
                Some(oid) => Value::maybe(format_type(oid, modifier)),
                None => Value::Null,
            })
        }),
        strict("obj_description", Kind::Text, |world, values| {
            Ok(Value::maybe(world.relations.comment(oid(values)).map(str::to_owned)))
        }),
        Function { returns: Box::new(|_| Kind::Reg(Reg::Type)), ..constant("pg_typeof", Kind::Text, Value::Int(0)) },
    ];
    for name in [
        "pg_type_is_visible",
        "pg_function_is_visible",
        "pg_operator_is_visible",
        "pg_opclass_is_visible",
        "pg_opfamily_is_visible",
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
    ] {
        all.push(strict(name, Kind::Bool, |_, _| Ok(Value::Bool(true))));
    }
    for name in [
        "pg_relation_size",
        "pg_table_size",
        "pg_total_relation_size",
        "pg_indexes_size",
        "pg_database_size",
        "pg_tablespace_size",
        "pg_stat_get_numscans",
        "pg_stat_get_live_tuples",
        "pg_stat_get_dead_tuples",
        "pg_stat_get_tuples_inserted",
        "pg_stat_get_tuples_updated",
        "pg_stat_get_tuples_deleted",
    ] {
        all.push(strict(name, Kind::Int8, |_, _| Ok(Value::Int(0))));
    }
    for name in ["pg_relation_is_publishable", "pg_column_is_updatable", "pg_is_other_temp_schema"] {
        all.push(strict(name, Kind::Bool, |_, _| Ok(Value::Bool(false))));
    }
    all
}

fn definitions() -> Vec<Function> {
    let mut all = vec![
        strict("pg_get_viewdef", Kind::Text, |world, values| {
            let number = match &values[0] {
                Value::Text(name) => world.number_of(Reg::Class, name)?,
                other => other.int().unwrap_or_default(),
            };
            Ok(Value::maybe(world.relations.view_query(number).map(|query| format!(" {query};"))))
        }),
        strict("pg_get_constraintdef", Kind::Text, |world, values| {
            let key = world.relations.key(oid(values));
            Ok(Value::maybe(key.map(|(_, _, columns)| format!("PRIMARY KEY ({})", quoted_columns(columns)))))
        }),
        strict("pg_get_indexdef", Kind::Text, |world, values| {
            let Some((schema, table, columns)) = world.relations.key(oid(values)) else { return Ok(Value::Null) };
            // With a second value it is that column alone.
            let number = values.get(1).and_then(Value::int).and_then(|number| usize::try_from(number).ok());
            Ok(Value::maybe(match number {
                Some(number) if number > 0 => columns.get(number - 1).map(|name| quote(name)),
                _ => Some(format!(
                    "CREATE UNIQUE INDEX {} ON {} USING btree ({})",
                    quote(&format!("{table}_pkey")),
                    quoted_name(schema, table),
                    quoted_columns(columns)
                )),
            }))
        }),
        strict("pg_size_pretty", Kind::Text, |_, values| {
            Ok(Value::Text(format!("{} bytes", values[0].int().unwrap_or_default()).into()))
        }),
        strict("pg_index_column_has_property", Kind::Bool, |_, values| {
            let wanted = values[2].shown().to_ascii_lowercase();
            Ok(Value::Bool(matches!(
                wanted.as_str(),
                "asc" | "nulls_last" | "orderable" | "returnable" | "search_array" | "search_nulls"
            )))
        }),
        strict("pg_indexam_has_property", Kind::Bool, |_, values| {
            Ok(Value::Bool(matches!(values[1].shown().as_str(), "can_order" | "can_unique" | "can_multi_col")))
        }),
        constant("pg_relation_is_updatable", Kind::Int4, Value::Int(0)),
        constant("pg_my_temp_schema", Kind::Oid, Value::Int(0)),
    ];
    for name in [
        "col_description",
        "shobj_description",
        "pg_get_expr",
        "pg_get_partkeydef",
        "pg_get_partition_constraintdef",
        "pg_get_serial_sequence",
        "pg_get_ruledef",
        "pg_get_triggerdef",
        "pg_get_functiondef",
        "pg_get_function_result",
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
        "pg_get_function_arg_default",
        "pg_get_statisticsobjdef",
        "pg_get_statisticsobjdef_columns",
        "pg_get_statisticsobjdef_expressions",
        "pg_relation_filepath",
        "pg_tablespace_location",
        "pg_describe_object",
        "pg_sequence_last_value",
    ] {
        all.push(constant(name, Kind::Text, Value::Null));
    }
    all
}

fn about_the_server() -> Vec<Function> {
    let mut all = vec![
        constant(
            "version",
            Kind::Text,
            Value::text(&format!("PostgreSQL {SERVER_VERSION} (Headwater {})", env!("CARGO_PKG_VERSION"))),
        ),
        constant("current_database", Kind::Name, Value::text(DATABASE)),
        constant("current_catalog", Kind::Name, Value::text(DATABASE)),
        lenient("current_schema", Kind::Name, |world, _| {
            Ok(Value::maybe(world.relations.search_path().first().cloned()))
        }),
        strict("current_schemas", Kind::Name.list(), |world, values| {
            let own = values[0].is_true().then_some(SCHEMA);
            let path = world.relations.search_path().iter().map(String::as_str);
            Ok(Value::list(own.into_iter().chain(path).map(Value::text).collect()))
        }),
        lenient("current_setting", Kind::Text, setting),
        lenient("set_config", Kind::Text, |world, values| {
            let now = setting(world, values)?;
            match values.get(1) {
                Some(wanted) if *wanted == now => Ok(now),
                _ => {
                    let error = PgError::new(UNSUPPORTED, "set_config can't change a setting here");
                    Err(error.with_hint("use SET"))
                }
            }
        }),
        strict("pg_get_userbyid", Kind::Name, |world, values| {
            let name = fixed::role_name(oid(values), &world.tables.user);
            Ok(Value::text(&name.unwrap_or_else(|| format!("unknown (OID={})", oid(values)))))
        }),
        strict("pg_encoding_to_char", Kind::Name, |_, values| {
            Ok(Value::text(if values[0] == Value::Int(6) { "UTF8" } else { "" }))
        }),
        constant("pg_client_encoding", Kind::Name, Value::text("UTF8")),
        constant("getdatabaseencoding", Kind::Name, Value::text("UTF8")),
        strict("pg_char_to_encoding", Kind::Int4, |_, values| {
            let is_ours = matches!(values[0].shown().to_ascii_uppercase().as_str(), "UTF8" | "UTF-8" | "UNICODE");
            Ok(Value::Int(if is_ours { 6 } else { -1 }))
        }),
        constant("pg_is_in_recovery", Kind::Bool, Value::Bool(false)),
        constant("pg_is_wal_replay_paused", Kind::Bool, Value::Bool(false)),
        constant("pg_advisory_unlock_all", Kind::Text, Value::text("")),
        constant("inet_server_addr", Kind::Text, Value::Null),
        constant("inet_client_addr", Kind::Text, Value::Null),
        lenient("pg_backend_pid", Kind::Int4, |world, _| Ok(Value::Int(i64::from(world.tables.process)))),
        constant("txid_current", Kind::Int8, Value::Int(0)),
        constant("inet_server_port", Kind::Int4, Value::Null),
        constant("inet_client_port", Kind::Int4, Value::Null),
        constant("pg_postmaster_start_time", Kind::Text, Value::Null),
        constant("pg_conf_load_time", Kind::Text, Value::Null),
    ];
    for name in ["now", "current_timestamp", "clock_timestamp", "statement_timestamp", "transaction_timestamp"] {
        all.push(lenient(name, Kind::Text, |_, _| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let mut text = String::new();
            let microseconds = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
            let _never = crate::pg::time::timestamp(&mut text, microseconds, "+00");
            Ok(Value::Text(text.into()))
        }));
    }
    all
}

fn setting(world: &World<'_>, values: &[Value]) -> Result<Value, PgError> {
    let Some(Value::Text(name)) = values.first() else { return Ok(Value::Null) };
    if name.eq_ignore_ascii_case("search_path") {
        return Ok(Value::text(&world.relations.search_path().join(", ")));
    }
    match world.tables.settings.get(name) {
        Some(value) => Ok(Value::text(value)),
        None if values.get(1).is_some_and(Value::is_true) => Ok(Value::Null),
        None => Err(PgError::new(UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))),
    }
}

fn privileges() -> Vec<Function> {
    let names = [
        "has_table_privilege",
        "has_schema_privilege",
        "has_database_privilege",
        "has_column_privilege",
        "has_any_column_privilege",
        "has_function_privilege",
        "has_language_privilege",
        "has_type_privilege",
        "has_sequence_privilege",
        "has_tablespace_privilege",
        "has_server_privilege",
        "has_foreign_data_wrapper_privilege",
        "pg_has_role",
    ];
    // The last value names what is to be done, and here things are read.
    let may = |_: &World<'_>, values: &[Value]| {
        let wanted = values.last().map(Value::shown).unwrap_or_default().to_ascii_uppercase();
        let is_reading = |wanted: &str| matches!(wanted.trim(), "SELECT" | "USAGE" | "CONNECT" | "MEMBER");
        Ok(Value::Bool(wanted.split(',').any(is_reading)))
    };
    names.into_iter().map(|name| strict(name, Kind::Bool, may)).collect()
}
