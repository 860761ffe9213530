//! Rows of a running statement into the decoder, straight from where they were read to.

use tokio::time::{Instant, timeout_at};

use super::answer::Fault;
use super::decode::{Decoder, Unreadable};
use super::input;
use super::wire::Wire;
use crate::batch::BATCH_WAIT;

/// Whether there may be more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

/// Why a row could not be read.
pub(super) enum Trouble {
    /// The server or the connection failed.
    Wire(Fault),
    /// What came cannot be read.
    Row(Unreadable),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Wire(fault)
    }
}

/// Reads rows until the batch is full, has waited for more for long enough, or the statement has no more.
pub(super) async fn read(wire: &mut Wire, decoder: &mut Decoder) -> Result<More, Trouble> {
    let mut due = None;
    while !decoder.is_full() {
        match decode(wire, decoder)? {
            Some(more) => return Ok(more),
            None if decoder.is_empty() => wire.fill().await?,
            None => {
                let due = *due.get_or_insert_with(|| Instant::now() + BATCH_WAIT);
                match timeout_at(due, wire.fill()).await {
                    Ok(filled) => filled?,
                    Err(_) => return Ok(More::Yes),
                }
            }
        }
    }
    Ok(More::Yes)
}

/// The same with what is there; `None` where that is not enough.
fn decode(wire: &mut Wire, decoder: &mut Decoder) -> Result<Option<More>, Trouble> {
    while let Some((tag, body)) = input::next(&mut wire.input)? {
        match tag {
            b'D' => {
                decoder.push(wire.input.body(body)).map_err(Trouble::Row)?;
                if decoder.is_full() {
                    return Ok(Some(More::Yes));
                }
            }
            tag if !wire.takes(tag, &body)? => {}
            b'C' | b'I' => return Ok(Some(More::No)),
            _ => return Err(Fault::Malformed("no row and no end of rows").into()),
        }
    }
    Ok(None)
}
