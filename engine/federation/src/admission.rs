//! How many statements run at one store at a time.
//!
//! An engine has one [`Gates`]; each query carries an [`Admission`] in its task context, and a remote scan takes a [`Permit`] before it
//! sends its statement and holds it while its rows are read. A store is a location under a role, so two services of one database
//! share its limit. Whoever finds the store full waits in turn, for a bounded time, and then fails by a name.
//!
//! # A query that waits for itself
//! A merge of two sorted inputs needs both statements at once. Were every statement equal, queries that each hold one and wait
//! for another would wait for ever. Three rules keep them going:
//! - a query that holds a permit goes before those that hold none, so what has begun ends first;
//! - where every query that runs at a store itself waits, nothing that runs there need ever end. After [`Gates::STALL`] one query may
//!   go over the limit, by as many statements as it has there already, and again after the next such pause;
//!   A scan that waits for a state of its source to read from is such a wait too ([`Admission::pause`]);
//! - one query of the whole engine at a time may do so, until it holds nothing. So it gets all that it needs and ends, and then
//!   the next may.
//!
//! # A statement that has its connection
//! A source of which no second connection can join a state takes a connection for each statement as it takes the state, before they come here. Others take theirs after they were let in. Were one
//! kind to have all places and the other all connections, nobody would go on. So statements that want a connection never have all places of such a store ([`Source::states_have_connections`]): one is
//! for those that have theirs, which are not counted among the connections to be kept free. And a query of which one such statement runs and another waits may go over the limit after
//! [`Gates::STALL`], whatever the others do: it may be one merge of both.
//!
//! Invariant: at a store never run more statements than its limit, but for those of the one query that may go over it; and, where the limit is one, a statement that has its connection.
//!
//! Rejected: to reserve for a query all the statements of its plan at once. Most run one after the other, each with the keys of the
//! one before, and a reservation would keep other queries out while none of them runs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_source::{Error, QueryId, ServiceName, Source};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The gates of an engine: one for each store.
#[derive(Debug)]
pub struct Gates {
    limit: usize,
    wait: Duration,
    state: Mutex<State>,
}

/// A query's leave to send statements.
#[derive(Debug)]
pub struct Admission {
    gates: Arc<Gates>,
    query: u64,
}

/// Whether a statement that wants to run has its connection already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// It takes one from its source's pool once it may run.
    Wanted,
    /// It has one, as of a state of its source that is held ([`headwater_source::Snapshot::has_connections`]).
    Had,
}

/// How many statements run at a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    all: usize,
    /// Of those that take a connection once they run.
    wanting: usize,
    /// What sets that.
    option: &'static str,
}

const STATEMENTS_MAX: &str = "statements_max";
const POOL_SIZE: &str = "pool_size in its manifest";

/// A statement that may run. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Permit {
    gates: Arc<Gates>,
    location: String,
    query: u64,
    connection: Connection,
}

/// A statement that waits for something else than its turn.
#[derive(Debug)]
pub struct Pause {
    gates: Arc<Gates>,
    query: u64,
}

#[derive(Debug, Default)]
struct State {
    stores: HashMap<String, Store>,
    /// How many statements of a query wait, at whatever store; no entry is zero.
    waiting: HashMap<u64, usize>,
    /// The query that may go over the limits.
    over: Option<u64>,
    tickets: u64,
}

#[derive(Debug)]
struct Store {
    /// How many statements of a query run; no entry is zero.
    running: HashMap<u64, usize>,
    /// How many of them took a connection once they ran.
    wanting: usize,
    queue: VecDeque<Waiter>,
    /// When a statement last ended, or was let in over the limit.
    moved: Instant,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    query: u64,
    limits: Limits,
    connection: Connection,
    grant: oneshot::Sender<()>,
}

/// A place in a queue. Leaving it before its turn leaves no trace.
struct Place {
    gates: Arc<Gates>,
    location: String,
    query: u64,
    connection: Connection,
    ticket: u64,
    granted: oneshot::Receiver<()>,
    /// Whether what was granted has an owner.
    taken: bool,
}

impl Gates {
    /// How long nothing must move at a store before a query that holds a permit may go over its limit.
    pub const STALL: Duration = Duration::from_millis(100);

    /// The longest wait for a statement.
    pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// So many statements at a store, and so long a wait for one.
    pub fn new(limit: usize, wait: Duration) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), wait: wait.min(Self::WAIT_MAX), state: Mutex::default() })
    }

    /// The leave of a query. Numbers of queries differ.
    pub fn admission(self: &Arc<Self>, query: u64) -> Admission {
        Admission { gates: Arc::clone(self), query }
    }

    /// The limits at a source: a part of its connections stays free for describing tables and for the query that may go over.
    fn limits_of(&self, source: &dyn Source) -> Limits {
        let free = |most: usize| most.div_ceil(4).min(most.saturating_sub(1));
        let own = source.connections_max().map_or(usize::MAX, |most| (most - free(most)).max(1));
        let (all, most) = match source.states_have_connections() {
            true => (self.limit, (self.limit - 1).max(1)),
            false => (self.limit.min(own), self.limit),
        };
        Limits { all, wanting: own.min(most), option: if own < most { POOL_SIZE } else { STATEMENTS_MAX } }
    }
}

impl Admission {
    /// The query whose leave it is.
    pub fn query(&self) -> QueryId {
        QueryId::new(self.query)
    }

    /// Waits until a statement of this query may run.
    ///
    /// # Errors
    /// [`Error::Busy`] once the wait has been too long.
    pub async fn enter(
        &self,
        service: &ServiceName,
        source: &dyn Source,
        connection: Connection,
    ) -> Result<Permit, Error> {
        let (location, limits) = (source.location(), self.gates.limits_of(source));
        let Some(mut place) = self.gates.line_up(&location, limits, self.query, connection) else {
            return Ok(self.permit(location, connection));
        };
        let deadline = Instant::now() + self.gates.wait;
        while Instant::now() < deadline {
            let pause = deadline.min(Instant::now() + Gates::STALL);
            if tokio::time::timeout_at(pause, &mut place.granted).await.is_ok() {
                place.taken = true;
                return Ok(self.permit(location, connection));
            }
            self.gates.go_over(&location, self.query, connection);
        }
        if place.granted.try_recv().is_ok() {
            place.taken = true;
            return Ok(self.permit(location, connection));
        }
        let (limit, option) = match connection {
            Connection::Wanted => (limits.wanting, limits.option),
            Connection::Had => (limits.all, STATEMENTS_MAX),
        };
        Err(self.busy(service, &location, limit, option))
    }

    /// How the store stands for a statement whose turn did not come.
    fn busy(&self, service: &ServiceName, location: &str, limit: usize, option: &'static str) -> Error {
        let (running, queued) = self.gates.state.lock().stands(location);
        Error::Busy {
            service: service.clone(),
            statements: limit,
            running,
            waiting: queued.saturating_sub(1),
            waited_ms: u64::try_from(self.gates.wait.as_millis()).unwrap_or(u64::MAX),
            option,
        }
    }

    /// Says that a statement of this query waits for something else that other queries may hold, while the pause lives.
    pub fn pause(&self) -> Pause {
        *self.gates.state.lock().waiting.entry(self.query).or_default() += 1;
        Pause { gates: Arc::clone(&self.gates), query: self.query }
    }

    fn permit(&self, location: String, connection: Connection) -> Permit {
        Permit { gates: Arc::clone(&self.gates), location, query: self.query, connection }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        decrement(&mut self.gates.state.lock().waiting, self.query);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gates.state.lock().leave(&self.location, self.query, self.connection);
    }
}

impl Gates {
    /// Lets a statement in, or else gives it a place in the queue.
    fn line_up(self: &Arc<Self>, location: &str, limits: Limits, query: u64, connection: Connection) -> Option<Place> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.tickets += 1;
        let ticket = state.tickets;
        let store = state.stores.entry(location.to_owned()).or_insert_with(Store::new);
        if store.has_room(limits, connection) {
            store.let_in(query, connection);
            return None;
        }
        let (grant, granted) = oneshot::channel();
        store.queue.push_back(Waiter { ticket, query, limits, connection, grant });
        *state.waiting.entry(query).or_default() += 1;
        let gates = Arc::clone(self);
        Some(Place { gates, location: location.to_owned(), query, connection, ticket, granted, taken: false })
    }

    /// Lets waiting statements of a query in over the limit, where nothing else can go on.
    fn go_over(&self, location: &str, query: u64, connection: Connection) {
        let mut state = self.state.lock();
        let free = state.over.is_none_or(|over| over == query);
        let is_stuck = match connection {
            Connection::Wanted => state.is_stuck(location),
            Connection::Had => state.stands_still(location),
        };
        if free && state.holds(query) && is_stuck {
            state.over = Some(query);
            state.let_over(location, query);
        }
    }
}

impl State {
    /// Whether the query runs a statement anywhere.
    fn holds(&self, query: u64) -> bool {
        self.stores.values().any(|store| store.running.contains_key(&query))
    }

    /// How many statements run at the store, and how many wait.
    fn stands(&self, location: &str) -> (usize, usize) {
        self.stores.get(location).map_or((0, 0), |store| (store.running(), store.queue.len()))
    }

    /// Whether nothing has moved at the store for a while.
    fn stands_still(&self, location: &str) -> bool {
        self.stores.get(location).is_some_and(|store| store.moved.elapsed() >= Gates::STALL)
    }

    /// Whether nothing has moved at the store for a while, and every query that runs there waits for something itself.
    fn is_stuck(&self, location: &str) -> bool {
        let waits = |store: &Store| store.running.keys().all(|query| self.waiting.contains_key(query));
        self.stands_still(location) && self.stores.get(location).is_some_and(waits)
    }

    fn let_over(&mut self, location: &str, query: u64) {
        let Some(store) = self.stores.get_mut(location) else { return };
        let count = store.running.get(&query).copied().unwrap_or(0).max(1);
        for _ in 0..count {
            let Some(index) = store.queue.iter().position(|waiter| waiter.query == query) else { return };
            store.grant(index, &mut self.waiting);
        }
        store.moved = Instant::now();
    }

    /// A statement has ended: others take its place.
    fn leave(&mut self, location: &str, query: u64, connection: Connection) {
        if let Some(store) = self.stores.get_mut(location) {
            decrement(&mut store.running, query);
            store.wanting -= usize::from(connection == Connection::Wanted);
            store.moved = Instant::now();
        }
        self.let_next_in(location);
        if self.over == Some(query) && !self.holds(query) {
            self.over = None;
        }
        if self.stores.get(location).is_some_and(|store| store.running.is_empty() && store.queue.is_empty()) {
            self.stores.remove(location);
        }
    }

    fn let_next_in(&mut self, location: &str) {
        while let Some(store) = self.stores.get(location) {
            let has_room = |waiter: &Waiter| store.has_room(waiter.limits, waiter.connection);
            let mut may_enter = store.queue.iter().enumerate().filter(|(_, waiter)| has_room(waiter));
            let Some((first, _)) = may_enter.clone().next() else { return };
            let next = may_enter.find(|(_, waiter)| self.holds(waiter.query)).map_or(first, |(index, _)| index);
            if let Some(store) = self.stores.get_mut(location) {
                store.grant(next, &mut self.waiting);
            }
        }
    }
}

impl Store {
    fn new() -> Self {
        Self { running: HashMap::new(), wanting: 0, queue: VecDeque::new(), moved: Instant::now() }
    }

    fn running(&self) -> usize {
        self.running.values().sum()
    }

    fn has_room(&self, limits: Limits, connection: Connection) -> bool {
        let running = self.running();
        match connection {
            Connection::Wanted => running < limits.all && self.wanting < limits.wanting,
            // Where there is one place, whoever has it may want a connection.
            Connection::Had => running < limits.all || (limits.all == 1 && running == self.wanting),
        }
    }

    fn let_in(&mut self, query: u64, connection: Connection) {
        *self.running.entry(query).or_default() += 1;
        self.wanting += usize::from(connection == Connection::Wanted);
    }

    /// Lets the waiter at this place of the queue in.
    fn grant(&mut self, index: usize, waiting: &mut HashMap<u64, usize>) {
        let Some(waiter) = self.queue.remove(index) else { return };
        decrement(waiting, waiter.query);
        self.let_in(waiter.query, waiter.connection);
        // A place keeps its receiver until it has left the queue under the lock, so somebody hears this.
        let _heard = waiter.grant.send(());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut state = self.gates.state.lock();
        let state = &mut *state;
        let queue = state.stores.get_mut(&self.location).map(|store| &mut store.queue);
        match queue.and_then(|queue| Some((queue.iter().position(|waiter| waiter.ticket == self.ticket)?, queue))) {
            Some((index, queue)) => {
                queue.remove(index);
                decrement(&mut state.waiting, self.query);
            }
            // Granted in the moment in which it was given up.
            None => state.leave(&self.location, self.query, self.connection),
        }
    }
}

fn decrement(counts: &mut HashMap<u64, usize>, key: u64) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use headwater_source::{Capabilities, Scan, ScanRequest, TableDef, async_trait};

    use super::*;

    /// A store that is only a name.
    #[derive(Debug)]
    struct Named(&'static str, Option<usize>, States);

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum States {
        Joined,
        HaveConnections,
    }

    #[async_trait]
    impl Source for Named {
        fn location(&self) -> String {
            self.0.to_owned()
        }

        fn capabilities(&self) -> &Capabilities {
            const NONE: Capabilities = Capabilities::new("named", &[]);
            &NONE
        }

        fn connections_max(&self) -> Option<usize> {
            self.1
        }

        fn states_have_connections(&self) -> bool {
            self.2 == States::HaveConnections
        }

        async fn tables(&self) -> Result<Vec<TableDef>, Error> {
            Ok(vec![])
        }

        async fn table(&self, _: &str) -> Result<TableDef, Error> {
            Err(Error::config("a name has no tables"))
        }

        async fn prepare(&self, _: ScanRequest) -> Result<Arc<dyn Scan>, Error> {
            Err(Error::config("a name has no rows"))
        }
    }

    const ONE: Named = Named("one", None, States::Joined);
    const TWO: Named = Named("two", None, States::Joined);
    const LONG: Duration = Duration::from_secs(60);

    fn service() -> ServiceName {
        ServiceName::parse("orders").unwrap()
    }

    async fn enter(admission: &Admission, source: &Named) -> Result<Permit, Error> {
        admission.enter(&service(), source, Connection::Wanted).await
    }

    async fn enter_with_connection(admission: &Admission, source: &Named) -> Result<Permit, Error> {
        admission.enter(&service(), source, Connection::Had).await
    }

    fn nothing_is_left(gates: &Gates) {
        let state = gates.state.lock();
        assert!(state.stores.is_empty() && state.waiting.is_empty() && state.over.is_none(), "{state:?}");
    }

    #[tokio::test]
    async fn full_store_is_waited_for_and_then_an_error_that_names_the_service() {
        let gates = Gates::new(1, Duration::from_millis(50));
        let (first, second) = (gates.admission(1), gates.admission(2));
        let permit = enter(&first, &ONE).await.unwrap();
        let _other_store = enter(&second, &TWO).await.unwrap();
        let message = enter(&second, &ONE).await.unwrap_err().to_string();
        assert!(
            message.contains("\"orders\"") && message.contains("statements_max") && message.contains("50 ms"),
            "{message}"
        );
        drop(permit);
        enter(&second, &ONE).await.unwrap();
    }

    #[tokio::test]
    async fn statement_whose_turn_did_not_come_is_told_how_the_store_stands_though_others_have_ended() {
        let gates = Gates::new(2, Duration::from_millis(300));
        let running = gates.admission(1);
        let (_one, two) = (enter(&running, &ONE).await.unwrap(), enter(&gates.admission(2), &ONE).await.unwrap());
        let queries = [3, 4, 5].map(|query| gates.admission(query));
        let mut places = queries.iter().map(|admission| Box::pin(enter(admission, &ONE))).collect::<Vec<_>>();
        for place in &mut places {
            assert!(place.as_mut().now_or_never().is_none());
        }
        drop(two);
        let _its_turn = places.remove(0).await.unwrap();
        let message = places.remove(0).await.unwrap_err().to_string();
        for part in ["\"orders\"", "2 statements already, of 2", "1 waiting", "300 ms", "raise statements_max or"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!message.contains("none ended"), "{message}");
    }

    #[tokio::test]
    async fn limit_that_a_source_sets_is_named() {
        let gates = Gates::new(16, Duration::from_millis(10));
        let small = Named("small", Some(2), States::Joined);
        let _held = enter(&gates.admission(1), &small).await.unwrap();
        let message = enter(&gates.admission(2), &small).await.unwrap_err().to_string();
        assert!(message.contains("of 1 at a time") && message.contains("raise pool_size in its manifest"), "{message}");
    }

    #[tokio::test]
    async fn statements_enter_in_turn_and_those_of_a_query_that_has_begun_first() {
        let gates = Gates::new(2, LONG);
        let order = Arc::new(Mutex::new(Vec::new()));
        let running = gates.admission(1);
        let (one, two) = (enter(&running, &ONE).await.unwrap(), enter(&running, &ONE).await.unwrap());
        let mut tasks = Vec::new();
        for query in [2, 3, 1] {
            let (admission, order) = (gates.admission(query), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let permit = enter(&admission, &ONE).await.unwrap();
                order.lock().push(query);
                drop(permit);
            }));
            tokio::task::yield_now().await;
        }
        drop(two);
        for task in tasks {
            task.await.unwrap();
        }
        drop(one);
        assert_eq!(*order.lock(), [1, 2, 3]);
        nothing_is_left(&gates);
    }

    #[tokio::test]
    async fn waiter_that_leaves_frees_its_place() {
        let gates = Gates::new(1, LONG);
        let permit = enter(&gates.admission(1), &ONE).await.unwrap();
        let admission = gates.admission(2);
        assert!(enter(&admission, &ONE).now_or_never().is_none());
        drop(permit);
        nothing_is_left(&gates);
    }

    #[tokio::test]
    async fn query_with_more_statements_than_the_limit_gets_them_all() {
        let gates = Gates::new(1, LONG);
        let admission = gates.admission(1);
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(enter(&admission, &ONE).await.unwrap());
        }
        drop(permits);
        nothing_is_left(&gates);
    }

    #[tokio::test]
    async fn query_that_waits_for_something_else_is_known_to_wait() {
        let gates = Gates::new(2, LONG);
        let other = gates.admission(1);
        let _held = enter(&other, &ONE).await.unwrap();
        let _paused = other.pause();
        let admission = gates.admission(2);
        let _own = enter(&admission, &ONE).await.unwrap();
        let _over = enter(&admission, &ONE).await.unwrap();
    }

    #[tokio::test]
    async fn query_does_not_go_over_while_another_can_end() {
        let gates = Gates::new(2, 3 * Gates::STALL);
        let _other = enter(&gates.admission(1), &ONE).await.unwrap();
        let admission = gates.admission(2);
        let _own = enter(&admission, &ONE).await.unwrap();
        assert!(matches!(enter(&admission, &ONE).await, Err(Error::Busy { statements: 2, .. })));
    }

    #[tokio::test]
    async fn queries_that_need_three_statements_at_once_all_end_under_a_limit_of_one() {
        let gates = Gates::new(1, LONG);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let queries = (1..=20).map(|query| {
            let (gates, running, most) = (Arc::clone(&gates), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let admission = gates.admission(query);
                // Half of them want the stores in the other order.
                let stores = if query % 2 == 0 { [&ONE, &ONE, &TWO] } else { [&TWO, &ONE, &ONE] };
                let mut permits = Vec::new();
                for store in stores {
                    permits.push(enter(&admission, store).await.unwrap());
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                }
                tokio::task::yield_now().await;
                running.fetch_sub(permits.len(), Ordering::SeqCst);
            })
        });
        for query in queries.collect::<Vec<_>>() {
            query.await.unwrap();
        }
        // One at each store, and what the one query that goes over has beside.
        assert!(most.load(Ordering::SeqCst) <= 4, "{most:?}");
        nothing_is_left(&gates);
    }

    #[tokio::test]
    async fn statements_that_want_connections_and_those_that_have_them_do_not_wait_for_one_another() {
        let gates = Gates::new(5, LONG);
        let pool = Named("pool", Some(4), States::HaveConnections);
        let (wanting, having) = (gates.admission(1), gates.admission(2));
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(enter(&wanting, &pool).await.unwrap());
        }
        let mut wants = Box::pin(enter(&wanting, &pool));
        assert!(wants.as_mut().now_or_never().is_none(), "a connection is kept free");
        for _ in 0..2 {
            permits.push(enter_with_connection(&having, &pool).now_or_never().expect("does not wait").unwrap());
        }
        let mut has = Box::pin(enter_with_connection(&having, &pool));
        assert!(has.as_mut().now_or_never().is_none(), "the engine's own limit holds");
        // One ends that had its connection: there is room for another such, and not for who came before.
        drop(permits.pop());
        permits.push(has.now_or_never().expect("its turn").unwrap());
        assert!(wants.as_mut().now_or_never().is_none());
        // One ends that took one.
        drop(permits.remove(0));
        permits.push(wants.now_or_never().expect("its turn").unwrap());
        drop(permits);
        nothing_is_left(&gates);
    }

    #[tokio::test]
    async fn statements_that_want_connections_never_have_all_places() {
        for limit in [1, 2, 4] {
            let gates = Gates::new(limit, LONG);
            let pool = Named("pool", Some(8), States::HaveConnections);
            let (wanting, having) = (gates.admission(1), gates.admission(2));
            let mut permits = Vec::new();
            while let Some(permit) = enter(&wanting, &pool).now_or_never() {
                permits.push(permit.unwrap());
            }
            assert_eq!(permits.len(), (limit - 1).max(1));
            permits.push(enter_with_connection(&having, &pool).now_or_never().expect("its place").unwrap());
            // A merge of two parts gets both, though nobody here says that they wait for a connection.
            permits.push(enter_with_connection(&having, &pool).await.unwrap());
            drop(permits);
            nothing_is_left(&gates);
        }
    }

    #[test]
    fn limit_leaves_connections_of_a_small_pool_free() {
        let gates = Gates::new(16, LONG);
        let limits = |connections, states| gates.limits_of(&Named("one", connections, states));
        for (connections, limit) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (100, 16)] {
            let option = if limit < 16 { POOL_SIZE } else { STATEMENTS_MAX };
            assert_eq!(limits(Some(connections), States::Joined), Limits { all: limit, wanting: limit, option });
            let having = Limits { all: 16, wanting: limit.min(15), option };
            assert_eq!(limits(Some(connections), States::HaveConnections), having);
        }
        assert_eq!(limits(None, States::Joined), Limits { all: 16, wanting: 16, option: STATEMENTS_MAX });
    }
}
