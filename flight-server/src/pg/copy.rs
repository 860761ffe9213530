//! `COPY ... TO STDOUT`: the rows of a query or a table as text, CSV or PostgreSQL's binary.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::encode::{Encoder, Format};
use super::error::{INVALID_VALUE, PgError, READ_ONLY, SYNTAX, UNSUPPORTED};

/// What is copied, and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Copy {
    /// A query, of the statement's own text.
    pub(super) query: String,
    pub(super) style: Style,
    pub(super) header: bool,
    delimiter: char,
    null: String,
    quote: char,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Text,
    Csv,
    Binary,
}

/// Reads a COPY statement.
pub(super) fn copy(text: &str, tokens: &[(Token, Range<usize>)]) -> Result<Copy, PgError> {
    let syntax = || {
        let error = PgError::new(SYNTAX, "this COPY is not understood");
        error.with_hint("write COPY (SELECT ...) TO STDOUT, or COPY service.table TO STDOUT")
    };
    let is = |index: usize, wanted: &str| match tokens.get(index) {
        Some((Token::Word(word), _)) => word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    let to = direction(tokens).ok_or_else(syntax)?;
    if is(to, "FROM") {
        return Err(PgError::new(READ_ONLY, "COPY FROM is refused: services are read and not written to"));
    }
    let slice = |from: usize, end: usize| match (tokens.get(from), tokens.get(end)) {
        (Some((_, from)), Some((_, end))) => text.get(from.start..end.start),
        _ => None,
    };
    let query = match tokens.get(1) {
        Some((Token::LParen, place)) => {
            let end = to.checked_sub(1).and_then(|index| tokens.get(index)).ok_or_else(syntax)?;
            text.get(place.end..end.1.start).ok_or_else(syntax)?.trim().to_owned()
        }
        _ => {
            let columns = (1..to).find(|index| tokens[*index].0 == Token::LParen);
            let table = slice(1, columns.unwrap_or(to)).ok_or_else(syntax)?;
            let chosen = match columns {
                Some(open) => slice(open + 1, to - 1).ok_or_else(syntax)?,
                None => "*",
            };
            format!("SELECT {chosen} FROM {table}")
        }
    };
    if !is(to + 1, "STDOUT") {
        return Err(PgError::new(UNSUPPORTED, "COPY goes to STDOUT alone").with_hint("a file is written by the client"));
    }
    let options: Vec<&Token> = tokens[to + 2..].iter().map(|(token, _)| token).collect();
    with_options(query, &options)
}

/// Where TO or FROM stands, outside of all parentheses.
fn direction(tokens: &[(Token, Range<usize>)]) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.checked_sub(1)?,
            Token::Word(word)
                if depth == 0 && (word.value.eq_ignore_ascii_case("to") || word.value.eq_ignore_ascii_case("from")) =>
            {
                return Some(index);
            }
            _ => {}
        }
    }
    None
}

/// Both forms of options: `WITH (FORMAT csv, HEADER)` and `CSV HEADER`.
fn with_options(query: String, tokens: &[&Token]) -> Result<Copy, PgError> {
    let mut copy =
        Copy { query, style: Style::Text, header: false, delimiter: '\t', null: "\\N".to_owned(), quote: '"' };
    let (mut delimiter, mut null) = (None, None);
    let mut tokens = tokens
        .iter()
        .filter(|token| !matches!(token, Token::LParen | Token::RParen | Token::Comma | Token::SemiColon))
        .peekable();
    while let Some(token) = tokens.next() {
        let Token::Word(word) = token else { return Err(PgError::new(SYNTAX, "an option of COPY is not understood")) };
        let mut next = || match tokens.next() {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => text.clone(),
            Some(token) => token.to_string(),
            None => String::new(),
        };
        match word.value.to_ascii_lowercase().as_str() {
            "with" | "as" => {}
            "csv" => copy.style = Style::Csv,
            "binary" => copy.style = Style::Binary,
            "format" => {
                copy.style = match next().to_ascii_lowercase().as_str() {
                    "text" => Style::Text,
                    "csv" => Style::Csv,
                    "binary" => Style::Binary,
                    _ => return Err(PgError::new(INVALID_VALUE, "COPY has the formats text, csv and binary")),
                }
            }
            "header" => {
                let value = tokens.peek().map(|token| token.to_string().trim_matches('\'').to_ascii_lowercase());
                let is_value =
                    value.as_deref().is_some_and(|value| matches!(value, "true" | "on" | "1" | "false" | "off" | "0"));
                copy.header = !is_value || matches!(value.as_deref(), Some("true" | "on" | "1"));
                if is_value {
                    tokens.next();
                }
            }
            "delimiter" => delimiter = Some(one_character(&next())?),
            "null" => null = Some(next()),
            "quote" => copy.quote = one_character(&next())?,
            "encoding" => {
                if !matches!(next().to_ascii_lowercase().as_str(), "utf8" | "utf-8") {
                    return Err(PgError::new(UNSUPPORTED, "COPY is written in UTF8"));
                }
            }
            other => return Err(PgError::new(UNSUPPORTED, format!("COPY has no option \"{other}\" here"))),
        }
    }
    if copy.style == Style::Csv {
        (copy.delimiter, copy.null) = (',', String::new());
    }
    copy.delimiter = delimiter.unwrap_or(copy.delimiter);
    copy.null = null.unwrap_or(copy.null);
    Ok(copy)
}

fn one_character(text: &str) -> Result<char, PgError> {
    let text = if text == "\\t" { "\t" } else { text };
    match (text.chars().next(), text.len()) {
        (Some(c), 1) if !matches!(c, '\n' | '\r' | '\\') => Ok(c),
        _ => Err(PgError::new(INVALID_VALUE, "COPY takes one character there, of one byte")),
    }
}

impl Copy {
    /// What stands before the first row.
    pub(super) fn begin(&self, names: &[String]) -> BytesMut {
        match self.style {
            Style::Binary => BytesMut::from(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".as_slice()),
            Style::Csv | Style::Text if self.header => {
                let names: Vec<String> = names.iter().map(|name| self.written(name)).collect();
                BytesMut::from(format!("{}\n", names.join(&self.delimiter.to_string())).as_bytes())
            }
            Style::Csv | Style::Text => BytesMut::new(),
        }
    }

    /// What stands after the last one.
    pub(super) fn end(&self) -> &'static [u8] {
        if self.style == Style::Binary { &[0xff, 0xff] } else { &[] }
    }

    /// Writes one row.
    pub(super) fn row(&self, out: &mut BytesMut, encoder: &Encoder, row: usize) -> Result<(), PgError> {
        if self.style == Style::Binary {
            out.put_i16(i16::try_from(encoder.width()).unwrap_or(i16::MAX));
            return (0..encoder.width()).try_for_each(|column| encoder.put(out, column, row, Format::Binary));
        }
        for column in 0..encoder.width() {
            if column > 0 {
                out.put_slice(self.delimiter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            let start = out.len();
            match encoder.text(out, column, row)? {
                true => self.mark(out, start),
                false => out.put_slice(self.null.as_bytes()),
            }
        }
        out.put_u8(b'\n');
        Ok(())
    }

    /// Marks what is special in the value that begins there. Most values have nothing to mark.
    fn mark(&self, out: &mut BytesMut, start: usize) {
        let value = &out[start..];
        // Every special character is of one byte, and no byte of a longer one is like it.
        let is_special = |byte: &u8| {
            *byte < b' ' || *byte == b'\\' || char::from(*byte) == self.delimiter || char::from(*byte) == self.quote
        };
        if value != self.null.as_bytes() && !value.iter().any(is_special) {
            return;
        }
        let written = self.written(&String::from_utf8_lossy(value));
        out.truncate(start);
        out.put_slice(written.as_bytes());
    }

    /// A value, so that it is told from what stands around it and from NULL.
    fn written(&self, text: &str) -> String {
        if self.style == Style::Csv {
            let needs_quotes =
                text == self.null || text == "\\." || text.contains([self.delimiter, self.quote, '\n', '\r']);
            return match needs_quotes {
                true => format!("{0}{1}{0}", self.quote, text.replace(self.quote, &self.quote.to_string().repeat(2))),
                false => text.to_owned(),
            };
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{b}' => out.push_str("\\v"),
                c if c == self.delimiter => out.extend(['\\', c]),
                c => out.push(c),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};

    use super::*;
    use crate::text::words;

    fn read(text: &str) -> Result<Copy, PgError> {
        copy(text, &words(text))
    }

    #[test]
    fn query_and_table_are_read_with_both_forms_of_options() {
        let query =
            read("COPY (SELECT 'to )' FROM (SELECT 1) t) TO STDOUT WITH (FORMAT csv, HEADER true, DELIMITER ';')")
                .unwrap();
        assert_eq!(query.query, "SELECT 'to )' FROM (SELECT 1) t");
        assert!(query.style == Style::Csv && query.header && query.delimiter == ';');
        assert_eq!(read("COPY \"o\".t (a, b) TO STDOUT").unwrap().query, "SELECT a, b FROM \"o\".t ");
        assert_eq!(read("copy o.t to stdout binary").unwrap().style, Style::Binary);
        assert!(read("COPY o.t TO STDOUT CSV HEADER").unwrap().header);
        for text in [
            "COPY o.t FROM STDIN",
            "COPY o.t TO '/tmp/x'",
            "COPY o.t TO PROGRAM 'x'",
            "COPY",
            "COPY ) TO STDOUT",
            "COPY o.t TO STDOUT (FORMAT xml)",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_told_from_null_and_from_what_stands_around_them() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\tb\\"), None, Some("")]));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("x", Arc::clone(&texts), true), ("y", texts, true)]).unwrap();
        let encoder = Encoder::new(&batch, &batch.schema()).unwrap();
        let lines = |copy: &Copy| -> Vec<String> {
            {
                let row = |row| {
                    let mut out = BytesMut::new();
                    copy.row(&mut out, &encoder, row).unwrap();
                    String::from_utf8(out.to_vec()).unwrap()
                };
                (0..3).map(row).collect()
            }
        };
        let plain = read("COPY t TO STDOUT").unwrap();
        assert_eq!(lines(&plain), ["a\\tb\\\\\ta\\tb\\\\\n", "\\N\t\\N\n", "\t\n"]);
        let csv = read("COPY t TO STDOUT CSV").unwrap();
        assert_eq!(lines(&csv), ["a\tb\\,a\tb\\\n", ",\n", "\"\",\"\"\n"]);
    }
}
