//! Errors of the engine as gRPC statuses.

use std::any::Any;

use headwater::ErrorKind;
use tonic::{Code, Status};
use tracing::error;

use crate::auth::Denied;

/// The longest message of a status, in bytes. It travels in an HTTP/2 header, and clients limit those to 8 KiB and more.
const MESSAGE_BYTES: usize = 4096;

/// The status of an engine's error: its report under the code that tells a client what to do.
pub(super) fn status(error: &headwater::Error) -> Status {
    Status::new(code(error.kind()), shortened(error.report()))
}

/// The status of a request from nobody who may come in.
pub(super) fn denied(denied: Denied) -> Status {
    match denied {
        Denied::Missing | Denied::Wrong => Status::unauthenticated(denied.to_string()),
        Denied::Wait(_) | Denied::Busy => Status::resource_exhausted(denied.to_string()),
    }
}

/// The status of a failure to encode or build an answer.
pub(super) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(shortened(error.to_string()))
}

/// The status of a request that panicked. What it said goes to the log, not to the client.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    error!(panic = text, "a request panicked");
    Status::internal("the server failed in an unexpected way; its log says more")
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::ResourcesExhausted => Code::ResourceExhausted,
        ErrorKind::Execution => Code::FailedPrecondition,
        ErrorKind::Changed => Code::Aborted,
        ErrorKind::HistoryGone => Code::OutOfRange,
        ErrorKind::Unsupported => Code::Unimplemented,
        _ => Code::Internal,
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_message_is_cut_between_characters() {
        let text = shortened("é".repeat(MESSAGE_BYTES));
        assert!(text.len() <= MESSAGE_BYTES + 4 && text.ends_with("é ..."));
        assert_eq!(shortened("short".to_owned()), "short");
    }

    #[test]
    fn panic_message_stays_on_the_server() {
        let status = panicked(&"secret".to_owned());
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"));
    }
}
