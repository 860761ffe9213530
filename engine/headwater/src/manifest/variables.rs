//! Replaces `${VARIABLE}` in a text of a manifest by the environment's value.
//!
//! This happens on the text of one parsed scalar, so a value that holds `: `, quotes or line breaks can't change what the
//! manifest says. What comes out is not looked at again: a value that holds `${` stays as it is.
//!
//! - `${NAME}` is the variable's value; a variable that is not set is a fault.
//! - `${NAME:-default}` is the default where the variable is not set or empty, as in a shell.
//! - `$${` is `${` itself. A `$` elsewhere is a `$`.

/// A text after its variables were replaced.
#[derive(PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Whether it holds a variable's value, which may be a credential.
    pub(super) from_variable: bool,
}

/// Replaces each variable, or says all that is wrong.
pub(super) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Vec<String>> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), from_variable: false };
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.text.push_str(before);
            expanded.text.push_str("${");
            rest = after;
            continue;
        }
        expanded.text.push_str(before);
        let Some(end) = after.find('}') else {
            faults.push("\"${\" without \"}\"; write \"$${\" for the characters themselves".to_owned());
            break;
        };
        match value(&after[..end], lookup) {
            Ok(value) => expanded.text.push_str(&value),
            Err(fault) => faults.push(fault),
        }
        expanded.from_variable = true;
        rest = &after[end + 1..];
    }
    expanded.text.push_str(rest);
    if faults.is_empty() { Ok(expanded) } else { Err(faults) }
}

/// The value of what stands between the braces.
fn value(reference: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_name(name) {
        return Err("a variable is written ${NAME} or ${NAME:-default}, with a name of letters, digits and _; \
                    write \"$${\" for the characters themselves"
            .to_owned());
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("the default of variable \"{name}\" holds another variable; a default is plain text"));
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("environment variable \"{name}\" is not set; set it, or write ${{{name}:-default}}"))
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("x: \"y\"\n- ${A} $${".to_owned()),
            _ => None,
        }
    }

    fn text(written: &str) -> String {
        expand(written, &environment).map(|expanded| expanded.text).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    #[test]
    fn variables_defaults_and_escapes_are_replaced_once() {
        assert_eq!(text("a${A}b${A}"), "a1b1");
        assert_eq!(text("${EMPTY}|${EMPTY:-d}|${NONE:-d:-e}|${NONE:-}"), "|d|d:-e|");
        assert_eq!(text("$${A} $$${A} $ $$ cost$"), "${A} $${A} $ $$ cost$");
        assert_eq!(text("<${TRICKY}>"), "<x: \"y\"\n- ${A} $${>");
    }

    #[test]
    fn every_wrong_variable_is_named_and_no_value_is_shown() {
        let faults = expand("${NONE} ${A} ${not-a-name} ${B:-${A} ${", &environment).err().unwrap_or_default();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(faults[0].contains("\"NONE\" is not set"), "{faults:?}");
        assert!(!faults[1].contains("not-a-name"), "{faults:?}");
        assert!(faults[2].contains("default of variable \"B\""), "{faults:?}");
        assert!(faults[3].contains("without \"}\""), "{faults:?}");
    }
}
