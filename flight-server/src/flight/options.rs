//! The options of a session: SetSessionOptions, GetSessionOptions, CloseSession.
//!
//! Options are what `SET` sets: `search_path` and `headwater.*`; `schema` is `search_path` and `catalog` the one that there is, as JDBC's driver for Flight SQL calls them.
//! arrow-flight 59 has no messages for these actions; they are those of Flight.proto.

use std::collections::HashMap;

use prost::Message;

use super::metadata::CATALOG;

/// `CloseSessionResult.Status.CLOSED`.
const CLOSED: i32 = 1;

/// `SetSessionOptionsResult.ErrorValue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Name = 1,
    Value = 2,
    Error = 3,
}

/// A value of an option. Without one the option is set back.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OptionValue {
    #[prost(oneof = "Given", tags = "1, 2, 3, 4, 5")]
    pub(super) given: Option<Given>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Given {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(sfixed64, tag = "3")]
    Number(i64),
    #[prost(double, tag = "4")]
    Real(f64),
    #[prost(message, tag = "5")]
    List(Texts),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub(super) values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetRequest {
    #[prost(map = "string, message", tag = "1")]
    pub(super) options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetResult {
    #[prost(map = "string, message", tag = "1")]
    pub(super) errors: HashMap<String, SetError>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetError {
    #[prost(int32, tag = "1")]
    pub(super) value: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetResult {
    #[prost(map = "string, message", tag = "1")]
    pub(super) options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The answer to CloseSession.
pub(super) fn closed() -> Vec<u8> {
    CloseResult { status: CLOSED }.encode_to_vec()
}

/// The statement that sets an option; `None` where it is what it is already.
pub(super) fn statement(name: &str, value: &OptionValue) -> Result<Option<String>, Wrong> {
    let text = match &value.given {
        None => None,
        Some(Given::Text(text)) => Some(text.clone()),
        Some(Given::Flag(flag)) => Some(if *flag { "on" } else { "off" }.to_owned()),
        Some(Given::Number(number)) => Some(number.to_string()),
        Some(Given::Real(number)) => Some(number.to_string()),
        Some(Given::List(texts)) => Some(texts.values.join(",")),
    };
    let name = match name {
        "catalog" => {
            let is_ours = text.is_none_or(|text| text == CATALOG);
            return if is_ours { Ok(None) } else { Err(Wrong::Value) };
        }
        "schema" | "search_path" => "search_path",
        name if is_ours(name) => name,
        _ => return Err(Wrong::Name),
    };
    Ok(Some(match text {
        // Quoted as a text, so that nothing in it is anything else.
        Some(text) => format!("SET {name} = '{}'", text.replace('\'', "''")),
        None => format!("RESET {name}"),
    }))
}

/// Whether a name is `headwater.` and a word.
fn is_ours(name: &str) -> bool {
    name.strip_prefix("headwater.").is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> OptionValue {
        OptionValue { given: Some(Given::Text(text.to_owned())) }
    }

    #[test]
    fn option_becomes_a_setting_and_nothing_else() {
        let set = |name: &str, value: &OptionValue| statement(name, value);
        assert_eq!(set("schema", &text("o'x")), Ok(Some("SET search_path = 'o''x'".to_owned())));
        let flag = OptionValue { given: Some(Given::Flag(false)) };
        assert_eq!(set("headwater.pushdown", &flag), Ok(Some("SET headwater.pushdown = 'off'".to_owned())));
        assert_eq!(
            set("headwater.pushdown", &OptionValue { given: None }),
            Ok(Some("RESET headwater.pushdown".to_owned()))
        );
        assert_eq!(set("catalog", &text("headwater")), Ok(None));
        assert_eq!(set("catalog", &text("other")), Err(Wrong::Value));
        for name in ["datafusion.runtime.memory_limit", "headwater.x = 1; SET y", "headwater.", "x"] {
            assert_eq!(set(name, &text("1")), Err(Wrong::Name), "{name}");
        }
    }

    #[test]
    fn messages_are_those_of_the_protocol() {
        let request = SetRequest { options: [("a".to_owned(), OptionValue { given: Some(Given::Number(1)) })].into() };
        // Field 1, an entry: field 1 "a", field 2 a value whose field 3 is eight bytes.
        assert_eq!(request.encode_to_vec(), [10, 14, 10, 1, b'a', 18, 9, 25, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(closed(), [8, 1]);
    }
}
