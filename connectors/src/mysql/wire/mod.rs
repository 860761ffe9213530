//! One connection: commands out, answers in, prepared statements by their text.
//!
//! A command is one packet, or several; a result is a packet for each column, one for each row, and an end. Rows of a prepared
//! statement stay in the buffer that they were read to, where whoever asked decodes them.
//!
//! Sources: the pages "Connection", "COM_STMT_EXECUTE" and "Resultset row" of MariaDB's protocol; MySQL's are the same. Greeting, columns,
//! parameters and the rows of small questions are read and written by `mysql_common`.
//!
//! Invariant: a connection is at rest when all of what it was asked is answered and read. One that is not, because whoever waited went away, takes no command.

mod form;
mod handshake;
mod input;

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use lru::LruCache;
use mysql_common::io::ParseBuf;
use mysql_common::packets::Column;
use mysql_common::params::Params;
use mysql_common::proto::{Binary, MyDeserialize, Text};
use mysql_common::row::convert::FromRow;
use mysql_common::row::{Row, RowDeserializer};
use mysql_common::value::{ServerSide, Value};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use self::form::execution;
pub(super) use self::form::{failure, lenenc, split};
use self::handshake::Version;
pub(super) use self::handshake::{connect, is_tls_refused};
use self::input::{PART_BYTES_MAX, Packet};
use crate::buffer::Buffer;

/// How many statements a connection keeps; the one that was not used for longest goes first.
const STATEMENTS_MAX: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// A longer text is not kept.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// What a connection may be asked.
mod command {
    pub(super) const QUIT: u8 = 0x01;
    pub(super) const QUERY: u8 = 0x03;
    pub(super) const PING: u8 = 0x0e;
    pub(super) const PREPARE: u8 = 0x16;
    pub(super) const EXECUTE: u8 = 0x17;
    pub(super) const CLOSE: u8 = 0x19;
}

/// In the place of a statement's number: the one that was prepared before, if it was. MariaDB knows it.
const LAST_PREPARED: u32 = u32::MAX;

/// What the first packet of an answer to a command of one packet is numbered.
const FIRST_ANSWER: u8 = 1;

/// How many values go with a statement whose number is not known, and how many bytes of text.
const AT_ONCE_VALUES_MAX: usize = 128;
const AT_ONCE_BYTES_MAX: usize = 8 << 10;

/// How much room for commands is kept.
const OUTPUT_BYTES: usize = 64 << 10;

const OK: u8 = 0;
const EOF: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// A longer packet that begins like an end is a row.
const EOF_BYTES_MAX: usize = 8;
/// In the state that an end tells: another result follows.
const MORE_RESULTS: u16 = 8;

/// What a connection reads from and writes to.
trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for S {}

/// A connection.
pub(super) struct Conn {
    stream: Box<dyn Duplex>,
    input: Buffer,
    output: Vec<u8>,
    /// The number of the next packet that is sent.
    number: u8,
    /// The number of the next packet that comes.
    expected: u8,
    /// The server's number for the connection.
    id: u32,
    version: Version,
    /// How many answers are still to come.
    owed: usize,
    is_broken: bool,
    statements: LruCache<String, Statement>,
}

/// A statement that the server keeps for a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement {
    id: u32,
    parameters: u16,
}

/// Why a connection does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("ERROR {code} ({state}): {message}")]
    Server { code: u16, state: String, message: String },
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the server sent {0}")]
    Malformed(&'static str),
    /// Who one is can't be said in the way that the server asks for.
    #[error("{0}")]
    Refused(String),
    #[error("the server offers no TLS: its SSL is off")]
    NoTls,
    #[error("the host's name is none that a certificate bears")]
    NoName,
    #[error("a statement of {wanted} parameters was given {given}")]
    Parameters { wanted: usize, given: usize },
}

/// What a question of the catalog or of a setting yields.
pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<&'static str> for Failure {
    fn from(what: &'static str) -> Self {
        Self::Malformed(what)
    }
}

impl Failure {
    /// The server's number of its error.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl Conn {
    fn new(stream: Box<dyn Duplex>) -> Self {
        Self {
            stream,
            input: Buffer::new(),
            output: vec![],
            number: 0,
            expected: 0,
            id: 0,
            version: (0, 0, 0),
            // The greeting, and whatever follows until one is let in.
            owed: 1,
            is_broken: false,
            statements: LruCache::new(STATEMENTS_MAX),
        }
    }

    /// The server's number for the connection.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn server_version(&self) -> Version {
        self.version
    }

    /// Whether nothing of an answer is to come, and it may be asked again.
    pub(super) fn is_at_rest(&self) -> bool {
        self.owed == 0 && !self.is_broken
    }

    /// Whether a statement may be executed with these values before the server has told its number. With few and short values: what is sent and the answers that
    /// nobody reads meanwhile, one packet for each value, must lie between the two sides, or both would wait for the other to read.
    pub(super) fn takes_at_once(&self, values: &[Value]) -> bool {
        let bytes = |value: &Value| if let Value::Bytes(bytes) = value { bytes.len() } else { 0 };
        let is_short =
            values.len() <= AT_ONCE_VALUES_MAX && values.iter().map(bytes).sum::<usize>() <= AT_ONCE_BYTES_MAX;
        is_short && self.version >= (10, 2, 0)
    }

    /// Asks whether the server is there.
    pub(super) async fn ping(&mut self) -> Result<()> {
        self.ask(&[command::PING]).await?;
        let body = self.answer().await?;
        match self.body(body.clone()).first() {
            Some(&OK) => self.done(body),
            _ => Err(self.malformed("no answer to whether it is there")),
        }
    }

    /// Runs a statement; rows that it yields are read and forgotten.
    pub(super) async fn query_drop(&mut self, text: impl AsRef<str>) -> Result<()> {
        self.send_query(text.as_ref()).await?;
        if self.columns().await?.is_some() {
            while self.row().await?.is_some() {}
        }
        Ok(())
    }

    /// The rows of a statement without parameters, whose values come as text.
    pub(super) async fn query<T: FromRow>(&mut self, text: impl AsRef<str>) -> Result<Vec<T>> {
        self.send_query(text.as_ref()).await?;
        self.rows::<RowDeserializer<ServerSide, Text>, T>().await
    }

    /// Its first row.
    pub(super) async fn query_first<T: FromRow>(&mut self, text: impl AsRef<str>) -> Result<Option<T>> {
        Ok(self.query(text).await?.into_iter().next())
    }

    /// The rows of a statement with parameters.
    pub(super) async fn exec<T: FromRow>(
        &mut self,
        text: impl AsRef<str>,
        params: impl Into<Params>,
    ) -> Result<Vec<T>> {
        let values = match params.into() {
            Params::Positional(values) => values,
            Params::Empty | Params::Named(_) => vec![],
        };
        let statement = self.prepared(text.as_ref()).await?;
        self.send_execute(statement, &values).await?;
        self.rows::<RowDeserializer<ServerSide, Binary>, T>().await
    }

    /// Its first row.
    pub(super) async fn exec_first<T: FromRow>(
        &mut self,
        text: impl AsRef<str>,
        params: impl Into<Params>,
    ) -> Result<Option<T>> {
        Ok(self.exec(text, params).await?.into_iter().next())
    }

    /// Whether a text is worth being kept: one that is very long is one of many that differ in the number of their placeholders.
    pub(super) fn keeps(text: &str) -> bool {
        text.len() <= TEXT_BYTES_MAX
    }

    /// Has the server keep a statement, under its text, for as long as there are not too many.
    pub(super) async fn prepared(&mut self, text: &str) -> Result<Statement> {
        if let Some(statement) = self.statements.get(text) {
            return Ok(*statement);
        }
        let statement = self.prepare(text).await?;
        if let Some((_, forgotten)) = self.statements.push(text.to_owned(), statement) {
            self.close(forgotten);
        }
        Ok(statement)
    }

    /// Has the server keep a statement until it is [closed](Self::close).
    pub(super) async fn prepare(&mut self, text: &str) -> Result<Statement> {
        self.ask(&[&[command::PREPARE], text.as_bytes()].concat()).await?;
        self.kept().await
    }

    /// Reads which statement the server keeps.
    async fn kept(&mut self) -> Result<Statement> {
        let body = self.answer().await?;
        let (statement, columns) = match *self.body(body) {
            [OK, a, b, c, d, columns_low, columns_high, low, high, ..] => {
                let statement =
                    Statement { id: u32::from_le_bytes([a, b, c, d]), parameters: u16::from_le_bytes([low, high]) };
                (statement, u16::from_le_bytes([columns_low, columns_high]))
            }
            _ => return Err(Failure::Malformed("no answer to a statement that is prepared")),
        };
        // They are described again with each result.
        for described in [statement.parameters, columns] {
            // An end stands behind them.
            for _ in 0..if described > 0 { u32::from(described) + 1 } else { 0 } {
                self.packet().await?;
            }
        }
        self.answered();
        Ok(statement)
    }

    /// Asks for the rows of statements without parameters, has the server keep one with parameters, and executes that, in one round trip. The answers are
    /// to be read in this order: [`Self::asked_rows`] of each, then [`Self::kept_and_executed`].
    pub(super) async fn ask_at_once(&mut self, questions: &[String], text: &str, values: &[Value]) -> Result<()> {
        self.check_rest()?;
        for question in questions {
            self.queue_command(&[&[command::QUERY], question.as_bytes()].concat());
        }
        self.queue_command(&[&[command::PREPARE], text.as_bytes()].concat());
        self.queue_command(&execution(LAST_PREPARED, values));
        self.owed = questions.len() + 2;
        self.flush().await
    }

    /// The rows of the next statement that was asked for at once with others.
    pub(super) async fn asked_rows<T: FromRow>(&mut self) -> Result<Vec<T>> {
        self.rows::<RowDeserializer<ServerSide, Text>, T>().await
    }

    /// The statement that is kept, and the columns of its rows.
    pub(super) async fn kept_and_executed(&mut self, values: &[Value]) -> Result<(Statement, Arc<[Column]>)> {
        let statement = self.kept().await?;
        statement.check(values)?;
        Ok((statement, self.columns().await?.unwrap_or_default()))
    }

    /// Executes a statement; the columns of its rows, which are then read one by one.
    pub(super) async fn execute(&mut self, statement: Statement, values: &[Value]) -> Result<Arc<[Column]>> {
        self.send_execute(statement, values).await?;
        Ok(self.columns().await?.unwrap_or_default())
    }

    /// Where the next row of a result is; `None` at its end.
    #[inline]
    pub(super) async fn row(&mut self) -> Result<Option<Range<usize>>> {
        let body = self.packet().await?;
        match *self.body(body.clone()) {
            [EOF, _, _, low, high, ..] if body.len() <= EOF_BYTES_MAX => {
                self.end(u16::from_le_bytes([low, high]))?;
                self.input.shrink();
                Ok(None)
            }
            [ERROR, ..] => {
                self.answered();
                Err(failure(self.body(body)))
            }
            _ => Ok(Some(body)),
        }
    }

    /// The bytes of what was read last.
    #[inline]
    pub(super) fn body(&self, body: Range<usize>) -> &[u8] {
        self.input.body(body)
    }

    /// Asks something, of which the answer is the caller's to read.
    pub(super) async fn ask(&mut self, command: &[u8]) -> Result<()> {
        self.check_rest()?;
        self.queue_command(command);
        self.owed = 1;
        self.flush().await
    }

    fn check_rest(&self) -> Result<()> {
        match self.is_at_rest() {
            true => Ok(()),
            false => Err(Failure::Io(io::Error::other("an earlier answer was not read to its end"))),
        }
    }

    /// Where the next packet is.
    pub(super) async fn packet(&mut self) -> Result<Range<usize>> {
        loop {
            match input::next(&mut self.input) {
                Ok(Some(Packet { first, last, body })) => {
                    // What the server says unasked is no answer.
                    if first != self.expected {
                        return Err(self.malformed("a packet out of its turn"));
                    }
                    self.number = last.wrapping_add(1);
                    self.expected = self.number;
                    return Ok(body);
                }
                Ok(None) => self.fill().await?,
                Err(error) => {
                    self.is_broken = true;
                    return Err(error);
                }
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn disconnect(mut self) -> Result<()> {
        if self.is_at_rest() {
            self.ask(&[command::QUIT]).await?;
        }
        Ok(self.stream.shutdown().await?)
    }

    async fn send_query(&mut self, text: &str) -> Result<()> {
        self.ask(&[&[command::QUERY], text.as_bytes()].concat()).await
    }

    async fn send_execute(&mut self, statement: Statement, values: &[Value]) -> Result<()> {
        statement.check(values)?;
        self.ask(&execution(statement.id, values)).await
    }

    /// Has the server forget a statement, with the next command.
    pub(super) fn close(&mut self, statement: Statement) {
        self.queue_command(&[&[command::CLOSE], &statement.id.to_le_bytes()[..]].concat());
    }

    /// The rows that come, each as what it is wanted as.
    async fn rows<R, T>(&mut self) -> Result<Vec<T>>
    where
        R: for<'de> MyDeserialize<'de, Ctx = Arc<[Column]>> + Into<Row>,
        T: FromRow,
    {
        let Some(columns) = self.columns().await? else { return Ok(vec![]) };
        let (mut rows, mut odd) = (vec![], None);
        while let Some(body) = self.row().await? {
            let row = R::deserialize(Arc::clone(&columns), &mut ParseBuf(self.body(body)));
            match row.map(|row| T::from_row_opt(row.into())) {
                Ok(Ok(row)) => rows.push(row),
                Ok(Err(_)) => odd = Some(Failure::Malformed("a row of other values than were asked for")),
                Err(_) => odd = Some(Failure::Malformed("a row that ends early")),
            }
        }
        odd.map_or(Ok(rows), Err)
    }

    /// The first packet of an answer. An error of the server is an error here.
    async fn answer(&mut self) -> Result<Range<usize>> {
        let body = self.packet().await?;
        if self.body(body.clone()).first() == Some(&ERROR) {
            self.answered();
            return Err(failure(self.body(body)));
        }
        Ok(body)
    }

    /// The columns of a result; `None` of a statement that has none, which is done.
    async fn columns(&mut self) -> Result<Option<Arc<[Column]>>> {
        let body = self.answer().await?;
        let count = match *self.body(body.clone()) {
            [OK, ..] => return self.done(body).map(|()| None),
            // Of a file, which no statement here asks for, or of none.
            ref packet => lenenc(&mut &*packet),
        };
        let Some(count) = count else { return Err(self.malformed("a result without a number of columns")) };
        let mut columns = vec![];
        for _ in 0..count {
            let body = self.packet().await?;
            match ParseBuf(self.body(body)).parse::<Column>(()) {
                Ok(column) => columns.push(column),
                Err(_) => return Err(self.malformed("a column that is none")),
            }
        }
        self.packet().await?;
        Ok(Some(columns.into()))
    }

    /// Reads the state in which a statement without rows left the connection.
    fn done(&mut self, body: Range<usize>) -> Result<()> {
        let mut rest = self.body(body).get(1..).unwrap_or_default();
        let state = (|| {
            lenenc(&mut rest)?;
            lenenc(&mut rest)?;
            rest.first_chunk::<2>().map(|state| u16::from_le_bytes(*state))
        })();
        match state {
            Some(state) => self.end(state),
            None => Err(self.malformed("an end without a state")),
        }
    }

    fn end(&mut self, state: u16) -> Result<()> {
        if state & MORE_RESULTS != 0 {
            return Err(self.malformed("a second result"));
        }
        self.answered();
        Ok(())
    }

    /// Counts an answer that was read. The next begins anew.
    fn answered(&mut self) {
        self.owed = self.owed.saturating_sub(1);
        self.expected = FIRST_ANSWER;
    }

    fn malformed(&mut self, what: &'static str) -> Failure {
        self.is_broken = true;
        Failure::Malformed(what)
    }

    /// Sends a packet, or several where it is long, behind what was queued.
    async fn send(&mut self, body: &[u8]) -> Result<()> {
        self.queue(body);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        let sent = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        if let Err(error) = sent.await {
            self.is_broken = true;
            return Err(error.into());
        }
        self.output.clear();
        self.output.shrink_to(OUTPUT_BYTES);
        Ok(())
    }

    fn queue_command(&mut self, body: &[u8]) {
        self.number = 0;
        self.expected = FIRST_ANSWER;
        self.queue(body);
    }

    fn queue(&mut self, body: &[u8]) {
        let mut rest = body;
        loop {
            let (part, more) = rest.split_at(rest.len().min(PART_BYTES_MAX));
            let [a, b, c, ..] = part.len().to_le_bytes();
            self.output.extend([a, b, c, self.number]);
            self.output.extend_from_slice(part);
            self.number = self.number.wrapping_add(1);
            rest = more;
            self.expected = self.number;
            // A part of the greatest length is followed by another, be it empty.
            if part.len() < PART_BYTES_MAX {
                return;
            }
        }
    }

    /// Waits for bytes. Nothing is lost where this is dropped while it waits.
    async fn fill(&mut self) -> Result<()> {
        let filled = std::future::poll_fn(|cx| self.poll_fill(cx)).await;
        if filled.is_err() {
            self.is_broken = true;
        }
        Ok(filled?)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = ReadBuf::new(self.input.room());
        let read = match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read.map(|()| room.filled().len()),
        };
        Poll::Ready(match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.read(count);
                Ok(())
            }
            Err(error) => Err(error),
        })
    }
}

impl Statement {
    fn check(self, values: &[Value]) -> Result<()> {
        let (wanted, given) = (usize::from(self.parameters), values.len());
        if wanted == given { Ok(()) } else { Err(Failure::Parameters { wanted, given }) }
    }
}

/// Says goodbye where that needs no waiting, so that the server need not find out.
impl Drop for Conn {
    fn drop(&mut self) {
        if self.is_at_rest() {
            self.output.clear();
            self.queue_command(&[command::QUIT]);
            // One that takes nothing more is gone.
            drop(self.flush().now_or_never());
        }
    }
}
