//! The JSON Schema of the access file, for editors. It is made from the tables that the parser reads.

use serde_json::{Map, Value, json};

use super::file::{OF_FILE, OF_GRANT, OF_ROLE};

/// The JSON Schema (2020-12) of `access.yaml`, pretty-printed, with sorted keys.
pub fn access_schema() -> String {
    let mut schema = section(
        OF_FILE,
        |_| json!({"type": "object", "additionalProperties": {"$ref": "#/$defs/role"}, "minProperties": 1, "propertyNames": {"minLength": 1}}),
    );
    if let Value::Object(schema) = &mut schema {
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!("Headwater access"));
        schema.insert("description".to_owned(), json!("Roles, who is in them, and what they may read."));
        schema.insert("required".to_owned(), json!(["roles"]));
        schema.insert("$defs".to_owned(), json!({"role": role(), "grant": grant(), "names": names(), "rule": rule()}));
    }
    schema.sort_all_objects();
    format!("{schema:#}\n")
}

fn role() -> Value {
    section(OF_ROLE, |key| match key {
        "grants" => json!({"type": "array", "items": {"$ref": "#/$defs/grant"}}),
        "monitors" => json!({"type": "boolean"}),
        _ => json!({"$ref": "#/$defs/names"}),
    })
}

fn grant() -> Value {
    let mut grant = section(OF_GRANT, |key| match key {
        "tables" | "columns" => json!({"$ref": "#/$defs/names"}),
        "rows" => json!({"$ref": "#/$defs/rule"}),
        "masks" => json!({"type": "object", "additionalProperties": {"$ref": "#/$defs/rule"}}),
        _ => json!({"type": "string", "minLength": 1}),
    });
    if let Value::Object(grant) = &mut grant {
        grant.insert("oneOf".to_owned(), json!([{"required": ["service"]}, {"required": ["view"]}]));
    }
    grant
}

fn names() -> Value {
    json!({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": true})
}

fn rule() -> Value {
    json!({"type": ["string", "integer", "boolean"], "minLength": 1})
}

fn section(keys: &[(&str, &str)], value: impl Fn(&str) -> Value) -> Value {
    let property = |(name, doc): &(&str, &str)| {
        let mut value = value(name);
        if let Value::Object(value) = &mut value {
            value.insert("description".to_owned(), json!(doc));
        }
        ((*name).to_owned(), value)
    };
    let properties: Map<String, Value> = keys.iter().map(property).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}
