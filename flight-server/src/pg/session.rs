//! A connection that is known: its messages, one after the other.
//!
//! Invariant: each message is answered whole or with one error; after an error nothing is done until the client has said Sync. What runs ends when it is cancelled, when
//! the client leaves, and when the server is cut off.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::{Field, SchemaRef};
use tokio::sync::watch;

use super::cancel::Cancel;
use super::catalog;
use super::command::{self, Command};
use super::copy::{Copy, Style};
use super::decode;
use super::encode::Format;
use super::error::{CANCELED, INVALID_VALUE, PROTOCOL, PgError, STOPPING, Severity, UNSUPPORTED};
use super::run::{Planned, Rows, texts};
use super::settings::{Settings, Taken};
use super::startup::Started;
use super::types::{columns, of};
use super::wire::{Bind, Message, Named, Wire};
use super::{Server, Stage};
use crate::auth::Principal;
use crate::auth::current::as_principal;
use crate::text::split;

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

/// A statement with values.
enum Portal {
    Command(Arc<Statement>),
    Rows { statement: Arc<Statement>, rows: Option<Rows>, formats: Vec<Format>, begun: bool },
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
            cancel,
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
        self.check()?;
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

    // ---- the simple protocol

    async fn query(&mut self, text: &str, stopped: &mut watch::Receiver<Stage>) -> Done {
        let split = split(text);
        let mut statements = split.complete;
        statements.extend((!split.rest.is_empty()).then_some(split.rest));
        if statements.is_empty() {
            self.wire.sign(b'I');
        }
        for text in statements {
            let statement = self.planned(&text, vec![], stopped).await?;
            if statement.planned.as_ref().is_some_and(|planned| !planned.parameters().fields().is_empty()) {
                return Err(
                    PgError::new("42P02", "the statement has parameters, and the simple protocol has none").into()
                );
            }
            let mut portal = self.bound(&Arc::new(statement), vec![], vec![], stopped).await?;
            if let Portal::Rows { rows: Some(rows), statement, .. } = &portal
                && !matches!(statement.command, Command::Copy(_))
            {
                self.wire.columns(&columns(&rows.told), |_| 0);
            }
            self.run(&mut portal, usize::MAX, stopped).await?;
        }
        self.ready().await?;
        Ok(())
    }

    // ---- the extended protocol

    async fn parse(&mut self, name: String, text: &str, said: Vec<u32>, stopped: &mut watch::Receiver<Stage>) -> Done {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(PgError::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        self.check_room(self.statements.len())?;
        let split = split(text);
        let text = match (&split.complete[..], split.rest.as_str()) {
            ([], rest) => rest,
            ([one], "") => one,
            _ => return Err(PgError::new("42601", "a prepared statement is one statement").into()),
        };
        let statement = self.planned(text, said, stopped).await?;
        self.statements.insert(name, Arc::new(statement));
        self.wire.sign(b'1');
        Ok(())
    }

    fn check_room(&self, used: usize) -> Result<(), PgError> {
        let most = self.server.limits.statements;
        match used < most {
            true => Ok(()),
            false => {
                let message =
                    format!("the connection has {most} prepared statements or portals, which is all it may have");
                Err(PgError::new("53400", message).with_hint("close those that are not needed any more"))
            }
        }
    }

    async fn planned(&mut self, text: &str, said: Vec<u32>, stopped: &mut watch::Receiver<Stage>) -> Done<Statement> {
        let command = command::of(text)?;
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
        let context =
            asks_catalog.then(|| catalog::Context { user: self.user.clone(), settings: self.settings.clone() });
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

    async fn bind(&mut self, bind: Bind, stopped: &mut watch::Receiver<Stage>) -> Done {
        let statement = self.statement(&bind.statement)?;
        self.check_transaction(&statement.command)?;
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(PgError::new("42P03", format!("portal \"{}\" already exists", bind.portal)).into());
        }
        self.check_room(self.portals.len())?;
        let values = values(&statement, &bind)?;
        let portal = self.bound(&statement, values, bind.result_formats, stopped).await?;
        self.portals.insert(bind.portal, portal);
        self.wire.sign(b'2');
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Statement>, PgError> {
        let found = self.statements.get(name).map(Arc::clone);
        found.ok_or_else(|| PgError::new("26000", format!("prepared statement \"{name}\" does not exist")))
    }

    async fn bound(
        &mut self,
        statement: &Arc<Statement>,
        values: Vec<datafusion::common::ScalarValue>,
        formats: Vec<i16>,
        stopped: &mut watch::Receiver<Stage>,
    ) -> Done<Portal> {
        let Some(planned) = statement.planned.clone() else { return Ok(Portal::Command(Arc::clone(statement))) };
        let (text, threads) = (Arc::clone(&statement.text), self.server.threads.clone());
        let engine = self.engine.clone();
        let work = async {
            if matches!(planned, Planned::Immediate) {
                let answer = engine.sql(&text).await.map_err(|error| PgError::of(&error, &text))?;
                return Ok(Rows::waiting(answer, &text, &threads));
            }
            planned.bind(values, &text, &threads).await
        };
        let mut rows = self.interruptible(stopped, work).await?;
        // What the client was told before values were bound holds.
        let is_told = statement.described.load(Ordering::Relaxed);
        let told = statement.planned.as_ref().filter(|_| is_told).map(Planned::schema);
        if let Some(told) = told.filter(|told| told.fields().len() == rows.told.fields().len()) {
            rows.told = told;
        }
        let formats = chosen(&formats, &rows.told)?;
        Ok(Portal::Rows { statement: Arc::clone(statement), rows: Some(rows), formats, begun: false })
    }

    fn describe(&mut self, named: &Named) -> Done {
        match named {
            Named::Statement(name) => {
                let statement = self.statement(name)?;
                let parameters = statement.planned.as_ref().map(Planned::parameters);
                let types: Vec<u32> = parameters
                    .iter()
                    .flat_map(|fields| fields.fields().iter().enumerate())
                    .map(|(index, field)| parameter_type(&statement, index, field))
                    .collect();
                statement.described.store(true, Ordering::Relaxed);
                self.wire.parameter_types(&types);
                match &statement.planned {
                    Some(planned) if !matches!(statement.command, Command::Copy(_)) => {
                        self.wire.columns(&columns(&planned.schema()), |_| 0);
                    }
                    _ => self.wire.sign(b'n'),
                }
            }
            Named::Portal(name) => match self.portals.get(name) {
                None => return Err(no_portal(name).into()),
                Some(Portal::Rows { statement, rows: Some(rows), formats, .. })
                    if !matches!(statement.command, Command::Copy(_)) =>
                {
                    let code = |index: usize| formats.get(index).map_or(0, |format| format.code());
                    self.wire.columns(&columns(&rows.told), code);
                }
                Some(_) => self.wire.sign(b'n'),
            },
        }
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: usize, stopped: &mut watch::Receiver<Stage>) -> Done {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let statement = match &portal {
            Portal::Command(statement) | Portal::Rows { statement, .. } => Arc::clone(statement),
        };
        self.check_transaction(&statement.command)?;
        self.run(&mut portal, rows_max, stopped).await?;
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    // ---- running

    async fn run(&mut self, portal: &mut Portal, rows_max: usize, stopped: &mut watch::Receiver<Stage>) -> Done {
        match portal {
            Portal::Command(statement) => self.command(&Arc::clone(statement), stopped).await,
            Portal::Rows { statement, rows, formats, begun } => {
                let statement = Arc::clone(statement);
                let Some(taken) = rows.as_mut() else {
                    self.wire.complete("SELECT 0");
                    return Ok(());
                };
                if let Command::Copy(copy) = &statement.command {
                    self.copy(copy, taken, stopped).await?;
                    *rows = None;
                    return Ok(());
                }
                *begun = true;
                let (sent, is_whole) = self.send(taken, formats, rows_max, stopped).await?;
                if is_whole {
                    let verb = if matches!(statement.command, Command::Show(_) | Command::ShowAll) {
                        "SHOW".to_owned()
                    } else {
                        format!("SELECT {sent}")
                    };
                    self.wire.complete(&verb);
                    *rows = None;
                } else {
                    self.wire.sign(b's');
                }
                Ok(())
            }
        }
    }

    /// Sends rows, at most so many; how many they were, and whether they were all.
    async fn send(
        &mut self,
        rows: &mut Rows,
        formats: &[Format],
        rows_max: usize,
        stopped: &mut watch::Receiver<Stage>,
    ) -> Done<(usize, bool)> {
        let cancelled = self.cancel.watch();
        let mut sent = 0;
        while let Some((encoder, first)) = self.interruptible(stopped, rows.next()).await? {
            let mut row = first;
            while row < encoder.rows {
                if sent == rows_max {
                    rows.put_back(encoder, row);
                    return Ok((sent, false));
                }
                self.wire.row(encoder.width(), |out| {
                    (0..encoder.width()).try_for_each(|column| {
                        encoder.put(out, column, row, formats.get(column).copied().unwrap_or(Format::Text))
                    })
                })?;
                self.wire.flush_much().await?;
                (row, sent) = (row + 1, sent + 1);
            }
            // A client that reads as fast as rows come leaves no pause in which to notice.
            if cancelled.has_changed().unwrap_or(false) {
                return Err(cancelled_error().into());
            }
        }
        Ok((sent, true))
    }

    async fn copy(&mut self, copy: &Copy, rows: &mut Rows, stopped: &mut watch::Receiver<Stage>) -> Done {
        let cancelled = self.cancel.watch();
        let names: Vec<String> = rows.told.fields().iter().map(|field| field.name().clone()).collect();
        // The first batch is there before anything is said, so that a query that fails at once fails plainly.
        let mut next = self.interruptible(stopped, rows.next()).await?;
        self.wire.copy_out(u8::from(copy.style == Style::Binary), names.len());
        let mut data = copy.begin(&names);
        // A line of its own in text; in binary it goes with what follows, as in PostgreSQL, and drivers count on that.
        if copy.style != Style::Binary && !data.is_empty() {
            self.wire.copy_data(&std::mem::take(&mut data));
        }
        let mut sent = 0_u64;
        while let Some((encoder, first)) = next {
            for row in first..encoder.rows {
                data.extend(copy.row(&encoder, row)?);
                self.wire.copy_data(&data);
                data.clear();
                self.wire.flush_much().await?;
                sent += 1;
            }
            if cancelled.has_changed().unwrap_or(false) {
                return Err(cancelled_error().into());
            }
            next = self.interruptible(stopped, rows.next()).await?;
        }
        data.extend_from_slice(copy.end());
        if !data.is_empty() {
            self.wire.copy_data(&data);
        }
        self.wire.sign(b'c');
        self.wire.complete(&format!("COPY {sent}"));
        Ok(())
    }

    /// Does work that ends early where it is cancelled, the client leaves, or the server is cut off.
    async fn interruptible<T>(
        &mut self,
        stopped: &mut watch::Receiver<Stage>,
        work: impl Future<Output = Result<T, PgError>>,
    ) -> Done<T> {
        let mut cancelled = self.cancel.watch();
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

    async fn command(&mut self, statement: &Statement, stopped: &mut watch::Receiver<Stage>) -> Done {
        let tag = match &statement.command {
            Command::Empty => {
                self.wire.sign(b'I');
                return Ok(());
            }
            Command::Begin => {
                if self.transaction == Transaction::Open {
                    self.wire.notice(&PgError::warning("25001", "there is already a transaction in progress"));
                }
                self.transaction = Transaction::Open;
                "BEGIN"
            }
            Command::Commit => match self.end_transaction() {
                Transaction::Failed => "ROLLBACK",
                Transaction::None | Transaction::Open => "COMMIT",
            },
            Command::Rollback => {
                self.end_transaction();
                "ROLLBACK"
            }
            Command::RollbackTo => {
                if self.transaction == Transaction::Failed {
                    self.transaction = Transaction::Open;
                }
                "ROLLBACK"
            }
            Command::Savepoint(tag) | Command::Nothing(tag) => tag,
            Command::Set { name, value } => {
                self.set(name, value.as_deref()).await?;
                if value.is_some() { "SET" } else { "RESET" }
            }
            Command::ResetAll => {
                self.reset();
                "RESET"
            }
            Command::DiscardAll => {
                self.reset();
                self.statements.clear();
                self.portals.clear();
                "DISCARD ALL"
            }
            Command::Deallocate(name) => {
                self.deallocate(name.as_deref(), &statement.text).await?;
                "DEALLOCATE"
            }
            Command::Engine(tag) => {
                let (engine, text) = (self.engine.clone(), Arc::clone(&statement.text));
                let work = async { engine.sql(&text).await.map_err(|error| PgError::of(&error, &text)) };
                drop(self.interruptible(stopped, work).await?);
                tag
            }
            Command::Query | Command::Immediate | Command::Show(_) | Command::ShowAll | Command::Copy(_) => {
                return Err(
                    PgError::new(super::error::INTERNAL, "a statement with rows was taken for one without").into()
                );
            }
        };
        self.wire.complete(tag);
        Ok(())
    }

    fn end_transaction(&mut self) -> Transaction {
        self.portals.clear();
        let before = std::mem::replace(&mut self.transaction, Transaction::None);
        if before == Transaction::None {
            self.wire.notice(&PgError::warning("25P01", "there is no transaction in progress"));
        }
        before
    }

    fn reset(&mut self) {
        self.settings = Settings::default();
        self.engine = self.server.engine.session_as(&self.principal.caller());
    }

    async fn deallocate(&mut self, name: Option<&str>, text: &str) -> Result<(), PgError> {
        match name {
            None => self.statements.clear(),
            Some(name) if self.statements.remove(name).is_some() => {}
            // One of PREPARE is the engine's.
            Some(_) => drop(self.engine.sql(text).await.map_err(|error| PgError::of(&error, text))?),
        }
        Ok(())
    }

    async fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), PgError> {
        if let Taken::Here(reported) = self.settings.set(name, value)? {
            if let Some(shown) = reported {
                let value = self.settings.get(shown).unwrap_or_default().to_owned();
                self.wire.parameter(shown, &value);
            }
            return Ok(());
        }
        let statement = if name.eq_ignore_ascii_case("statement_timeout") {
            format!("SET headwater.query_deadline = '{}'", timeout(value)?)
        } else if is_plain(name) {
            match value {
                // Quoted as a text, so that nothing in it is anything else.
                Some(value) => format!("SET {name} = '{}'", value.replace('\'', "''")),
                None if name.eq_ignore_ascii_case("search_path") => {
                    let path = self.server.engine.session_as(&self.principal.caller());
                    let shown = engine_value(&path, "search_path").await?;
                    format!("SET search_path = '{}'", shown.replace('\'', "''"))
                }
                None => format!("RESET {name}"),
            }
        } else {
            return Err(PgError::new(super::error::UNDEFINED_OBJECT, "there is no such setting"));
        };
        match self.engine.sql(&statement).await {
            Ok(_) => Ok(()),
            Err(error) if name.contains('.') || name.eq_ignore_ascii_case("search_path") => {
                Err(PgError::of(&error, ""))
            }
            Err(_) => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                Err(PgError::new(super::error::UNDEFINED_OBJECT, message))
            }
        }
    }

    async fn shown(&mut self, name: &str) -> Result<arrow::array::RecordBatch, PgError> {
        let value = match self.settings.get(name) {
            Some(value) => value.to_owned(),
            None if name.eq_ignore_ascii_case("session_authorization") => self.user.clone(),
            None if name.eq_ignore_ascii_case("statement_timeout") => {
                engine_value(&self.engine, "headwater.query_deadline").await?
            }
            None if is_plain(name) => engine_value(&self.engine, name).await?,
            None => return Err(PgError::new(super::error::UNDEFINED_OBJECT, "there is no such setting")),
        };
        texts(&[name], &[vec![value]])
    }
}

/// Completes when the server has come to a stage.
async fn until(stopped: &mut watch::Receiver<Stage>, stage: Stage) {
    // An error says that nobody can say so any more, which is the same.
    let _gone = stopped.wait_for(|now| *now >= stage).await;
}

/// The value of a setting of the engine.
pub(super) async fn engine_value(engine: &headwater::Session, name: &str) -> Result<String, PgError> {
    use arrow::array::AsArray;
    let unknown =
        || PgError::new(super::error::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
    let answer = engine.sql(&format!("SHOW {name}")).await.map_err(|_| unknown())?;
    let batches = answer.collect().await.map_err(|_| unknown())?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).ok_or_else(unknown)?;
    let values = batch.column_by_name("value").and_then(|column| column.as_string_opt::<i32>()).ok_or_else(unknown)?;
    Ok(if arrow::array::Array::is_null(values, 0) { String::new() } else { values.value(0).to_owned() })
}

/// Whether a name of a setting is one that may stand in a statement as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

/// PostgreSQL's `statement_timeout`, in milliseconds where it has no unit, as the engine writes times.
fn timeout(value: Option<&str>) -> Result<String, PgError> {
    let value = value.unwrap_or("0").trim();
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = value.split_at(digits);
    let unit = match unit.trim() {
        "" | "ms" => "ms",
        unit @ ("s" | "min" | "h") => unit,
        _ => return Err(PgError::new(INVALID_VALUE, "statement_timeout takes a number and ms, s, min or h")),
    };
    match number.parse::<u64>() {
        Ok(0) => Ok("off".to_owned()),
        Ok(number) => Ok(format!("{number} {unit}")),
        Err(_) => Err(PgError::new(INVALID_VALUE, "statement_timeout takes a number and ms, s, min or h")),
    }
}

fn no_portal(name: &str) -> PgError {
    PgError::new("34000", format!("portal \"{name}\" does not exist"))
}

fn cancelled_error() -> PgError {
    PgError::new(CANCELED, "canceling statement due to user request")
}

/// The type that a client is told for a parameter: its own, or what the statement says, or text.
fn parameter_type(statement: &Statement, index: usize, field: &Field) -> u32 {
    match statement.said.get(index) {
        Some(oid) if *oid != 0 => *oid,
        _ => of(field.data_type()).oid(),
    }
}

fn values(statement: &Statement, bind: &Bind) -> Result<Vec<datafusion::common::ScalarValue>, PgError> {
    let parameters = statement.planned.as_ref().map(Planned::parameters);
    let fields: Vec<&Field> = parameters.iter().flat_map(|schema| schema.fields().iter().map(AsRef::as_ref)).collect();
    if fields.len() != bind.values.len() {
        let message =
            format!("{} values are bound, and the statement has {} parameters", bind.values.len(), fields.len());
        return Err(PgError::new(PROTOCOL, message));
    }
    let format = |index: usize| match bind.formats.len() {
        0 => Ok(Format::Text),
        1 => Format::of(bind.formats[0]),
        _ => Format::of(bind.formats.get(index).copied().unwrap_or_default()),
    };
    let bound = bind.values.iter().zip(fields).enumerate().map(|(index, (value, field))| {
        decode::value(value.clone(), format(index)?, statement.said.get(index).copied().unwrap_or_default(), field)
    });
    bound.collect()
}

/// The format of each column.
fn chosen(codes: &[i16], told: &SchemaRef) -> Result<Vec<Format>, PgError> {
    let count = told.fields().len();
    match codes.len() {
        0 => Ok(vec![Format::Text; count]),
        1 => Ok(vec![Format::of(codes[0])?; count]),
        length if length == count => codes.iter().map(|code| Format::of(*code)).collect(),
        length => Err(PgError::new(PROTOCOL, format!("{length} formats are given for {count} columns"))),
    }
}
