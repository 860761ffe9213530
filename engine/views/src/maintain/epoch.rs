//! What readers see: epochs, each a coherent state of all views.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use headwater_source::Position;
use parking_lot::RwLock;

use super::ViewId;
use crate::Version;

/// A position of each source, by the service's name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Vector(BTreeMap<Arc<str>, Position>);

/// A state of all views. Immutable; who holds it reads the same for as long as it likes.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    /// Its number. Every epoch has a greater one than those before it, across restarts too.
    pub number: u64,
    /// The positions of all sources.
    pub vector: Vector,
    /// The time at which views are that read now(), in nanoseconds since 1970: the clock's, or an earlier one while they catch up.
    pub now: i64,
    pub(super) views: BTreeMap<ViewId, Arc<Shown>>,
}

/// A view in an epoch.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its rows.
    pub version: Version,
    /// The epoch of which they are: that of the [`Epoch`], or an older one where the view has failed since or starts over.
    pub epoch: u64,
    /// The view has failed since: it stays as it is until somebody mends it.
    pub has_failed: bool,
    /// The positions of the sources that it reads, of which they are.
    pub vector: Vector,
}

/// Where the newest epoch is. Cheap to clone; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Published(Arc<RwLock<Arc<Epoch>>>);

impl Epoch {
    /// A view, where it is visible.
    pub fn view(&self, view: ViewId) -> Option<&Arc<Shown>> {
        self.views.get(&view)
    }
}

impl Published {
    /// The newest epoch.
    pub fn latest(&self) -> Arc<Epoch> {
        Arc::clone(&self.0.read())
    }

    pub(super) fn publish(&self, epoch: Epoch) {
        *self.0.write() = Arc::new(epoch);
    }
}

impl Vector {
    /// The position of a service's source.
    pub fn position(&self, service: &str) -> Option<&Position> {
        self.0.get(service)
    }

    /// All positions, by service.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Position)> {
        self.0.iter().map(|(service, position)| (&**service, position))
    }

    /// Whether no source stands before where it stands in the other.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(service, position)| self.position(service).is_some_and(|own| own >= position))
    }

    /// A service whose source stands elsewhere in the other, of those that both have.
    pub fn differs<'a>(&'a self, other: &Self) -> Option<&'a str> {
        let mut shared =
            self.iter().filter(|(service, own)| other.position(service).is_some_and(|other| other != *own));
        shared.next().map(|(service, _)| service)
    }

    pub(super) fn set(&mut self, service: &Arc<str>, position: Position) {
        self.0.insert(Arc::clone(service), position);
    }

    /// The positions of some services.
    pub(super) fn of<'a>(&self, services: impl IntoIterator<Item = &'a Arc<str>>) -> Self {
        let found = services
            .into_iter()
            .filter_map(|service| self.0.get(service).map(|position| (Arc::clone(service), position.clone())));
        Self(found.collect())
    }
}

impl FromIterator<(Arc<str>, Position)> for Vector {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Position)>>(positions: T) -> Self {
        Self(positions.into_iter().collect())
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (service, position)) in self.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{service}: {position}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}
