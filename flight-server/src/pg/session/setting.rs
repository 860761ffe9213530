//! SET, RESET and SHOW: what is set here, and what the engine is asked to set.

use arrow::array::{Array, AsArray, RecordBatch};

use super::{PgError, Session, texts};
use crate::pg::error::{INVALID_VALUE, UNDEFINED_OBJECT};
use crate::pg::settings::Taken;

impl Session {
    pub(super) async fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), PgError> {
        if let Taken::Here(reported) = self.settings.set(name, value)? {
            if let Some(shown) = reported {
                let value = self.settings.get(shown).unwrap_or_default().to_owned();
                self.wire.parameter(shown, &value);
            }
            return Ok(());
        }
        let statement = if name.eq_ignore_ascii_case("statement_timeout") {
            format!("SET headwater.query_deadline = '{}'", timeout(value)?)
        } else if is_plain(name) {
            match value {
                // Quoted as a text, so that nothing in it is anything else.
                Some(value) => format!("SET {name} = '{}'", value.replace('\'', "''")),
                None if name.eq_ignore_ascii_case("search_path") => {
                    let path = self.server.engine.session_as(&self.principal.caller());
                    let shown = engine_value(&path, "search_path").await?;
                    format!("SET search_path = '{}'", shown.replace('\'', "''"))
                }
                None => format!("RESET {name}"),
            }
        } else {
            return Err(PgError::new(UNDEFINED_OBJECT, "there is no such setting"));
        };
        match self.engine.sql(&statement).await {
            Ok(_) => Ok(()),
            Err(error) if name.contains('.') || name.eq_ignore_ascii_case("search_path") => {
                Err(PgError::of(&error, ""))
            }
            Err(_) => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                Err(PgError::new(UNDEFINED_OBJECT, message))
            }
        }
    }

    pub(super) async fn shown(&mut self, name: &str) -> Result<RecordBatch, PgError> {
        let value = match self.settings.get(name) {
            Some(value) => value.to_owned(),
            None if name.eq_ignore_ascii_case("session_authorization") => self.user.clone(),
            None if name.eq_ignore_ascii_case("statement_timeout") => {
                engine_value(&self.engine, "headwater.query_deadline").await?
            }
            None if is_plain(name) => engine_value(&self.engine, name).await?,
            None => return Err(PgError::new(UNDEFINED_OBJECT, "there is no such setting")),
        };
        texts(&[name], &[vec![value]])
    }
}

/// The value of a setting of the engine.
pub(in crate::pg) async fn engine_value(engine: &headwater::Session, name: &str) -> Result<String, PgError> {
    let unknown = || PgError::new(UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
    let answer = engine.sql(&format!("SHOW {name}")).await.map_err(|_| unknown())?;
    let batches = answer.collect().await.map_err(|_| unknown())?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).ok_or_else(unknown)?;
    let values = batch.column_by_name("value").and_then(|column| column.as_string_opt::<i32>()).ok_or_else(unknown)?;
    Ok(if values.is_null(0) { String::new() } else { values.value(0).to_owned() })
}

/// Whether a name of a setting is one that may stand in a statement as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

/// PostgreSQL's `statement_timeout`, in milliseconds where it has no unit, as the engine writes times.
fn timeout(value: Option<&str>) -> Result<String, PgError> {
    let value = value.unwrap_or("0").trim();
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = value.split_at(digits);
    let unit = match unit.trim() {
        "" | "ms" => "ms",
        unit @ ("s" | "min" | "h") => unit,
        _ => return Err(PgError::new(INVALID_VALUE, "statement_timeout takes a number and ms, s, min or h")),
    };
    match number.parse::<u64>() {
        Ok(0) => Ok("off".to_owned()),
        Ok(number) => Ok(format!("{number} {unit}")),
        Err(_) => Err(PgError::new(INVALID_VALUE, "statement_timeout takes a number and ms, s, min or h")),
    }
}
