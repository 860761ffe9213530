//! What can go wrong for the user of the engine.

use std::error::Error as StdError;
use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use headwater_federation::source_error;
use headwater_source::Error as SourceError;
use headwater_views::Error as ViewError;

use crate::Fault;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. [`Error::report`] is the message for a person, [`Error::kind`] what a program may decide by.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Manifests are wrong; nothing was opened.
    Manifests(Vec<Fault>),
    /// A source failed or refused.
    Source(SourceError),
    /// The statement is none that the engine runs.
    Refused {
        /// What was asked, with the object's name.
        what: String,
        /// Why it is refused and what to do.
        reason: String,
    },
    /// The query is wrong or failed; a source's error may be inside.
    Query(Box<DataFusionError>),
    /// A materialized view can't be defined or kept.
    View(Box<ViewError>),
    /// A materialized view is not as fresh as the session demands.
    Stale(String),
    /// The caller may not do this.
    Denied(String),
    /// The audit log can't be written, so nothing runs.
    Unaudited(String),
}

/// A limit of the engine that a query has passed. It travels through DataFusion as the other errors of a running query do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Passed {
    /// It ran for too long.
    Deadline { limit_ms: u64 },
    /// The system takes no more of what does not fit in memory.
    Spill { directory: String, reason: String },
    /// Too many run already.
    Queries { queries_max: usize, waiting: u64, waited_ms: u64 },
    /// Too many wait already for one of those to end.
    Waiting { queries_max: usize, queries_waiting_max: usize },
    /// Too many subscriptions are open already.
    Subscriptions { subscriptions_max: usize },
    /// What changed in a view since an epoch is not held any more.
    History { view: String, wanted: u64, since: u64, newest: u64 },
    /// An epoch was told by an engine that ended before what it told was kept.
    Lost { view: String, wanted: u64, newest: u64 },
    /// An epoch was never published.
    Unpublished { view: String, wanted: u64, newest: u64 },
    /// The view that was followed is gone.
    Dropped { view: String },
    /// What the caller may read is not what it was when the statement was planned.
    Rights,
}

/// What a program may decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement or the configuration is wrong: correct it.
    InvalidInput,
    /// A name is not known.
    NotFound,
    /// The statement is refused, or the source refuses access.
    Denied,
    /// A source can't be reached or went away: try again later.
    Unavailable,
    /// A limit in time was passed.
    Timeout,
    /// A limit in memory, or in how much runs at a time, was passed.
    ResourcesExhausted,
    /// The answer can't be computed from this data, as in a division by zero or a value that does not fit.
    Execution,
    /// The table changed after the query was planned: run it again.
    Changed,
    /// What was to be gone on from is not held any more: begin anew.
    HistoryGone,
    /// The engine does not do this.
    Unsupported,
    /// A defect of the engine.
    Internal,
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Manifests(_) => ErrorKind::InvalidInput,
            Self::Refused { .. } => ErrorKind::Denied,
            Self::Source(error) => source_kind(error),
            Self::Query(error) => Self::kind_of(error),
            Self::View(error) => view_kind(error),
            Self::Stale(_) | Self::Unaudited(_) => ErrorKind::Unavailable,
            Self::Denied(_) => ErrorKind::Denied,
        }
    }

    /// The kind of an error of a running query.
    pub(crate) fn kind_of(error: &DataFusionError) -> ErrorKind {
        match (source_error(error), passed(error)) {
            (Some(error), _) => source_kind(error),
            (None, Some(passed)) => passed.kind(),
            (None, None) if denied(error).is_some() => ErrorKind::Denied,
            (None, None) => query_kind(error),
        }
    }

    /// The source's error behind this one, where there is one.
    pub fn source_error(&self) -> Option<&SourceError> {
        match self {
            Self::Source(error) => Some(error),
            Self::Query(error) => source_error(error),
            _ => None,
        }
    }

    /// The message with its causes, for a person. One line, but for manifests: one line a fault.
    pub fn report(&self) -> String {
        match (self.source_error(), self) {
            (Some(error), _) => error.report(),
            (None, Self::View(error)) => error.report(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests(faults) => {
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Source(error) => error.fmt(f),
            Self::Refused { what, reason } => write!(f, "{what} is refused: {reason}"),
            Self::Query(error) if denied(error).is_some() => f.write_str(denied(error).unwrap_or_default()),
            Self::Query(error) => match (passed(error), used_up(error)) {
                (Some(limit), _) => limit.fmt(f),
                (None, Some(message)) => f.write_str(&exhausted(&message)),
                (None, None) => f.write_str(&error.strip_backtrace()),
            },
            Self::View(error) => error.fmt(f),
            Self::Stale(message) | Self::Denied(message) => f.write_str(message),
            Self::Unaudited(reason) => write!(
                f,
                "the audit log can't be written, and nothing runs without it: {reason}; make room for it, or tell who runs the server"
            ),
        }
    }
}

impl Passed {
    pub(crate) fn into_datafusion(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }

    pub(crate) fn into_error(self) -> Error {
        self.into_datafusion().into()
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Deadline { .. } => ErrorKind::Timeout,
            Self::Spill { .. } | Self::Queries { .. } | Self::Waiting { .. } | Self::Subscriptions { .. } => {
                ErrorKind::ResourcesExhausted
            }
            Self::History { .. } | Self::Lost { .. } | Self::Unpublished { .. } => ErrorKind::HistoryGone,
            Self::Dropped { .. } => ErrorKind::NotFound,
            Self::Rights => ErrorKind::Changed,
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline { limit_ms } => write!(
                f,
                "the query did not end within {limit_ms} ms; ask for less, or raise headwater.query_deadline of the session or \
                 query_deadline_ms in the engine's limits"
            ),
            Self::Spill { directory, reason } => write!(
                f,
                "the query needs more memory than there is for it, and can't spill to \"{directory}\": {reason}; ask for less, make room there, or set \
                 spill_directory in the engine's limits to another directory"
            ),
            Self::Queries { queries_max, waiting, waited_ms } => write!(
                f,
                "the engine runs {queries_max} queries already, with {waiting} waiting beside this one, whose turn did not come within {waited_ms} ms; try \
                 again later, or raise queries_max or query_wait_ms in its limits"
            ),
            Self::Waiting { queries_max, queries_waiting_max } => write!(
                f,
                "the engine runs {queries_max} queries already and {queries_waiting_max} wait for one of them to end; try again later, \
                 or raise queries_max or queries_waiting_max in its limits"
            ),
            Self::Subscriptions { subscriptions_max } => write!(
                f,
                "the engine has {subscriptions_max} subscriptions already; end one, or raise subscriptions_max in the options of views"
            ),
            Self::History { view, wanted, since, newest } => write!(
                f,
                "what changed in materialized view \"{view}\" after epoch {wanted} is not held any more, only what changed after epoch \
                 {since} (the newest is {newest}); begin anew with SUBSCRIBE TO {view} WITH SNAPSHOT"
            ),
            Self::Lost { view, wanted, newest } => write!(
                f,
                "what changed in materialized view \"{view}\" after epoch {wanted} is not known: the engine has started anew since, and what it told \
                 last was not kept (the newest is {newest}); begin anew with SUBSCRIBE TO {view} WITH SNAPSHOT"
            ),
            Self::Unpublished { view, wanted, newest } => write!(
                f,
                "epoch {wanted} was never published here, the newest is {newest}: it is of another engine, or its state is lost; begin \
                 anew with SUBSCRIBE TO {view} WITH SNAPSHOT"
            ),
            Self::Dropped { view } => {
                write!(
                    f,
                    "materialized view \"{view}\" was dropped or replaced; subscribe again where there is a new one"
                )
            }
            Self::Rights => f.write_str("what you may read has changed since the statement was planned; run it again"),
        }
    }
}

impl StdError for Passed {}

/// The limit of the engine inside a DataFusion error, however deep it is wrapped.
fn passed(error: &DataFusionError) -> Option<&Passed> {
    match error {
        DataFusionError::External(inner) => passed_inside(inner.as_ref()),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => passed(inner),
        DataFusionError::Shared(inner) => passed(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(passed),
        DataFusionError::ArrowError(inner, _) => passed_inside(inner.as_ref()),
        DataFusionError::IoError(inner) => passed_writing(inner),
        _ => None,
    }
}

/// The same inside a failure to write.
fn passed_writing(error: &std::io::Error) -> Option<&Passed> {
    passed_inside(error.get_ref()?)
}

/// What a caller may not do, where that is the error.
fn denied(error: &DataFusionError) -> Option<&str> {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(Error::Denied(message)) => Some(message),
            _ => None,
        },
        _ => None,
    }
}

fn passed_inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Passed> {
    if let Some(found) = error.downcast_ref::<Passed>() {
        return Some(found);
    }
    if let Some(found) = error.downcast_ref::<DataFusionError>() {
        return passed(found);
    }
    match error.downcast_ref::<ArrowError>() {
        Some(ArrowError::ExternalError(inner)) => passed_inside(inner.as_ref()),
        Some(ArrowError::IoError(_, inner)) => passed_writing(inner),
        _ => None,
    }
}

/// What DataFusion says of memory or room for spilling that is used up, where that is the error.
fn used_up(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(message) => Some(message.clone()),
        // The limit of spilling travels as a failure to write.
        root @ (DataFusionError::ArrowError(..) | DataFusionError::IoError(_)) => {
            let message = root.strip_backtrace();
            let start = message.find("The used disk space during the spilling process")?;
            Some(message[start..].to_owned())
        }
        _ => None,
    }
}

/// What DataFusion says when memory or room for spilling is used up, on one line, and what to do.
fn exhausted(message: &str) -> String {
    let said: Vec<&str> = message.split_whitespace().collect();
    // DataFusion's advice is a setting that no session may change here.
    let said =
        said.join(" ").replace(" Please try increasing the config: `datafusion.runtime.max_temp_directory_size`.", "");
    let key = if said.contains("disk space") || said.contains("DiskManager") { "spill_bytes" } else { "memory_bytes" };
    format!("the query needs more than its share: {said}; ask for less, or raise {key} in the engine's limits")
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => error.source(),
            Self::Query(error) if used_up(error).is_some() => None,
            Self::Query(error) => error.source(),
            Self::View(error) => error.source(),
            Self::Manifests(_) | Self::Refused { .. } | Self::Stale(_) | Self::Denied(_) | Self::Unaudited(_) => None,
        }
    }
}

impl From<Error> for DataFusionError {
    /// For an error that travels through a plan; what comes back out is the same.
    fn from(error: Error) -> Self {
        match error {
            Error::Query(error) => *error,
            Error::Source(error) => Self::External(Box::new(error)),
            other => Self::External(Box::new(other)),
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Query(Box::new(error))
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

fn view_kind(error: &ViewError) -> ErrorKind {
    match error {
        ViewError::Query { .. } | ViewError::Name { .. } | ViewError::DuplicateKey { .. } => ErrorKind::InvalidInput,
        ViewError::Memory { .. } => ErrorKind::ResourcesExhausted,
        ViewError::Evaluation(error) => Error::kind_of(error),
        _ => ErrorKind::Internal,
    }
}

fn source_kind(error: &SourceError) -> ErrorKind {
    match error {
        SourceError::Config { .. } => ErrorKind::InvalidInput,
        SourceError::Unavailable { .. } | SourceError::Interrupted { .. } => ErrorKind::Unavailable,
        SourceError::AccessDenied { .. } => ErrorKind::Denied,
        SourceError::TableNotFound { .. } => ErrorKind::NotFound,
        SourceError::SchemaChanged { .. } => ErrorKind::Changed,
        SourceError::Value { .. } | SourceError::Remote { .. } => ErrorKind::Execution,
        SourceError::Timeout { .. } => ErrorKind::Timeout,
        SourceError::Busy { .. } => ErrorKind::ResourcesExhausted,
        _ => ErrorKind::Internal,
    }
}

fn query_kind(error: &DataFusionError) -> ErrorKind {
    if used_up(error).is_some() {
        return ErrorKind::ResourcesExhausted;
    }
    match error.find_root() {
        DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }) => {
            ErrorKind::NotFound
        }
        DataFusionError::Plan(message) if message.starts_with("table '") => ErrorKind::NotFound,
        DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => {
            ErrorKind::InvalidInput
        }
        DataFusionError::Configuration(_) => ErrorKind::InvalidInput,
        DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => ErrorKind::Execution,
        _ => ErrorKind::Internal,
    }
}
