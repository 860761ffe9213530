//! From a statement that is over to its spans.
//!
//! One span for the statement, of the trace that its client said or of one of its own; beneath it one for its planning, one for its execution, and beneath that one for
//! each remote statement. Attributes are named as OpenTelemetry's conventions for databases have them, and `headwater.*` where those have no name. docs/operations.md lists them.
//!
//! Invariant: no text of a client and no value is in them. `db.query.text` is what goes to a source, with its placeholders.

use std::time::{Duration, SystemTime};

use headwater::{QueryObserver, QueryOutcome, QueryTrace, StatementOutcome, StatementTrace, TraceParent};
use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

/// A longer statement is cut: one with thousands of placeholders says no more.
const TEXT_BYTES_MAX: usize = 4_096;

/// Makes spans of the statements of an engine.
#[derive(Debug)]
pub(super) struct Spans {
    tracer: SdkTracer,
}

impl Spans {
    pub(super) fn new(tracer: SdkTracer) -> Self {
        Self { tracer }
    }

    /// A span that began and ended so; what is beneath it takes its context.
    fn span(&self, parent: &Context, made: Made) -> Context {
        let Made { name, kind, start, end, attributes, status } = made;
        let builder = self.tracer.span_builder(name).with_kind(kind).with_start_time(start).with_attributes(attributes);
        let mut span = builder.start_with_context(&self.tracer, parent);
        span.set_status(status);
        span.end_with_timestamp(end);
        Context::new().with_remote_span_context(span.span_context().clone())
    }

    fn statement(&self, parent: &Context, statement: StatementTrace) {
        let end = statement.started + statement.took;
        let status = match statement.outcome {
            StatementOutcome::Complete | StatementOutcome::Cancelled => Status::Unset,
            StatementOutcome::Failed(class) => Status::error(class),
        };
        let made = Made {
            name: format!("{} {}", system(statement.system), statement.service),
            kind: SpanKind::Client,
            start: statement.started,
            end,
            attributes: of_statement(statement),
            status,
        };
        self.span(parent, made);
    }
}

/// What a span is made of.
struct Made {
    name: String,
    kind: SpanKind,
    start: SystemTime,
    end: SystemTime,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl QueryObserver for Spans {
    fn ended(&self, trace: QueryTrace) {
        let at = |since: Duration| trace.started + since;
        let parent = trace.parent.map_or_else(Context::new, remote);
        let status = match trace.outcome {
            QueryOutcome::Complete | QueryOutcome::Cancelled => Status::Unset,
            QueryOutcome::Failed(kind) => Status::error(format!("{kind:?}")),
        };
        let made = |name: &str, start, end| Made {
            name: name.to_owned(),
            kind: SpanKind::Internal,
            start,
            end,
            attributes: vec![],
            status: Status::Unset,
        };
        let whole = Made {
            kind: SpanKind::Server,
            attributes: of_query(&trace),
            status,
            ..made(trace.kind, trace.started, at(trace.took))
        };
        let whole = self.span(&parent, whole);
        if !whole.span().span_context().is_sampled() {
            return;
        }
        self.span(&whole, made("planning", trace.started, at(trace.planned)));
        let Some(began) = trace.began else { return };
        let execution = self.span(&whole, made("execution", at(began), at(trace.took)));
        for statement in trace.statements {
            self.statement(&execution, statement);
        }
    }
}

/// The step of a client's own trace.
fn remote(parent: TraceParent) -> Context {
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_bytes(parent.trace_id), SpanId::from_bytes(parent.span_id));
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn of_query(trace: &QueryTrace) -> Vec<KeyValue> {
    let (outcome, error) = match trace.outcome {
        QueryOutcome::Complete => ("complete", None),
        QueryOutcome::Cancelled => ("cancelled", None),
        QueryOutcome::Failed(kind) => ("failed", Some(format!("{kind:?}"))),
    };
    let mut attributes = vec![
        KeyValue::new("headwater.query_id", count(trace.query)),
        KeyValue::new("headwater.statement_kind", trace.kind),
        KeyValue::new("headwater.door", trace.door.unwrap_or("program")),
        KeyValue::new("headwater.outcome", outcome),
        KeyValue::new("headwater.remote_statements", count(trace.statements.len() as u64 + trace.statements_left_out)),
        KeyValue::new("db.response.returned_rows", count(trace.rows)),
    ];
    attributes.extend(trace.user.clone().map(|user| KeyValue::new("user.name", user)));
    attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
    attributes
}

fn of_statement(statement: StatementTrace) -> Vec<KeyValue> {
    let (outcome, error) = match statement.outcome {
        StatementOutcome::Complete => ("complete", None),
        StatementOutcome::Cancelled => ("cancelled", None),
        StatementOutcome::Failed(class) => ("failed", Some(class)),
    };
    let mut text = statement.text;
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    let mut attributes = vec![
        KeyValue::new("db.system.name", system(statement.system)),
        KeyValue::new("db.query.text", text),
        KeyValue::new("db.response.returned_rows", count(statement.rows)),
        KeyValue::new("headwater.service", statement.service),
        KeyValue::new("headwater.tables", statement.tables),
        KeyValue::new("headwater.bytes", count(statement.bytes)),
        KeyValue::new("headwater.outcome", outcome),
    ];
    if let Some((address, port)) = server(&statement.location) {
        attributes.push(KeyValue::new("server.address", address));
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    }
    attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
    attributes
}

/// What OpenTelemetry calls a kind of source.
fn system(source: &str) -> String {
    match source {
        "Postgres" => "postgresql".to_owned(),
        other => other.to_lowercase(),
    }
}

/// Host and port of a location that has them, as `postgres://reader@db.example:5432/shop` does: the first of several. Nothing else of it is told.
fn server(location: &str) -> Option<(String, Option<u16>)> {
    let (_, rest) = location.split_once("://")?;
    let authority = rest.split('/').next()?;
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let first = hosts.split(',').next().filter(|first| !first.is_empty())?;
    match first.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => {
            port.parse().map_or_else(|_| Some((first.to_owned(), None)), |port| Some((host.to_owned(), Some(port))))
        }
        _ => Some((first.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_is_told_without_who_reads_it() {
        let of = |location: &str| server(location).map(|(host, port)| format!("{host} {port:?}"));
        assert_eq!(of("postgres://ann@db.example:6432,other:5432/shop").as_deref(), Some("db.example Some(6432)"));
        assert_eq!(of("mysql://us@er@db.example:3307/sh op").as_deref(), Some("db.example Some(3307)"));
        assert_eq!(of("s3://bucket/folder/").as_deref(), Some("bucket None"));
        assert_eq!(of("postgres://ann@[::1]:5432/shop").as_deref(), Some("[::1] Some(5432)"));
        assert_eq!(of("postgres://ann@/run/postgresql:5432/shop"), None);
        assert_eq!(of("/data/shop.db"), None);
    }
}
