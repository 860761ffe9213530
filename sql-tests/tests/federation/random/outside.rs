//! Random queries whose subqueries read from outside, and rows of values: SQLite itself says what is right.
//!
//! How such a subquery becomes a join is the same with pushdown, without, and over a local copy, so that a local copy would prove nothing.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Services, ask};

use super::*;

/// How many queries are asked of each pair of tables.
const QUERIES: u64 = 60;

/// What is said of a query that is not computed.
const REFUSED: &str = "equal (=) to what is outside";

/// A dozen subqueries in one query are a deep plan, and the frames of a debug build are large.
const STACK_BYTES: usize = 32 * 1024 * 1024;

#[test]
fn subqueries_that_read_from_outside_are_answered_as_by_sqlite() {
    let asked = || tokio::runtime::Runtime::new().unwrap().block_on(ask_as_sqlite());
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(asked).unwrap().join().unwrap();
}

async fn ask_as_sqlite() {
    let long = variable("HEADWATER_RANDOM_SECONDS");
    let said = variable("HEADWATER_RANDOM_SEED");
    let first = said.unwrap_or_else(|| 9_000 + long.map_or(0, |_| new_seed()));
    let until = Instant::now() + Duration::from_secs(long.unwrap_or(SECONDS));
    let tables = if is_alone() { 1 } else { long.map_or(SCHEMAS, |_| u64::MAX) };
    let (mut right, mut refused) = (0, 0);
    let mut wrong = vec![];
    for seed in first..first.saturating_add(tables) {
        if wrong.len() >= FAILURES_MAX || (Instant::now() > until && !is_alone()) {
            break;
        }
        let statements = statements(&mut Dice::branch(seed, 0));
        let sqlite = Connection::open_in_memory().unwrap();
        sqlite.execute_batch(&statements).unwrap();
        let postgres = PostgresDatabase::with(&statements).await;
        let services = Services::new().with_sqlite("lite", &statements).with_postgres("pg", &postgres.url());
        let engine = services.engine().await;
        for number in 1..=QUERIES {
            let mut dice = Dice::branch(seed, number);
            let (outer, inner) = (*dice.pick(&["lite", "pg"]), *dice.pick(&["lite", "pg"]));
            let query = Text { dice: &mut dice }.query();
            let wanted = told(&sqlite, &query);
            let here =
                query.replace("FROM x", &format!("FROM {outer}.x")).replace("FROM y", &format!("FROM {inner}.y"));
            match ask(&engine.session(), &here).await {
                Ok(found) => {
                    let mut found: Vec<Vec<String>> =
                        found.texts().into_iter().map(|row| row.into_iter().map(str::to_owned).collect()).collect();
                    found.sort_unstable();
                    if found == wanted {
                        right += 1;
                    } else {
                        wrong.push(format!(
                            "seed {seed}, number {number}\n{here}\n{found:?}, and by SQLite\n{wanted:?}\n{statements}"
                        ));
                    }
                }
                Err(error) if error.contains(REFUSED) => refused += 1,
                Err(error) => wrong.push(format!("seed {seed}, number {number}\n{here}\n{error}\n{statements}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    println!("{right} as by SQLite, {refused} refused");
    assert!(refused < right, "{refused} of {} are refused", right + refused);
}

/// The rows as SQLite has them, as texts in order.
fn told(sqlite: &Connection, query: &str) -> Vec<Vec<String>> {
    let mut statement = sqlite.prepare(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut told = Vec::new();
    while let Some(row) = rows.next().unwrap_or_else(|error| panic!("{query}: {error}")) {
        let text = |column| match row.get_ref(column).unwrap() {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{query}: {other:?}"),
        };
        told.push((0..columns).map(text).collect::<Vec<_>>());
    }
    told.sort_unstable();
    told
}

/// Two tables of a few rows, in which values meet and are NULL.
fn statements(dice: &mut Dice) -> String {
    let mut statements = String::new();
    for table in ["x", "y"] {
        statements += &format!("CREATE TABLE {table} (id int PRIMARY KEY, a int, b int, s varchar(9));");
        for id in 0..dice.between(0, 9) {
            let number = |dice: &mut Dice| match dice.percent(20) {
                true => "NULL".to_owned(),
                false => dice.below(4).to_string(),
            };
            let (a, b) = (number(dice), number(dice));
            let s = *dice.pick(&["NULL", "'a'", "'b'", "'c'"]);
            statements += &format!("INSERT INTO {table} VALUES ({id}, {a}, {b}, {s});");
        }
    }
    statements
}

struct Text<'a> {
    dice: &'a mut Dice,
}

impl Text<'_> {
    fn pick(&mut self, of: &[&str]) -> String {
        (*self.dice.pick(of)).to_owned()
    }

    fn query(&mut self) -> String {
        let kept = |text: &mut Self| match text.dice.weighted(&[(3, 0), (3, 1), (2, 2), (1, 3)]) {
            0 => String::new(),
            1 => format!(" WHERE {}", text.condition()),
            2 => format!(" WHERE {} AND {}", text.condition(), text.pick(&["x.b > 0", "x.id < 6", "x.s IS NOT NULL"])),
            _ => format!(" WHERE {} OR {}", text.condition(), text.condition()),
        };
        match self.dice.weighted(&[(5, 0), (1, 1), (1, 2)]) {
            0 => {
                let mut selected = vec!["x.id".to_owned()];
                for number in 0..self.dice.between(0, 2) {
                    let value = match self.dice.percent(70) {
                        true => self.value(),
                        false => {
                            let condition = self.condition();
                            format!("CASE WHEN {condition} THEN 1 WHEN NOT ({condition}) THEN 0 END")
                        }
                    };
                    selected.push(format!("{value} AS v{number}"));
                }
                format!("SELECT {} FROM x{}", selected.join(", "), kept(self))
            }
            1 => format!("SELECT {} AS v, count(*) AS n FROM x{} GROUP BY 1", self.value(), kept(self)),
            _ => format!("SELECT x.id FROM x{} ORDER BY {} NULLS FIRST, x.id LIMIT 4", kept(self), self.value()),
        }
    }

    /// A condition on a row of `x`.
    fn condition(&mut self) -> String {
        let not = self.pick(&["", "", "NOT "]);
        match self.dice.weighted(&[(3, 0), (3, 1), (2, 2), (2, 3), (2, 4)]) {
            0 => {
                let cut = self.pick(&["", "", " LIMIT 1", " LIMIT 2 OFFSET 1"]);
                let (rows, kept) = self.rows();
                format!("{not}EXISTS (SELECT 1 FROM {rows}{kept}{cut})")
            }
            1 => {
                let (value, column) =
                    (self.pick(&["x.a", "x.b", "2", "x.a + 1"]), self.pick(&["y.a", "y.b", "y.a + y.b"]));
                let (rows, kept) = self.rows();
                let cut =
                    if self.dice.percent(30) { format!(" ORDER BY {} LIMIT 2", self.order()) } else { String::new() };
                format!("{value} {not}IN (SELECT {column} FROM {rows}{kept}{cut})")
            }
            2 => {
                let kept = self.kept();
                format!("(x.a, x.b) {not}IN (SELECT y.a, y.b FROM y{kept})")
            }
            3 => {
                let op = self.pick(&["=", "<>", "<", "<=", ">", ">="]);
                let number = self.dice.below(4);
                match self.dice.below(3) {
                    0 => format!("(x.a, x.b) {op} (1, {number})"),
                    1 => format!("(x.a, x.s, x.b) {op} ({number}, 'b', 1)"),
                    _ => format!("(x.b, x.a) {not}IN (VALUES (1, {number}), (2, 0), (NULL, 1))"),
                }
            }
            _ => format!(
                "{} {} {}",
                self.value_of(&["y.a", "y.b", "y.id"]),
                self.pick(&["=", "<", ">=", "<>"]),
                self.dice.below(4)
            ),
        }
    }

    /// A value of a row of `x`.
    fn value(&mut self) -> String {
        self.value_of(&["y.a", "y.b", "y.id", "y.s"])
    }

    /// The same, of one of these columns where it is none that is computed.
    fn value_of(&mut self, columns: &[&str]) -> String {
        let column = self.pick(columns);
        match self.dice.weighted(&[(4, 0), (4, 1), (1, 2), (2, 3), (1, 4), (2, 5)]) {
            0 => {
                let (order, cut) = (self.order(), self.pick(&["LIMIT 1", "LIMIT 1", "LIMIT 1 OFFSET 1"]));
                let (rows, kept) = self.rows();
                format!("(SELECT {column} FROM {rows}{kept} ORDER BY {order} {cut})")
            }
            1 => {
                let value = self.aggregate("y.a", "y.b");
                let (rows, kept) = self.rows();
                let cut = self.pick(&["", "", " LIMIT 1"]);
                format!("(SELECT {value} FROM {rows}{kept}{cut})")
            }
            2 => format!("(SELECT {column} FROM y WHERE y.id = {})", self.pick(&["x.a", "x.b + 1", "x.id"])),
            3 => {
                let value = self.aggregate("d.a", "d.b");
                let (kept, order, rows) = (self.kept(), self.order(), self.dice.between(1, 3));
                format!("(SELECT {value} FROM (SELECT y.a, y.b FROM y{kept} ORDER BY {order} LIMIT {rows}) d)")
            }
            4 => {
                let kept = self.kept();
                format!("(SELECT count(*) FROM y{kept} GROUP BY y.b ORDER BY count(*) DESC, y.b NULLS FIRST LIMIT 1)")
            }
            _ => {
                let window = self.pick(&["row_number()", "count(*)", "sum(y.a)", "max(y.b)"]);
                let by = self.pick(&["", "PARTITION BY y.b "]);
                let kept = self.kept();
                format!(
                    "(SELECT {window} OVER ({by}ORDER BY y.a NULLS FIRST, y.id) FROM y{kept} ORDER BY y.id DESC LIMIT 1)"
                )
            }
        }
    }

    fn aggregate(&mut self, a: &str, b: &str) -> String {
        let of = self.pick(&[a, b]);
        let function = self.pick(&["count(*)", "count({})", "sum({})", "min({})", "max({})", "count(DISTINCT {})"]);
        function.replace("{}", &of)
    }

    /// Rows that are called `y`, and the conditions on them, or those that they have within.
    fn rows(&mut self) -> (String, String) {
        let kept = self.kept();
        match self.dice.weighted(&[(5, 0), (1, 1), (1, 2)]) {
            0 => ("y".to_owned(), kept),
            1 => (format!("(SELECT * FROM y{kept}) y"), self.pick(&["", " WHERE y.b > 0"])),
            _ => (
                format!(
                    "(SELECT y.id, y.a, y.b, y.s, row_number() OVER (ORDER BY y.b NULLS FIRST, y.id) AS n FROM y{kept}) y"
                ),
                self.pick(&[" WHERE y.n = 1", " WHERE y.n < 3"]),
            ),
        }
    }

    fn kept(&mut self) -> String {
        const OUTSIDE: [&str; 9] = [
            "y.a = x.a",
            "y.a = x.a",
            "x.b = y.b",
            "y.s = x.s",
            "y.a = x.a + 1",
            "y.a + y.b = x.b",
            "y.b <= x.b",
            "y.a <> x.b",
            "(y.a = x.a OR y.b = 1)",
        ];
        let mut conditions = vec![self.pick(&OUTSIDE)];
        if self.dice.percent(30) {
            conditions.push(self.pick(&OUTSIDE));
        }
        if self.dice.percent(40) {
            conditions.push(self.pick(&["y.b > 0", "y.s <> 'a'", "y.a IS NOT NULL", "y.id % 2 = 0"]));
        }
        format!(" WHERE {}", conditions.join(" AND "))
    }

    /// An order of `y` in which no two rows are equal.
    fn order(&mut self) -> String {
        self.pick(&["y.a NULLS FIRST, y.id", "y.b DESC NULLS LAST, y.id DESC", "y.s NULLS LAST, y.id", "y.id"])
    }
}
