//! The cookie that names a client's session.
//!
//! The name is all that the cookie holds. A session itself is kept only once a statement has set something in it, so that a client
//! without cookies, to which each answer offers a new one, costs no memory.

use tonic::metadata::{MetadataMap, MetadataValue};
use uuid::Uuid;

/// The cookie's name, which Arrow's own Flight session middleware uses.
const COOKIE: &str = "arrow_flight_session_id";

/// The session of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionKey {
    /// The client sent this cookie.
    Presented(Uuid),
    /// The client sent none and is offered this one.
    Offered(Uuid),
}

impl SessionKey {
    /// The session that a request names, or a new one.
    pub(super) fn of(metadata: &MetadataMap) -> Self {
        metadata
            .get_all("cookie")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
            .find_map(|id| Uuid::try_parse(id.trim_matches('"')).ok())
            .map_or_else(|| Self::Offered(Uuid::new_v4()), Self::Presented)
    }

    pub(super) fn id(self) -> Uuid {
        match self {
            Self::Presented(id) | Self::Offered(id) => id,
        }
    }

    /// Offers the cookie in an answer, where the client had none.
    pub(super) fn offer(self, metadata: &mut MetadataMap) {
        if let Self::Offered(id) = self
            && let Ok(value) = MetadataValue::try_from(format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict"))
        {
            metadata.append("set-cookie", value);
        }
    }
}

/// The value of a `cookie` header that names a session of its own, for our client.
pub(crate) fn new_cookie() -> String {
    format!("{COOKIE}={}", Uuid::new_v4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cookie: &str) -> SessionKey {
        let mut metadata = MetadataMap::new();
        metadata.insert("cookie", cookie.parse().unwrap());
        SessionKey::of(&metadata)
    }

    #[test]
    fn offered_cookie_comes_back_as_the_same_session() {
        let offered = SessionKey::of(&MetadataMap::new());
        let mut answer = MetadataMap::new();
        offered.offer(&mut answer);
        let set = answer.get("set-cookie").unwrap().to_str().unwrap();
        let pair = set.split(';').next().unwrap();
        assert_eq!(key(&format!("theme=dark; {pair}")), SessionKey::Presented(offered.id()));
    }

    #[test]
    fn cookie_that_is_no_session_is_replaced() {
        assert!(matches!(key("arrow_flight_session_id=1"), SessionKey::Offered(_)));
        assert!(matches!(key("arrow_flight_session_identity=x"), SessionKey::Offered(_)));
    }

    #[test]
    fn presented_cookie_is_not_set_again() {
        let mut answer = MetadataMap::new();
        key(&new_cookie()).offer(&mut answer);
        assert!(answer.is_empty());
    }
}
