use headwater_source::{Error, FeedDef, OpenContext, OptionDef, OptionKind, Result, Source};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

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
            OptionDef { name: "poll_ms", kind: OptionKind::Count, required: false, doc: "How often." },
        ];
        const FEEDS: &[FeedDef] = &[
            FeedDef { mode: "ledger", options: OPTIONS, doc: "The ledger." },
            FeedDef { mode: "watch", options: &[], doc: "A watch." },
        ];
        FEEDS
    }

    fn open(&self, _: OpenContext<'_>, _: &Options) -> Result<Arc<dyn Source>> {
        Err(Error::config("a cellar is not opened by these tests"))
    }
}

const CANARY: &str = "hunter2";

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "URL" => "cellar://u:hunter2@host/shop",
        "TRICKY" => "a: \"b\"\n- c # {d: [e]}",
        "EIGHT" => "8",
        "TRUE" => "true",
        "SERVICE" => "orders",
        "SECRET" => CANARY,
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn read(directory: &Path) -> (Vec<Manifest>, Vec<Fault>) {
    read_directory(directory, &[Arc::new(Cellar)], &environment)
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Reads one manifest; its faults come without the file's name.
fn read_one(text: &str) -> (Option<Manifest>, Vec<String>) {
    let directory = directory(&[("orders.yaml", text.as_bytes())]);
    let (mut manifests, faults) = read(directory.path());
    let prefix = format!("{}:", directory.path().join("orders.yaml").display());
    let lines = faults.iter().map(|fault| fault.to_string().strip_prefix(&prefix).expect("the file's name").to_owned());
    (manifests.pop(), lines.collect())
}

fn good(text: &str) -> Manifest {
    let (manifest, faults) = read_one(text);
    assert_eq!(faults, Vec::<String>::new(), "{text}");
    manifest.expect("a manifest without faults")
}

#[track_caller]
fn assert_faults(text: &str, expected: &[&str]) {
    let (manifest, faults) = read_one(text);
    assert_eq!(faults, expected, "{text}");
    assert!(manifest.is_none(), "a faulty manifest must not come back");
}

/// A manifest whose `source` and `publishes` hold these.
fn with(source: &str, publishes: &str) -> String {
    format!("service: orders\nsource: {source}\npublishes: {publishes}\n")
}

const GOOD: &str = r#"
service: orders
owner: {team: checkout}
source: {connector: cellar, url: "${URL}", pool_size: 4, read_only: true, tls: "on"}
publishes:
  orders:      {from: public.orders, key: [id]}
  order_lines: {from: public.order_lines, key: [order_id, line]}
  plain:
  "odd name":  {}
"#;

#[test]
fn whole_manifest_yields_all_that_it_says() {
    let manifest = good(GOOD);
    assert_eq!(manifest.service.as_str(), "orders");
    assert_eq!(manifest.owner, Some(Owner { team: "checkout".to_owned() }));
    assert_eq!(manifest.connector, "cellar");
    assert_eq!(manifest.options.text("url"), environment("URL").as_deref());
    assert_eq!(manifest.options.count("pool_size", 8), 4);
    assert!(manifest.options.flag("read_only", false));
    let table = |name: &str, from: &str, key: Option<&[&str]>, line| PublishedTable {
        name: name.to_owned(),
        from: from.to_owned(),
        key: key.map(|key| key.iter().map(|column| (*column).to_owned()).collect()),
        line,
    };
    let tables = vec![
        table("orders", "public.orders", Some(&["id"]), 6),
        table("order_lines", "public.order_lines", Some(&["order_id", "line"]), 7),
        table("plain", "plain", None, 8),
        table("odd name", "odd name", None, 9),
    ];
    assert_eq!(manifest.publishes, Publishes::Tables(tables));
    assert!(!format!("{manifest:?}").contains(CANARY));
}

#[test]
fn star_publishes_every_table_and_owner_may_be_missing() {
    let manifest = good(&with("{connector: cellar, url: x}", "\"*\""));
    assert_eq!((manifest.publishes, manifest.owner), (Publishes::All, None));
}

#[test]
fn value_of_a_variable_never_changes_the_structure() {
    let text = with("{connector: cellar, url: \"<${TRICKY}>\"}", "{a: {from: \"${TRICKY}\"}}");
    let manifest = good(&text);
    assert_eq!(manifest.options.text("url"), Some("<a: \"b\"\n- c # {d: [e]}>"));
    let Publishes::Tables(tables) = manifest.publishes else { panic!("tables") };
    assert_eq!(tables[0].from, "a: \"b\"\n- c # {d: [e]}");
}

#[test]
fn number_and_flag_may_come_from_variables() {
    let text = "service: ${SERVICE}\nsource:\n  connector: cellar\n  url: x\n  pool_size: ${EIGHT}\n  read_only: ${TRUE}\n  \
                tls: ${TLS:-off}\npublishes: \"*\"\n";
    let manifest = good(text);
    assert_eq!(manifest.options.count("pool_size", 0), 8);
    assert!(manifest.options.flag("read_only", false));
    assert_eq!(manifest.options.text("tls"), Some("off"));
}

#[test]
fn every_fault_of_a_file_is_reported_with_its_line() {
    let text = "servise: orders\nowner: {taem: x}\nsource:\n  connector: cellar\n  ulr: x\n  pool_size: [1]\npublishes:\n  a: {form: b}\n  b: {key: id}\n";
    assert_faults(
        text,
        &[
            "1: servise: unknown key \"servise\"; did you mean \"service\"?",
            "1: lacks the key \"service\": The service's name: the schema under which its tables appear in SQL.",
            "2: owner.taem: unknown key \"taem\"; did you mean \"team\"?",
            "2: owner: lacks the key \"team\": The team that owns the service.",
            "5: source.ulr: unknown key \"ulr\"; did you mean \"url\"?",
            "6: source.pool_size: takes a whole number, found a list",
            "3: source: lacks the key \"url\": Where it is.",
            "8: publishes.a.form: unknown key \"form\"; did you mean \"from\"?",
            "9: publishes.b.key: takes a list of columns, such as [id], found text",
        ],
    );
}

#[test]
fn feed_is_read_against_the_modes_of_its_connector() {
    let with_feed = |feed: &str| format!("{}feed: {feed}\n", with("{connector: cellar, url: x}", "\"*\""));
    let feed = good(&with_feed("{mode: ledger, consent: true, poll_ms: \"${EIGHT}\"}")).feed.expect("a feed");
    assert_eq!((feed.mode.as_str(), feed.options.count("poll_ms", 0)), ("ledger", 8));
    assert_eq!(good(&with_feed("{mode: watch}")).feed.map(|feed| feed.mode).as_deref(), Some("watch"));
    assert_eq!(good(&with("{connector: cellar, url: x}", "\"*\"")).feed, None);
    let poll = good(&with_feed("{mode: poll, interval_seconds: \"${EIGHT}\"}")).feed.expect("a mode");
    assert_eq!((poll.mode.as_str(), poll.options.count("interval_seconds", 0)), ("poll", 8));
    let has = "connector \"cellar\" has ledger, watch, poll";
    for (feed, faults) in [
        ("{mode: leger}", vec![format!("4: feed.mode: unknown mode \"leger\"; did you mean \"ledger\"? {has}")]),
        ("{consent: true}", vec![format!("4: feed: lacks the key \"mode\"; {has}")]),
        ("{mode: ledger}", vec!["4: feed: lacks the key \"consent\": Whether.".to_owned()]),
        (
            "{mode: watch, consnt: true}",
            vec!["4: feed.consnt: unknown key \"consnt\"; the keys here are mode".to_owned()],
        ),
        (
            "{mode: ledger, consnt: true}",
            vec![
                "4: feed.consnt: unknown key \"consnt\"; did you mean \"consent\"?".to_owned(),
                "4: feed: lacks the key \"consent\": Whether.".to_owned(),
            ],
        ),
        ("{mode: ledger, consent: maybe}", vec!["4: feed.consent: takes true or false, found text".to_owned()]),
        ("ledger", vec!["4: feed: takes a mapping, found text".to_owned()]),
        ("{mode: poll, interval_seconds: 0}", vec!["4: feed.interval_seconds: takes 1 to 2592000 seconds".to_owned()]),
    ] {
        assert_faults(&with_feed(feed), &faults.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // Faults elsewhere hide none of these.
    let text = format!("{}feed: {{mode: leger}}\n", with("{connector: cellar, ulr: x}", "\"*\""));
    assert_eq!(read_one(&text).1.len(), 3, "{:?}", read_one(&text).1);
}

#[test]
fn unknown_connector_names_the_nearest_and_all_of_this_build() {
    assert_faults(
        &with("{connector: celar, url: x}", "\"*\""),
        &["2: source.connector: unknown connector \"celar\"; did you mean \"cellar\"? this build has cellar"],
    );
    assert_faults(
        &with("{conector: cellar, url: x}", "\"*\""),
        &[
            "2: source.conector: unknown key \"conector\"; did you mean \"connector\"?",
            "2: source: lacks the key \"connector\"; this build has cellar",
        ],
    );
    assert_faults(&with("{url: x}", "\"*\""), &["2: source: lacks the key \"connector\"; this build has cellar"]);
}

#[test]
fn value_of_a_wrong_kind_says_what_was_found() {
    let source = "{connector: cellar, url: 5, path: , pool_size: -1, read_only: 1, tls: maybe}";
    assert_faults(
        &with(source, "[orders]"),
        &[
            "2: source.url: takes text, found a whole number; put it in quotes",
            "2: source.path: takes text, found nothing",
            "2: source.pool_size: takes a whole number, found a whole number below zero",
            "2: source.read_only: takes true or false, found a whole number",
            "2: source.tls: takes one of off, on, found another word",
            "3: publishes: takes a mapping of tables, or \"*\", found a list",
        ],
    );
    assert_faults(
        "service: [a]\nowner: x\nsource: x\npublishes: {}\n",
        &[
            "1: service: takes text, found a list",
            "2: owner: takes a mapping with team, found text",
            "3: source: takes a mapping, found text",
            "4: publishes: names no table; name one, or write \"*\" for every table of the source",
        ],
    );
    assert_faults("just text", &["1: takes a mapping with service, owner, source, feed, publishes, found text"]);
}

#[test]
fn names_and_keys_that_can_not_be_are_refused() {
    assert_faults(
        &with(
            "{connector: cellar, url: x}",
            "\n  \"\": {}\n  \"a\\0b\": {}\n  c: {from: \"\"}\n  d: {key: []}\n  e: {key: [id, id]}\n  f: {key: [1]}\n  g: x",
        ),
        &[
            "4: publishes: the table's name is empty",
            "5: publishes: the table's name holds NUL",
            "6: publishes.c.from: is empty",
            "7: publishes.d.key: names no column; name one, or leave the key out",
            "8: publishes.e.key: names a column twice",
            "9: publishes.f.key: takes text, found a whole number; put it in quotes",
            "10: publishes.g: takes a mapping with from, key, found text",
        ],
    );
}

#[test]
fn undefined_variables_are_named() {
    assert_faults(
        &with("{connector: cellar, url: \"${NO_HOST}:${NO_PORT}\", path: \"${open\"}", "\"*\""),
        &[
            "2: source.url: environment variable \"NO_HOST\" is not set; set it, or write ${NO_HOST:-default}",
            "2: source.url: environment variable \"NO_PORT\" is not set; set it, or write ${NO_PORT:-default}",
            "2: source.path: \"${\" without \"}\"; write \"$${\" for the characters themselves",
        ],
    );
}

#[test]
fn no_fault_shows_a_credential() {
    let texts = [
        // A secret in the place of every other value, by a variable and written out.
        "service: ${SECRET}-x\nsource: {connector: \"${SECRET}\", url: x}\npublishes: \"*\"",
        "service: u:hunter2@h\nsource: {connector: \"u:hunter2@h\", url: x}\npublishes: u:hunter2@h",
        &with(
            "{connector: cellar, url: x, pool_size: \"${SECRET}\", read_only: \"${SECRET}\", tls: \"${SECRET}\"}",
            "\"*\"",
        ),
        &with("{connector: cellar, url: x, pool_size: hunter2, read_only: hunter2, tls: hunter2}", "\"*\""),
        // The space after the colon is missing, so the address is a key.
        &with("{connector: cellar, url:cellar://u:hunter2@h/d}", "\"*\""),
        &with("{connector: cellar, url: {cellar://u:hunter2@h/d: }}", "\"*\""),
        // The commas end the address, so what follows are keys without values.
        &with("{connector: cellar, url: cellar://u:a,hunter2,b@h/d}", "\"*\""),
        // Not YAML at the credential.
        &with("{connector: cellar, url: \"cellar://u:hunter2@h/d}", "\"*\""),
        "service: orders\nsource:\n  url: 'x': hunter2: {\n",
        "service: orders\nsource: {connector: cellar, url: *hunter2}\npublishes: \"*\"",
        "service: orders\nsource: {connector: cellar, url: !hunter2 x}\npublishes: \"*\"",
        "service: orders\nsource: {connector: cellar, url: \"${hunter2-x}\"}\npublishes: \"*\"",
    ];
    for text in texts {
        let (manifest, faults) = read_one(text);
        assert!(manifest.is_none() && !faults.is_empty(), "{text}");
        assert!(!faults.join("\n").contains(CANARY), "{text}\n{faults:?}");
    }
}

#[test]
fn repeated_key_names_both_lines() {
    assert_faults(
        "service: a\nsource: {connector: cellar, url: x}\npublishes:\n  t:\n  u:\n  t:\nservice: b\n",
        &[
            "6: publishes.t: duplicate key; it stands on line 4 already",
            "7: service: duplicate key; it stands on line 1 already",
        ],
    );
}

#[test]
fn yaml_beyond_mappings_lists_and_scalars_is_a_named_fault() {
    let source = "{connector: cellar, url: x}";
    assert_faults(
        &with(source, "\n  a: &t {from: x}\n  b: *t\n  c: {<<: *t}\n  d: !odd {from: y}"),
        &[
            "4: publishes.a: an anchor (&name) is not taken in a manifest; remove it",
            "5: publishes.b: an alias (*name) is not taken in a manifest; write the value itself",
            "6: publishes.c: a merge key (<<) is not taken in a manifest; write the keys themselves",
            "6: publishes.c: an alias (*name) is not taken in a manifest; write the value itself",
            "7: publishes.d: a tag (!name) is not taken in a manifest; remove it",
        ],
    );
    assert_faults(
        &format!("{}---\nservice: b\n", with(source, "\"*\"")),
        &["4: a second document begins here; write one file per service"],
    );
    assert_faults(
        &with(source, "{[a]: b, {c: d}: e, f: }"),
        &["3: publishes: a key must be text", "3: publishes: a key must be text"],
    );
    let deep = with(source, &format!("{}{}", "[".repeat(200), "]".repeat(200)));
    assert_faults(&deep, &["3: publishes: nested more than 16 deep; a manifest never is"]);
}

#[test]
fn text_that_is_not_yaml_names_the_line_and_the_likely_slip() {
    let (_, faults) = read_one("service: a\nsource: {connector: cellar, url: x}\npublishes: *\n");
    assert!(faults[0].starts_with("3: not YAML: ") && faults[0].ends_with("; write \"*\" in quotes"), "{faults:?}");
    let (_, faults) = read_one("service: a\nsource: {connector: cellar, url: ${URL}}\npublishes: \"*\"\n");
    assert!(faults[0].starts_with("2: not YAML: ") && faults[0].ends_with("is written in quotes"), "{faults:?}");
    let (_, faults) = read_one("service: a\n\tsource: b\n");
    assert!(faults[0].starts_with("2: ") && faults.len() == 1, "{faults:?}");
}

#[test]
fn empty_and_undecodable_files_are_named() {
    for text in ["", "# nothing\n", "---\n", "\u{feff}"] {
        assert_faults(text, &["1: the manifest is empty; write service, source and publishes"]);
    }
    let directory = directory(&[("a.yaml", b"service: a\nowner: \xff\n"), ("b.yml", GOOD.as_bytes())]);
    let (manifests, faults) = read(directory.path());
    assert_eq!((manifests.len(), faults.len()), (1, 1));
    assert!(faults[0].to_string().ends_with("a.yaml:2: is not UTF-8 text; save the file as UTF-8"), "{}", faults[0]);
}

#[test]
fn only_manifests_of_the_directory_itself_are_read_in_order() {
    let other = GOOD.replace("service: orders", "service: customers");
    let files: &[(&str, &[u8])] =
        &[("z.yaml", GOOD.as_bytes()), ("a.yml", other.as_bytes()), (".hidden.yaml", b"{"), ("README.md", b"{")];
    let directory = directory(files);
    fs::create_dir(directory.path().join("more.yaml")).unwrap();
    fs::write(directory.path().join("more.yaml").join("b.yaml"), "{").unwrap();
    let (manifests, faults) = read(directory.path());
    assert_eq!(faults, vec![]);
    let found: Vec<_> = manifests.iter().map(|manifest| (manifest.service.as_str(), manifest.file.clone())).collect();
    assert_eq!(found, [("customers", directory.path().join("a.yml")), ("orders", directory.path().join("z.yaml"))]);
}

#[test]
fn service_in_two_files_is_refused_in_both() {
    let faulty = GOOD.replace("owner:", "onwer:");
    let directory = directory(&[("a.yaml", GOOD.as_bytes()), ("b.yaml", faulty.as_bytes())]);
    let (manifests, faults) = read(directory.path());
    assert_eq!(manifests, vec![]);
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let path = |name: &str| directory.path().join(name).display().to_string();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let clash = |here: &str, there: &str| {
        format!("{}:2: service: service \"orders\" is also in {}; a service has one file", path(here), path(there))
    };
    assert!(lines.contains(&clash("a.yaml", "b.yaml")) && lines.contains(&clash("b.yaml", "a.yaml")), "{lines:?}");
}

#[test]
fn directory_that_is_missing_empty_or_a_file_is_one_fault() {
    let directory = directory(&[("note.txt", b"")]);
    let fault = |path: &Path| {
        let (manifests, faults) = read(path);
        assert_eq!((manifests.len(), faults.len()), (0, 1));
        faults[0].to_string().replace(&directory.path().display().to_string(), "DIR")
    };
    assert_eq!(fault(directory.path()), "DIR: holds no manifest; write one file per service, named *.yaml");
    assert_eq!(
        fault(&directory.path().join("none")),
        "DIR/none: does not exist; name the directory that holds the services' manifests"
    );
    assert_eq!(
        fault(&directory.path().join("note.txt")),
        "DIR/note.txt: is not a directory; name the directory that holds the manifests"
    );
}

#[test]
fn fault_is_one_line_whatever_the_names_hold() {
    let fault = Fault { file: "a\nb.yaml".into(), line: 1, key: "k\r".into(), message: "m\u{2028}\u{1b}[31m".into() };
    assert_eq!(fault.to_string(), "a\\nb.yaml:1: k\\r: m\\u{2028}\\u{1b}[31m");
}

/// Reads a text as a file would be read, without a file.
fn read_text_of(text: &str) -> (Option<Manifest>, Vec<Fault>) {
    let file = Path::new("orders.yaml");
    let reader = Reader { connectors: &[Arc::new(Cellar)], variables: &environment };
    let mut faults = Faults::new(file);
    let parsed = read_manifest(&reader, file, text, &mut faults);
    (parsed.manifest, faults.into_vec())
}

fn assert_manifest_or_faults(text: &str) -> Result<(), TestCaseError> {
    let (manifest, faults) = read_text_of(text);
    prop_assert_eq!(manifest.is_none(), !faults.is_empty());
    for fault in faults {
        prop_assert!(fault.line >= 1 && fault.line <= text.split(['\n', '\r']).count() + 1, "{}", fault);
        prop_assert!(!fault.to_string().contains('\n'));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_yields_a_manifest_or_faults(text in any::<String>()) {
        assert_manifest_or_faults(&text)?;
    }

    #[test]
    fn any_text_of_yaml_characters_yields_a_manifest_or_faults(text in "[a-z:{}\\[\\]&*!|>'\"%@`?,#~$\\-\\\\ \t\r\n]{0,80}") {
        assert_manifest_or_faults(&text)?;
    }

    #[test]
    fn mutated_manifest_yields_a_manifest_or_faults(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, "[a-z:{}\\[\\]&*!|>'\"?,#$\\- \n]{0,3}"), 1..6),
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, removed, added) in cuts {
            let start = at.index(text.len());
            let end = (start + removed).min(text.len());
            text.splice(start..end, added.chars());
            if text.is_empty() {
                break;
            }
        }
        assert_manifest_or_faults(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn any_value_of_a_variable_arrives_as_it_is(value in any::<String>()) {
        let lookup = |_: &str| Some(value.clone());
        let reader = Reader { connectors: &[Arc::new(Cellar)], variables: &lookup };
        let mut faults = Faults::new(Path::new("orders.yaml"));
        let text = with("{connector: cellar, url: \"${X}\"}", "\"*\"");
        let parsed = read_manifest(&reader, Path::new("orders.yaml"), &text, &mut faults);
        let manifest = parsed.manifest.expect("a manifest");
        prop_assert_eq!(manifest.options.text("url"), Some(value.as_str()));
    }
}
