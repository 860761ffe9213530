//! Functions of texts, lists and numbers.

use super::functions::{Function, Returns, lenient, strict};
use super::run::World;
use super::value::{Kind, Real, Value};
use crate::pg::catalog::functions::quote;
use crate::pg::error::PgError;

/// The longest text that a function may make, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

pub(super) fn all() -> Vec<Function> {
    let mut all = plain();
    all.extend(parts());
    all.extend(built());
    all.extend(lists());
    all.extend(numbers());
    all
}

fn text(name: &'static str, compute: impl Fn(&str) -> String + Send + Sync + 'static) -> Function {
    strict(name, Kind::Text, move |_, values| Ok(Value::Text(compute(&values[0].shown()).into())))
}

fn plain() -> Vec<Function> {
    let length = |name| strict(name, Kind::Int4, |_, values| Ok(Value::Int(values[0].shown().chars().count() as i64)));
    vec![
        text("lower", str::to_lowercase),
        text("upper", str::to_uppercase),
        text("reverse", |text| text.chars().rev().collect()),
        text("initcap", |text| {
            let mut is_start = true;
            let capital = |c: char| {
                let shown: String = if is_start { c.to_uppercase().collect() } else { c.to_lowercase().collect() };
                is_start = !c.is_alphanumeric();
                shown
            };
            text.chars().map(capital).collect()
        }),
        text("quote_ident", quote),
        text("quote_literal", |text| format!("'{}'", text.replace('\'', "''"))),
        lenient("quote_nullable", Kind::Text, |_, values| {
            Ok(Value::text(&match values.first() {
                Some(Value::Null) | None => "NULL".to_owned(),
                Some(value) => format!("'{}'", value.shown().replace('\'', "''")),
            }))
        }),
        length("length"),
        length("char_length"),
        length("character_length"),
        strict("octet_length", Kind::Int4, |_, values| Ok(Value::Int(values[0].shown().len() as i64))),
        strict("ascii", Kind::Int4, |_, values| {
            Ok(Value::Int(values[0].shown().chars().next().map_or(0, |c| i64::from(u32::from(c)))))
        }),
        strict("chr", Kind::Text, |_, values| {
            let c = values[0].int().and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32);
            Ok(Value::maybe(c.map(|c| c.to_string())))
        }),
    ]
}

fn characters(text: &str, from: i64, count: Option<i64>) -> String {
    let end = count.map_or(i64::MAX, |count| from.saturating_add(count.max(0)));
    let numbered = text.chars().zip(1_i64..);
    numbered.filter(|(_, number)| (from..end).contains(number)).map(|(c, _)| c).collect()
}

fn parts() -> Vec<Function> {
    let substring = |name| {
        strict(name, Kind::Text, |world: &World<'_>, values: &[Value]| {
            let text = values[0].shown();
            if let Value::Text(pattern) = &values[1] {
                let found = world.regex(pattern, false)?;
                let captures = found.captures(&text);
                let part = captures
                    .and_then(|found| found.get(1).or_else(|| found.get(0)).map(|part| part.as_str().to_owned()));
                return Ok(Value::maybe(part));
            }
            let from = values[1].int().unwrap_or_default();
            Ok(Value::Text(characters(&text, from, values.get(2).and_then(Value::int)).into()))
        })
    };
    let trim = |name, start: bool, end: bool| {
        strict(name, Kind::Text, move |_, values: &[Value]| {
            let (text, what) = (values[0].shown(), values.get(1).map_or_else(|| " ".to_owned(), Value::shown));
            let mut part = text.as_str();
            if start {
                part = part.trim_start_matches(|c| what.contains(c));
            }
            if end {
                part = part.trim_end_matches(|c| what.contains(c));
            }
            Ok(Value::text(part))
        })
    };
    let find = |name| {
        strict(name, Kind::Int4, |_: &World<'_>, values: &[Value]| {
            let (text, part) = (values[0].shown(), values[1].shown());
            Ok(Value::Int(text.find(&part).map_or(0, |at| text[..at].chars().count() as i64 + 1)))
        })
    };
    vec![
        substring("substring"),
        substring("substr"),
        trim("btrim", true, true),
        trim("ltrim", true, false),
        trim("rtrim", false, true),
        find("strpos"),
        find("position"),
        strict("left", Kind::Text, |_, values| {
            let (text, count) = (values[0].shown(), values[1].int().unwrap_or_default());
            let length = text.chars().count() as i64;
            let count = if count < 0 { length + count } else { count };
            Ok(Value::Text(characters(&text, 1, Some(count)).into()))
        }),
        strict("right", Kind::Text, |_, values| {
            let (text, count) = (values[0].shown(), values[1].int().unwrap_or_default());
            let length = text.chars().count() as i64;
            let count = if count < 0 { (length + count).max(0) } else { count };
            Ok(Value::Text(characters(&text, length - count + 1, None).into()))
        }),
        strict("split_part", Kind::Text, |_, values| {
            let (text, between) = (values[0].shown(), values[1].shown());
            let number = values[2].int().and_then(|number| usize::try_from(number - 1).ok());
            Ok(Value::text(number.and_then(|number| text.split(&between).nth(number)).unwrap_or_default()))
        }),
        strict("starts_with", Kind::Bool, |_, values| {
            Ok(Value::Bool(values[0].shown().starts_with(&values[1].shown())))
        }),
        strict("parse_ident", Kind::Text.list(), |_, values| {
            let text = values[0].shown();
            let mut parts = Vec::new();
            let mut chars = text.chars().peekable();
            let (mut part, mut in_quotes) = (String::new(), false);
            while let Some(next) = chars.next() {
                match next {
                    '"' if in_quotes && chars.peek() == Some(&'"') => part.extend(chars.next()),
                    '"' => in_quotes = !in_quotes,
                    '.' if !in_quotes => parts.push(std::mem::take(&mut part)),
                    other if in_quotes => part.push(other),
                    other => part.extend(other.to_lowercase()),
                }
            }
            parts.push(part);
            Ok(Value::list(parts.iter().map(|part| Value::text(part)).collect()))
        }),
    ]
}

fn within(text: String) -> Result<Value, PgError> {
    match text.len() <= TEXT_BYTES_MAX {
        true => Ok(Value::Text(text.into())),
        false => Err(PgError::new("54000", format!("a text has at most {TEXT_BYTES_MAX} bytes here"))),
    }
}

fn built() -> Vec<Function> {
    vec![
        strict("replace", Kind::Text, |_, values| {
            let (from, to) = (values[1].shown(), values[2].shown());
            if from.is_empty() {
                return Ok(values[0].clone());
            }
            within(values[0].shown().replace(&from, &to))
        }),
        strict("translate", Kind::Text, |_, values| {
            let (from, to): (Vec<char>, Vec<char>) =
                (values[1].shown().chars().collect(), values[2].shown().chars().collect());
            let put = |c: char| match from.iter().position(|known| *known == c) {
                Some(place) => to.get(place).copied(),
                None => Some(c),
            };
            Ok(Value::Text(values[0].shown().chars().filter_map(put).collect::<String>().into()))
        }),
        strict("repeat", Kind::Text, |_, values| {
            let (text, count) = (values[0].shown(), values[1].int().unwrap_or_default().max(0));
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            match text.len().checked_mul(count) {
                Some(bytes) if bytes <= TEXT_BYTES_MAX => Ok(Value::Text(text.repeat(count).into())),
                _ => Err(PgError::new("54000", format!("a text has at most {TEXT_BYTES_MAX} bytes here"))),
            }
        }),
        strict("regexp_replace", Kind::Text, |world, values| {
            let flags = values.get(3).map(Value::shown).unwrap_or_default();
            let pattern = world.regex(&values[1].shown(), flags.contains('i'))?;
            // PostgreSQL names groups \1 and the crate $1.
            let with = values[2].shown().replace('$', "$$");
            let with = (0..10).fold(with, |with, group| with.replace(&format!("\\{group}"), &format!("${{{group}}}")));
            let with = with.replace("\\&", "${0}");
            let text = values[0].shown();
            let replaced = match flags.contains('g') {
                true => pattern.replace_all(&text, with.as_str()),
                false => pattern.replace(&text, with.as_str()),
            };
            within(replaced.into_owned())
        }),
        strict("regexp_match", Kind::Text.list(), |world, values| {
            let flags = values.get(2).map(Value::shown).unwrap_or_default();
            let pattern = world.regex(&values[1].shown(), flags.contains('i'))?;
            let text = values[0].shown();
            let Some(found) = pattern.captures(&text) else { return Ok(Value::Null) };
            let skipped = usize::from(found.len() > 1);
            let parts = found.iter().skip(skipped).map(|part| Value::maybe(part.map(|part| part.as_str().to_owned())));
            Ok(Value::list(parts.collect()))
        }),
        lenient("concat", Kind::Text, |_, values| {
            within(values.iter().filter(|value| !value.is_null()).map(Value::shown).collect())
        }),
        lenient("concat_ws", Kind::Text, |_, values| {
            let Some((between, rest)) = values.split_first().filter(|(between, _)| !between.is_null()) else {
                return Ok(Value::Null);
            };
            let parts: Vec<String> = rest.iter().filter(|value| !value.is_null()).map(Value::shown).collect();
            within(parts.join(&between.shown()))
        }),
        lenient("format", Kind::Text, format),
        lenient("json_build_object", Kind::Text, object),
        lenient("jsonb_build_object", Kind::Text, object),
    ]
}

/// A JSON object of names and values in turn.
fn object(_: &World<'_>, values: &[Value]) -> Result<Value, PgError> {
    let json = |value: &Value| match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => serde_json::Value::from(*flag),
        Value::Int(number) => serde_json::Value::from(*number),
        Value::Float(Real(number)) => serde_json::Value::from(*number),
        other => serde_json::Value::from(other.shown()),
    };
    let mut fields = serde_json::Map::new();
    for pair in values.chunks(2) {
        let [name, value] = pair else {
            return Err(PgError::new("22023", "json_build_object() takes names and values in turn"));
        };
        fields.insert(name.shown(), json(value));
    }
    within(serde_json::Value::Object(fields).to_string())
}

/// PostgreSQL's `format`: %s, %I, %L and %%, in turn or by number.
fn format(_: &World<'_>, values: &[Value]) -> Result<Value, PgError> {
    let Some(Value::Text(pattern)) = values.first() else { return Ok(Value::Null) };
    let wrong = || PgError::new("22023", "format() takes %s, %I, %L and %%, with as many values");
    let (mut out, mut next, mut chars) = (String::new(), 1, pattern.chars().peekable());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut digits = String::new();
        while let Some(digit) = chars.peek().filter(|c| c.is_ascii_digit()) {
            digits.push(*digit);
            chars.next();
        }
        if !digits.is_empty() {
            if chars.next() != Some('$') {
                return Err(wrong());
            }
            next = digits.parse().map_err(|_| wrong())?;
        }
        let kind = chars.next().ok_or_else(wrong)?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = values.get(next).ok_or_else(wrong)?;
        next += 1;
        match kind {
            's' => out.push_str(&value.shown()),
            'I' => out.push_str(&quote(&value.shown())),
            'L' if value.is_null() => out.push_str("NULL"),
            'L' => out.push_str(&format!("'{}'", value.shown().replace('\'', "''"))),
            _ => return Err(wrong()),
        }
    }
    within(out)
}

fn lists() -> Vec<Function> {
    let length = |name| {
        strict(name, Kind::Int4, |_: &World<'_>, values: &[Value]| {
            let length = values[0].items().map_or(0, <[Value]>::len) as i64;
            Ok(if length == 0 && values.len() > 1 { Value::Null } else { Value::Int(length) })
        })
    };
    let same = || -> Returns {
        Box::new(|kinds| match kinds.iter().find(|kind| kind.element().is_some()) {
            Some(list) => list.clone(),
            None => kinds.first().cloned().unwrap_or(Kind::Text).list(),
        })
    };
    let items = |value: &Value| value.items().unwrap_or_default().to_vec();
    vec![
        length("array_length"),
        length("cardinality"),
        // Which numbers a list has is a matter of its type, and is settled when the statement is compiled.
        strict("array_lower", Kind::Int4, |_, values| {
            let is_empty = values[0].items().is_none_or(<[Value]>::is_empty);
            Ok(if is_empty { Value::Null } else { Value::Int(1) })
        }),
        strict("array_upper", Kind::Int4, |_, values| {
            let length = values[0].items().map_or(0, <[Value]>::len) as i64;
            Ok(if length == 0 { Value::Null } else { Value::Int(length) })
        }),
        strict("array_ndims", Kind::Int4, |_, _| Ok(Value::Int(1))),
        lenient("array_to_string", Kind::Text, |_, values| {
            let (Some(list), Some(Value::Text(between))) = (values.first().and_then(Value::items), values.get(1))
            else {
                return Ok(Value::Null);
            };
            let missing = values.get(2).filter(|value| !value.is_null()).map(Value::shown);
            let shown = |item: &Value| match item {
                Value::Null => missing.clone(),
                Value::Bool(flag) => Some(if *flag { "t" } else { "f" }.to_owned()),
                item => Some(item.shown()),
            };
            within(list.iter().filter_map(shown).collect::<Vec<_>>().join(between))
        }),
        lenient("string_to_array", Kind::Text.list(), |_, values| {
            let Some(Value::Text(text)) = values.first() else { return Ok(Value::Null) };
            if text.is_empty() {
                return Ok(Value::list(vec![]));
            }
            let missing = values.get(2).filter(|value| !value.is_null()).map(Value::shown);
            let item = |part: &str| match missing.as_deref() == Some(part) {
                true => Value::Null,
                false => Value::text(part),
            };
            Ok(Value::list(match values.get(1) {
                Some(Value::Text(between)) if !between.is_empty() => text.split(&**between).map(item).collect(),
                Some(Value::Text(_)) => vec![item(text)],
                _ => text.chars().map(|c| item(&c.to_string())).collect(),
            }))
        }),
        lenient("array_position", Kind::Int4, |_, values| {
            let Some(list) = values.first().and_then(Value::items) else { return Ok(Value::Null) };
            let wanted = values.get(1).unwrap_or(&Value::Null);
            Ok(list.iter().position(|item| item == wanted).map_or(Value::Null, |at| Value::Int(at as i64 + 1)))
        }),
        Function {
            returns: same(),
            ..lenient("array_append", Kind::Text, move |_, values| {
                let mut list = items(&values[0]);
                list.extend(values.get(1).cloned());
                Ok(Value::list(list))
            })
        },
        Function {
            returns: same(),
            ..lenient("array_prepend", Kind::Text, move |_, values| {
                let mut list = vec![values[0].clone()];
                list.extend(values.get(1).map(items).unwrap_or_default());
                Ok(Value::list(list))
            })
        },
        Function {
            returns: same(),
            ..lenient("array_cat", Kind::Text, move |_, values| {
                Ok(Value::list(values.iter().flat_map(items).collect()))
            })
        },
        Function {
            returns: same(),
            ..lenient("array_remove", Kind::Text, move |_, values| {
                let wanted = values.get(1).unwrap_or(&Value::Null);
                Ok(Value::list(items(&values[0]).into_iter().filter(|item| item != wanted).collect()))
            })
        },
    ]
}

fn numbers() -> Vec<Function> {
    let first = || -> Returns {
        Box::new(|kinds| {
            kinds.iter().skip(1).fold(kinds.first().cloned().unwrap_or(Kind::Int4), |one, other| one.common(other))
        })
    };
    let float = |name, compute: fn(f64) -> f64| {
        strict(name, Kind::Float8, move |_: &World<'_>, values: &[Value]| {
            Ok(values[0].float().map_or(Value::Null, |number| Value::Float(Real(compute(number)))))
        })
    };
    vec![
        lenient("nullif", Kind::Text, |_, values| match values {
            [one, other] if one.compare(other) == Some(std::cmp::Ordering::Equal) => Ok(Value::Null),
            [one, ..] => Ok(one.clone()),
            [] => Ok(Value::Null),
        }),
        float("floor", f64::floor),
        float("ceil", f64::ceil),
        float("ceiling", f64::ceil),
        float("round", f64::round),
        float("trunc", f64::trunc),
        Function {
            returns: first(),
            ..strict("abs", Kind::Int4, |_, values| {
                Ok(match &values[0] {
                    Value::Int(number) => number.checked_abs().map_or(Value::Null, Value::Int),
                    other => other.float().map_or(Value::Null, |number| Value::Float(Real(number.abs()))),
                })
            })
        },
        Function {
            returns: first(),
            ..lenient("greatest", Kind::Int4, |_, values| {
                let there = values.iter().filter(|value| !value.is_null());
                Ok(there.max_by(|one, other| one.order(other)).cloned().unwrap_or(Value::Null))
            })
        },
        Function {
            returns: first(),
            ..lenient("least", Kind::Int4, |_, values| {
                let there = values.iter().filter(|value| !value.is_null());
                Ok(there.min_by(|one, other| one.order(other)).cloned().unwrap_or(Value::Null))
            })
        },
    ]
}
