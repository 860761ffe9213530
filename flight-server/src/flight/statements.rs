//! Statements between their planning and their end: tickets, prepared statements, sessions.

use std::sync::{Arc, Weak};
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use arrow_flight::{CancelStatus, FlightDescriptor};
use headwater::{Answer, Engine, Session};
use prost::bytes::Bytes;
use tonic::Status;
use uuid::Uuid;

use super::Limits;
use super::error::status;
use super::parameters::Row;
use super::polled::{Part, Polled, Sizes, State};
use super::prepared::{PreparedStatement, per_row};
use super::running::Running;
use super::session::SessionKey;
use super::spread::Share;
use super::store::Store;
use super::stream::Batches;
use crate::auth::current;
use crate::detached::Threads;
use crate::text;

/// Everything that the server keeps for its clients.
pub(super) struct Statements {
    engine: Engine,
    sessions: Store<Session>,
    tickets: Store<Waiting>,
    prepared: Store<Arc<PreparedStatement>>,
    polled: Store<Arc<Polled>>,
    sizes: Sizes,
    /// From how many rows, as they are estimated, an answer has several endpoints.
    spread_rows: usize,
    running: Running,
    /// Where queries run.
    threads: Threads,
}

/// A planned statement that waits for its ticket to be fetched.
struct Waiting {
    schema: SchemaRef,
    run: Run,
    /// The session that a `SET` made: who fetches the ticket must have kept its cookie.
    made_session: Option<Uuid>,
}

enum Run {
    Once(Box<Answer>),
    /// A share of an answer that has several tickets.
    Share(Share),
    /// A prepared statement, run for each row of parameters in turn.
    PerRow(Arc<PreparedStatement>, Vec<Row>),
    /// Rows that are there already.
    Part(Part),
}

/// The most endpoints of an answer. More than a client reads at once are of no use.
const ENDPOINTS_MAX: usize = 64;

/// How many endpoints an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoints {
    One,
    /// One for each partition, where the answer is large and in no order.
    OfPartitions,
}

/// A planned statement whose tickets were given out.
pub(super) struct Ticketed {
    pub(super) schema: SchemaRef,
    /// One, or several that share the rows.
    pub(super) tickets: Vec<Uuid>,
}

impl Ticketed {
    /// The first, with which every row comes where no other is fetched.
    fn first(&self) -> Result<Uuid, Status> {
        self.tickets.first().copied().ok_or_else(|| Status::internal("a statement has no ticket"))
    }
}

/// A statement that runs.
pub(super) struct Fetched {
    pub(super) schema: SchemaRef,
    pub(super) batches: Batches,
    pub(super) end: End,
}

/// When a statement's stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Once its rows have been sent.
    ByItself,
    /// When the client leaves: a server that stops does not wait for it.
    Never,
}

/// A name as clients get it: opaque bytes.
pub(super) fn handle_of(name: Uuid) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn name_of(handle: &[u8], what: &str) -> Result<Uuid, Status> {
    Uuid::from_slice(handle).map_err(|_| Status::invalid_argument(format!("this is no {what} of this server")))
}

impl Statements {
    pub(super) fn new(engine: Engine, limits: &Limits, threads: Threads) -> Self {
        Self {
            engine,
            threads,
            sessions: Store::new("session", limits.sessions, limits.session_idle),
            tickets: Store::new("ticket", limits.tickets, limits.ticket_life),
            prepared: Store::new("prepared statement", limits.prepared, limits.prepared_idle),
            polled: Store::new("polled statement", limits.polled, limits.ticket_life),
            sizes: Sizes {
                part_rows: limits.endpoint_rows,
                part_bytes: limits.endpoint_bytes,
                held_bytes: limits.polled_bytes,
            },
            spread_rows: limits.spread_rows,
            running: Running::default(),
        }
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.tickets.sweep(now);
        self.prepared.sweep(now);
        self.sessions.sweep(now);
        self.polled.sweep(now);
    }

    /// The schema of a statement, which is neither run nor kept.
    pub(super) async fn describe(&self, key: SessionKey, text: &str) -> Result<SchemaRef, Status> {
        Ok(self.planned(key, text).await?.schema())
    }

    /// Plans a statement and gives out its tickets.
    pub(super) async fn plan(&self, key: SessionKey, text: &str, endpoints: Endpoints) -> Result<Ticketed, Status> {
        if text::is_set(text) {
            return self.set(key, text).await;
        }
        let answer = self.session(key).sql(text).await.map_err(|error| status(&error))?;
        self.tickets_of(answer, endpoints)
    }

    /// Prepares a statement.
    pub(super) async fn prepare(&self, key: SessionKey, text: &str) -> Result<(Uuid, Arc<PreparedStatement>), Status> {
        let prepared = Arc::new(self.planned(key, text).await?);
        Ok((self.prepared.insert(Arc::clone(&prepared), Instant::now())?, prepared))
    }

    /// A prepared statement by its handle.
    pub(super) fn prepared(&self, handle: &[u8]) -> Result<Arc<PreparedStatement>, Status> {
        let name = name_of(handle, "prepared statement")?;
        self.prepared.get(name, Instant::now()).ok_or_else(|| {
            Status::not_found("there is no such prepared statement: it was closed or has expired; prepare it again")
        })
    }

    /// Lets go of a prepared statement. One that is gone already is no error.
    pub(super) fn close(&self, handle: &[u8]) -> Result<(), Status> {
        let name = name_of(handle, "prepared statement")?;
        let _gone = self.prepared.take(name, Instant::now());
        Ok(())
    }

    /// Lets go of a session's settings.
    pub(super) fn close_session(&self, key: SessionKey) {
        let _gone = self.sessions.take(key.id(), Instant::now());
    }

    /// Gives out tickets for a prepared statement with what is bound to it now.
    pub(super) async fn execute(
        &self,
        key: SessionKey,
        handle: &[u8],
        endpoints: Endpoints,
    ) -> Result<Ticketed, Status> {
        let statement = self.prepared(handle)?;
        let Some(plan) = &statement.plan else { return self.plan(key, statement.text(), endpoints).await };
        let mut rows = statement.rows()?;
        if rows.len() == 1 {
            let plan = plan.under(current::parent());
            let answer = plan.execute(rows.swap_remove(0)).await.map_err(|error| status(&error))?;
            return self.tickets_of(answer, endpoints);
        }
        let (schema, run) = (plan.schema(), Run::PerRow(Arc::clone(&statement), rows));
        self.ticket(Waiting { schema, run, made_session: None })
    }

    /// Executes a prepared statement and starts it at once.
    pub(super) async fn execute_now(&self, key: SessionKey, handle: &[u8]) -> Result<Fetched, Status> {
        let ticket = self.execute(key, handle, Endpoints::One).await?.first()?;
        self.fetch(key, &handle_of(ticket))
    }

    /// Runs a statement that a client takes for an update. Only `SET` is.
    pub(super) async fn update(&self, key: SessionKey, text: &str) -> Result<i64, Status> {
        if headwater::defines_view(text) {
            self.session(key).sql(text).await.map_err(|error| status(&error))?;
            return Ok(0);
        }
        if !text::is_set(text) {
            // The engine refuses writes itself, and names what it refuses.
            self.planned(key, text).await?;
            let message = "the statement is a query; ask for its FlightInfo. Headwater runs no updates";
            return Err(Status::invalid_argument(message));
        }
        if let SessionKey::Offered(_) = key {
            return Err(no_cookie());
        }
        self.run_set(key, text).await?;
        Ok(0)
    }

    /// Takes a ticket's statement and starts it.
    pub(super) fn fetch(&self, key: SessionKey, handle: &[u8]) -> Result<Fetched, Status> {
        let name = name_of(handle, "ticket")?;
        let waiting = self.tickets.take(name, Instant::now()).ok_or_else(|| {
            Status::not_found("there is no such ticket: it was fetched already or has expired; run the statement again")
        })?;
        if let Some(session) = waiting.made_session
            && key != SessionKey::Presented(session)
        {
            let _unreachable = self.sessions.take(session, Instant::now());
            return Err(no_cookie());
        }
        let schema = waiting.schema;
        let (batches, end) = match waiting.run {
            Run::Once(answer) => {
                let end = if answer.is_endless() { End::Never } else { End::ByItself };
                (batches_of(*answer, &self.threads)?, end)
            }
            Run::PerRow(statement, rows) => {
                (per_row(statement, rows, Arc::clone(&schema), self.threads.clone()), End::ByItself)
            }
            Run::Part(part) => (part.into_batches(), End::ByItself),
            // The statement was entered under all of its tickets when it began.
            Run::Share(share) => return Ok(Fetched { schema, batches: share.into_batches()?, end: End::ByItself }),
        };
        Ok(Fetched { schema, batches: self.running.enter(&[name], batches), end })
    }

    /// Cancels what a ticket names: it is let go where it waits, and ended where it runs.
    pub(super) fn cancel(&self, handle: &[u8]) -> CancelStatus {
        let Ok(name) = name_of(handle, "ticket") else { return CancelStatus::NotCancellable };
        let waited = match self.tickets.take(name, Instant::now()).map(|waiting| waiting.run) {
            Some(Run::Share(share)) => share.cancel(),
            Some(_) => true,
            None => false,
        };
        match waited || self.running.cancel(name) {
            true => CancelStatus::Cancelled,
            false => CancelStatus::NotCancellable,
        }
    }

    /// Starts a statement whose ticket was given out, to be polled.
    pub(super) fn start(
        self: &Arc<Self>,
        key: SessionKey,
        statement: &Ticketed,
        descriptor: FlightDescriptor,
    ) -> Result<Uuid, Status> {
        let Fetched { schema, batches, end } = self.fetch(key, &handle_of(statement.first()?))?;
        if end == End::Never {
            return Err(Status::unimplemented("a subscription has no end to poll for; use GetFlightInfo"));
        }
        let (statements, columns): (Weak<Self>, _) = (Arc::downgrade(self), Arc::clone(&schema));
        let keep = move |part| {
            let statements = statements.upgrade().ok_or_else(|| Status::unavailable("the server is stopping"))?;
            let waiting = Waiting { schema: Arc::clone(&columns), run: Run::Part(part), made_session: None };
            statements.tickets.insert(waiting, Instant::now())
        };
        let polled = Polled::start(schema, descriptor, batches, self.sizes, keep);
        self.polled.insert(Arc::new(polled), Instant::now())
    }

    /// A statement that is polled, and what has become of it since so many of its parts were known.
    pub(super) async fn poll(&self, name: Uuid, known: usize) -> Result<(Arc<Polled>, State), Status> {
        let polled = self.polled.get(name, Instant::now()).ok_or_else(|| {
            Status::not_found("there is no such statement to poll: it was cancelled or has expired; run it again")
        })?;
        let state = polled.news(known).await;
        Ok((polled, state))
    }

    /// Ends a statement that is polled.
    pub(super) fn cancel_polled(&self, name: Uuid) -> CancelStatus {
        match self.polled.take(name, Instant::now()) {
            Some(polled) if polled.is_over() => CancelStatus::NotCancellable,
            Some(polled) => {
                polled.cancel();
                CancelStatus::Cancelled
            }
            None => CancelStatus::NotCancellable,
        }
    }

    /// Sets something in the client's session, which begins with its first.
    pub(super) async fn set_option(&self, key: SessionKey, statement: &str) -> Result<(), Status> {
        self.run_set(key, statement).await.map(|_| ())
    }

    /// What is set in the client's session.
    pub(super) async fn options(&self, key: SessionKey) -> Result<Vec<(String, String)>, Status> {
        let session = self.session(key);
        let query = "SELECT name, value FROM information_schema.df_settings WHERE name LIKE 'headwater.%'";
        let mut found = pairs(&session, query).await?;
        found.extend(pairs(&session, "SHOW search_path").await?);
        Ok(found)
    }

    fn ticket(&self, waiting: Waiting) -> Result<Ticketed, Status> {
        let schema = Arc::clone(&waiting.schema);
        Ok(Ticketed { schema, tickets: vec![self.tickets.insert(waiting, Instant::now())?] })
    }

    fn tickets_of(&self, answer: Answer, endpoints: Endpoints) -> Result<Ticketed, Status> {
        let schema = answer.stamped_schema();
        match self.shares_of(&answer, endpoints) {
            1 => self.ticket(Waiting { schema, run: Run::Once(Box::new(answer)), made_session: None }),
            count => self.shared(schema, answer, count),
        }
    }

    /// Into how many shares an answer is split. One with few partitions is not looked at any further: most are.
    fn shares_of(&self, answer: &Answer, endpoints: Endpoints) -> usize {
        let partitions = if endpoints == Endpoints::One || answer.is_endless() { 1 } else { answer.partitions() };
        match partitions {
            0 | 1 => 1,
            _ if answer.estimated_rows().is_some_and(|rows| rows >= self.spread_rows) => partitions.min(ENDPOINTS_MAX),
            _ => 1,
        }
    }

    fn shared(&self, schema: SchemaRef, answer: Answer, count: usize) -> Result<Ticketed, Status> {
        let tickets: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
        let (running, threads, names) = (self.running.clone(), self.threads.clone(), tickets.clone());
        let begin = Box::new(move || Ok(running.enter(&names, batches_of(answer, &threads)?)));
        let now = Instant::now();
        for (ticket, share) in tickets.iter().zip(Share::of(begin, count)) {
            let waiting = Waiting { schema: Arc::clone(&schema), run: Run::Share(share), made_session: None };
            if let Err(status) = self.tickets.insert_as(*ticket, waiting, now) {
                tickets.iter().for_each(|ticket| drop(self.tickets.take(*ticket, now)));
                return Err(status);
            }
        }
        Ok(Ticketed { schema, tickets })
    }

    async fn planned(&self, key: SessionKey, text: &str) -> Result<PreparedStatement, Status> {
        let plan = match text::is_set(text) || headwater::defines_view(text) {
            true => None,
            false => Some(self.session(key).prepare(text).await.map_err(|error| status(&error))?),
        };
        Ok(PreparedStatement::new(text, plan))
    }

    /// The session with the client's settings, or one without any.
    fn session(&self, key: SessionKey) -> Session {
        self.kept_session(key).unwrap_or_else(|| self.new_session()).under(current::parent())
    }

    /// A session of whoever asks now.
    fn new_session(&self) -> Session {
        self.engine.session_as(&current::principal().caller())
    }

    fn kept_session(&self, key: SessionKey) -> Option<Session> {
        match key {
            SessionKey::Presented(id) => self.sessions.get(id, Instant::now()),
            SessionKey::Offered(_) => None,
        }
    }

    async fn set(&self, key: SessionKey, text: &str) -> Result<Ticketed, Status> {
        let answer = self.run_set(key, text).await?;
        let made_session = matches!(key, SessionKey::Offered(_)).then(|| key.id());
        self.ticket(Waiting { schema: answer.schema(), run: Run::Once(Box::new(answer)), made_session })
    }

    /// Runs a SET in the client's session, which begins with its first.
    async fn run_set(&self, key: SessionKey, text: &str) -> Result<Answer, Status> {
        let kept = self.kept_session(key);
        let is_new = kept.is_none();
        let session = kept.unwrap_or_else(|| self.new_session());
        let answer = session.sql(text).await.map_err(|error| status(&error))?;
        if is_new {
            self.sessions.insert_as(key.id(), session, Instant::now())?;
        }
        Ok(answer)
    }
}

/// The rows of a statement of names and values.
async fn pairs(session: &Session, query: &str) -> Result<Vec<(String, String)>, Status> {
    let batches = session.sql(query).await.map_err(|error| status(&error))?.collect().await;
    let mut found = Vec::new();
    for batch in batches.map_err(|error| status(&error))? {
        let text = |column: usize, row: usize| {
            arrow::util::display::array_value_to_string(batch.column(column), row).map_err(super::error::internal)
        };
        for row in 0..batch.num_rows() {
            found.push((text(0, row)?, text(1, row)?));
        }
    }
    Ok(found)
}

fn no_cookie() -> Status {
    Status::failed_precondition(
        "SET holds for a session, and this client keeps no session cookie; turn cookies on (ADBC: the database option \
         adbc.flight.sql.rpc.with_cookie_middleware = true), write names as service.table, or start the server with --search-path",
    )
}

/// Starts an answer on the threads for it.
pub(super) fn batches_of(answer: Answer, threads: &Threads) -> Result<Batches, Status> {
    Ok(Box::pin(threads.run(answer, |error| status(&error))?))
}
