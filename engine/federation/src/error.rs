//! Carries a source's error through DataFusion and out again.

use std::error::Error as StdError;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use headwater_source::Error;

/// Wraps a source's error for DataFusion.
pub fn to_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The source's error inside a DataFusion error, however deep it is wrapped.
pub fn source_error(error: &DataFusionError) -> Option<&Error> {
    match error {
        DataFusionError::External(inner) => inside(inner.as_ref()),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => source_error(inner),
        DataFusionError::Shared(inner) => source_error(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(source_error),
        DataFusionError::ArrowError(inner, _) => inside(inner.as_ref()),
        _ => None,
    }
}

fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    if let Some(found) = error.downcast_ref::<Error>() {
        return Some(found);
    }
    if let Some(found) = error.downcast_ref::<DataFusionError>() {
        return source_error(found);
    }
    if let Some(found) = error.downcast_ref::<Arc<DataFusionError>>() {
        return source_error(found);
    }
    match error.downcast_ref::<ArrowError>() {
        Some(ArrowError::ExternalError(inner)) => inside(inner.as_ref()),
        _ => error.source().and_then(inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_error_is_found_through_every_wrapper() {
        let wrapped = DataFusionError::ArrowError(
            Box::new(ArrowError::ExternalError(Box::new(DataFusionError::Shared(Arc::new(
                to_datafusion(Error::config("boom")).context("while planning"),
            ))))),
            None,
        );
        assert_eq!(source_error(&wrapped).map(ToString::to_string).as_deref(), Some("boom"));
        assert!(source_error(&DataFusionError::Plan("boom".to_owned())).is_none());
    }
}
