//! The fingerprint of a statement: the same for all that differ in literals, comments, case and white space alone.
//!
//! FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>) over the words that are left. It tells statements apart and hides nothing; there is nothing left
//! that would have to be hidden.

use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// What stands for a literal or a parameter.
const LITERAL: &str = "?";

/// The fingerprint of a text; `None` where it can't be told apart what in it is a literal.
pub(super) fn of(text: &str) -> Option<u64> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().ok()?;
    let words = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon)).map(word);
    Some(words.fold(OFFSET, |hash, word| hashed(hashed(hash, word.as_bytes()), b" ")))
}

fn word(token: &Token) -> String {
    if let Token::Word(word) = token {
        return match word.quote_style {
            Some(_) => word.value.clone(),
            None => word.value.to_ascii_lowercase(),
        };
    }
    // Of the rest only marks are kept; whatever is anything else may be a literal.
    let text = token.to_string();
    let is_mark = text.chars().all(|c| c.is_ascii_punctuation() && !matches!(c, '\'' | '"' | '$' | '?'));
    if is_mark { text } else { LITERAL.to_owned() }
}

fn hashed(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_differ_in_literals_have_one_fingerprint() {
        let one = of("SELECT a FROM s.t WHERE b = 'secret' AND c > 1 -- why").unwrap();
        for text in [
            "select A\nfrom s.t where b = 'other' and c > 2.5;",
            "SELECT a FROM s.t WHERE b = $1 AND c > ?",
            "SELECT a FROM s.t WHERE b = E'x' AND c > X'00'",
        ] {
            assert_eq!(of(text), Some(one), "{text}");
        }
        for text in ["SELECT a FROM s.t WHERE b = 'secret' OR c > 1", "SELECT \"A\" FROM s.t WHERE b = '' AND c > 1"] {
            assert_ne!(of(text), Some(one), "{text}");
        }
        assert_eq!(of("SELECT 'open"), None);
    }
}
