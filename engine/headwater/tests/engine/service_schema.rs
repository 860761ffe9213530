//! Holds the published JSON Schema against the parser: one text in the repository, one opinion on every manifest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater::{read_directory, schema};
use headwater_source::{Connector, Error, FeedDef, OpenContext, OptionDef, OptionKind, Options, Result, Source};
use jsonschema::Validator;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

/// A connector with an option of every kind.
#[derive(Debug)]
struct Cellar;

impl Connector for Cellar {
    fn kind(&self) -> &'static str {
        "cellar"
    }

    fn options(&self) -> &'static [OptionDef] {
        const OPTIONS: &[OptionDef] = &[
            OptionDef { name: "url", kind: OptionKind::Secret, required: true, doc: "Where it is." },
            OptionDef { name: "path", kind: OptionKind::Text, required: false, doc: "Where in it." },
            OptionDef { name: "pool_size", kind: OptionKind::Count, required: false, doc: "How many." },
            OptionDef { name: "read_only", kind: OptionKind::Flag, required: false, doc: "Whether." },
            OptionDef { name: "tls", kind: OptionKind::Word(&["off", "on"]), required: false, doc: "Which." },
        ];
        OPTIONS
    }

    fn feeds(&self) -> &'static [FeedDef] {
        const OPTIONS: &[OptionDef] = &[
            OptionDef { name: "consent", kind: OptionKind::Flag, required: true, doc: "Whether." },
            OptionDef { name: "slot", kind: OptionKind::Text, required: false, doc: "Which." },
        ];
        const FEEDS: &[FeedDef] = &[FeedDef { mode: "ledger", options: OPTIONS, doc: "The ledger." }];
        FEEDS
    }

    fn open(&self, _: OpenContext<'_>, _: &Options) -> Result<Arc<dyn Source>> {
        Err(Error::config("a cellar is not opened by these tests"))
    }
}

/// Every connector of the build, and one that has options of every kind.
fn connectors() -> Vec<Arc<dyn Connector>> {
    let mut connectors = headwater_connectors::all();
    connectors.push(Arc::new(Cellar));
    connectors
}

fn schema_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join("service.schema.json")
}

fn validator(text: &str) -> Validator {
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    assert!(jsonschema::draft202012::meta::is_valid(&schema), "the schema must be one of draft 2020-12");
    jsonschema::validator_for(&schema).expect("the schema compiles")
}

/// A YAML document as JSON, by a reader that is not the parser under test.
fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(flag)) => Value::from(*flag),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(nodes) => nodes.iter().map(json).collect(),
        Yaml::Mapping(entries) => {
            let key = |key: &Yaml<'_>| key.as_str().expect("keys of the corpus are text").to_owned();
            Value::Object(entries.iter().map(|(name, value)| (key(name), json(value))).collect::<Map<_, _>>())
        }
        other => panic!("not in the corpus: {other:?}"),
    }
}

/// What the parser says: its faults, none for a good manifest.
fn parser_faults(text: &str) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("a.yaml"), text).expect("a file");
    let variables = |name: &str| (name == "SET").then(|| "1".to_owned());
    let (manifests, faults) = read_directory(directory.path(), &connectors(), &variables);
    assert_eq!(manifests.len(), usize::from(faults.is_empty()));
    faults.iter().map(ToString::to_string).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Valid,
    Invalid,
}

#[track_caller]
fn assert_agree(validator: &Validator, text: &str, expect: Expect) {
    let documents = Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let instance = json(&documents[0]);
    let problems: Vec<String> = validator.iter_errors(&instance).map(|error| error.to_string()).collect();
    let faults = parser_faults(text);
    assert_eq!(faults.is_empty(), expect == Expect::Valid, "the parser on\n{text}\n{faults:?}");
    assert_eq!(problems.is_empty(), expect == Expect::Valid, "the schema on\n{text}\n{problems:?}");
}

fn with(source: &str, publishes: &str) -> String {
    format!("service: orders\nsource: {source}\npublishes: {publishes}\n")
}

const CELLAR: &str = "{connector: cellar, url: x}";

#[test]
fn schema_in_the_repository_is_the_one_of_this_build() {
    let text = schema(&headwater_connectors::all());
    validator(&text);
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(schema_file(), &text).expect("the schema is written");
    }
    let file = fs::read_to_string(schema_file()).unwrap_or_default();
    assert!(
        file == text,
        "{} is out of date; run UPDATE_SCHEMA=1 cargo test -p headwater --test engine schema",
        schema_file().display()
    );
}

#[test]
fn schema_of_the_configuration_is_the_one_of_this_build_and_agrees_with_its_parser() {
    let text = headwater::config_schema();
    let validator = validator(&text);
    let path = schema_file().with_file_name("config.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &text).expect("the schema is written");
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "{} is out of date; see CONTRIBUTING.md", path.display());
    for (config, expect) in [
        ("limits: {}", Expect::Valid),
        ("limits: {memory_bytes: 1073741824, spill_directory: /, spill_bytes: 0, query_deadline_ms: 1}", Expect::Valid),
        ("limits: {queries_max: 1, query_wait_ms: 0, statements_max: \"${SET}\", statement_wait_ms: 1}", Expect::Valid),
        ("limit: {}", Expect::Invalid),
        ("limits: []", Expect::Invalid),
        ("limits: {memory: 1}", Expect::Invalid),
        ("limits: {queries_max: -1}", Expect::Invalid),
        ("limits: {queries_max: many}", Expect::Invalid),
        ("limits: {spill_directory: 1}", Expect::Invalid),
    ] {
        let documents = Yaml::load_from_str(config).expect("YAML");
        assert_eq!(validator.is_valid(&json(&documents[0])), expect == Expect::Valid, "the schema on {config}");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.yaml");
        fs::write(&file, config).expect("a file");
        let read = headwater::read_config(&file, &|name| (name == "SET").then(|| "1".to_owned()));
        assert_eq!(read.is_ok(), expect == Expect::Valid, "the parser on {config}: {read:?}");
    }
}

#[test]
fn schema_and_parser_both_take_a_good_manifest() {
    let validator = validator(&schema(&connectors()));
    let valid = [
        with(CELLAR, "\"*\""),
        with(CELLAR, "{a: , b: {}, c: {from: public.c}, d: {key: [id, line]}, \"odd name\": {from: x, key: [id]}}"),
        format!("owner: {{team: checkout}}\n{}", with(CELLAR, "\"*\"")),
        with("{connector: cellar, url: x, path: y, pool_size: 0, read_only: false, tls: \"on\"}", "\"*\""),
        with("{connector: cellar, url: \"$ $$ $${ $$${ a$\"}", "\"*\""),
        with("{connector: cellar, url: \"a${SET}b${UNSET:-$d}$${c}\", path: \"\"}", "\"*\""),
        with("{connector: cellar, url: x, pool_size: \"${SET}\", read_only: \"${UNSET:-true}\"}", "\"*\""),
        with("{connector: cellar, url: x, tls: \"${UNSET:-off}\"}", "{a: {from: \"t${SET}\", key: [\"c${SET}\"]}}"),
        "service: s${SET}\nsource: {connector: \"${UNSET:-cellar}\", url: x}\npublishes: \"*\"\n".to_owned(),
    ];
    for text in &valid {
        assert_agree(&validator, text, Expect::Valid);
    }
}

#[test]
fn schema_and_parser_both_refuse_a_wrong_source() {
    let validator = validator(&schema(&connectors()));
    let whole =
        ["{}", "x", "[x]", "", "{connector: none}", "{connector: 1, url: x}", "{connector: cellar}", "{url: x}"];
    for source in whole {
        assert_agree(&validator, &with(source, "\"*\""), Expect::Invalid);
    }
    let urls = ["1", "[x]", "", "true", "\"${SET\"", "\"${}\"", "\"${a-b}\"", "\"${UNSET:-${SET}}\"", "\"${SET:-${\""];
    for url in urls {
        assert_agree(&validator, &with(&format!("{{connector: cellar, url: {url}}}"), "\"*\""), Expect::Invalid);
    }
    let options = [
        "pool_size: -1",
        "pool_size: 1.5",
        "pool_size: \"1\"",
        "pool_size: \"$${SET}\"",
        "read_only: \"true\"",
        "read_only: 1",
        "tls: maybe",
        "tls: true",
        "ulr: x",
    ];
    for option in options {
        assert_agree(&validator, &with(&format!("{{connector: cellar, url: x, {option}}}"), "\"*\""), Expect::Invalid);
    }
}

#[test]
fn schema_and_parser_both_refuse_wrong_tables() {
    let validator = validator(&schema(&connectors()));
    for publishes in
        ["", "{}", "[a]", "a", "\"**\"", "1", "\"${SET}\"", "{\"\": }", "{\"a\\0b\": }", "{a: x}", "{a: []}"]
    {
        assert_agree(&validator, &with(CELLAR, publishes), Expect::Invalid);
    }
    let tables = [
        "form: x",
        "from: ",
        "from: \"\"",
        "from: 1",
        "from: \"x\\0\"",
        "key: id",
        "key: []",
        "key: ",
        "key: [1]",
        "key: [\"\"]",
        "key: [id, id]",
        "key: [[id]]",
    ];
    for table in tables {
        assert_agree(&validator, &with(CELLAR, &format!("{{a: {{{table}}}}}")), Expect::Invalid);
    }
}

#[test]
fn schema_and_parser_both_refuse_wrong_names_and_owners() {
    let validator = validator(&schema(&connectors()));
    for service in ["", "Orders", "2nd", "a-b", "information_schema", "1", "[a]", "\"\"", &"x".repeat(64)] {
        let text = format!("service: {service}\nsource: {CELLAR}\npublishes: \"*\"\n");
        assert_agree(&validator, &text, Expect::Invalid);
    }
    for owner in ["", "x", "{}", "{team: }", "{team: \"\"}", "{team: 1}", "{team: x, mail: y}"] {
        assert_agree(&validator, &format!("owner: {owner}\n{}", with(CELLAR, "\"*\"")), Expect::Invalid);
    }
    assert_agree(&validator, &format!("more: x\n{}", with(CELLAR, "\"*\"")), Expect::Invalid);
    assert_agree(&validator, "service: orders\n", Expect::Invalid);
    assert_agree(&validator, "- a\n", Expect::Invalid);
}

#[test]
fn schema_and_parser_agree_on_feeds() {
    let validator = validator(&schema(&connectors()));
    let with_feed = |feed: &str| format!("{}feed: {feed}\n", with(CELLAR, "\"*\""));
    for feed in [
        "{mode: ledger, consent: true}",
        "{mode: ledger, consent: \"${UNSET:-true}\", slot: \"${SET}\"}",
        "{mode: \"${UNSET:-ledger}\", consent: true}",
        "{mode: poll, interval_seconds: 30}",
    ] {
        assert_agree(&validator, &with_feed(feed), Expect::Valid);
    }
    for feed in [
        "",
        "ledger",
        "{}",
        "{consent: true}",
        "{mode: ledger}",
        "{mode: logical, consent: true}",
        "{mode: 1}",
        "{mode: ledger, consent: 1}",
        "{mode: ledger, consent: true, more: x}",
        "{mode: poll}",
        "{mode: poll, interval_seconds: often}",
        "{mode: poll, interval_seconds: 30, consent: true}",
    ] {
        assert_agree(&validator, &with_feed(feed), Expect::Invalid);
    }
}

/// A value of the option's kind, and one that is none, as YAML.
fn values(kind: OptionKind) -> (String, &'static str) {
    match kind {
        OptionKind::Text | OptionKind::Secret => ("\"some text\"".to_owned(), "[1]"),
        OptionKind::Count => ("7".to_owned(), "many"),
        OptionKind::Flag => ("true".to_owned(), "perhaps"),
        OptionKind::Word(words) => (format!("\"{}\"", words[0]), "\"no such word\""),
    }
}

#[test]
fn schema_and_parser_agree_on_every_option_of_every_connector() {
    let connectors = connectors();
    let validator = validator(&schema(&connectors));
    for connector in &connectors {
        let source = |left_out: Option<&str>, replaced: Option<(&str, &str)>| {
            let mut source = format!("\n  connector: {}\n", connector.kind());
            for option in connector.options().iter().filter(|option| Some(option.name) != left_out) {
                let value = match replaced {
                    Some((name, value)) if name == option.name => value.to_owned(),
                    _ => values(option.kind).0,
                };
                source.push_str(&format!("  {}: {value}\n", option.name));
            }
            with(source.trim_end(), "\"*\"")
        };
        assert_agree(&validator, &source(None, None), Expect::Valid);
        for option in connector.options() {
            let without = if option.required { Expect::Invalid } else { Expect::Valid };
            assert_agree(&validator, &source(Some(option.name), None), without);
            let wrong = values(option.kind).1;
            assert_agree(&validator, &source(None, Some((option.name, wrong))), Expect::Invalid);
            assert_agree(&validator, &source(None, Some((option.name, "null"))), Expect::Invalid);
        }
    }
}

#[test]
fn schema_of_access_is_the_one_of_this_build_and_agrees_with_its_parser() {
    let path = schema_file().with_file_name("access.schema.json");
    let built = headwater::access_schema();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &built).expect("the schema is written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == built, "{} is out of date; run with UPDATE_SCHEMA=1", path.display());
    let validator = validator(&built);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (text, is_good) in [
        ("roles: {a: {members: [x], grants: [{service: s}]}}", true),
        ("roles: {a: {members: [\"*\"], includes: [b], defines: [v], monitors: true}, b: {}}", true),
        ("roles: {a: {grants: [{service: s, tables: [t], columns: [c], rows: \"c = 1\", masks: {c: 1}}]}}", true),
        ("roles: {a: {grants: [{view: v.x, rows: true}]}}", true),
        ("roles: {}", false),
        ("roles: {a: {member: [x]}}", false),
        ("roles: {a: {members: x}}", false),
        ("roles: {a: {members: []}}", false),
        ("roles: {a: {members: [x, x]}}", false),
        ("roles: {a: {grants: [{}]}}", false),
        ("roles: {a: {grants: [{service: s, view: v.x}]}}", false),
        ("roles: {a: {grants: [{service: s, tables: t}]}}", false),
        ("roles: {a: {monitors: 1}}", false),
        ("role: {}", false),
    ] {
        let documents = Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(validator.is_valid(&json(&documents[0])), is_good, "the schema on {text}");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("access.yaml");
        fs::write(&file, text).expect("a file");
        let built = runtime.block_on(headwater::Engine::builder().access_file(&file).build());
        assert_eq!(built.is_ok(), is_good, "the parser on {text}");
    }
}
