//! Holds ARCHITECTURE.md against `cargo metadata` and the sources: the arrows between crates, who knows which protocol, and
//! that the engine names no connector.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// A crate of the workspace and the crates of the workspace that it may depend on.
struct Rule {
    name: &'static str,
    folder: &'static str,
    /// For the crate itself.
    uses: &'static [&'static str],
    /// For its tests, examples and doctests, beside those of the crate itself.
    tests_use: &'static [&'static str],
}

const SOURCE: &str = "headwater-source";
const MENDED: &str = "headwater-rules";
const FEDERATION: &str = "headwater-federation";
const VIEWS: &str = "headwater-views";
const HEADWATER: &str = "headwater";
const CONNECTORS: &str = "headwater-connectors";
const SERVER: &str = "headwater-server";
const SQL_TESTS: &str = "headwater-sql-tests";
const BENCHES: &str = "headwater-benches";

const EVERY_CRATE: &[&str] = &[SOURCE, MENDED, FEDERATION, VIEWS, HEADWATER, CONNECTORS, SERVER, SQL_TESTS];

const RULES: &[Rule] = &[
    Rule { name: SOURCE, folder: "engine/source", uses: &[], tests_use: &[] },
    Rule { name: MENDED, folder: "engine/rules", uses: &[], tests_use: &[] },
    Rule { name: FEDERATION, folder: "engine/federation", uses: &[SOURCE, MENDED], tests_use: &[] },
    Rule { name: VIEWS, folder: "engine/views", uses: &[SOURCE, MENDED], tests_use: &[] },
    // It exports the contract to programs with a source of their own. Its doctests open services in real stores.
    Rule {
        name: HEADWATER,
        folder: "engine/headwater",
        uses: &[SOURCE, MENDED, FEDERATION, VIEWS],
        tests_use: &[CONNECTORS],
    },
    Rule { name: CONNECTORS, folder: "connectors", uses: &[SOURCE], tests_use: &[] },
    Rule { name: SERVER, folder: "flight-server", uses: &[HEADWATER, CONNECTORS], tests_use: &[] },
    Rule { name: SQL_TESTS, folder: "sql-tests", uses: EVERY_CRATE, tests_use: &[] },
    Rule { name: BENCHES, folder: "benches", uses: EVERY_CRATE, tests_use: &[] },
];

/// Crates of which only these workspace crates may know.
const RESERVED: &[(&[&str], &[&str])] = &[
    (&["tonic", "arrow-flight", "prost", "axum", "hyper", "pgwire"], &[SERVER, SQL_TESTS, BENCHES]),
    (&["tokio-postgres", "deadpool-postgres", "mysql_async"], &[CONNECTORS, SQL_TESTS, BENCHES]),
    // The server lays out the demo's SQLite files.
    (&["rusqlite"], &[CONNECTORS, SERVER, SQL_TESTS, BENCHES]),
];

/// The folders at the top; hidden ones are tools' own.
const FOLDERS: &[&str] = &["benches", "connectors", "engine", "flight-server", "sql-tests"];
/// Folders that may be there too.
const MORE_FOLDERS: &[&str] = &["docs"];

/// What the engine would have to name to know a connector, beside the folders of `connectors/src`.
const OTHER_NAMES: &[&str] = &["mariadb", "postgresql", "parquet"];
/// Folders of `connectors/src` that are no connectors.
const SHARED_BY_CONNECTORS: &[&str] = &["sql", "conformance"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in the workspace's folder").to_owned()
}

/// The workspace as its manifests declare it. Reads no registry, so it needs no network.
fn workspace() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps().other_options(vec!["--offline".to_owned()]);
    command.exec().expect("cargo describes the workspace")
}

fn rule(package: &Package) -> &'static Rule {
    RULES
        .iter()
        .find(|rule| rule.name == package.name.as_str())
        .unwrap_or_else(|| panic!("crate {} has no rule; add it here and to ARCHITECTURE.md", package.name))
}

/// What a rule has against the dependencies of a package, a line each.
fn faults_of_dependencies(package: &Package) -> Vec<String> {
    let rule = rule(package);
    let mut faults = Vec::new();
    for dependency in &package.dependencies {
        let (name, test_only) = (dependency.name.as_str(), dependency.kind == DependencyKind::Development);
        let known = RULES.iter().any(|other| other.name == name);
        // A crate's tests may name the crate itself, to turn on a feature.
        let allowed = rule.uses.contains(&name) || (test_only && (rule.tests_use.contains(&name) || name == rule.name));
        if known && !allowed {
            faults.push(format!("{} must not depend on {name}", package.name));
        }
        for (reserved, users) in RESERVED {
            if reserved.contains(&name) && !users.contains(&rule.name) {
                faults.push(format!("{} must not depend on {name}: only {} may", package.name, users.join(", ")));
            }
        }
    }
    faults
}

/// Every Rust file below a folder, in the order of their names.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in children(folder) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    paths.sort();
    paths
}

fn folder_names(folder: &Path) -> Vec<String> {
    let folders = children(folder).into_iter().filter(|path| path.is_dir());
    folders.filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned())).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a file that are neither comments nor tests, with their numbers. Tests stand last in a file.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.take_while(|(_, line)| line.trim() != "#[cfg(test)]").filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether a line of code has a string that is the name, or an address of its scheme.
fn names(line: &str, name: &str) -> bool {
    let line = line.to_lowercase();
    [format!("\"{name}\""), format!("\"{name}:")].iter().any(|literal| line.contains(literal.as_str()))
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let faults: Vec<String> = workspace().workspace_packages().into_iter().flat_map(faults_of_dependencies).collect();
    assert!(faults.is_empty(), "see ARCHITECTURE.md:\n{}", faults.join("\n"));
}

#[test]
fn crates_stand_in_their_folders() {
    let root = root();
    let found: BTreeMap<String, PathBuf> = workspace()
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.to_string(), package.manifest_path.clone().into_std_path_buf()))
        .collect();
    for (name, manifest) in &found {
        let rule = RULES.iter().find(|rule| rule.name == name).unwrap_or_else(|| panic!("crate {name} has no rule"));
        assert_eq!(manifest, &root.join(rule.folder).join("Cargo.toml"), "{name}");
    }
    for rule in RULES.iter().filter(|rule| root.join(rule.folder).is_dir()) {
        assert!(found.contains_key(rule.name), "{} is a folder without its crate {}", rule.folder, rule.name);
    }
}

#[test]
fn top_level_has_the_fixed_folders_and_no_other() {
    let ignored: BTreeSet<String> =
        read(&root().join(".gitignore")).lines().map(|line| line.trim_matches('/').to_owned()).collect();
    let folders: BTreeSet<String> = folder_names(&root())
        .into_iter()
        .filter(|name| !name.starts_with('.') && !ignored.contains(name) && !MORE_FOLDERS.contains(&name.as_str()))
        .collect();
    assert_eq!(folders, FOLDERS.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
}

#[test]
fn engine_names_no_connector() {
    let root = root();
    let mut connectors = folder_names(&root.join("connectors/src"));
    connectors.retain(|name| !SHARED_BY_CONNECTORS.contains(&name.as_str()));
    connectors.extend(OTHER_NAMES.iter().map(|name| (*name).to_owned()));
    let mut faults = Vec::new();
    for crate_name in folder_names(&root.join("engine")) {
        for file in rust_files(&root.join("engine").join(crate_name).join("src")) {
            if file.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            for (number, line) in code_lines(&read(&file)) {
                let named = connectors.iter().filter(|name| names(line, name));
                faults.extend(named.map(|name| format!("{}:{number} names {name}", file.display())));
            }
        }
    }
    assert!(faults.is_empty(), "a new source must touch nothing in engine/:\n{}", faults.join("\n"));
}

#[test]
fn unsafe_code_is_denied_everywhere() {
    let root = root();
    assert!(read(&root.join("Cargo.toml")).contains("\nunsafe_code = \"deny\"\n"), "the workspace denies unsafe code");
    // In two parts, so that this file does not hold what it looks for.
    let exemptions = ["allow", "expect", "warn"].map(|level| format!("{level}({}", "unsafe_code"));
    for rule in RULES.iter().filter(|rule| root.join(rule.folder).is_dir()) {
        let manifest = read(&root.join(rule.folder).join("Cargo.toml"));
        assert!(manifest.contains("\n[lints]\nworkspace = true\n"), "{} must take the workspace's lints", rule.name);
        for file in rust_files(&root.join(rule.folder)) {
            let text = read(&file);
            let exempt = exemptions.iter().any(|exemption| text.contains(exemption.as_str()));
            assert!(!exempt, "{} exempts itself from the ban on unsafe code", file.display());
        }
    }
}

#[test]
fn code_of_the_engine_that_names_a_connector_is_seen() {
    assert!(names("    if kind == \"Postgres\" {", "postgres"));
    assert!(names("let url = format!(\"mysql://{host}\");", "mysql"));
    assert!(!names("let files = list(\"filesystem\");", "files"));
    let text = "//! \"sqlite\"\nlet a = 1;\n/// \"sqlite\"\n#[cfg(test)]\nmod tests { \"sqlite\" }\n";
    assert_eq!(code_lines(text).collect::<Vec<_>>(), [(2, "let a = 1;")]);
}
