//! Places in a binary log: a file, an offset, and the GTIDs of all that is before it.
//!
//! The file and the offset are what reading on begins with; the GTIDs are what a writer gets after its commit, and what tells a log from
//! another that has a file of the same name (RESET MASTER begins anew). Written `binlog.000007:4242 0-1-99,5-2-7`.

use std::collections::BTreeMap;
use std::fmt;

use headwater_source::Position;

/// A place at the end of a transaction, or at one of the log's own events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) offset: u32,
    pub(super) gtids: Gtids,
}

/// The last GTID of each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gtids(BTreeMap<u32, (u32, u64)>);

/// One GTID: its domain, its server, its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gtid {
    pub(super) domain: u32,
    pub(super) server: u32,
    pub(super) number: u64,
}

impl Gtids {
    /// Reads a list as the server writes it; an empty text is an empty list.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut gtids = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            gtids.add(Gtid::parse(part)?);
        }
        Some(gtids)
    }

    /// Counts a GTID that came behind the others.
    pub(super) fn add(&mut self, gtid: Gtid) {
        self.0.insert(gtid.domain, (gtid.server, gtid.number));
    }

    /// Whether everything of another list is in this one: numbers grow within a domain.
    pub(super) fn cover(&self, other: &Self) -> bool {
        other.0.iter().all(|(domain, (_, number))| self.0.get(domain).is_some_and(|(_, own)| own >= number))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Gtid {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let gtid = Self {
            domain: parts.next()?.parse().ok()?,
            server: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(gtid)
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (domain, (server, number)) in &self.0 {
            write!(f, "{separator}{domain}-{server}-{number}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl Place {
    /// Reads what [`Place::position`] wrote.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let (place, gtids) = token.split_once(' ').unwrap_or((token, ""));
        let (file, offset) = place.rsplit_once(':')?;
        let place = Self { file: file.to_owned(), offset: offset.parse().ok()?, gtids: Gtids::parse(gtids)? };
        place.file_number().map(|_| place)
    }

    /// The number of the file.
    fn file_number(&self) -> Option<u32> {
        self.file.rsplit_once('.')?.1.parse().ok()
    }

    /// The place as a feed's position.
    pub(super) fn position(&self) -> Position {
        let file = u64::from(self.file_number().unwrap_or_default());
        let separator = if self.gtids.is_empty() { "" } else { " " };
        let token = format!("{}:{}{separator}{}", self.file, self.offset, self.gtids);
        Position::new(file << 32 | u64::from(self.offset), token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_written_as_it_is_read_and_other_text_is_refused() {
        for token in ["binlog.000007:4242 0-1-99,5-2-7", "a:b.000001:4"] {
            let place = Place::parse(token).unwrap();
            assert_eq!(place.position().token(), token);
        }
        assert_eq!(Place::parse("binlog.000007:4242").unwrap().position().order(), 7 << 32 | 4242);
        for token in ["", "binlog:4", "binlog.000001", "binlog.000001:x", "binlog.000001:4 0-1", "b.1:4 0-1-2-3"] {
            assert_eq!(Place::parse(token), None, "{token}");
        }
    }

    #[test]
    fn list_covers_another_where_no_domain_is_behind() {
        let gtids = |text| Gtids::parse(text).unwrap();
        assert!(gtids("0-1-9,1-1-5").cover(&gtids("0-2-9")));
        assert!(gtids("0-1-9").cover(&gtids("")));
        assert!(!gtids("0-1-8").cover(&gtids("0-1-9")) && !gtids("0-1-9").cover(&gtids("1-1-1")));
    }
}
