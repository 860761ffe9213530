//! Which query a statement belongs to, for whoever looks at `pg_stat_activity`.
//!
//! A statement of a query runs in a transaction of its own, and the name of the application is set for that transaction: it goes out with the transaction's begin, in the
//! same write, and the server itself takes it back where the transaction ends, however that is. The texts of statements stay as they are, and so do those that the server
//! keeps prepared.

use headwater_source::QueryId;

/// Sets the application's name until the transaction ends.
pub(super) const TAG: &str = "SELECT pg_catalog.set_config('application_name', $1, true)";

/// The longest name that a server keeps, in bytes: it cuts off the rest, and the query is named last.
const NAME_BYTES_MAX: usize = 63;

/// The application's name while it runs a statement of a query.
pub(super) fn tagged(application: &str, query: QueryId) -> String {
    let tag = format!(" query={query}");
    let room = NAME_BYTES_MAX.saturating_sub(tag.len());
    format!("{}{tag}", &application[..application.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_named_whole_behind_a_name_that_is_too_long() {
        assert_eq!(tagged("headwater shop", QueryId::new(7)), "headwater shop query=7");
        let long = tagged(&"\u{e9}".repeat(60), QueryId::new(u64::MAX));
        assert!(long.len() <= NAME_BYTES_MAX && long.ends_with("\u{e9} query=18446744073709551615"), "{long}");
    }
}
