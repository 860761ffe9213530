//! The statements about views, as they are parsed.

use datafusion::sql::parser::{DFParser, Statement};
use sqlparser::ast::{
    CreateTableOptions, CreateView, Expr, ObjectName, ObjectType, SqlOption, Statement as Sql, Value,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::Begin;
use crate::statement::refuse_locks;
use crate::syntax::mend;
use crate::{Error, Result};

/// `schema.name` of a view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ViewName {
    pub(crate) schema: String,
    pub(crate) name: String,
}

/// A statement about views.
#[derive(Debug, Clone)]
pub(crate) enum ViewStatement {
    Create { name: ViewName, sql: String, replace: bool, if_not_exists: bool, file: Option<String> },
    Drop { name: ViewName, if_exists: bool },
    Refresh { name: ViewName },
    Explain { name: ViewName },
    Subscribe { name: ViewName, begin: Begin },
}

impl ViewStatement {
    /// The view that it is about.
    pub(crate) fn name(&self) -> &ViewName {
        match self {
            Self::Create { name, .. }
            | Self::Drop { name, .. }
            | Self::Refresh { name }
            | Self::Explain { name }
            | Self::Subscribe { name, .. } => name,
        }
    }
}

impl std::fmt::Display for ViewName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl ViewName {
    /// From `schema.name` as a query writes it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let words = words(text);
        match &words[..] {
            [Token::Word(schema), Token::Period, Token::Word(name)] => {
                Ok(Self { schema: folded(schema), name: folded(name) })
            }
            _ => Err(refused(text, "write the name of a materialized view as schema.name")),
        }
    }

    fn of(name: &ObjectName) -> Result<Self> {
        Self::parse(&name.to_string())
    }
}

/// Statements that the SQL parser does not know: REFRESH and EXPLAIN MATERIALIZED VIEW, and SUBSCRIBE.
pub(crate) fn unknown_to_parser(text: &str) -> Option<Result<ViewStatement>> {
    let words = words(text);
    let word = |place: usize, wanted: &str| is_word(words.get(place), wanted);
    if word(0, "subscribe") {
        return Some(subscribe(&words[1..]));
    }
    if !(word(1, "materialized") && word(2, "view")) || !(word(0, "refresh") || word(0, "explain")) {
        return None;
    }
    let rest: Vec<String> =
        words[3..].iter().filter(|word| **word != Token::SemiColon).map(ToString::to_string).collect();
    let refresh = word(0, "refresh");
    Some(
        ViewName::parse(&rest.concat())
            .map(|name| if refresh { ViewStatement::Refresh { name } } else { ViewStatement::Explain { name } }),
    )
}

/// CREATE and DROP MATERIALIZED VIEW; `None` for any other statement.
pub(crate) fn known_to_parser(sql: &Sql) -> Option<Result<ViewStatement>> {
    match sql {
        Sql::CreateView(create) if create.materialized => Some(create_view(create)),
        Sql::Drop { object_type: ObjectType::MaterializedView, if_exists, names, .. } => Some(match &names[..] {
            [name] => ViewName::of(name).map(|name| ViewStatement::Drop { name, if_exists: *if_exists }),
            _ => Err(refused("DROP MATERIALIZED VIEW of several views", "drop one at a time")),
        }),
        _ => None,
    }
}

/// The query of a view's definition, as it was written down.
pub(crate) fn parse_query(sql: &str) -> Result<Statement> {
    let mut statements = DFParser::parse_sql(sql)?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(mut statement), true) => {
            mend(&mut statement)?;
            Ok(statement)
        }
        _ => Err(refused("the view's definition", "it must be one SELECT")),
    }
}

fn create_view(create: &CreateView) -> Result<ViewStatement> {
    let name = ViewName::of(&create.name)?;
    let what = format!("CREATE MATERIALIZED VIEW {name}");
    if !create.columns.is_empty() {
        return Err(refused(&what, "name the columns in the query, with AS"));
    }
    let file = match &create.options {
        CreateTableOptions::None => None,
        CreateTableOptions::With(options) => Some(file_of(&what, options)?),
        _ => return Err(refused(&what, OPTIONS)),
    };
    let plain =
        create.cluster_by.is_empty() && create.to.is_none() && !create.temporary && !create.secure && !create.or_alter;
    if !plain {
        return Err(refused(
            &what,
            "only CREATE [OR REPLACE] MATERIALIZED VIEW [IF NOT EXISTS] name AS query is known",
        ));
    }
    if create.or_replace && create.if_not_exists {
        return Err(refused(&what, "write OR REPLACE or IF NOT EXISTS, not both"));
    }
    refuse_locks(&create.query)?;
    Ok(ViewStatement::Create {
        name,
        sql: create.query.to_string(),
        replace: create.or_replace,
        if_not_exists: create.if_not_exists,
        file,
    })
}

const OPTIONS: &str =
    "the one option is the file that defines it, as `headwater apply` says it: WITH (file = 'name.sql')";

/// The file that a view is of, from the options of its statement.
fn file_of(what: &str, options: &[SqlOption]) -> Result<String> {
    match options {
        [SqlOption::KeyValue { key, value: Expr::Value(value) }] if key.value.eq_ignore_ascii_case("file") => {
            match &value.value {
                Value::SingleQuotedString(file) if !file.is_empty() => Ok(file.clone()),
                _ => Err(refused(what, OPTIONS)),
            }
        }
        _ => Err(refused(what, OPTIONS)),
    }
}

/// What follows SUBSCRIBE: TO, a name, and where to begin.
fn subscribe(words: &[Token]) -> Result<ViewStatement> {
    const FORM: &str = "write SUBSCRIBE TO schema.name [WITH SNAPSHOT] [FROM EPOCH n]";
    let words: Vec<&Token> = words.iter().filter(|word| **word != Token::SemiColon).collect();
    let word = |place: usize, wanted: &str| is_word(words.get(place).copied(), wanted);
    let (true, Some(name)) = (word(0, "to"), words.get(1..4)) else { return Err(refused("SUBSCRIBE", FORM)) };
    let name = ViewName::parse(&name.iter().map(ToString::to_string).collect::<String>())?;
    let what = format!("SUBSCRIBE TO {name}");
    let (mut place, mut snapshot, mut epoch) = (4, false, None);
    while place < words.len() {
        if word(place, "with") && word(place + 1, "snapshot") && !snapshot && epoch.is_none() {
            snapshot = true;
            place += 2;
        } else if word(place, "from") && word(place + 1, "epoch") && epoch.is_none() {
            let Some(Token::Number(number, _)) = words.get(place + 2) else {
                return Err(refused(&what, "FROM EPOCH takes the number of an epoch, as headwater_epoch told it"));
            };
            let number = number.parse::<u64>().map_err(|_| refused(&what, "an epoch is a whole number"))?;
            epoch = Some(number);
            place += 3;
        } else {
            return Err(refused(&what, FORM));
        }
    }
    let begin = match (snapshot, epoch) {
        (true, None) => Begin::Snapshot,
        (false, None) => Begin::Changes,
        (false, Some(epoch)) => Begin::After(epoch),
        (true, Some(epoch)) => Begin::SnapshotOf(epoch),
    };
    Ok(ViewStatement::Subscribe { name, begin })
}

fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}

fn words(text: &str) -> Vec<Token> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect()
}

/// A name as DataFusion folds it: in lower case unless it is quoted.
fn folded(word: &sqlparser::tokenizer::Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_ascii_lowercase() }
}

fn refused(what: &str, reason: &str) -> Error {
    Error::Refused { what: what.to_owned(), reason: reason.to_owned() }
}
