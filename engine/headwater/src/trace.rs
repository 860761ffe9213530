//! What a query did and when, for whoever traces queries.
//!
//! An engine that was built with an observer ([`EngineBuilder::observer`](crate::EngineBuilder::observer)) tells it of each statement once it is over: when it was planned and
//! run, and what each remote statement did meanwhile. Where there is no observer, nothing is kept. A trace holds no text of a query, no literal and no value.
//!
//! Who asked may have a trace of their own in which the query is a step: a session takes it from the program ([`Session::under`](crate::Session::under)), and a statement's
//! text may carry it as sqlcommenter writes it, in a comment at its beginning or its end.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use headwater_federation::{StatementTrace, StatementTraces};

use crate::{Caller, Error, ErrorKind};

/// Is told of each statement once it is over. Called where the query ends, so it must not wait for anything.
pub trait QueryObserver: Debug + Send + Sync {
    /// A statement is over.
    fn ended(&self, trace: QueryTrace);
}

/// A statement that is over.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueryTrace {
    /// The query's number, which logs call `query_id`.
    pub query: u64,
    /// What kind of statement it is, as in the audit log: `query`, `explain`, `set`; `statement` where that was not known yet.
    pub kind: &'static str,
    /// Who asked, where that is known.
    pub user: Option<String>,
    /// By which door they came; `None` is the program itself.
    pub door: Option<&'static str>,
    /// The step of the caller's own trace that it is part of.
    pub parent: Option<TraceParent>,
    /// When it was asked.
    pub started: SystemTime,
    /// Until it was planned, or failed to be.
    pub planned: Duration,
    /// From when it was asked until its answer began to be read; `None` where it never was.
    pub began: Option<Duration>,
    /// From when it was asked until it was over.
    pub took: Duration,
    /// Rows of the answer.
    pub rows: u64,
    /// How it ended.
    pub outcome: QueryOutcome,
    /// What went to the sources, in the order in which it was sent.
    pub statements: Vec<StatementTrace>,
    /// How many statements beyond those, which were too many.
    pub statements_left_out: u64,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryOutcome {
    /// Its last row was read.
    Complete,
    /// Nobody read on.
    Cancelled,
    /// It failed so.
    Failed(ErrorKind),
}

/// A step of a trace, as the W3C's `traceparent` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The step.
    pub span_id: [u8; 8],
    /// Whether whoever began the trace records it.
    pub is_sampled: bool,
}

/// A statement that was asked and is not over.
#[derive(Debug, Clone)]
pub(crate) struct Tracing {
    observer: Arc<dyn QueryObserver>,
    caller: Caller,
    parent: Option<TraceParent>,
    kind: &'static str,
    started: SystemTime,
    clock: Instant,
    planned: Option<Duration>,
    began: Option<Duration>,
    statements: Option<Arc<StatementTraces>>,
}

impl TraceParent {
    /// Reads `00-TRACE-SPAN-FLAGS`; `None` where it is not well-formed, as the W3C wants such a header to be taken for none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = hex::<1>(version)?;
        // A later version may have more parts.
        if version == 0xff || version == 0 && parts.next().is_some() {
            return None;
        }
        let (trace_id, span_id, [flags]) = (hex::<16>(trace)?, hex::<8>(span)?, hex::<1>(flags)?);
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }

    /// The one that a statement's text carries, as sqlcommenter writes it: `/*traceparent='00-...'*/`.
    pub fn of_statement(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == ';');
        let first = text.strip_prefix("/*").and_then(|rest| rest.split_once("*/")).map(|(comment, _)| comment);
        let last = text.strip_suffix("*/").and_then(|rest| rest.rsplit_once("/*")).map(|(_, comment)| comment);
        first.into_iter().chain(last).flat_map(|comment| comment.split(',')).find_map(|pair| {
            let value = pair.trim().strip_prefix("traceparent=")?;
            Self::parse(value.trim().strip_prefix('\'')?.strip_suffix('\'')?)
        })
    }
}

/// So many bytes in lower-case hexadecimal digits, as the W3C wants them.
fn hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl Tracing {
    /// A statement is asked now.
    pub(crate) fn new(observer: &Arc<dyn QueryObserver>, caller: &Caller, parent: Option<TraceParent>) -> Self {
        Self {
            observer: Arc::clone(observer),
            caller: caller.clone(),
            parent,
            kind: "statement",
            started: SystemTime::now(),
            clock: Instant::now(),
            planned: None,
            began: None,
            statements: None,
        }
    }

    /// It was planned, as a statement of this kind whose remote statements are told here.
    pub(crate) fn planned(mut self, kind: &'static str, statements: Option<Arc<StatementTraces>>) -> Self {
        self.planned = Some(self.clock.elapsed());
        Self { kind, statements, ..self }
    }

    /// Its answer begins to be read.
    pub(crate) fn began(mut self) -> Self {
        self.began = Some(self.clock.elapsed());
        self
    }

    /// It is over.
    pub(crate) fn ended(&self, query: u64, rows: u64, outcome: QueryOutcome) {
        let took = self.clock.elapsed();
        let (statements, statements_left_out) =
            self.statements.as_ref().map(|all| all.statements()).unwrap_or_default();
        self.observer.ended(QueryTrace {
            query,
            kind: self.kind,
            user: self.caller.name().map(str::to_owned),
            door: self.caller.door(),
            parent: self.parent,
            started: self.started,
            planned: self.planned.unwrap_or(took),
            began: self.began,
            took,
            rows,
            outcome,
            statements,
            statements_left_out,
        });
    }

    /// It failed before there was a row.
    pub(crate) fn failed(&self, query: u64, error: &Error) {
        self.ended(query, 0, QueryOutcome::Failed(error.kind()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn header_is_read_as_the_w3c_writes_it_and_anything_else_is_none() {
        let read = TraceParent::parse(WRITTEN).unwrap();
        assert_eq!((read.trace_id[0], read.span_id[7], read.is_sampled), (0x0a, 0x31, true));
        assert!(!TraceParent::parse(&WRITTEN.replace("-01", "-00")).unwrap().is_sampled);
        assert!(TraceParent::parse(&format!("{}-more", WRITTEN.replacen("00", "01", 1))).is_some());
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319\u{e9}-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn comment_at_either_end_of_a_statement_carries_it() {
        let expected = TraceParent::parse(WRITTEN);
        for text in [
            format!("/*traceparent='{WRITTEN}'*/ SELECT 1"),
            format!("SELECT 1 /*action='show',traceparent='{WRITTEN}',tracestate='a%3Db'*/ ;\n"),
            format!("/* hint */ SELECT 1 /* traceparent='{WRITTEN}' */"),
        ] {
            assert_eq!(TraceParent::of_statement(&text), expected, "{text}");
        }
        for text in [
            "SELECT 1",
            "/*",
            "*/",
            "/*/",
            "/**/",
            "SELECT '/*traceparent='",
            &format!("SELECT '/*traceparent=''{WRITTEN}''*/'"),
        ] {
            assert_eq!(TraceParent::of_statement(text), None, "{text}");
        }
    }
}
