//! docs/capabilities.md is what the capability tables say.
//!
//! `HEADWATER_UPDATE_DOCS=1 ./test capability_page` writes it anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use headwater_source::{AggregateFunction, Capabilities, Conditions, Function, Operator, Queries, Support, ValueClass};

const UPDATE: &str = "HEADWATER_UPDATE_DOCS";

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/capabilities.md")
}

fn page() -> String {
    let mut page = String::from(
        "# What is pushed to each kind of source\n\
         \n\
         Generated from the connectors' capability tables; `HEADWATER_UPDATE_DOCS=1 ./test capability_page` writes it anew. What is in no table stays local, and\n\
         EXPLAIN says why. Every entry is held against local evaluation over edge values on the real source: filters by the conformance suite, queries by\n\
         sql-tests (`entries`, `regions`) and by random queries.\n\
         \n\
         `exact`: the source decides as the engine does and the local operator goes away. `superset`: every right row comes and perhaps others, the local filter\n\
         stays. `-`: it stays local.\n\
         \n\
         ## Classes of values\n\
         \n\
         | class | values |\n|---|---|\n",
    );
    for class in ValueClass::ALL {
        let _ = writeln!(page, "| {class:?} | {} |", meaning(class));
    }
    for (kind, capabilities) in headwater_connectors::capabilities() {
        source(&mut page, kind, capabilities);
    }
    page
}

/// What a class holds; a class without a line here does not compile.
fn meaning(class: ValueClass) -> &'static str {
    match class {
        ValueClass::Boolean => "booleans",
        ValueClass::Integer => "integers, signed or not",
        ValueClass::Float => "IEEE floats",
        ValueClass::Decimal => "decimals of fixed precision and scale",
        ValueClass::Text => "text whose equality is that of its bytes",
        ValueClass::TextFolded => {
            "text under a collation that takes other strings for equal (case, accents, trailing spaces)"
        }
        ValueClass::TextPadded => "fixed-length text, read without its padding",
        ValueClass::Bytes => "binary strings",
        ValueClass::Date => "dates",
        ValueClass::Time => "times of day",
        ValueClass::Timestamp => "timestamps without a zone",
        ValueClass::TimestampTz => "instants",
        ValueClass::Uuid => "UUIDs, read as text",
        ValueClass::Label => "labels of an enumeration, read as text",
        ValueClass::Loose => "columns whose declared type nothing enforces (SQLite outside of STRICT tables)",
        ValueClass::Computed => "text that the source computes",
        ValueClass::Total => "sums that may have left their type's range",
        ValueClass::Opaque => "everything else",
        other => unreachable!("{other:?} has no line"),
    }
}

fn source(page: &mut String, kind: &str, capabilities: &Capabilities) {
    let _ = write!(page, "\n## {kind}\n\nA scan binds at most {} values.\n\n", capabilities.max_binds());
    let named: Vec<String> = Operator::ALL.iter().map(|operator| operator_name(*operator).to_owned()).collect();
    let _ = writeln!(page, "| filters on columns | {} |", named.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(named.len()));
    for class in ValueClass::ALL {
        let supports: Vec<Support> =
            Operator::ALL.iter().map(|operator| capabilities.support(*operator, class)).collect();
        if supports.iter().all(|support| *support == Support::No) {
            continue;
        }
        let words: Vec<&str> = supports.iter().map(|support| word(*support)).collect();
        let _ = writeln!(page, "| {class:?} | {} |", words.join(" | "));
    }
    match capabilities.queries() {
        Some(queries) => whole_queries(page, capabilities, queries),
        None => page.push_str("\nNo whole queries: joins, aggregates and computed values stay local.\n"),
    }
}

fn operator_name(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "=, IN",
        Operator::NotEqual => "<>, NOT IN",
        Operator::Order => "<, BETWEEN",
        Operator::IsNull => "IS NULL",
        Operator::Like => "LIKE",
        Operator::NotLike => "NOT LIKE",
        Operator::Sort => "ORDER BY",
        other => unreachable!("{other:?} has no name"),
    }
}

fn word(support: Support) -> &'static str {
    match support {
        Support::Exact => "exact",
        Support::Superset => "superset",
        Support::No => "-",
    }
}

fn whole_queries(page: &mut String, capabilities: &Capabilities, queries: &Queries) {
    page.push_str("\nWhole queries, exact or not at all:\n\n| what | of |\n|---|---|\n");
    for function in Function::ALL {
        row(page, function.name(), classes(queries.functions, function));
    }
    for aggregate in AggregateFunction::ALL {
        let of = match aggregate {
            AggregateFunction::Count => {
                let counted = |class: &ValueClass| capabilities.support(Operator::IsNull, *class) == Support::Exact;
                ValueClass::ALL.into_iter().filter(counted).collect()
            }
            function => classes(queries.aggregates, function),
        };
        row(page, aggregate.name(), of);
    }
    row(page, "GROUP BY, DISTINCT", queries.groups.to_vec());
    let joins: Vec<String> = queries.joins.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    let _ = writeln!(page, "| joins | {} |", joins.join(", "));
    let integers: Vec<String> = queries.integers.iter().map(ToString::to_string).collect();
    let _ = writeln!(page, "| integers that are computed with | {} |", integers.join(", "));
    let conditions = match queries.conditions {
        Conditions::AreValues => "yes",
        Conditions::AreNot => "no",
    };
    let _ = writeln!(page, "| a condition as a value | {conditions} |");
    let _ = writeln!(page, "| digits behind the point of a decimal | at most {} |", queries.scale_max);
}

fn classes<F: Copy + PartialEq>(table: &[(F, ValueClass)], wanted: F) -> Vec<ValueClass> {
    table.iter().filter(|(function, _)| *function == wanted).map(|(_, class)| *class).collect()
}

fn row(page: &mut String, what: &str, mut of: Vec<ValueClass>) {
    of.sort();
    let names: Vec<String> = of.iter().map(|class| format!("{class:?}")).collect();
    let _ = writeln!(
        page,
        "| {} | {} |",
        what.replace('|', "\\|"),
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    );
}

#[test]
fn capability_page_says_what_the_tables_say() {
    let page = page();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(file(), &page).unwrap();
    }
    let written = std::fs::read_to_string(file()).unwrap_or_default();
    assert_eq!(written, page, "docs/capabilities.md is not what the tables say; run {UPDATE}=1 ./test capability_page");
}
