//! One connection: messages out, answers in, prepared statements by their text.
//!
//! Statements go out in one write that ends with a Sync, and their answers are read in their order; so a scan is one round trip. The
//! stream is read where rows are decoded, by the task that decodes them.
//!
//! Invariant: `owed` counts the ReadyForQuery messages that are still to come. A connection is at rest when it owes none; whoever
//! uses it next first reads what its last user left.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use futures::FutureExt;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::types::{Oid, Type};

use super::answer::{Fault, Row, ServerError, column_types, fields};
use super::bind::Parameter;
use super::handshake::Canceller;
use super::input;
use super::prepared::{Named, New, Statements};
use crate::buffer::Buffer;

/// What a connection reads from and writes to.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for S {}

/// A connection.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    pub(super) input: Buffer,
    output: BytesMut,
    owed: usize,
    statements: Statements,
    /// Whether a transaction was open when the server was last ready.
    in_transaction: bool,
    /// Whether an error came, and ReadyForQuery not yet.
    refused: bool,
    broken: bool,
    canceller: Canceller,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Duplex>, canceller: Canceller) -> Self {
        Self {
            stream,
            input: Buffer::new(),
            output: BytesMut::new(),
            owed: 0,
            statements: Statements::default(),
            in_transaction: false,
            refused: false,
            broken: false,
            canceller,
        }
    }

    /// What stops the statement that it runs.
    pub(super) fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Whether a statement may run on it.
    pub(super) fn is_busy(&self) -> bool {
        !self.broken && self.owed > 0
    }

    /// Whether a transaction is open on it.
    pub(super) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Whether the last that came was an error of the server, which then runs nothing more of what it was asked.
    pub(super) fn was_refused(&self) -> bool {
        self.refused
    }

    /// Whether nothing runs on it, and nothing is about to.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.broken && self.owed == 0 && !self.in_transaction && self.output.is_empty()
    }

    /// Whether it cannot be used any more, as far as is known without asking the server. A server that ended the connection has said
    /// so, or closed it.
    pub(super) fn is_closed(&mut self) -> bool {
        while !self.broken && self.owed == 0 {
            let mut cx = Context::from_waker(Waker::noop());
            match self.poll_fill(&mut cx) {
                Poll::Ready(Ok(())) => match self.skip_notices() {
                    Ok(()) => {}
                    Err(_) => self.broken = true,
                },
                Poll::Ready(Err(_)) => self.broken = true,
                Poll::Pending => break,
            }
        }
        self.broken
    }

    /// What a server says unasked: notices, changed settings, and why it ends the connection.
    fn skip_notices(&mut self) -> Result<(), Fault> {
        while let Some((tag, body)) = input::next(&mut self.input)? {
            if self.takes(tag, &body)? {
                return Err(Fault::Malformed("an answer without a question"));
            }
        }
        Ok(())
    }

    /// Runs statements without results, by the simple protocol.
    pub(super) async fn simple(&mut self, text: &str) -> Result<(), Fault> {
        self.settle().await?;
        frontend::query(text, &mut self.output)?;
        self.owed += 1;
        self.flush().await?;
        self.settle().await
    }

    /// Runs a command of replication by the simple protocol; its rows, each column as text. The first error is told at the end.
    pub(super) async fn command(&mut self, text: &str) -> Result<Vec<Vec<Option<String>>>, Fault> {
        self.settle().await?;
        frontend::query(text, &mut self.output)?;
        self.owed += 1;
        self.flush().await?;
        let (mut rows, mut first) = (vec![], None);
        while self.owed > 0 {
            match self.receive().await {
                Ok((b'D', body)) => rows.push(texts(body)?),
                Ok(_) => {}
                Err(error @ Fault::Server(_)) => first = first.or(Some(error)),
                Err(error) => return Err(first.unwrap_or(error)),
            }
        }
        first.map_or(Ok(rows), Err)
    }

    /// Runs a command after which both sides send copy data until the connection ends.
    pub(super) async fn copy_both(&mut self, text: &str) -> Result<(), Fault> {
        self.settle().await?;
        frontend::query(text, &mut self.output)?;
        self.owed += 1;
        self.flush().await?;
        match self.receive().await {
            Ok((b'W', _)) => Ok(()),
            Ok(_) => Err(Fault::Malformed("no stream of changes")),
            Err(error) => {
                // What was refused leaves the connection ready for another command.
                self.settle().await?;
                Err(error)
            }
        }
    }

    /// Sends copy data.
    pub(super) async fn send_copy(&mut self, data: &[u8]) -> Result<(), Fault> {
        frontend::CopyData::new(data)?.write(&mut self.output);
        self.flush().await
    }

    /// Rows of a query of the catalog, its parameters text.
    pub(super) async fn query(&mut self, text: &str, parameters: &[&str]) -> Result<Vec<Row>, Fault> {
        self.settle().await?;
        let named = self.prepare(text)?;
        self.bind_text("", &named, parameters)?;
        self.execute("")?;
        self.sync();
        self.flush().await?;
        self.rows_of(text, named).await
    }

    /// Rows of two queries with the same parameters, in one round trip. One that the server refuses leaves the other.
    #[allow(clippy::type_complexity, reason = "each of the two is what a query yields")]
    pub(super) async fn query_both(
        &mut self,
        texts: [&str; 2],
        parameters: &[&str],
    ) -> Result<(Result<Vec<Row>, Fault>, Result<Vec<Row>, Fault>), Fault> {
        self.settle().await?;
        let mut asked = Vec::with_capacity(texts.len());
        for text in texts {
            let named = self.prepare(text)?;
            self.bind_text("", &named, parameters)?;
            self.execute("")?;
            self.sync();
            asked.push(named);
        }
        self.flush().await?;
        let [first, second] = texts;
        let mut named = asked.into_iter();
        let mut rows = async |text| match named.next() {
            Some(named) => self.rows_of(text, named).await,
            None => Ok(vec![]),
        };
        Ok((rows(first).await, rows(second).await))
    }

    /// Reads the rows of a query and that the server is ready for the next.
    async fn rows_of(&mut self, text: &str, named: Named) -> Result<Vec<Row>, Fault> {
        let rows = match self.described(text, named).await {
            Ok(columns) => self.bound_rows(&columns).await,
            Err(fault) => Err(fault),
        };
        if let Err(lost @ (Fault::Io(_) | Fault::Malformed(_) | Fault::Bind(_))) = rows {
            return Err(lost);
        }
        while self.receive().await?.0 != b'Z' {}
        rows
    }

    /// Sees that the server knows a statement. Where it does not yet, the answer begins with what [`Self::described`] reads.
    pub(super) fn prepare(&mut self, text: &str) -> Result<Named, Fault> {
        if let Some(named) = self.statements.find(text) {
            return Ok(named);
        }
        let New { named, closed } = self.statements.add(text);
        for name in closed {
            frontend::close(b'S', &name, &mut self.output)?;
        }
        frontend::parse(&named.name, text, [], &mut self.output)?;
        frontend::describe(b'S', &named.name, &mut self.output)?;
        Ok(named)
    }

    /// Drops what the server may no longer be able to run, so that it is prepared anew.
    pub(super) fn forget(&mut self, text: &str) -> Result<(), Fault> {
        match self.statements.remove(text) {
            Some(name) => Ok(frontend::close(b'S', &name, &mut self.output)?),
            None => Ok(()),
        }
    }

    /// Binds values to a statement, as the portal `portal`. Results are asked for in binary.
    pub(super) fn bind(&mut self, portal: &str, named: &Named, values: &[Parameter]) -> Result<(), Fault> {
        let formats = values.iter().map(Parameter::format);
        let write = |value: &Parameter, out: &mut BytesMut| {
            value.write(out)?;
            Ok(postgres_protocol::IsNull::No)
        };
        let place = self.output.len();
        frontend::bind(portal, &named.name, formats, values, write, [1], &mut self.output).map_err(|error| {
            self.output.truncate(place);
            unbound(error)
        })
    }

    fn bind_text(&mut self, portal: &str, named: &Named, values: &[&str]) -> Result<(), Fault> {
        let write = |value: &&str, out: &mut BytesMut| {
            out.extend_from_slice(value.as_bytes());
            Ok(postgres_protocol::IsNull::No)
        };
        frontend::bind(portal, &named.name, [0], values, write, [1], &mut self.output).map_err(unbound)
    }

    /// Runs a portal to its end.
    pub(super) fn execute(&mut self, portal: &str) -> Result<(), Fault> {
        Ok(frontend::execute(portal, 0, &mut self.output)?)
    }

    /// Prepares, binds and runs a statement without values.
    pub(super) fn run(&mut self, text: &str) -> Result<Named, Fault> {
        let named = self.prepare(text)?;
        self.bind("", &named, &[])?;
        self.execute("")?;
        Ok(named)
    }

    /// The same of a statement with parameters, which are text.
    pub(super) fn run_with(&mut self, text: &str, parameters: &[&str]) -> Result<Named, Fault> {
        let named = self.prepare(text)?;
        self.bind_text("", &named, parameters)?;
        self.execute("")?;
        Ok(named)
    }

    /// Runs a statement of which there will be no second, without results.
    pub(super) fn run_once(&mut self, text: &str) -> Result<(), Fault> {
        frontend::parse("", text, [], &mut self.output)?;
        self.statements.add_unnamed();
        self.bind("", &Named { name: String::new(), columns: Some(vec![]) }, &[])?;
        self.execute("")
    }

    /// Ends a row of statements: after an error the server goes on here.
    pub(super) fn sync(&mut self) {
        frontend::sync(&mut self.output);
        self.owed += 1;
    }

    /// Sends what was asked for.
    pub(super) async fn flush(&mut self) -> Result<(), Fault> {
        let sent = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        if let Err(error) = sent.await {
            self.broken = true;
            return Err(error.into());
        }
        self.output.clear();
        Ok(())
    }

    /// Sends as much as goes without waiting, for those who cannot wait; whether that was all.
    pub(super) fn flush_now(&mut self) -> bool {
        matches!(self.flush().now_or_never(), Some(Ok(())))
    }

    /// The next message that answers something. An error of the server is an error here.
    pub(super) async fn receive(&mut self) -> Result<(u8, &[u8]), Fault> {
        loop {
            match input::next(&mut self.input)? {
                None => self.fill().await?,
                Some((tag, body)) => {
                    if self.takes(tag, &body)? {
                        return Ok((tag, self.input.body(body)));
                    }
                }
            }
        }
    }

    /// Takes notice of a message; whether it answers something. An error of the server is an error here.
    pub(super) fn takes(&mut self, tag: u8, body: &Range<usize>) -> Result<bool, Fault> {
        match tag {
            b'N' | b'S' | b'A' => return Ok(false),
            b'E' => {
                let error = ServerError::parse(self.input.body(body.clone()));
                self.refused = true;
                self.statements.refused();
                return Err(Fault::Server(error));
            }
            b'Z' => {
                self.owed = self.owed.saturating_sub(1);
                self.in_transaction = self.input.body(body.clone()) != b"I";
                self.refused = false;
            }
            b'1' => self.statements.confirmed(),
            _ => {}
        }
        Ok(true)
    }

    /// Reads until the server has answered everything. The first error on the way is told at the end.
    pub(super) async fn settle(&mut self) -> Result<(), Fault> {
        let mut first = None;
        while self.owed > 0 {
            match self.receive().await {
                Ok(_) => {}
                Err(error @ Fault::Server(_)) => first = first.or(Some(error)),
                Err(error) => return Err(first.unwrap_or(error)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// The types that a statement yields: known, or now told by the server.
    pub(super) async fn described(&mut self, text: &str, named: Named) -> Result<Vec<Oid>, Fault> {
        if let Some(columns) = named.columns {
            return Ok(columns);
        }
        loop {
            let columns = match self.receive().await? {
                // Of a statement that was closed, parsed, and its parameters.
                (b'3' | b'1' | b't', _) => continue,
                (b'T', body) => column_types(body)?,
                (b'n', _) => vec![],
                _ => return Err(Fault::Malformed("no description of a statement")),
            };
            self.statements.describe(text, &columns);
            return Ok(columns);
        }
    }

    /// Reads that a portal was bound.
    pub(super) async fn bound(&mut self) -> Result<(), Fault> {
        loop {
            match self.receive().await?.0 {
                b'3' | b'1' => {}
                b'2' => return Ok(()),
                _ => return Err(Fault::Malformed("no answer to Bind")),
            }
        }
    }

    /// Reads that a portal was bound, and all of its rows.
    pub(super) async fn bound_rows(&mut self, columns: &[Oid]) -> Result<Vec<Row>, Fault> {
        self.bound().await?;
        // Types that the driver does not know by their number are read as text is.
        let types = columns.iter().map(|oid| Type::from_oid(*oid).unwrap_or(Type::TEXT));
        let types: Arc<[Type]> = types.collect();
        let mut rows = vec![];
        loop {
            match self.receive().await? {
                (b'D', body) => rows.push(Row::new(&types, body)),
                (b'C' | b'I', _) => return Ok(rows),
                _ => return Err(Fault::Malformed("no row and no end of rows")),
            }
        }
    }

    /// Reads that a statement without results ran.
    pub(super) async fn ran(&mut self, text: &str, named: Named) -> Result<(), Fault> {
        let columns = self.described(text, named).await?;
        self.bound_rows(&columns).await.map(|_| ())
    }

    /// Reads what [`Self::run_once`] asked for.
    pub(super) async fn ran_once(&mut self) -> Result<(), Fault> {
        self.bound_rows(&[]).await.map(|_| ())
    }

    /// Waits for bytes.
    pub(super) async fn fill(&mut self) -> Result<(), Fault> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let mut room = ReadBuf::new(self.input.room());
        let read = match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read.map(|()| room.filled().len()),
        };
        match read {
            Ok(0) => {
                self.broken = true;
                Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()))
            }
            Ok(count) => {
                self.input.read(count);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.broken = true;
                Poll::Ready(Err(error.into()))
            }
        }
    }
}

/// Says goodbye where that needs no waiting, so that the server need not find out.
impl Drop for Wire {
    fn drop(&mut self) {
        if !self.broken && self.owed == 0 {
            self.output.clear();
            frontend::terminate(&mut self.output);
            self.flush_now();
        }
    }
}

/// The columns of a row as text.
fn texts(body: &[u8]) -> Result<Vec<Option<String>>, Fault> {
    let text = |field: Option<&[u8]>| field.map(|field| String::from_utf8_lossy(field).into_owned());
    Ok(fields(body)?.map(text).collect())
}

fn unbound(error: frontend::BindError) -> Fault {
    match error {
        frontend::BindError::Conversion(error) => Fault::Bind(error.to_string()),
        frontend::BindError::Serialization(error) => Fault::Bind(error.to_string()),
    }
}
