//! Names that are parsed once and trusted afterwards.

use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// The name of a service: the schema under which its tables appear in SQL.
///
/// Invariant: it starts with a lower-case letter and holds only lower-case letters, digits and `_`, at most
/// [`ServiceName::MAX_BYTES`] of them, so it never needs quotes in SQL. `information_schema` is reserved.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The longest name that is taken, in bytes (the identifier limit of Postgres).
    pub const MAX_BYTES: usize = 63;

    /// Parses a name, or says which rule it breaks.
    pub fn parse(name: &str) -> Result<Self> {
        let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && name.len() <= Self::MAX_BYTES;
        if !well_formed {
            let reason = format!(
                "service name {name:?} must start with a-z and hold only a-z, 0-9 and _, at most {} of them",
                Self::MAX_BYTES
            );
            return Err(Error::Config { reason });
        }
        if name == "information_schema" {
            return Err(Error::Config { reason: format!("service name {name:?} is reserved; choose another") });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// The known name closest to `name`, where one is close enough to be a likely slip of the pen.
///
/// Distance is Damerau-Levenshtein over lower-cased text; "close" is a third of the longer name's characters, at least one.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lowered = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lowered, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(name.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_needs_no_quotes_is_taken_and_others_are_refused() {
        for good in ["orders", "a", "order_lines_2"] {
            assert_eq!(ServiceName::parse(good).map(|name| name.to_string()).ok().as_deref(), Some(good));
        }
        for bad in ["", "Orders", "2nd", "a-b", "a.b", "ä", "information_schema", &"x".repeat(64)] {
            assert!(ServiceName::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn misspelt_name_finds_its_neighbour_and_a_strange_one_none() {
        assert_eq!(nearest("conector", ["connector", "url"]), Some("connector"));
        assert_eq!(nearest("Publish", ["publishes", "service"]), Some("publishes"));
        assert_eq!(nearest("zebra", ["connector", "url"]), None);
    }
}
