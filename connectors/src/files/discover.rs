//! Which files a table has: listing, globs, directories, formats and hive partitions.
//!
//! Listed anew for every query, and cheap: no file is opened here.

use std::collections::BTreeMap;

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::TryStreamExt;
use headwater_source::{Error, nearest};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt};
use regex::Regex;

use super::error::{Failure, sentence};
use super::store::Root;

/// The most files that one table may have.
const FILES_MAX: usize = 100_000;

/// How a hive partition writes NULL.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// Apache Parquet.
    Parquet,
    /// Fields between delimiters.
    Csv,
    /// One JSON object per line.
    Json,
    /// Arrow IPC, file or stream.
    Arrow,
}

/// A file of a table, as the store lists it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// The store's description.
    pub(super) meta: ObjectMeta,
    /// The path under the source's URL.
    pub(super) name: String,
    /// How it is compressed as a whole, by its extension.
    pub(super) compression: FileCompressionType,
    /// The hive partitions of its path, outermost first; `None` is NULL.
    pub(super) partitions: Vec<(String, Option<String>)>,
}

/// The files of one table.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    /// What the manifest calls the table: a file, a directory with a trailing slash, or a glob.
    pub(super) from: String,
    /// The format of every file.
    pub(super) format: Format,
    /// The files, by path. Never empty.
    pub(super) files: Vec<Listed>,
}

/// A table that `publishes: "*"` publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The path under the source's URL; of a directory with a trailing slash.
    pub(super) from: String,
    /// The name that it is published under.
    pub(super) name: String,
}

impl Format {
    /// The format that the `format` key names.
    pub(super) fn by_word(word: &str) -> Option<Self> {
        [Self::Parquet, Self::Csv, Self::Json, Self::Arrow].into_iter().find(|format| format.word() == word)
    }

    /// The format as the `format` key writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
        }
    }

    /// The format of a file by its extension, a compression's extension aside.
    fn by_name(name: &str) -> Option<Self> {
        let (_, extension) = uncompressed(name).rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Self::Parquet),
            "csv" | "tsv" => Some(Self::Csv),
            "json" | "ndjson" | "jsonl" => Some(Self::Json),
            "arrow" | "ipc" | "feather" | "arrows" => Some(Self::Arrow),
            _ => None,
        }
    }
}

impl Root {
    /// The files of the table that a manifest calls `from`.
    pub(super) async fn resolve(&self, from: &str, format: Option<Format>) -> Result<Option<Listing>, Failure> {
        let from = normalized(from)?;
        if !from.is_empty() && !from.ends_with('/') {
            if let Some(meta) = self.head(&from).await? {
                return self.listing(from, vec![meta], format).map(Some);
            }
            if from.contains(['*', '?', '[']) {
                return self.glob(from, format).await;
            }
        }
        let metas = self.list(&from).await?;
        let from = if from.is_empty() { "./".to_owned() } else { format!("{}/", from.trim_end_matches('/')) };
        if metas.is_empty() { Ok(None) } else { self.listing(from, metas, format).map(Some) }
    }

    /// Every table directly under the URL: each file, each directory.
    pub(super) async fn tables(&self, format: Option<Format>) -> Result<Vec<Found>, Failure> {
        let level = self.store.list_with_delimiter(Some(&self.prefix)).await?;
        let files = level.objects.iter().filter_map(|meta| self.relative(&meta.location));
        let mut paths: Vec<String> =
            files.filter(|name| visible(name) && (format.is_some() || Format::by_name(name).is_some())).collect();
        let folders: Vec<String> = level.common_prefixes.iter().filter_map(|path| self.relative(path)).collect();
        // A directory that holds partitions is itself the table.
        if folders.iter().any(|folder| folder.contains('=')) {
            paths.push("./".to_owned());
        }
        paths.extend(folders.iter().filter(|name| visible(name) && !name.contains('=')).map(|name| format!("{name}/")));
        Ok(published(paths, self.prefix.filename().unwrap_or("files")))
    }

    /// The path under the source's URL of a file of the store.
    fn relative(&self, location: &Path) -> Option<String> {
        let parts = location.prefix_match(&self.prefix)?;
        let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
        (!name.is_empty()).then_some(name)
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectMeta>, Failure> {
        match self.store.head(&self.path(name)?).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn glob(&self, from: String, format: Option<Format>) -> Result<Option<Listing>, Failure> {
        let pattern = glob_pattern(&from)?;
        let literal = from.split(['*', '?', '[']).next().unwrap_or_default();
        let directory = literal.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut metas = self.list(directory).await?;
        metas.retain(|meta| self.relative(&meta.location).is_some_and(|name| pattern.is_match(&name)));
        if metas.is_empty() { Ok(None) } else { self.listing(from, metas, format).map(Some) }
    }

    async fn list(&self, directory: &str) -> Result<Vec<ObjectMeta>, Failure> {
        let prefix = self.path(directory.trim_end_matches('/'))?;
        let mut stream = self.store.list(Some(&prefix));
        let mut metas = vec![];
        while let Some(meta) = stream.try_next().await? {
            if self.relative(&meta.location).is_some_and(|name| visible(&name)) {
                metas.push(meta);
            }
            if metas.len() > FILES_MAX {
                return Err(sentence(format!("a table may have {FILES_MAX} files, and \"{directory}\" has more")));
            }
        }
        metas.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(metas)
    }

    fn path(&self, name: &str) -> Result<Path, Failure> {
        let path = if self.prefix.as_ref().is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(path.trim_end_matches('/')).map_err(|error| {
            Failure::from(Error::config(format!("the table name {name:?} is no path that stores take: {error}")))
        })
    }

    fn listing(&self, from: String, metas: Vec<ObjectMeta>, format: Option<Format>) -> Result<Listing, Failure> {
        let mut files = vec![];
        let mut first: Option<(Format, String)> = None;
        let single = metas.len() == 1;
        for meta in metas {
            let Some(name) = self.relative(&meta.location) else { continue };
            let Some(found) = format.or_else(|| Format::by_name(&name)) else {
                if single {
                    return Err(sentence(unknown_format(&name)));
                }
                continue;
            };
            match &first {
                Some((known, other)) if *known != found => {
                    let (a, b) = (known.word(), found.word());
                    return Err(sentence(format!(
                        "file \"{other}\" is {a} and file \"{name}\" is {b}; a table has one format"
                    )));
                }
                Some(_) => {}
                None => first = Some((found, name.clone())),
            }
            files.push(listed(meta, name, found)?);
        }
        let Some((format, _)) = first else { return Err(sentence(unknown_format(&from))) };
        same_partitions(&files)?;
        Ok(Listing { from, format, files })
    }
}

/// The published name closest to `name`, for a hint; the table itself where a manifest names only the stem.
pub(super) fn by_name<'a>(tables: &'a [Found], name: &str) -> Option<&'a Found> {
    let mut named = tables.iter().filter(|table| table.name == name);
    match (named.next(), named.next()) {
        (Some(table), None) => Some(table),
        _ => None,
    }
}

/// The paths to name where a table is not there, the closest first.
pub(super) fn known(tables: &[Found], name: &str) -> Vec<String> {
    let paths: Vec<String> = tables.iter().map(|table| table.from.clone()).collect();
    let close = nearest(name, paths.iter().map(String::as_str)).map(str::to_owned);
    let rest = paths.iter().filter(|path| Some(*path) != close.as_ref()).cloned();
    close.iter().cloned().chain(rest).collect()
}

/// Gives each path its name; those that would share one keep their whole path.
fn published(mut paths: Vec<String>, root: &str) -> Vec<Found> {
    paths.sort();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for path in &paths {
        *uses.entry(stem(path, root)).or_default() += 1;
    }
    let name = |path: &String| match stem(path, root) {
        stem if uses.get(&stem) == Some(&1) => stem,
        _ => path.clone(),
    };
    paths.iter().map(|path| Found { from: path.clone(), name: name(path) }).collect()
}

/// The name of a published table: the last part of its path, without extensions.
pub(super) fn stem(path: &str, root: &str) -> String {
    if path == "./" {
        return root.to_owned();
    }
    if let Some(folder) = path.strip_suffix('/') {
        return folder.rsplit('/').next().unwrap_or(folder).to_owned();
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    match Format::by_name(name).and_then(|_| uncompressed(name).rsplit_once('.')) {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => name.to_owned(),
    }
}

/// The path in one spelling: no `./`, no `..`, nothing absolute. The whole source is "".
fn normalized(from: &str) -> Result<String, Failure> {
    let refuse = |why: &str| Failure::from(Error::config(format!("the table name {from:?} {why}")));
    if from.starts_with('/') {
        return Err(refuse("is absolute; name a path under the source's url"));
    }
    let mut parts: Vec<&str> = vec![];
    for part in from.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(refuse("leaves the source's url"));
        }
        parts.push(part);
    }
    let slash = if from.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    Ok(format!("{}{slash}", parts.join("/")))
}

/// Whether a path is data: no part of it is hidden. A partition's name may start with an underscore.
fn visible(name: &str) -> bool {
    name.split('/').all(|part| !part.starts_with('.') && (!part.starts_with('_') || part.contains('=')))
}

fn uncompressed(name: &str) -> &str {
    let lowered = name.to_ascii_lowercase();
    let extension = [".gz", ".zst", ".bz2", ".xz"].into_iter().find(|extension| lowered.ends_with(extension));
    extension.map_or(name, |extension| &name[..name.len() - extension.len()])
}

fn listed(meta: ObjectMeta, name: String, format: Format) -> Result<Listed, Failure> {
    let extension = &name[uncompressed(&name).len()..];
    let compression = match extension.to_ascii_lowercase().as_str() {
        ".gz" => FileCompressionType::GZIP,
        ".zst" => FileCompressionType::ZSTD,
        ".bz2" => FileCompressionType::BZIP2,
        ".xz" => FileCompressionType::XZ,
        _ => FileCompressionType::UNCOMPRESSED,
    };
    if compression.is_compressed() && matches!(format, Format::Parquet | Format::Arrow) {
        let format = format.word();
        return Err(sentence(format!("file \"{name}\" is compressed as a whole, which {format} is not read from")));
    }
    let partitions = partitions(&name);
    Ok(Listed { meta, name, compression, partitions })
}

fn partitions(name: &str) -> Vec<(String, Option<String>)> {
    let Some((directories, _)) = name.rsplit_once('/') else { return vec![] };
    directories
        .split('/')
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (decoded(key), hive_value(value)))
        .collect()
}

fn hive_value(value: &str) -> Option<String> {
    (value != HIVE_NULL).then(|| decoded(value))
}

/// Undoes the percent-encoding with which hive writes characters that paths may not hold. What is not valid stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match code
            .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|code| u8::from_str_radix(code, 16).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn same_partitions(files: &[Listed]) -> Result<(), Failure> {
    let keys = |file: &Listed| file.partitions.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let Some(first) = files.first() else { return Ok(()) };
    match files.iter().find(|file| keys(file) != keys(first)) {
        Some(odd) => Err(sentence(format!(
            "file \"{}\" has the partitions [{}] and file \"{}\" has [{}]; a table's files have the same",
            first.name,
            keys(first).join(", "),
            odd.name,
            keys(odd).join(", "),
        ))),
        None => Ok(()),
    }
}

fn unknown_format(name: &str) -> String {
    format!("\"{name}\" has no extension that tells its format; set the key \"format\"")
}

/// `*` and `?` stay within a part of the path, `**` does not.
fn glob_pattern(glob: &str) -> Result<Regex, Failure> {
    let mut pattern = String::from("^");
    let mut rest = glob;
    while let Some(first) = rest.chars().next() {
        let (piece, used) = if rest.starts_with("**/") {
            ("(?:.*/)?".to_owned(), 3)
        } else if rest.starts_with("**") {
            (".*".to_owned(), 2)
        } else {
            match (first, rest.find(']')) {
                ('*', _) => ("[^/]*".to_owned(), 1),
                ('?', _) => ("[^/]".to_owned(), 1),
                ('[', Some(end)) if end > 1 => (class(&rest[1..end]), end + 1),
                _ => (regex::escape(&rest[..first.len_utf8()]), first.len_utf8()),
            }
        };
        pattern.push_str(&piece);
        rest = &rest[used..];
    }
    pattern.push('$');
    Regex::new(&pattern).map_err(|_| Error::config(format!("the table name {glob:?} is no valid pattern")).into())
}

fn class(inside: &str) -> String {
    let (negated, members) = match inside.strip_prefix('!') {
        Some(members) => ("^/", members),
        None => ("", inside),
    };
    let escaped: String = members
        .chars()
        .map(|c| if matches!(c, '\\' | '[' | '^' | '&' | '~') { format!("\\{c}") } else { c.to_string() })
        .collect();
    format!("[{negated}{escaped}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_stays_within_a_part_unless_doubled() {
        let matches = |glob: &str, name: &str| glob_pattern(glob).is_ok_and(|pattern| pattern.is_match(name));
        assert!(matches("orders/2024-*/part-*.parquet", "orders/2024-01/part-0.parquet"));
        assert!(!matches("orders/*.parquet", "orders/2024/part-0.parquet"));
        assert!(matches("orders/**/*.parquet", "orders/a/b/part-0.parquet"));
        assert!(matches("orders/**/*.parquet", "orders/part-0.parquet"));
        assert!(matches("a+b.[ch]sv", "a+b.csv") && !matches("a+b.[!c]sv", "a+b.csv"));
    }

    #[test]
    fn tables_that_share_a_stem_keep_their_whole_path() {
        let found = published(["b.csv", "a.csv", "a.parquet", "a/", "c.json.gz"].map(str::to_owned).into(), "root");
        let names: Vec<(&str, &str)> = found.iter().map(|table| (table.from.as_str(), table.name.as_str())).collect();
        assert_eq!(
            names,
            [("a.csv", "a.csv"), ("a.parquet", "a.parquet"), ("a/", "a/"), ("b.csv", "b"), ("c.json.gz", "c")]
        );
    }

    #[test]
    fn partitions_are_decoded_and_null_is_null() {
        let name = format!("sales/dt=2024-01-01/city=S%C3%A3o%20Paulo/x={HIVE_NULL}/a=b.csv");
        let expected = [("dt", Some("2024-01-01")), ("city", Some("São Paulo")), ("x", None)];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        assert_eq!(partitions(&name), expected);
    }

    #[test]
    fn path_that_leaves_the_source_is_refused() {
        for bad in ["/etc/passwd", "../x.csv", "a/../../b.csv"] {
            assert!(normalized(bad).is_err(), "{bad}");
        }
        assert_eq!(normalized("./a//b/").ok().as_deref(), Some("a/b/"));
        assert_eq!(normalized(".").ok().as_deref(), Some(""));
    }
}
