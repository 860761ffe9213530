//! The JSON Schemas of a manifest and of a configuration, for editors and for checks in a service's own repository.
//!
//! It is made from the tables that the parser reads, so the two know the same keys. What a schema can't say is left to the
//! parser: repeated keys, values of variables, and that a service has one file.

use std::sync::Arc;

use headwater_source::{Connector, FeedDef, OptionDef, OptionKind, ServiceName};
use serde_json::{Map, Value, json};

use super::keys::{self, Key};
use crate::limits;

/// A `${` that is not escaped: the text holds a variable.
const HOLDS_VARIABLE: &str = r"(?:^|[^$])\$\{";

/// A text in which each variable is well formed; see the `variables` module.
const WELL_FORMED: &str = r"^(?:[^$]|\$\$+\{|\$(?!\{)|\$\{[A-Za-z_][A-Za-z0-9_]*(?::-(?:[^$}]|\$(?!\{))*)?\})*$";

/// The same for a text that names something: not empty, without NUL.
const WITHOUT_NUL: &str = r"^[^\u0000]+$";

/// The JSON Schema (2020-12) of a manifest for a build with these connectors, pretty-printed, with sorted keys.
pub fn schema(connectors: &[Arc<dyn Connector>]) -> String {
    let mut definitions = texts();
    for connector in connectors {
        definitions.insert(source_name(connector.kind()), source_of(connector.as_ref()));
        for feed in feeds_with_poll(connector.as_ref()) {
            definitions.insert(feed_name(connector.kind(), feed.mode), feed_of(&feed));
        }
    }
    let mut schema = section(keys::OF_MANIFEST, |key| match key {
        keys::SERVICE => service(),
        keys::OWNER => section(keys::OF_OWNER, |_| reference("name")),
        keys::SOURCE => source(connectors),
        keys::FEED => feed(connectors),
        _ => publishes(),
    });
    let feeds: Vec<Value> = connectors.iter().map(|connector| feeds_of(connector.as_ref())).collect();
    if !feeds.is_empty() {
        set(&mut schema, "allOf", Value::Array(feeds));
    }
    let description = "What a service owns, where it is kept and what others may read. One file per service.";
    printed(schema, "Headwater service manifest", description, definitions)
}

/// The JSON Schema (2020-12) of the file that `--config` names, pretty-printed, with sorted keys.
pub fn config_schema() -> String {
    let limit = |option: &OptionDef| (option.name.to_owned(), described(option_value(option), option.doc));
    let limits: Map<String, Value> = limits::KEYS.iter().map(limit).collect();
    let mut schema = section(
        keys::OF_CONFIG,
        |_| json!({"type": "object", "properties": limits.clone(), "additionalProperties": false}),
    );
    set(&mut schema, "type", json!(["object", "null"]));
    printed(schema, "Headwater configuration", "How `headwater serve` and `headwater sql` run.", texts())
}

fn printed(mut schema: Value, title: &str, description: &str, definitions: Map<String, Value>) -> String {
    set(&mut schema, "$schema", json!("https://json-schema.org/draft/2020-12/schema"));
    set(&mut schema, "title", json!(title));
    set(&mut schema, "description", json!(description));
    set(&mut schema, "$defs", Value::Object(definitions));
    // The order of keys does not depend on which features of serde_json the build has.
    schema.sort_all_objects();
    format!("{schema:#}\n")
}

/// The kinds of text that other definitions refer to.
fn texts() -> Map<String, Value> {
    [("text", text()), ("variable", variable()), ("name", name())]
        .into_iter()
        .map(|(name, definition)| (name.to_owned(), definition))
        .collect()
}

/// An object that has these keys and no other.
fn section(keys: &[Key], value: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), described(value(key.name), key.doc))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn service() -> Value {
    let pattern = format!("^[a-z][a-z0-9_]{{0,{}}}$", ServiceName::MAX_BYTES - 1);
    json!({"anyOf": [{"type": "string", "pattern": pattern, "not": {"const": "information_schema"}}, reference("variable")]})
}

fn source(connectors: &[Arc<dyn Connector>]) -> Value {
    let kinds: Vec<&str> = connectors.iter().map(|connector| connector.kind()).collect();
    let choices: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let chosen = json!({"properties": {keys::CONNECTOR: {"const": kind}}, "required": [keys::CONNECTOR]});
            json!({"if": chosen, "then": reference(&source_name(kind))})
        })
        .collect();
    let connector = json!({"anyOf": [{"enum": kinds}, reference("variable")]});
    let properties: Map<String, Value> =
        keys::OF_SOURCE.iter().map(|key| (key.name.to_owned(), described(connector.clone(), key.doc))).collect();
    let mut source = json!({"type": "object", "properties": properties, "required": keys::names(keys::OF_SOURCE)});
    if !choices.is_empty() {
        set(&mut source, "allOf", Value::Array(choices));
    }
    source
}

fn source_name(kind: &str) -> String {
    format!("source_{kind}")
}

fn source_of(connector: &dyn Connector) -> Value {
    let options = connector.options();
    let mut properties: Map<String, Value> =
        options.iter().map(|option| (option.name.to_owned(), described(option_value(option), option.doc))).collect();
    properties.insert(keys::CONNECTOR.to_owned(), json!({"const": connector.kind()}));
    let required: Vec<&str> =
        options.iter().filter(|option| option.required).map(|option| option.name).chain([keys::CONNECTOR]).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Any feed of any connector.
fn feed(connectors: &[Arc<dyn Connector>]) -> Value {
    let mut modes: Vec<&str> =
        connectors.iter().flat_map(|connector| feeds_with_poll(connector.as_ref())).map(|feed| feed.mode).collect();
    modes.sort_unstable();
    modes.dedup();
    let choice = match modes.is_empty() {
        true => reference("variable"),
        false => json!({"anyOf": [{"enum": modes}, reference("variable")]}),
    };
    let properties: Map<String, Value> =
        keys::OF_FEED.iter().map(|key| (key.name.to_owned(), described(choice.clone(), key.doc))).collect();
    json!({"type": "object", "properties": properties, "required": keys::names(keys::OF_FEED)})
}

/// Which feeds a connector's services may have.
fn feeds_of(connector: &dyn Connector) -> Value {
    let kind = connector.kind();
    let chosen = json!({
        "properties": {keys::SOURCE: {"properties": {keys::CONNECTOR: {"const": kind}}, "required": [keys::CONNECTOR]}},
        "required": [keys::SOURCE],
    });
    let feeds = feeds_with_poll(connector);
    let modes: Vec<&str> = feeds.iter().map(|feed| feed.mode).collect();
    let choices: Vec<Value> = feeds
        .iter()
        .map(|feed| {
            let chosen = json!({"properties": {keys::MODE: {"const": feed.mode}}, "required": [keys::MODE]});
            json!({"if": chosen, "then": reference(&feed_name(kind, feed.mode))})
        })
        .collect();
    let mode = json!({"anyOf": [{"enum": modes}, reference("variable")]});
    let feed = json!({"properties": {keys::MODE: mode}, "allOf": choices});
    json!({"if": chosen, "then": {"properties": {keys::FEED: feed}}})
}

/// The ways to follow changes that a connector's services have.
fn feeds_with_poll(connector: &dyn Connector) -> Vec<FeedDef> {
    connector.feeds().iter().copied().chain([keys::POLL]).collect()
}

fn feed_name(kind: &str, mode: &str) -> String {
    format!("feed_{kind}_{mode}")
}

fn feed_of(feed: &FeedDef) -> Value {
    let mut properties: Map<String, Value> = feed
        .options
        .iter()
        .map(|option| (option.name.to_owned(), described(option_value(option), option.doc)))
        .collect();
    properties.insert(keys::MODE.to_owned(), described(json!({"const": feed.mode}), feed.doc));
    let required: Vec<&str> =
        feed.options.iter().filter(|option| option.required).map(|option| option.name).chain([keys::MODE]).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn option_value(option: &OptionDef) -> Value {
    match option.kind {
        OptionKind::Text => reference("text"),
        // Editors hide such values.
        OptionKind::Secret => json!({"$ref": "#/$defs/text", "writeOnly": true}),
        OptionKind::Count => json!({"anyOf": [{"type": "integer", "minimum": 0}, reference("variable")]}),
        OptionKind::Flag => json!({"anyOf": [{"type": "boolean"}, reference("variable")]}),
        OptionKind::Word(words) => json!({"anyOf": [{"enum": words}, reference("variable")]}),
    }
}

fn publishes() -> Value {
    let columns = json!({"type": "array", "items": reference("name"), "minItems": 1, "uniqueItems": true});
    let mut table = section(keys::OF_TABLE, |key| if key == keys::KEY { columns.clone() } else { reference("name") });
    set(&mut table, "type", json!(["object", "null"]));
    json!({"anyOf": [
        {"const": keys::EVERY_TABLE},
        {
            "type": "object",
            "propertyNames": {"pattern": WITHOUT_NUL},
            "additionalProperties": table,
            "minProperties": 1,
        },
    ]})
}

fn text() -> Value {
    json!({
        "type": "string",
        "pattern": WELL_FORMED,
        "description": "Text. ${NAME} is an environment variable, ${NAME:-default} one with a default, $${ the characters ${.",
    })
}

fn variable() -> Value {
    json!({"allOf": [reference("text"), {"pattern": HOLDS_VARIABLE}], "description": "A text with a ${VARIABLE}."})
}

fn name() -> Value {
    json!({"allOf": [reference("text"), {"pattern": WITHOUT_NUL}], "description": "A name: text that is not empty."})
}

fn reference(definition: &str) -> Value {
    json!({"$ref": format!("#/$defs/{definition}")})
}

fn described(value: Value, doc: &str) -> Value {
    let mut value = value;
    set(&mut value, "description", json!(doc));
    value
}

/// Sets a key of a value that was made as an object here.
fn set(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value);
    }
}
