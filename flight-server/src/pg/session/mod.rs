//! A connection that is known: its messages, one after the other.
//!
//! Invariant: each message is answered whole or with one error; after an error nothing is done until the client has said Sync. What runs ends when it is cancelled, when
//! the client leaves, and when the server is cut off.
//!
//! - `simple` and `extended` are the two protocols; `portal` is a statement with values, and how it runs; `command` is what has no rows.
//! - `setting` sets and shows; `values` is what a client binds and the formats that it wants.

mod command;
mod extended;
mod portal;
mod setting;
mod simple;
mod values;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use super::cancel::Cancel;
use super::catalog;
use super::command::{self as commands, Command};
use super::error::{CANCELED, PROTOCOL, PgError, STOPPING, Severity, UNSUPPORTED};
use super::run::{Planned, texts};
use super::settings::Settings;
use super::startup::Started;
use super::wire::{Message, Named, Wire};
use super::{Server, Stage};
use crate::auth::Principal;
use crate::auth::current::as_principal;
use portal::Portal;
pub(super) use setting::engine_value;

/// Why a message ends before its answer does.
pub(super) enum Halt {
    /// The client is told, and the connection goes on unless it is fatal.
    Told(PgError),
    /// There is nobody to tell.
    Gone(io::Error),
}

impl From<PgError> for Halt {
    fn from(error: PgError) -> Self {
        Self::Told(error)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

type Done<T = ()> = Result<T, Halt>;

/// Whether a transaction is open, as ReadyForQuery tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    Failed,
}

impl Transaction {
    fn status(self) -> u8 {
        match self {
            Self::None => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

/// A connection that is known.
pub(super) struct Session {
    server: Arc<Server>,
    wire: Wire,
    principal: Principal,
    user: String,
    settings: Settings,
    cancel: Cancel,
    /// Tells where what runs is cancelled, since the client last was told that the server is ready.
    cancelled: watch::Receiver<()>,
    /// Whether nothing has come since then.
    at_rest: bool,
    engine: headwater::Session,
    wanted: Vec<(String, String)>,
    transaction: Transaction,
    statements: HashMap<String, Arc<Statement>>,
    portals: HashMap<String, Portal>,
    /// Messages are passed over until the client says Sync.
    passing_over: bool,
}

/// A statement that was parsed.
struct Statement {
    text: Arc<str>,
    command: Command,
    planned: Option<Planned>,
    /// The types that the client gave its parameters, 0 where it gave none.
    said: Vec<u32>,
    /// Whether the client was told of its columns.
    described: AtomicBool,
}

impl Session {
    pub(super) fn new(server: &Arc<Server>, started: Started) -> Self {
        let Started { wire, principal, user, settings, wanted, cancel } = started;
        Self {
            engine: server.engine.session_as(&principal.caller()),
            server: Arc::clone(server),
            wire,
            principal,
            user,
            settings,
            cancelled: cancel.watch(),
            cancel,
            at_rest: true,
            wanted,
            transaction: Transaction::None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            passing_over: false,
        }
    }

    /// Answers messages until the client leaves or the server stops.
    pub(super) async fn serve(self, stopped: watch::Receiver<Stage>) -> io::Result<()> {
        as_principal(self.principal.clone(), self.answer_all(stopped)).await
    }

    async fn answer_all(mut self, mut stopped: watch::Receiver<Stage>) -> io::Result<()> {
        for (name, value) in std::mem::take(&mut self.wanted) {
            if let Err(error) = self.set(&name, Some(&value)).await {
                // PostgreSQL lets nobody in whose settings it does not know; here a driver's own must not keep its user out.
                self.wire.notice(&PgError { severity: Severity::Warning, ..error });
            }
        }
        self.ready().await?;
        loop {
            let message = tokio::select! {
                message = self.wire.message(self.server.limits.message_bytes) => message,
                () = until(&mut stopped, Stage::Draining) => {
                    self.wire.error(&PgError::fatal(STOPPING, "the server is stopping").with_hint("connect again later"));
                    self.wire.close().await;
                    return Ok(());
                }
            };
            let message = match message {
                Ok(Some(Message::Terminate) | None) => return Ok(()),
                Ok(Some(message)) => message,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.wire.error(&PgError::fatal(PROTOCOL, error.to_string()));
                    self.wire.close().await;
                    return Err(error);
                }
                Err(error) => return Err(error),
            };
            match self.answer(message, &mut stopped).await {
                Ok(()) => {}
                Err(Halt::Gone(error)) => return Err(error),
                Err(Halt::Told(error)) => {
                    let is_last = error.severity == Severity::Fatal;
                    self.wire.error(&error);
                    if is_last {
                        self.wire.close().await;
                        return Ok(());
                    }
                    self.fail().await?;
                }
            }
        }
    }

    async fn ready(&mut self) -> io::Result<()> {
        self.at_rest = true;
        self.wire.ready(self.transaction.status());
        self.wire.flush().await
    }

    /// After an error: a transaction has failed, and what the client has sent already is passed over.
    async fn fail(&mut self) -> io::Result<()> {
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
        if self.passing_over { self.wire.flush().await } else { self.ready().await }
    }

    async fn answer(&mut self, message: Message, stopped: &mut watch::Receiver<Stage>) -> Done {
        self.check()?;
        // The simple protocol has no Sync: its error is followed by ReadyForQuery at once.
        let is_extended = !matches!(message, Message::Query(_));
        match message {
            Message::Sync => {
                self.passing_over = false;
                if self.transaction == Transaction::None {
                    self.portals.clear();
                }
                return Ok(self.ready().await?);
            }
            _ if self.passing_over => return Ok(()),
            _ => {}
        }
        if std::mem::take(&mut self.at_rest) {
            self.cancelled = self.cancel.watch();
        }
        self.passing_over = is_extended;
        match message {
            Message::Query(text) => self.query(&text, stopped).await?,
            Message::Parse { name, text, types } => self.parse(name, &text, types, stopped).await?,
            Message::Bind(bind) => self.bind(bind, stopped).await?,
            Message::Describe(named) => self.describe(&named)?,
            Message::Execute { portal, rows_max } => self.execute(&portal, rows_max, stopped).await?,
            Message::Close(named) => {
                match named {
                    Named::Statement(name) => drop(self.statements.remove(&name)),
                    Named::Portal(name) => drop(self.portals.remove(&name)),
                }
                self.wire.sign(b'3');
            }
            Message::Flush => self.wire.flush().await?,
            Message::Function => {
                return Err(PgError::new(UNSUPPORTED, "calls of functions by their numbers are not supported").into());
            }
            Message::Password(_) => return Err(PgError::fatal(PROTOCOL, "the client is known already").into()),
            Message::CopyIn | Message::Sync | Message::Terminate => {}
        }
        self.passing_over = false;
        self.wire.flush_much().await?;
        Ok(())
    }

    /// Who was let in once may not be any more.
    fn check(&self) -> Result<(), PgError> {
        match self.server.gate.still_holds(&self.principal) {
            true => Ok(()),
            false => Err(PgError::fatal("28000", "the user is not known here any more, or their password has changed")),
        }
    }

    /// In a transaction that has failed, only its end is answered.
    fn check_transaction(&self, command: &Command) -> Result<(), PgError> {
        let ends = matches!(command, Command::Commit | Command::Rollback | Command::RollbackTo | Command::Empty);
        match self.transaction == Transaction::Failed && !ends {
            true => Err(PgError::new("25P02", "the transaction has failed; statements are passed over until it ends")),
            false => Ok(()),
        }
    }

    async fn planned(&mut self, text: &str, said: Vec<u32>, stopped: &mut watch::Receiver<Stage>) -> Done<Statement> {
        let command = commands::of(text)?;
        self.check_transaction(&command)?;
        let text: Arc<str> = text.into();
        let planned = match &command {
            Command::Query => Some(self.plan(&text, stopped).await?),
            Command::Copy(copy) => Some(self.plan(&copy.query.as_str().into(), stopped).await?),
            Command::Show(name) => Some(Planned::Known(self.shown(name).await?)),
            Command::ShowAll => {
                let all = self.settings.all();
                let rows: Vec<_> = all
                    .iter()
                    .map(|(name, value)| vec![(*name).to_owned(), (*value).to_owned(), String::new()])
                    .collect();
                Some(Planned::Known(texts(&["name", "setting", "description"], &rows)?))
            }
            Command::Immediate => Some(Planned::Immediate),
            _ => None,
        };
        Ok(Statement { text, command, planned, said, described: AtomicBool::new(false) })
    }

    async fn plan(&mut self, text: &Arc<str>, stopped: &mut watch::Receiver<Stage>) -> Done<Planned> {
        let engine = self.engine.clone();
        let asks_catalog = catalog::is_asked(text);
        let context = asks_catalog.then(|| catalog::Context {
            user: self.user.clone(),
            settings: self.settings.clone(),
            process: self.cancel.process,
        });
        let work = async {
            match context {
                Some(context) => {
                    let statement = catalog::Statement::new(&engine, context, text).await?;
                    Ok(Planned::Catalog(Arc::new(statement)))
                }
                None => engine.prepare(text).await.map(Planned::Engine).map_err(|error| PgError::of(&error, text)),
            }
        };
        self.interruptible(stopped, work).await
    }

    /// Whether what the client asked since it was told that the server is ready has been cancelled.
    fn is_cancelled(&self) -> bool {
        self.cancelled.has_changed().unwrap_or(false)
    }

    /// Does work that ends early where it is cancelled, the client leaves, or the server is cut off.
    async fn interruptible<T>(
        &mut self,
        stopped: &mut watch::Receiver<Stage>,
        work: impl Future<Output = Result<T, PgError>>,
    ) -> Done<T> {
        let cancelled = &mut self.cancelled;
        tokio::select! {
            biased;
            done = work => Ok(done?),
            _ = cancelled.changed() => Err(cancelled_error().into()),
            () = until(stopped, Stage::CutOff) => {
                Err(PgError::fatal(STOPPING, "the server is stopping").with_hint("run the statement again later").into())
            }
            () = self.wire.gone() => Err(Halt::Gone(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

/// Completes when the server has come to a stage.
async fn until(stopped: &mut watch::Receiver<Stage>, stage: Stage) {
    // An error says that nobody can say so any more, which is the same.
    let _gone = stopped.wait_for(|now| *now >= stage).await;
}

fn cancelled_error() -> PgError {
    PgError::new(CANCELED, "canceling statement due to user request")
}
