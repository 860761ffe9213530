//! What a transaction says that it depends on: a JSON object of texts, `{"orders": "0/16B3748"}`, a position for each service.

use headwater_source::Dependency;

/// Reads the object.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Dependency>, &'static str> {
    let value = serde_json::from_slice(text).map_err(|_| "text that is not JSON")?;
    let serde_json::Value::Object(services) = value else { return Err("JSON that is not an object") };
    let dependency = |(service, token)| match token {
        serde_json::Value::String(token) => Ok(Dependency { service, token }),
        serde_json::Value::Number(number) => Ok(Dependency { service, token: number.to_string() }),
        _ => Err("an object whose values are not all texts"),
    };
    services.into_iter().map(dependency).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_of_texts_and_numbers_is_taken_and_all_else_refused() {
        let parsed = parse(br#"{"orders": "0/16B3748", "catalog": 7}"#).unwrap();
        let pairs: Vec<(&str, &str)> = parsed.iter().map(|one| (one.service.as_str(), one.token.as_str())).collect();
        assert_eq!(pairs, [("catalog", "7"), ("orders", "0/16B3748")]);
        for text in ["", "[]", "{\"a\": {}}", "{\"a\": null}", "\"a\""] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
