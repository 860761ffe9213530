//! The manifest's keys of the `files` connector, parsed once.

use std::fmt;
use std::time::Duration;

use headwater_source::{Error, OpenContext, OptionDef, OptionKind, Options, Result, ServiceName};

use super::discover::Format;
use super::store::{Place, StoreOptions};

/// The keys that may stand beside `connector: files`.
pub(super) const OPTIONS: &[OptionDef] = &[
    OptionDef {
        required: true,
        ..option(
            "url",
            OptionKind::Secret,
            "Where the files are: a directory (relative to the manifest), file://, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or abfss://container@account.dfs.core.windows.net/prefix.",
        )
    },
    option(
        "format",
        OptionKind::Word(&["parquet", "csv", "json", "arrow"]),
        "The format of every file. Default: by each file's extension.",
    ),
    option(
        "delimiter",
        OptionKind::Text,
        "CSV: the one-byte character between fields; \\t is a tab. Default: a comma, for .tsv a tab.",
    ),
    option("quote", OptionKind::Text, "CSV: the one-byte character around fields. Default: \"."),
    option(
        "escape",
        OptionKind::Text,
        "CSV: the one-byte escape character inside quotes. Default: none, a quote is doubled.",
    ),
    option(
        "header",
        OptionKind::Flag,
        "CSV: whether the first row names the columns. Default true; without it they are column_1, column_2, ...",
    ),
    option("null_value", OptionKind::Text, "CSV: a text that is read as NULL, beside the empty field."),
    option(
        "newlines_in_values",
        OptionKind::Flag,
        "CSV: whether quoted fields may hold line breaks. Default true; false lets one large file be read in parallel.",
    ),
    option(
        "infer_rows",
        OptionKind::Count,
        "CSV and JSON: how many of a file's first rows decide the columns' types. Default 10000.",
    ),
    option("region", OptionKind::Text, "S3: the region. Default: from the environment."),
    option("endpoint", OptionKind::Text, "S3, Azure and GCS: the URL of a compatible store."),
    option("allow_http", OptionKind::Flag, "Object stores: whether the endpoint may be plain http. Default false."),
    option("access_key_id", OptionKind::Secret, "S3: the access key. Default: from the environment."),
    option("secret_access_key", OptionKind::Secret, "S3: the secret key. Default: from the environment."),
    option("session_token", OptionKind::Secret, "S3: the session token of temporary credentials."),
    option("skip_signature", OptionKind::Flag, "Object stores: read anonymously. Default false."),
    option(
        "google_service_account",
        OptionKind::Text,
        "GCS: the path of a service account's JSON file. Default: from the environment.",
    ),
    option("azure_account", OptionKind::Text, "Azure: the storage account. Default: from the URL or the environment."),
    option("azure_key", OptionKind::Secret, "Azure: the storage account's key. Default: from the environment."),
    option(
        "connect_timeout_ms",
        OptionKind::Count,
        "Object stores: how long connecting may take, in milliseconds. Default 5000.",
    ),
    option(
        "statement_timeout_ms",
        OptionKind::Count,
        "How long reading one table may take, in milliseconds. Default 0: no limit.",
    ),
];

/// The connect timeout where the manifest gives none, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// How many rows decide the types of CSV and JSON where the manifest does not say.
const INFER_ROWS: u64 = 10_000;

const fn option(name: &'static str, kind: OptionKind, doc: &'static str) -> OptionDef {
    OptionDef { name, kind, required: false, doc }
}

/// A value that never prints.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

/// How CSV is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CsvDialect {
    /// The byte between fields; `None` for the extension's own.
    pub(super) delimiter: Option<u8>,
    /// The byte around fields.
    pub(super) quote: u8,
    /// The escape byte inside quotes.
    pub(super) escape: Option<u8>,
    /// Whether the first row names the columns.
    pub(super) header: bool,
    /// A text that is NULL.
    pub(super) null_value: Option<String>,
    /// Whether quoted fields may hold line breaks.
    pub(super) newlines_in_values: bool,
}

/// Everything that a manifest says of a files source.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// The service, for messages.
    pub(super) service: ServiceName,
    /// Where the files are.
    pub(super) place: Place,
    /// Keys of the store.
    pub(super) store: StoreOptions,
    /// The format of every file, where the manifest sets one.
    pub(super) format: Option<Format>,
    /// How CSV is written.
    pub(super) csv: CsvDialect,
    /// How many rows decide the types of CSV and JSON.
    pub(super) infer_rows: usize,
    /// How long a scan may take.
    pub(super) statement_timeout: Option<Duration>,
}

impl Config {
    /// Reads the options; I/O is left for later.
    pub(super) fn parse(context: OpenContext<'_>, options: &Options) -> Result<Self> {
        let url = options.text("url").unwrap_or_default();
        let infer_rows = options.count("infer_rows", INFER_ROWS);
        if infer_rows == 0 {
            return Err(Error::config("key \"infer_rows\" in \"source\" takes a whole number above 0"));
        }
        if options.text("endpoint").is_some_and(|endpoint| !plain_endpoint(endpoint)) {
            let reason = "key \"endpoint\" in \"source\" takes an http or https URL without user, password and query";
            return Err(Error::config(reason));
        }
        Ok(Self {
            service: context.service.clone(),
            place: Place::parse(url, context)?,
            store: store_options(context, options),
            format: options.text("format").and_then(Format::by_word),
            csv: CsvDialect {
                delimiter: byte(options, "delimiter")?,
                quote: byte(options, "quote")?.unwrap_or(b'"'),
                escape: byte(options, "escape")?,
                header: options.flag("header", true),
                null_value: options.text("null_value").map(str::to_owned),
                newlines_in_values: options.flag("newlines_in_values", true),
            },
            infer_rows: usize::try_from(infer_rows).unwrap_or(usize::MAX),
            statement_timeout: match options.count("statement_timeout_ms", 0) {
                0 => None,
                limit_ms => Some(Duration::from_millis(limit_ms)),
            },
        })
    }
}

fn store_options(context: OpenContext<'_>, options: &Options) -> StoreOptions {
    let text = |key: &str| options.text(key).map(str::to_owned);
    let secret = |key: &str| options.text(key).map(|value| Secret(value.to_owned()));
    StoreOptions {
        region: text("region"),
        endpoint: text("endpoint"),
        allow_http: options.flag("allow_http", false),
        access_key_id: secret("access_key_id"),
        secret_access_key: secret("secret_access_key"),
        session_token: secret("session_token"),
        skip_signature: options.flag("skip_signature", false),
        google_service_account: options.text("google_service_account").map(|path| context.resolve(path)),
        azure_account: text("azure_account"),
        azure_key: secret("azure_key"),
        connect_timeout: Duration::from_millis(options.count("connect_timeout_ms", CONNECT_TIMEOUT_MS)),
    }
}

/// Whether an endpoint is a URL that holds no credential, so that it may be printed.
fn plain_endpoint(endpoint: &str) -> bool {
    url::Url::parse(endpoint).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

fn byte(options: &Options, key: &str) -> Result<Option<u8>> {
    match options.text(key) {
        None => Ok(None),
        Some("\\t") => Ok(Some(b'\t')),
        Some(text) => match text.as_bytes() {
            [byte] if byte.is_ascii() => Ok(Some(*byte)),
            _ => Err(Error::config(format!("key \"{key}\" in \"source\" takes one ASCII character"))),
        },
    }
}
