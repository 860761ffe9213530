//! How commands and answers are written.

use mysql_common::constants::ColumnType;
use mysql_common::proto::MySerialize;
use mysql_common::value::Value;

use super::{ERROR, Failure, command};

/// The command that executes a statement. `mysql_common` has one too, which leaves long values out, to be sent on their own before.
pub(super) fn execution(statement: u32, values: &[Value]) -> Vec<u8> {
    const NO_CURSOR: u8 = 0;
    const ONCE: [u8; 4] = 1_u32.to_le_bytes();
    const WITH_TYPES: u8 = 1;
    let mut request = vec![command::EXECUTE];
    request.extend(statement.to_le_bytes());
    request.push(NO_CURSOR);
    request.extend(ONCE);
    if values.is_empty() {
        return request;
    }
    let missing = request.len();
    request.resize(missing + values.len().div_ceil(8), 0);
    for (index, _) in values.iter().enumerate().filter(|(_, value)| **value == Value::NULL) {
        request[missing + index / 8] |= 1 << (index % 8);
    }
    request.push(WITH_TYPES);
    for value in values {
        const UNSIGNED: u8 = 0x80;
        let (column_type, flags) = match value {
            Value::NULL => (ColumnType::MYSQL_TYPE_NULL, 0),
            Value::Bytes(_) => (ColumnType::MYSQL_TYPE_VAR_STRING, 0),
            Value::Int(_) => (ColumnType::MYSQL_TYPE_LONGLONG, 0),
            Value::UInt(_) => (ColumnType::MYSQL_TYPE_LONGLONG, UNSIGNED),
            Value::Float(_) => (ColumnType::MYSQL_TYPE_FLOAT, 0),
            Value::Double(_) => (ColumnType::MYSQL_TYPE_DOUBLE, 0),
            Value::Date(..) => (ColumnType::MYSQL_TYPE_DATETIME, 0),
            Value::Time(..) => (ColumnType::MYSQL_TYPE_TIME, 0),
        };
        request.extend([column_type as u8, flags]);
    }
    for value in values {
        value.serialize(&mut request);
    }
    request
}

/// A number in the protocol's own form.
pub(in crate::mysql) fn lenenc(rest: &mut &[u8]) -> Option<u64> {
    let (first, mut tail) = rest.split_first()?;
    let number = match first {
        0..=250 => u64::from(*first),
        0xfc => u64::from(u16::from_le_bytes(*split(&mut tail)?)),
        0xfd => {
            let [a, b, c] = *split(&mut tail)?;
            u64::from(u32::from_le_bytes([a, b, c, 0]))
        }
        0xfe => u64::from_le_bytes(*split(&mut tail)?),
        _ => return None,
    };
    *rest = tail;
    Some(number)
}

/// The first bytes of what is left.
pub(in crate::mysql) fn split<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

/// What the server says in a packet of an error: a number, a state, a text.
pub(in crate::mysql) fn failure(packet: &[u8]) -> Failure {
    let [ERROR, low, high, rest @ ..] = packet else { return Failure::Malformed("an error that is none") };
    let (state, text) = match rest {
        [b'#', a, b, c, d, e, text @ ..] => (&[*a, *b, *c, *d, *e][..], text),
        text => (&b"HY000"[..], text),
    };
    Failure::Server {
        code: u16::from_le_bytes([*low, *high]),
        state: String::from_utf8_lossy(state).into_owned(),
        message: String::from_utf8_lossy(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mysql_common::packets::ComStmtExecuteRequestBuilder;

    use super::super::input::PART_BYTES_MAX;
    use super::*;

    #[test]
    fn execution_is_what_the_protocol_has_and_long_values_are_in_it() {
        let values = [
            Value::NULL,
            Value::Int(-3),
            Value::UInt(u64::MAX),
            Value::Float(1.5),
            Value::Double(-0.25),
            Value::Bytes(b"text".to_vec()),
            Value::Date(2024, 2, 29, 0, 0, 0, 0),
            Value::Date(2024, 2, 29, 1, 2, 3, 4),
            Value::NULL,
            Value::Time(true, 1, 2, 3, 4, 5),
        ];
        for count in 0..=values.len() {
            let mut right = vec![];
            ComStmtExecuteRequestBuilder::new(7).build(&values[..count]).0.serialize(&mut right);
            assert_eq!(execution(7, &values[..count]), right, "{count} values");
        }
        let long = vec![b'x'; PART_BYTES_MAX + 5];
        assert!(execution(7, &[Value::Bytes(long.clone())]).ends_with(&long));
    }

    #[test]
    fn number_in_the_protocols_form_is_taken_whole_or_not() {
        for (bytes, number) in [
            (&[250_u8, 9][..], Some(250)),
            (&[0xfc, 1, 2, 9], Some(0x201)),
            (&[0xfd, 1, 2, 3, 9], Some(0x30201)),
            (&[0xfe, 1, 0, 0, 0, 0, 0, 0, 1, 9], Some(0x0100_0000_0000_0001)),
            (&[0xfe, 1, 0], None),
            (&[0xfb], None),
            (&[0xff], None),
            (&[], None),
        ] {
            let mut rest = bytes;
            assert_eq!(lenenc(&mut rest), number, "{bytes:?}");
            assert_eq!(rest, if number.is_some() { &[9][..] } else { bytes });
        }
    }
}
