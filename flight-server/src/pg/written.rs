//! Rows as the client gets them, written where they are computed.
//!
//! Writing the rows of a scan takes about as long as reading them. On the threads of its query it yields to lookups as the scan itself does, and a connection's task only sends.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};

use super::copy::Copy;
use super::encode::{Encoder, Format};
use super::error::PgError;
use super::wire::{OUTPUT_BYTES, message};

/// What a row takes that nobody has seen yet.
const ROW_BYTES_GUESSED: usize = 64;

/// How rows are written.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// As rows of a query, with the format of each column; text where there is none.
    Rows(Arc<[Format]>),
    /// As what COPY sends, with what stands before it in the message of the first row.
    Copy(Arc<Copy>, Bytes),
}

/// Messages of some rows, of which a part may be sent already.
pub(super) struct Written {
    messages: Bytes,
    /// Where each row ends.
    ends: Vec<usize>,
    sent: usize,
}

impl Written {
    /// How many rows are left.
    pub(super) fn rows(&self) -> usize {
        self.ends.len() - self.sent
    }

    /// Takes the messages of the next rows, at most so many of them.
    pub(super) fn take(&mut self, rows_max: usize) -> Bytes {
        let start = self.end_of(self.sent);
        self.sent += rows_max.min(self.rows());
        self.messages.slice(start..self.end_of(self.sent))
    }

    fn end_of(&self, rows: usize) -> usize {
        rows.checked_sub(1).map_or(0, |last| self.ends[last])
    }
}

/// Writes the rows of batches whose columns the client was told to be of this schema. Each item has at least one row, and ends with the one that fills what goes to the connection at once.
pub(super) fn written(
    batches: impl Stream<Item = Result<RecordBatch, PgError>> + Send + Unpin + 'static,
    told: SchemaRef,
    form: Form,
) -> impl Stream<Item = Result<Written, PgError>> + Send + 'static {
    let begun = Writing { batches, told, form, batch: None };
    stream::try_unfold(begun, async |mut writing| Ok(writing.next().await?.map(|written| (written, writing))))
}

struct Writing<S> {
    batches: S,
    told: SchemaRef,
    form: Form,
    /// The batch that is being written, and its next row.
    batch: Option<(Encoder, usize)>,
}

impl<S: Stream<Item = Result<RecordBatch, PgError>> + Unpin> Writing<S> {
    async fn next(&mut self) -> Result<Option<Written>, PgError> {
        loop {
            if let Some((encoder, row)) = &mut self.batch
                && *row < encoder.rows
            {
                return self.form.write(encoder, row).map(Some);
            }
            match self.batches.next().await {
                Some(batch) => self.batch = Some((Encoder::new(&batch?, &self.told)?, 0)),
                None => return Ok(None),
            }
        }
    }
}

impl Form {
    /// Writes the rows from `next` on, which is moved behind the last that is written. A row that can't be written is an error once it is the first.
    fn write(&mut self, encoder: &Encoder, next: &mut usize) -> Result<Written, PgError> {
        let guessed = (encoder.rows - *next).saturating_mul(ROW_BYTES_GUESSED);
        let mut out = BytesMut::with_capacity(guessed.min(OUTPUT_BYTES));
        let mut ends = Vec::new();
        while *next < encoder.rows && out.len() < OUTPUT_BYTES {
            let start = out.len();
            match self.row(&mut out, encoder, *next) {
                Ok(()) => ends.push(out.len()),
                Err(error) if ends.is_empty() => return Err(error),
                Err(_) => {
                    // A row that is half there is none.
                    out.truncate(start);
                    break;
                }
            }
            *next += 1;
        }
        Ok(Written { messages: out.freeze(), ends, sent: 0 })
    }

    fn row(&mut self, out: &mut BytesMut, encoder: &Encoder, row: usize) -> Result<(), PgError> {
        let mut result = Ok(());
        match self {
            Self::Rows(formats) => message(out, b'D', |out| {
                out.put_u16(u16::try_from(encoder.width()).unwrap_or(u16::MAX));
                result = (0..encoder.width()).try_for_each(|column| {
                    encoder.put(out, column, row, formats.get(column).copied().unwrap_or(Format::Text))
                });
            }),
            Self::Copy(copy, before) => message(out, b'd', |out| {
                out.put(std::mem::take(before));
                result = copy.row(out, encoder, row);
            }),
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use futures::TryStreamExt;

    use super::*;

    fn batch(texts: &[&str]) -> RecordBatch {
        RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(texts.to_vec())) as ArrayRef)]).unwrap()
    }

    async fn all(batches: Vec<RecordBatch>) -> Vec<Written> {
        let told = batches[0].schema();
        let batches = stream::iter(batches.into_iter().map(Ok));
        written(batches, told, Form::Rows(Arc::from([]))).try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn rows_are_taken_as_many_as_are_wanted() {
        let mut written = all(vec![batch(&["a", "bc", "d"])]).await.remove(0);
        let row = |text: &str| {
            let mut row = vec![b'D', 0, 0, 0, 10 + text.len() as u8, 0, 1, 0, 0, 0, text.len() as u8];
            row.extend(text.as_bytes());
            row
        };
        assert_eq!((written.rows(), written.take(0).len()), (3, 0));
        assert_eq!(written.take(2), [row("a"), row("bc")].concat());
        assert_eq!(written.rows(), 1);
        assert_eq!(written.take(usize::MAX), row("d"));
        assert_eq!((written.rows(), written.take(1).len()), (0, 0));
    }

    #[tokio::test]
    async fn messages_are_cut_where_a_connection_would_send_them() {
        let long = "x".repeat(OUTPUT_BYTES / 3);
        let rows: Vec<&str> = std::iter::repeat_n(long.as_str(), 10).collect();
        let written = all(vec![batch(&rows), batch(&[]), batch(&["y"])]).await;
        assert_eq!(written.iter().map(Written::rows).collect::<Vec<_>>(), [3, 3, 3, 1, 1]);
    }
}
