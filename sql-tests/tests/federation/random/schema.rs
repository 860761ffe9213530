//! Random small schemas: tables of a few columns and rows, spread over the stores.

use headwater_sql_tests::dice::Dice;

use super::values::Values;

/// Where a table lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Postgres,
    /// A second service over the same Postgres database.
    PostgresTwin,
    Mysql,
    /// A second service over the same MariaDB database.
    MysqlTwin,
    Sqlite,
    SqliteStrict,
    Parquet,
    Csv,
    Json,
}

/// Which stores a schema is spread over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// All tables in one store: what may go down to it whole.
    One,
    /// Each anywhere.
    Any,
}

/// A column: its type as its store writes it, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type in DDL; for Parquet Arrow's name of it.
    pub(super) sql: &'static str,
    pub(super) values: Values,
}

/// A table and its rows. `None` is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// The columns of a primary key, of which none is NULL; with more columns than one the last is unique.
    pub(super) key: Option<usize>,
    /// A column with an index.
    pub(super) index: Option<usize>,
    /// What its store is made to say of its rows. Plans are made from it, and answers are not.
    pub(super) claim: Option<Claim>,
}

/// How many rows a store says there are, and how many values of each column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) rows: u64,
    pub(super) values: u64,
}

/// Some tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) tables: Vec<Table>,
    /// Whether who asks may read a part of each table only.
    pub(super) is_limited: bool,
}

impl Place {
    /// The service that publishes what lies there.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Postgres => "pg",
            Self::PostgresTwin => "pg2",
            Self::Mysql => "my",
            Self::MysqlTwin => "my2",
            Self::Sqlite | Self::SqliteStrict => "lite",
            Self::Parquet | Self::Csv | Self::Json => "files",
        }
    }

    fn types(self) -> &'static [(&'static str, Values)] {
        match self {
            Self::Postgres | Self::PostgresTwin => POSTGRES,
            Self::Mysql | Self::MysqlTwin => MYSQL,
            Self::Sqlite => SQLITE,
            Self::SqliteStrict => SQLITE_STRICT,
            Self::Parquet => PARQUET,
            Self::Csv => CSV,
            Self::Json => JSON,
        }
    }
}

impl Schema {
    /// A schema of 2 to 4 tables.
    pub(super) fn random(dice: &mut Dice, spread: Spread) -> Self {
        let places = places(dice, spread);
        let tables = dice.between(2, 4);
        let table = |number| {
            let place = *dice.pick(&places);
            Table::random(dice, number, place)
        };
        let mut tables: Vec<Table> = (0..tables).map(table).collect();
        if dice.percent(60) {
            tables.iter_mut().for_each(|table| table.claim = Claim::random(dice));
        }
        Self { tables, is_limited: false }
    }
}

impl Table {
    fn random(dice: &mut Dice, number: usize, place: Place) -> Self {
        let count = dice.between(1, 6);
        // Half of the tables have names of columns that no other has.
        let letter = if dice.percent(50) { 'c' } else { *dice.pick(&['d', 'e', 'f', 'g']) };
        let columns: Vec<Column> = (0..count).map(|number| Column::random(dice, number, letter, place)).collect();
        let rows = rows(dice, place, &columns);
        let keyed = columns.iter().position(|column| matches!(column.values, Values::Small | Values::Int64));
        let key = keyed.filter(|_| dice.percent(40) && may_have_key(place));
        let index = dice.percent(30).then(|| dice.below(count)).filter(|index| may_have_index(place, &columns[*index]));
        let mut table = Self { name: format!("t{number}"), place, columns, rows, key, index, claim: None };
        table.keep_key_unique();
        table
    }

    /// Whether who reads it finds columns: a JSON file without a row has none.
    pub(super) fn has_columns(&self) -> bool {
        self.place != Place::Json || !self.rows.is_empty()
    }

    /// As the engine names it in SQL.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", self.place.service(), self.name)
    }

    /// Drops rows that a primary key forbids.
    pub(super) fn keep_key_unique(&mut self) {
        let Some(key) = self.key else { return };
        let mut seen = std::collections::HashSet::new();
        self.rows.retain(|row| row[key].as_ref().is_some_and(|value| seen.insert(value.clone())));
    }
}

impl Claim {
    /// Few rows or many, so that what pays over large tables is done over small ones.
    fn random(dice: &mut Dice) -> Option<Self> {
        let rows = *dice.pick(&[50, 20_000, 300_000, 3_000_000]);
        let claim = Self { rows, values: *dice.pick(&[2, 100, 5_000, rows]).min(&rows) };
        dice.percent(75).then_some(claim)
    }
}

impl Column {
    fn random(dice: &mut Dice, number: usize, letter: char, place: Place) -> Self {
        let (sql, values) = *dice.pick(place.types());
        let name = match dice.below(24) {
            0 => format!("Odd Name{number}"),
            1 => format!("se\"lect{number}"),
            2 => format!("\u{FC}{number}"),
            _ => format!("{letter}{number}"),
        };
        Self { name, sql, values }
    }
}

fn places(dice: &mut Dice, spread: Spread) -> Vec<Place> {
    use Place::{Csv, Json, Mysql, MysqlTwin, Parquet, Postgres, PostgresTwin, Sqlite, SqliteStrict};
    let one: [&[Place]; 7] = [
        &[Postgres, Postgres, PostgresTwin],
        &[Postgres],
        &[Mysql, Mysql, MysqlTwin],
        &[Mysql],
        &[Sqlite, SqliteStrict],
        &[SqliteStrict],
        &[Parquet, Csv, Json],
    ];
    match spread {
        Spread::One => dice.weighted(&[
            (22, one[0]),
            (22, one[1]),
            (15, one[2]),
            (18, one[3]),
            (8, one[4]),
            (10, one[5]),
            (5, one[6]),
        ]),
        Spread::Any => {
            &[Postgres, Postgres, PostgresTwin, Mysql, Mysql, MysqlTwin, Sqlite, SqliteStrict, Parquet, Csv, Json]
        }
    }
    .to_vec()
}

fn rows(dice: &mut Dice, place: Place, columns: &[Column]) -> Vec<Vec<Option<String>>> {
    let fewest = usize::from(place == Place::Json);
    let (few, many) = (dice.between(2, 12), dice.between(10, 40));
    let count = dice.weighted(&[(5, fewest), (10, 1), (45, few), (40, many)]);
    let nulls: Vec<usize> = columns.iter().map(|_| dice.weighted(&[(30, 0), (50, 15), (18, 50), (2, 100)])).collect();
    (0..count)
        .map(|_| {
            let value = |(column, nulls): (&Column, &usize)| {
                let value = column.values.pick(dice);
                (!dice.percent(*nulls)).then_some(value)
            };
            columns.iter().zip(&nulls).map(value).collect()
        })
        .collect()
}

fn may_have_key(place: Place) -> bool {
    !matches!(place, Place::Parquet | Place::Csv | Place::Json)
}

fn may_have_index(place: Place, column: &Column) -> bool {
    // MariaDB indexes blobs only by a prefix.
    may_have_key(place) && !column.sql.contains("blob") && !column.sql.contains("longtext")
}

const POSTGRES: &[(&str, Values)] = &[
    ("smallint", Values::Int16),
    ("integer", Values::Small),
    ("integer", Values::Int32),
    ("bigint", Values::Small),
    ("bigint", Values::Int64),
    ("numeric(10,2)", Values::Money),
    ("numeric(38,6)", Values::Wide),
    ("double precision", Values::TameDouble),
    ("double precision", Values::WildDouble),
    ("real", Values::WildFloat),
    ("text", Values::Text),
    ("text", Values::Text),
    ("text COLLATE \"C\"", Values::Text),
    ("varchar(20) COLLATE \"en-x-icu\"", Values::Text),
    ("text COLLATE folding", Values::Text),
    ("char(5)", Values::Short),
    ("date", Values::Date),
    ("timestamp", Values::Timestamp),
    ("timestamp", Values::Recent),
    ("timestamptz", Values::Instant),
    ("boolean", Values::Bool),
    ("bytea", Values::Bytes),
    ("uuid", Values::Uuid),
    ("label", Values::Label),
    ("c_text", Values::Text),
    ("time", Values::Time),
    ("numeric", Values::Money),
    ("numeric(50,10)", Values::Wide),
    ("timestamp(3)", Values::Recent),
];

/// How the declaration of a column ends in which some dates are none.
pub(super) const WITH_ZEROS: &str = "/* with zeros */";

const MYSQL: &[(&str, Values)] = &[
    ("smallint", Values::Int16),
    ("int", Values::Small),
    ("int", Values::Int32),
    ("bigint", Values::Small),
    ("bigint", Values::Int64),
    ("bigint unsigned", Values::Unsigned64),
    ("decimal(10,2)", Values::Money),
    ("decimal(38,6)", Values::Wide),
    ("double", Values::TameDouble),
    ("double", Values::FiniteDouble),
    ("varchar(20)", Values::Text),
    ("varchar(20)", Values::Text),
    ("longtext", Values::Text),
    ("varchar(20) COLLATE utf8mb4_bin", Values::Text),
    ("varchar(20) COLLATE utf8mb4_nopad_bin", Values::Text),
    ("char(5)", Values::Short),
    ("date", Values::Date),
    ("date /* with zeros */", Values::Date),
    ("datetime(6) /* with zeros */", Values::Timestamp),
    ("datetime(6)", Values::Timestamp),
    ("datetime(6)", Values::Recent),
    ("timestamp(6) NULL", Values::Epoch),
    ("boolean", Values::Bool),
    ("varbinary(20)", Values::Bytes),
    ("blob", Values::Bytes),
    ("binary(4)", Values::Bytes),
    ("tinyint", Values::Int8),
    ("int unsigned", Values::Unsigned32),
    ("year", Values::Year),
    ("float", Values::TameDouble),
    ("decimal(50,10)", Values::Wide),
    ("varchar(20) CHARACTER SET latin1", Values::Words),
    ("varchar(20) CHARACTER SET utf16", Values::Words),
    ("enum('b','a','ab','c')", Values::Label),
    ("enum('b','a','ab','c') COLLATE utf8mb4_bin", Values::Label),
    ("set('b','a','ab','c')", Values::Label),
    ("uuid", Values::Uuid),
];

const SQLITE: &[(&str, Values)] = &[
    ("INTEGER", Values::Small),
    ("INTEGER", Values::Int64),
    ("BIGINT", Values::Int32),
    ("DECIMAL(10,2)", Values::Money),
    ("REAL", Values::TameDouble),
    ("REAL", Values::FiniteDouble),
    ("TEXT", Values::Text),
    ("TEXT COLLATE NOCASE", Values::Text),
    ("TEXT COLLATE RTRIM", Values::Text),
    ("CHAR(5)", Values::Short),
    ("DATE", Values::Date),
    ("DATETIME", Values::Timestamp),
    ("TIMESTAMP", Values::Recent),
    ("TIME", Values::Time),
    ("TIMESTAMPTZ", Values::Instant),
    ("BOOLEAN", Values::Bool),
    ("BLOB", Values::Bytes),
];

const SQLITE_STRICT: &[(&str, Values)] = &[
    ("INTEGER", Values::Small),
    ("INTEGER", Values::Int64),
    ("INT", Values::Int32),
    ("REAL", Values::TameDouble),
    ("REAL", Values::FiniteDouble),
    ("TEXT", Values::Text),
    ("TEXT", Values::Text),
    ("TEXT COLLATE NOCASE", Values::Text),
    ("BLOB", Values::Bytes),
];

const PARQUET: &[(&str, Values)] = &[
    ("Int8", Values::Int8),
    ("UInt32", Values::Unsigned32),
    ("UInt64", Values::Unsigned64),
    ("Int16", Values::Int16),
    ("Int32", Values::Int32),
    ("Int64", Values::Small),
    ("Int64", Values::Int64),
    ("Decimal128(10, 2)", Values::Money),
    ("Decimal128(38, 6)", Values::Wide),
    ("Float64", Values::TameDouble),
    ("Float64", Values::WildDouble),
    ("Float32", Values::WildFloat),
    ("Utf8", Values::Text),
    ("Utf8", Values::Text),
    ("LargeUtf8", Values::Text),
    ("Utf8View", Values::Text),
    ("Dictionary(Int32, Utf8)", Values::Text),
    ("Date32", Values::Date),
    ("Time64(Microsecond)", Values::Time),
    ("Timestamp(Millisecond, None)", Values::Recent),
    ("Timestamp(Second, None)", Values::Recent),
    ("Timestamp(Microsecond, None)", Values::Timestamp),
    ("Timestamp(Microsecond, Some(\"UTC\"))", Values::Instant),
    ("Boolean", Values::Bool),
    ("Binary", Values::Bytes),
];

const CSV: &[(&str, Values)] = &[
    ("number", Values::Small),
    ("number", Values::Int64),
    ("number", Values::TameDouble),
    ("text", Values::Words),
    ("date", Values::Date),
    ("time", Values::Timestamp),
    ("truth", Values::Bool),
];

const JSON: &[(&str, Values)] = &[
    ("number", Values::Small),
    ("number", Values::Int64),
    ("number", Values::TameDouble),
    ("text", Values::Text),
    ("truth", Values::Bool),
];
