//! What a statement in the log means for the tables that are followed.
//!
//! In row format the log has statements for what is no change of rows: definitions, and TRUNCATE. Their text is cut into words; what is not
//! certain is taken for a change of the table's definition, which stops whoever follows it.

/// A name of a table, with its database where that is written.
pub(super) type Name = (Option<String>, String);

/// What a statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Begins a transaction or names a place in it.
    Begins,
    Commits,
    RollsBack,
    /// To a place within the transaction, though part of it was logged.
    RollsBackPartly,
    Truncates(Name),
    /// Changes these tables' definitions, or their rows without saying which.
    Redefines(Vec<Name>),
    /// Drops all tables of a database.
    DropsDatabase(String),
    /// Writes rows that only the server knows; every name in it.
    Writes(Vec<Name>),
    /// Ends a distributed transaction that was prepared before.
    EndsPrepared,
    Nothing,
}

/// Reads a statement.
pub(super) fn meaning(text: &[u8]) -> Meaning {
    let text = String::from_utf8_lossy(text);
    let words = words(&text);
    let word = |index: usize| words.get(index).map(|word| word.plain()).unwrap_or_default();
    match word(0).as_str() {
        "BEGIN" | "START" | "SAVEPOINT" | "RELEASE" => Meaning::Begins,
        "COMMIT" => Meaning::Commits,
        "ROLLBACK" if words.iter().any(|word| word.plain() == "TO") => Meaning::RollsBackPartly,
        "ROLLBACK" => Meaning::RollsBack,
        "XA" if matches!(word(1).as_str(), "COMMIT" | "ROLLBACK") => Meaning::EndsPrepared,
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "CALL" | "WITH" | "DO" => Meaning::Writes(names(&words)),
        "TRUNCATE" => {
            let names = names(&words[1..]);
            names.into_iter().next().map_or(Meaning::Nothing, Meaning::Truncates)
        }
        "DROP" if matches!(word(1).as_str(), "DATABASE" | "SCHEMA") => {
            names(&words[2..]).pop().map_or(Meaning::Nothing, |(_, name)| Meaning::DropsDatabase(name))
        }
        "DROP" | "RENAME" if matches!(word(1).as_str(), "TABLE" | "TABLES") => Meaning::Redefines(names(&words[2..])),
        "CREATE" => redefined(&words, false),
        "ALTER" => redefined(&words, !words.iter().any(|word| word.plain() == "EXCHANGE")),
        _ => Meaning::Nothing,
    }
}

/// The tables of a statement that has words of its own before TABLE; of ALTER usually only the first is changed.
fn redefined(words: &[Word], only_first: bool) -> Meaning {
    const BEFORE: [&str; 4] = ["OR", "REPLACE", "ONLINE", "IGNORE"];
    let table = words.iter().skip(1).position(|word| !BEFORE.contains(&word.plain().as_str()));
    match table.map(|table| table + 1) {
        Some(table) if words[table].plain() == "TABLE" => {
            let mut names = names(&words[table + 1..]);
            // Of CREATE TABLE only the first is made; others are read.
            let is_create = words[0].plain() == "CREATE";
            names.truncate(if only_first || is_create { 1 } else { names.len() });
            Meaning::Redefines(names)
        }
        _ => Meaning::Nothing,
    }
}

/// A word, a name in quotes, or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Plain(String),
    Quoted(String),
    Sign(char),
}

impl Word {
    /// A bare word in capitals; nothing of what else it may be.
    fn plain(&self) -> String {
        match self {
            Self::Plain(word) => word.to_ascii_uppercase(),
            _ => String::new(),
        }
    }
}

/// The names in words, but for those that are parts of the language where a name may be.
fn names(words: &[Word]) -> Vec<Name> {
    const SKIPPED: [&str; 9] = ["TABLE", "IF", "EXISTS", "NOT", "TO", "CASCADE", "RESTRICT", "WAIT", "NOWAIT"];
    let mut names: Vec<Name> = vec![];
    let mut qualifies = false;
    for word in words {
        match word {
            Word::Sign('.') => qualifies = true,
            Word::Sign(_) => qualifies = false,
            Word::Plain(name) if !qualifies && SKIPPED.contains(&name.to_ascii_uppercase().as_str()) => {}
            Word::Plain(name) | Word::Quoted(name) => {
                if let (true, Some(last)) = (qualifies, names.last_mut()) {
                    let database = std::mem::replace(&mut last.1, name.clone());
                    last.0 = Some(database);
                } else {
                    names.push((None, name.clone()));
                }
                qualifies = false;
            }
        }
    }
    names
}

fn words(text: &str) -> Vec<Word> {
    let characters: Vec<char> = text.chars().collect();
    let (mut words, mut at) = (vec![], 0);
    while let Some(character) = characters.get(at).copied() {
        let next = characters.get(at + 1).copied();
        match (character, next) {
            // What a comment for some versions holds, is run.
            ('/', Some('*')) if matches!(characters.get(at + 2), Some('!' | 'M')) => {
                at += 3;
                while characters.get(at).is_some_and(|c| *c == '!' || c.is_ascii_digit()) {
                    at += 1;
                }
            }
            ('*', Some('/')) => at += 2,
            ('/', Some('*')) => {
                at += 2;
                while at < characters.len() && !characters[at..].starts_with(&['*', '/']) {
                    at += 1;
                }
                at += 2;
            }
            ('#', _) | ('-', Some('-')) => {
                while at < characters.len() && characters[at] != '\n' {
                    at += 1;
                }
            }
            ('`' | '"' | '\'', _) => {
                let (name, end) = quoted(&characters, at);
                words.push(Word::Quoted(name));
                at = end;
            }
            (c, _) if c.is_whitespace() => at += 1,
            (c, _) if is_of_word(c) => {
                let start = at;
                while characters.get(at).copied().is_some_and(is_of_word) {
                    at += 1;
                }
                words.push(Word::Plain(characters[start..at].iter().collect()));
            }
            (sign, _) => {
                words.push(Word::Sign(sign));
                at += 1;
            }
        }
    }
    words
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$' | '@') || !character.is_ascii()
}

/// A name in quotes, and what is behind it. A quote is doubled inside; in a text it may also stand behind a backslash.
fn quoted(characters: &[char], start: usize) -> (String, usize) {
    let quote = characters[start];
    let (mut name, mut at) = (String::new(), start + 1);
    while let Some(character) = characters.get(at).copied() {
        match character {
            '\\' if quote != '`' => at += 1,
            c if c == quote && characters.get(at + 1) == Some(&quote) => {
                name.push(quote);
                at += 1;
            }
            c if c == quote => return (name, at + 1),
            c => name.push(c),
        }
        at += 1;
    }
    (name, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(database: Option<&str>, table: &str) -> Name {
        (database.map(str::to_owned), table.to_owned())
    }

    #[test]
    fn statement_is_understood_in_any_spelling() {
        let of = |text: &str| meaning(text.as_bytes());
        assert_eq!(of("BEGIN"), Meaning::Begins);
        assert_eq!(of("savepoint `x`"), Meaning::Begins);
        assert_eq!(of("COMMIT"), Meaning::Commits);
        assert_eq!(of("ROLLBACK TO `x`"), Meaning::RollsBackPartly);
        assert_eq!(of("truncate/* x */ t"), Meaning::Truncates(name(None, "t")));
        assert_eq!(of("TRUNCATE TABLE `a``b`.`c d` NOWAIT"), Meaning::Truncates(name(Some("a`b"), "c d")));
        assert_eq!(of("TRUNCATE shop . t"), Meaning::Truncates(name(Some("shop"), "t")));
        assert_eq!(of("-- why\nALTER TABLE t ADD x int"), Meaning::Redefines(vec![name(None, "t")]));
        assert_eq!(
            of("ALTER ONLINE TABLE IF EXISTS s.t ADD FOREIGN KEY (a) REFERENCES u (a)"),
            Meaning::Redefines(vec![name(Some("s"), "t")])
        );
        assert_eq!(of("CREATE OR REPLACE TABLE t AS SELECT * FROM u"), Meaning::Redefines(vec![name(None, "t")]));
        assert_eq!(of("CREATE TEMPORARY TABLE t (a int)"), Meaning::Nothing);
        assert_eq!(of("DROP TEMPORARY TABLE IF EXISTS `t`"), Meaning::Nothing);
        assert_eq!(
            of("DROP TABLE IF EXISTS `t`,`s`.`u` /* generated by server */"),
            Meaning::Redefines(vec![name(None, "t"), name(Some("s"), "u")])
        );
        assert_eq!(of("RENAME TABLE a TO b"), Meaning::Redefines(vec![name(None, "a"), name(None, "b")]));
        assert_eq!(of("DROP DATABASE IF EXISTS `shop`"), Meaning::DropsDatabase("shop".to_owned()));
        assert_eq!(of("CREATE INDEX i ON t (a)"), Meaning::Nothing);
        assert_eq!(of("GRANT SELECT ON t TO u"), Meaning::Nothing);
        assert!(
            matches!(of("insert into s.t values (1)"), Meaning::Writes(names) if names.contains(&name(Some("s"), "t")))
        );
        assert_eq!(of("/*!50003 TRUNCATE t */"), Meaning::Truncates(name(None, "t")));
        assert!(
            matches!(of("ALTER TABLE p EXCHANGE PARTITION x WITH TABLE t"), Meaning::Redefines(names) if names.contains(&name(None, "t")))
        );
        assert_eq!(of("XA START 'x'"), Meaning::Nothing);
        assert_eq!(of("XA COMMIT 'x'"), Meaning::EndsPrepared);
    }
}
