//! Views as files: `views/*.sql` beside the manifests, each with one or more CREATE MATERIALIZED VIEW.
//!
//! A file says what is there, not what to do: it is applied when the server starts, at SIGHUP and by `headwater apply`, and a view whose
//! statement is gone is dropped. Views that are made by SQL belong to no file and are left alone. Whatever is wrong is a [`Fault`] with file and
//! line, and then nothing is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::resolve::resolve_table_references;
use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::ask::{ViewName, ViewStatement, known_to_parser, parse_query};
use crate::Fault;
use crate::manifest::read_text;

/// The folder of the files, below that of the manifests.
const FOLDER: &str = "views";

/// The views of a services directory's files, those that others read before them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewFiles {
    pub(super) views: Vec<FileView>,
}

/// A view as a file defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileView {
    pub(crate) name: ViewName,
    pub(crate) sql: String,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

impl ViewFiles {
    /// Reads the files of a services directory: `views/*.sql`, but for those whose names begin with a dot. A directory without that folder has no
    /// views.
    ///
    /// # Errors
    /// Everything that is wrong: statements that are no CREATE MATERIALIZED VIEW, a name that is given twice, views that read one another.
    pub fn read(services: &Path) -> Result<Self, Vec<Fault>> {
        let folder = services.join(FOLDER);
        let files = match list(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(vec![fault(&folder, 0, format!("cannot be read: {error}"))]),
        };
        let (mut views, mut faults) = (Vec::new(), Vec::new());
        for file in files {
            match read_text(&file) {
                Ok(text) => read_file(&file, &text, &mut views, &mut faults),
                Err((line, message)) => faults.push(fault(&file, line, message)),
            }
        }
        refuse_shared_names(&views, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        ordered(views).map(|views| Self { views })
    }

    /// The names of the views, `schema.name`, those that others read before them.
    pub fn names(&self) -> Vec<String> {
        self.views.iter().map(|view| view.name.to_string()).collect()
    }

    pub(crate) fn view(&self, name: &ViewName) -> Option<&FileView> {
        self.views.iter().find(|view| view.name == *name)
    }
}

impl FileView {
    /// What is wrong with the view.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { file: self.file.clone(), line: self.line, key: self.name.to_string(), message: message.into() }
    }

    /// The file's name within its folder: what the view is remembered to be of.
    pub(crate) fn file_name(&self) -> String {
        self.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The tables and views that a query names.
pub(super) fn names_in(sql: &str) -> Vec<TableReference> {
    let Ok(statement) = parse_query(sql) else { return vec![] };
    resolve_table_references(&statement, true).map(|(tables, _)| tables).unwrap_or_default()
}

/// Whether one of the names may be that of a view: the same, or its last part where a search path decides.
pub(super) fn reads(names: &[TableReference], view: &ViewName) -> bool {
    names.iter().any(|name| name.table() == view.name && name.schema().is_none_or(|schema| schema == view.schema))
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some_and(|extension| extension == "sql") && !hidden && !path.is_dir()
    });
    files.sort();
    Ok(files)
}

fn fault(file: &Path, line: usize, message: impl Into<String>) -> Fault {
    Fault { file: file.to_owned(), line, key: String::new(), message: message.into() }
}

fn read_file(file: &Path, text: &str, views: &mut Vec<FileView>, faults: &mut Vec<Fault>) {
    let tokens = match Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => {
            faults.push(fault(file, line_of(error.location), error.message));
            return;
        }
    };
    let before = (views.len(), faults.len());
    let mut start = 0;
    for statement in tokens.split_inclusive(|token| token.token == Token::SemiColon) {
        let end = statement.last().filter(|token| token.token == Token::SemiColon).map(|token| token.span);
        let written = &text[start..end.map_or(text.len(), |span| offset(text, span.start))];
        let lines_before = text[..start].matches('\n').count();
        start = end.map_or(text.len(), |span| offset(text, span.end));
        let is_word = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::SemiColon);
        let Some(first) = statement.iter().find(is_word) else { continue };
        let line = line_of(first.span.start);
        match read_statement(written, lines_before, line) {
            Ok((name, sql)) => views.push(FileView { name, sql, file: file.to_owned(), line }),
            Err((line, message)) => faults.push(fault(file, line, message)),
        }
    }
    if before == (views.len(), faults.len()) {
        let message =
            "holds no statement; write CREATE MATERIALIZED VIEW schema.name AS SELECT ..., or remove the file";
        faults.push(fault(file, 0, message));
    }
}

/// The view of a statement behind so many lines, or the line and the message of what is wrong.
fn read_statement(text: &str, lines_before: usize, line: usize) -> Result<(ViewName, String), (usize, String)> {
    // Behind as many lines as in the file, so that the parser tells the file's own.
    let text = format!("{}{text}", "\n".repeat(lines_before));
    let mut parsed = DFParser::parse_sql(&text).map_err(|error| {
        let message = error.strip_backtrace();
        (line_in(&message).unwrap_or(line), message)
    })?;
    let only = "a view's file holds CREATE MATERIALIZED VIEW schema.name AS SELECT ... and nothing else";
    let Some(Statement::Statement(statement)) = parsed.pop_front() else { return Err((line, only.to_owned())) };
    match known_to_parser(&statement) {
        Some(Ok(ViewStatement::Create { file: Some(_), .. })) => {
            Err((line, "which file a view is of is not written into it; leave WITH out".to_owned()))
        }
        Some(Ok(ViewStatement::Create { name, sql, .. })) => Ok((name, sql)),
        Some(Err(error)) => Err((line, error.report())),
        Some(Ok(_)) | None => Err((line, only.to_owned())),
    }
}

/// Where a place that the tokenizer tells, in lines and characters from 1, is in a text.
fn offset(text: &str, place: Location) -> usize {
    let lines = usize::try_from(place.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let characters = usize::try_from(place.column.saturating_sub(1)).unwrap_or(usize::MAX);
    text[start..].char_indices().nth(characters).map_or(text.len(), |(place, _)| start + place)
}

fn line_of(location: Location) -> usize {
    usize::try_from(location.line).unwrap_or_default()
}

/// The line that a message of the parser tells.
fn line_in(message: &str) -> Option<usize> {
    let (_, after) = message.rsplit_once("Line: ")?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}

fn refuse_shared_names(views: &[FileView], faults: &mut Vec<Fault>) {
    let mut places: BTreeMap<&ViewName, Vec<&FileView>> = BTreeMap::new();
    views.iter().for_each(|view| places.entry(&view.name).or_default().push(view));
    for same in places.values().filter(|same| same.len() > 1) {
        for view in same {
            let others: Vec<String> = same
                .iter()
                .filter(|other| !std::ptr::eq(*other, view))
                .map(|other| format!("{}:{}", other.file.display(), other.line))
                .collect();
            faults.push(view.fault(format!("is also defined in {}; define it once", others.join(", "))));
        }
    }
}

/// The views, each after those that it reads.
fn ordered(views: Vec<FileView>) -> Result<Vec<FileView>, Vec<Fault>> {
    let reads_of: Vec<BTreeSet<usize>> = views
        .iter()
        .map(|view| {
            let names = names_in(&view.sql);
            views.iter().enumerate().filter(|(_, other)| reads(&names, &other.name)).map(|(place, _)| place).collect()
        })
        .collect();
    let (mut done, mut order) = (BTreeSet::new(), Vec::new());
    while order.len() < views.len() {
        let ready = (0..views.len()).find(|place| !done.contains(place) && reads_of[*place].is_subset(&done));
        let Some(ready) = ready else {
            let left = views.iter().enumerate().filter(|(place, _)| !done.contains(place));
            let circle =
                "reads itself, by way of other views or directly; a view reads only views that are there before it";
            return Err(left.map(|(_, view)| view.fault(circle)).collect());
        };
        done.insert(ready);
        order.push(views[ready].clone());
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        let told = |fault: Fault| {
            let file = fault.file.file_name().unwrap().into();
            Fault { file, ..fault }.to_string()
        };
        ViewFiles::read(directory.path())
            .map(|files| {
                files.views.iter().map(|view| format!("{} {}:{}", view.name, view.file_name(), view.line)).collect()
            })
            .map_err(|faults| faults.into_iter().map(told).collect())
    }

    #[test]
    fn views_come_in_the_order_in_which_they_read_one_another() {
        let files = [
            (
                "a.sql",
                "-- the top\nCREATE MATERIALIZED VIEW v.top AS\nSELECT * FROM v.middle JOIN v.base USING (id);\n",
            ),
            (
                "b.sql",
                "CREATE MATERIALIZED VIEW v.base AS SELECT id FROM shop.t;\n\n/* two\n in one */ CREATE OR REPLACE MATERIALIZED VIEW v.middle AS SELECT id FROM base",
            ),
            (".hidden.sql", "nonsense"),
            ("notes.txt", "nonsense"),
        ];
        assert_eq!(read(&files).unwrap(), ["v.base b.sql:1", "v.middle b.sql:4", "v.top a.sql:2"]);
        assert_eq!(ViewFiles::read(Path::new("/none")).unwrap(), ViewFiles::default());
    }

    #[test]
    fn every_fault_has_its_file_and_line() {
        let files = [
            ("a.sql", "CREATE MATERIALIZED VIEW v.a AS SELECT 1 AS x;\n\nDROP MATERIALIZED VIEW v.b;\nSELECT 1;"),
            (
                "b.sql",
                "CREATE MATERIALIZED VIEW v.a AS SELECT 2 AS x;\nCREATE MATERIALIZED VIEW v.c AS\n  SELECT (1 AS x FROM t;",
            ),
            ("c.sql", "-- nothing\n"),
            ("d.sql", "CREATE MATERIALIZED VIEW c AS SELECT 1 AS x"),
            ("e.sql", "SELECT 'open"),
            ("f.sql", "CREATE MATERIALIZED VIEW v.f WITH (file = 'x') AS SELECT 1 AS x"),
        ];
        let faults = read(&files).unwrap_err();
        for part in [
            "a.sql:3: a view's file holds",
            "a.sql:4: a view's file holds",
            "a.sql:1: v.a: is also defined in",
            "b.sql:1: v.a: is also defined in",
            "b.sql:3: ",
            "c.sql: holds no statement",
            "d.sql:1: c is refused: write the name",
            "e.sql:1: ",
            "f.sql:1: which file",
        ] {
            assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part} is not in {faults:#?}");
        }
        assert_eq!(faults.len(), 9, "{faults:#?}");
    }

    #[test]
    fn texts_and_comments_with_semicolons_and_quotes_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(FOLDER)).unwrap();
        let text = "CREATE MATERIALIZED VIEW v.a AS SELECT 'é;it''s' AS s -- ; \n, \"a;b\" FROM shop.t; /* ; */\nCREATE MATERIALIZED VIEW v.b AS SELECT 2 AS x";
        fs::write(directory.path().join(FOLDER).join("a.sql"), text).unwrap();
        let files = ViewFiles::read(directory.path()).unwrap();
        assert_eq!(files.views[0].sql, "SELECT 'é;it''s' AS s, \"a;b\" FROM shop.t");
        assert_eq!((files.views[1].sql.as_str(), files.views[1].line), ("SELECT 2 AS x", 3));
    }

    #[test]
    fn views_that_read_one_another_in_a_circle_are_refused() {
        let files = [
            ("a.sql", "CREATE MATERIALIZED VIEW v.a AS SELECT * FROM v.b"),
            ("b.sql", "CREATE MATERIALIZED VIEW v.b AS SELECT * FROM v.a"),
            ("c.sql", "CREATE MATERIALIZED VIEW v.c AS SELECT 1 AS x"),
        ];
        let faults = read(&files).unwrap_err();
        assert_eq!(faults.len(), 2);
        assert!(faults[0].starts_with("a.sql:1: v.a: reads itself"), "{faults:?}");
    }
}
