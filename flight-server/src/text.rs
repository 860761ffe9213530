//! SQL as text: where statements end, and which of them set something.
//!
//! The terminal and scripts hand over several statements at once, and the server must tell a SET before it plans it. Both need
//! the tokens of a text, not its meaning, and take them from the tokenizer that the engine parses with: a semicolon in a string, a
//! comment or a dollar quote is none.

use std::ops::Range;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// A text, taken apart at its semicolons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Statements {
    /// Each statement that a semicolon ends, without it. Those that hold nothing but space and comments are left out.
    pub(crate) complete: Vec<String>,
    /// What follows the last semicolon, trimmed. Empty where that is only space and comments.
    pub(crate) rest: String,
}

/// Takes a text apart at its semicolons.
pub(crate) fn split(text: &str) -> Statements {
    let tokens = tokens(text);
    let lines = Lines::new(text);
    let mut statements = Statements::default();
    let mut start = 0;
    let mut holds_something = false;
    for token in &tokens {
        match &token.token {
            Token::SemiColon => {
                let end = lines.offset(token.span.start);
                if holds_something {
                    statements.complete.push(text[start..end].trim().to_owned());
                }
                start = lines.offset(token.span.end);
                holds_something = false;
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => holds_something = true,
        }
    }
    // A text that the tokenizer could not finish (an open quote) goes on after its last token.
    let tail_start = tokens.last().map_or(0, |token| lines.offset(token.span.end)).max(start);
    if holds_something || !text[tail_start..].trim().is_empty() {
        statements.rest = text[start..].trim().to_owned();
    }
    statements
}

/// The tokens of a text that mean something, each with the bytes where it stands. Ends at the first that the tokenizer can't finish.
pub(crate) fn words(text: &str) -> Vec<(Token, Range<usize>)> {
    let lines = Lines::new(text);
    let place = |token: TokenWithSpan| {
        let place = lines.offset(token.span.start)..lines.offset(token.span.end);
        (token.token, place)
    };
    let is_meant = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
    tokens(text).into_iter().filter(is_meant).map(place).collect()
}

/// Whether a statement changes a setting of its session: SET or RESET.
pub(crate) fn is_set(text: &str) -> bool {
    let first = tokens(text).into_iter().map(|token| token.token).find(|token| !matches!(token, Token::Whitespace(_)));
    matches!(first, Some(Token::Word(word)) if matches!(word.keyword, Keyword::SET | Keyword::RESET))
}

/// The tokens of a text, up to the first that the tokenizer can't finish.
fn tokens(text: &str) -> Vec<TokenWithSpan> {
    let mut tokens = Vec::new();
    // What could not be tokenized is left for the engine's parser to report.
    let _unfinished = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location_into_buf(&mut tokens);
    tokens
}

/// Finds the byte that a line and a column mean.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        Self { text, starts }
    }

    /// Lines and columns count from 1, columns in characters.
    fn offset(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or(usize::MAX).saturating_sub(1);
        let column = usize::try_from(location.column).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(start) = self.starts.get(line).copied() else { return self.text.len() };
        self.text[start..].char_indices().nth(column).map_or(self.text.len(), |(index, _)| start + index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Vec<String>, String) {
        let statements = split(text);
        (statements.complete, statements.rest)
    }

    #[test]
    fn semicolons_in_quotes_and_comments_end_nothing() {
        let text = "SELECT 'a;b', \"c;d\" -- e;f\n, 1 /* ; */ ; SELECT 'Zoë; ü'\n;\n select 3";
        let (complete, rest) = parts(text);
        assert_eq!(complete, ["SELECT 'a;b', \"c;d\" -- e;f\n, 1 /* ; */", "SELECT 'Zoë; ü'"]);
        assert_eq!(rest, "select 3");
    }

    #[test]
    fn space_and_comments_alone_are_no_statement() {
        assert_eq!(parts(" ; -- nothing\n ; /* nor here */ ;  -- and so on"), (vec![], String::new()));
        assert_eq!(parts(""), (vec![], String::new()));
    }

    #[test]
    fn open_quote_leaves_the_statement_unfinished() {
        assert_eq!(parts("SELECT 1; SELECT 'abc;\n d"), (vec!["SELECT 1".to_owned()], "SELECT 'abc;\n d".to_owned()));
        assert_eq!(parts("'; "), (vec![], "';".to_owned()));
        assert_eq!(parts("SELECT 1; /* open"), (vec!["SELECT 1".to_owned()], "/* open".to_owned()));
    }

    #[test]
    fn set_is_told_from_a_query_past_comments() {
        assert!(is_set(" -- a\n /* b */ set search_path = orders"));
        assert!(is_set("RESET search_path"));
        assert!(!is_set("SELECT 'SET'"));
        assert!(!is_set(""));
    }
}
