//! Who a request is from.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use headwater::Caller;

use super::Peer;

/// Who a request is from, and what that rests on. Cheap to clone.
#[derive(Clone)]
pub struct Principal {
    name: Option<Arc<str>>,
    proof: Proof,
    /// The door and the address of the request, for the audit log.
    origin: Option<(&'static str, IpAddr)>,
}

/// Whoever it is is the same wherever they ask from.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.proof == other.proof
    }
}

impl Eq for Principal {}

/// What a principal has shown. The gate looks at it again with every request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing: the gate is open.
    Nothing,
    /// One of the user's credentials, by the SHA-256 of what the users file holds of it. A token of the file may end at a time of its own.
    Credential { stored: [u8; 32], ends: Option<SystemTime> },
    /// A JWT of the issuer, and the configuration that it was checked by.
    Issuer { config: [u8; 32], ends: SystemTime },
}

impl Principal {
    /// Whoever asks a server without users.
    pub fn anyone() -> Self {
        Self { name: None, proof: Proof::Nothing, origin: None }
    }

    pub(crate) fn user(name: &str, proof: Proof) -> Self {
        Self { name: Some(name.into()), proof, origin: None }
    }

    /// The user's name; `None` where the server has no users.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The same, of a request that comes from there.
    pub(crate) fn at(self, peer: &Peer) -> Self {
        Self { origin: Some((peer.door, peer.address)), ..self }
    }

    /// The same as the engine knows them.
    pub(crate) fn caller(&self) -> Caller {
        let caller = self.name().map_or_else(Caller::anyone, Caller::user);
        match self.origin {
            Some((door, address)) => caller.at(door, address),
            None => caller,
        }
    }

    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }
}

/// The name alone.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Principal").field(&self.name).finish()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("anyone"))
    }
}
