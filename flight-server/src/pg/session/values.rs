//! What a client binds, and the formats in which it wants its columns.

use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::ScalarValue;

use super::{PgError, Planned, Statement};
use crate::pg::decode;
use crate::pg::encode::Format;
use crate::pg::error::PROTOCOL;
use crate::pg::types::of_field;
use crate::pg::wire::Bind;

/// The type that a client is told for a parameter: its own, or what the statement says, or text.
pub(super) fn parameter_type(statement: &Statement, index: usize, field: &Field) -> u32 {
    match statement.said.get(index) {
        Some(oid) if *oid != 0 => *oid,
        _ => of_field(field).oid(),
    }
}

pub(super) fn values(statement: &Statement, bind: &Bind) -> Result<Vec<ScalarValue>, PgError> {
    let parameters = statement.planned.as_ref().map(Planned::parameters);
    let fields: Vec<&Field> = parameters.iter().flat_map(|schema| schema.fields().iter().map(AsRef::as_ref)).collect();
    if fields.len() != bind.values.len() {
        let message =
            format!("{} values are bound, and the statement has {} parameters", bind.values.len(), fields.len());
        return Err(PgError::new(PROTOCOL, message));
    }
    let format = |index: usize| match bind.formats.len() {
        0 => Ok(Format::Text),
        1 => Format::of(bind.formats[0]),
        _ => Format::of(bind.formats.get(index).copied().unwrap_or_default()),
    };
    let bound = bind.values.iter().zip(fields).enumerate().map(|(index, (value, field))| {
        decode::value(value.clone(), format(index)?, statement.said.get(index).copied().unwrap_or_default(), field)
    });
    bound.collect()
}

/// The format of each column.
pub(super) fn chosen(codes: &[i16], told: &SchemaRef) -> Result<Vec<Format>, PgError> {
    let count = told.fields().len();
    match codes.len() {
        0 => Ok(vec![Format::Text; count]),
        1 => Ok(vec![Format::of(codes[0])?; count]),
        length if length == count => codes.iter().map(|code| Format::of(*code)).collect(),
        length => Err(PgError::new(PROTOCOL, format!("{length} formats are given for {count} columns"))),
    }
}
