//! Who may read what.
//!
//! Roles and their grants stand in `access.yaml` beside the manifests ([`file`]). A program that asks for somebody says so with a [`Caller`]
//! ([`Engine::session_as`](crate::Engine::session_as)); a session of the program itself ([`Engine::session`](crate::Engine::session)) reads everything.
//!
//! # How a statement is decided
//! 1. **Names** ([`guard`]). The catalog of a caller's session holds what the caller may read and nothing else: a table that is not granted is not there, neither
//!    are its columns, and a listing, a hint or an error can't tell. What is there is a [`Guarded`](guard::Guarded) table with the columns that may be read.
//! 2. **Plan** ([`enforce`]). Once, over the resolved plan and before anything is optimized, pushed down or answered from views, each guarded table is
//!    opened: rows are filtered, columns masked, and a barrier stands above that. A guarded table can't be scanned, so a way around this yields an error and no row.
//! 3. **Run** ([`Leave`]). When the answer is read, the caller's rights must still be those that the plan was made with.
//!
//! # Union
//! What any of a caller's grants lets them read, they may read: the rows of either grant, and a column in the rows of the grants that give it
//! ([`rights`]); elsewhere it is NULL.
//!
//! # Views
//! A view's rows are computed for nobody. It is there for who may read every column that its query reads, unfiltered and unmasked: they could compute it themselves. For
//! anybody else it is there where a grant names it, which is how an administrator shows sums of what nobody may see singly.
//!
//! # Refused
//! Rules with subqueries: what they read would need a decision of its own.
//!
//! Rejected: predicates added to the statement's text (quoting, and names that mean another thing there); filters at the end of a plan (aggregates have read
//! everything by then); a decision at each door (a door would be forgotten).

pub(crate) mod check;
pub(crate) mod enforce;
mod file;
pub(crate) mod guard;
pub(crate) mod reads;
mod rights;
mod rule;
mod schema;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use headwater_rules::{mended_expr_planners, mended_scalar_functions};
use parking_lot::{Mutex, RwLock};
use tracing::info;

use crate::opaque::Opaque;
use crate::{Error, Fault, Result};
pub(crate) use enforce::Enforced;
pub(crate) use file::Policy;
pub(crate) use guard::{SessionGuard, Sight};
pub(crate) use reads::Read;
pub(crate) use rights::Rights;
pub use schema::access_schema;

/// The file's name in a directory of services.
pub const ACCESS_FILE: &str = "access.yaml";

/// How many callers' rights are remembered; more are put together anew each time.
const REMEMBERED_MAX: usize = 10_000;

/// Who asks, as the program knows that embeds the engine. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    user: Option<Arc<str>>,
    door: Option<&'static str>,
    address: Option<IpAddr>,
}

impl Caller {
    /// A user by the name that roles have them by.
    pub fn user(name: &str) -> Self {
        Self { user: Some(name.into()), ..Self::default() }
    }

    /// Somebody of whom nothing is known: what is granted to everybody (`"*"`) is granted to them.
    pub fn anyone() -> Self {
        Self::default()
    }

    /// The same, for the audit log: by which way they came, and from where.
    pub fn at(self, door: &'static str, address: IpAddr) -> Self {
        Self { door: Some(door), address: Some(address), ..self }
    }

    /// The user's name, where it is known.
    pub fn name(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn door(&self) -> Option<&'static str> {
        self.door
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

/// What holds where nothing is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Otherwise {
    /// Without an access file everybody reads everything.
    #[default]
    Open,
    /// Without an access file nobody reads anything.
    Denied,
}

/// The rights in force, shared by all sessions of an engine.
pub(crate) struct Access {
    file: Option<PathBuf>,
    otherwise: Otherwise,
    state: RwLock<Arc<State>>,
    planner: Arc<SessionState>,
    /// The text that was looked at last; `None` where there was no file.
    seen: Mutex<Option<String>>,
}

/// One state of the file.
struct State {
    policy: Option<Policy>,
    rights: Mutex<HashMap<Option<Arc<str>>, Arc<Rights>>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("file", &self.file).field("otherwise", &self.otherwise).finish_non_exhaustive()
    }
}

impl Access {
    /// The rights of a file, which need not be there.
    ///
    /// # Errors
    /// Every fault of the file.
    pub(crate) fn open(file: Option<PathBuf>, otherwise: Otherwise) -> Result<Arc<Self>, Vec<Fault>> {
        let text = file.as_deref().and_then(text_of);
        let policy = match (&file, &text) {
            (Some(file), Some(_)) => Some(Policy::read(file)?),
            _ => None,
        };
        let state = RwLock::new(Arc::new(State::new(policy)));
        Ok(Arc::new(Self { file, otherwise, state, planner: Arc::new(planner()), seen: Mutex::new(text) }))
    }

    /// What rules are planned with.
    fn planner(&self) -> &Arc<SessionState> {
        &self.planner
    }

    /// What a caller may read; `None` where everybody may read everything.
    pub(crate) fn rights(&self, caller: &Caller) -> Option<Arc<Rights>> {
        let state = Arc::clone(&self.state.read());
        if state.policy.is_none() && self.otherwise == Otherwise::Open {
            return None;
        }
        if let Some(known) = state.rights.lock().get(&caller.user) {
            return Some(Arc::clone(known));
        }
        let rights = Arc::new(match &state.policy {
            Some(policy) => policy.rights_of(caller.name()),
            None => Rights::none(caller.name()),
        });
        let mut remembered = state.rights.lock();
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(caller.user.clone(), Arc::clone(&rights));
        }
        Some(rights)
    }

    /// Reads the file again where its text has changed; whether it had. The rights before stay in force where the new file has a fault or is gone.
    ///
    /// # Errors
    /// Every fault of the file, once for each text.
    pub(crate) fn reload(&self) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let text = text_of(file);
        let before = std::mem::replace(&mut *self.seen.lock(), text.clone());
        if before == text {
            return Ok(false);
        }
        if text.is_none() {
            let message = "is gone or can't be read; the rights before stay in force".to_owned();
            return Err(Error::Manifests(vec![Fault { file: file.clone(), line: 0, key: String::new(), message }]));
        }
        let policy = Policy::read(file).map_err(Error::Manifests)?;
        *self.state.write() = Arc::new(State::new(Some(policy)));
        info!(file = %file.display(), "the access file was read again");
        Ok(true)
    }
}

impl State {
    fn new(policy: Option<Policy>) -> Self {
        Self { policy, rights: Mutex::default() }
    }
}

/// DataFusion's functions, and its settings but for the layout of text, which is that of the sources.
fn planner() -> SessionState {
    let config = SessionConfig::new().set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
    SessionStateBuilder::new()
        .with_config(config)
        // Before those of DataFusion.
        .with_expr_planners(mended_expr_planners())
        .with_default_features()
        .with_scalar_functions(mended_scalar_functions())
        .build()
}

/// A file's text; `None` where there is no such file. Of one that is there and can't be read the text is empty, and who reads it as YAML tells what is wrong:
/// it is never taken for one that is not there, which would open everything.
fn text_of(file: &Path) -> Option<String> {
    match std::fs::read(file) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) if is_there(file) => Some(String::new()),
        Err(_) => None,
    }
}

/// Whether anything has this name, be it a link to nowhere; or whether that can't be told.
pub(crate) fn is_there(file: &Path) -> bool {
    match file.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// That a caller's rights are still those that a plan was made with.
#[derive(Debug, Clone)]
pub(crate) struct Leave(Opaque<Held>);

#[derive(Debug)]
struct Held {
    guard: Arc<SessionGuard>,
    rights: Option<Arc<Rights>>,
}

impl Leave {
    pub(crate) fn new(guard: Arc<SessionGuard>, rights: Option<Arc<Rights>>) -> Self {
        Self(Opaque::new(Held { guard, rights }))
    }

    /// Whether they are.
    pub(crate) fn holds(&self) -> bool {
        is_same(&self.0.rights, &self.0.guard.rights())
    }

    pub(crate) fn rights(&self) -> Option<&Arc<Rights>> {
        self.0.rights.as_ref()
    }
}

/// What a session's caller may read at a moment: for a program that keeps what it told them.
#[derive(Debug, Clone)]
pub struct CallerRights(pub(crate) Option<Leave>);

impl CallerRights {
    /// Whether the caller may read just the same now.
    pub fn hold(&self) -> bool {
        self.0.as_ref().is_none_or(Leave::holds)
    }
}

fn is_same(one: &Option<Arc<Rights>>, other: &Option<Arc<Rights>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        _ => false,
    }
}
