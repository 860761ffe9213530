//! The floor of the eight questions: two or three statements over the bare drivers, with what one yields bound to the next.
//!
//! No planner, and so what it costs is what the sources and the drivers cost. Rows that come back are kept as the drivers decode them; what the
//! second database needs of the first goes as binds of an IN list.

use std::collections::HashMap;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, Params, Value};
use tokio_postgres::{Client, NoTls};

/// Warm connections to the database of the customers and to that of the orders.
#[derive(Debug)]
pub struct Hand {
    customers: Client,
    orders: Conn,
}

/// What one question moved.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Rows of the answer.
    pub rows: u64,
    /// Rows that came from the databases, one statement after the other.
    pub shipped: u64,
}

type Line = (i64, mysql_async::Value, i32, Value, Value);

impl Hand {
    /// Connects to both databases.
    ///
    /// # Panics
    /// Where one does not answer.
    pub async fn connect(customers: &str, orders: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(customers, NoTls).await.expect("Postgres answers");
        // Ends with the client.
        tokio::spawn(connection);
        let orders = Conn::new(Opts::from_url(orders).expect("a URL")).await.expect("MariaDB answers");
        Self { customers: client, orders }
    }

    /// Asks the question of this index in [`QUESTIONS`](crate::questions::QUESTIONS).
    ///
    /// # Panics
    /// Where a database refuses, and on an index that has no question.
    pub async fn ask(&mut self, question: usize) -> Asked {
        match question {
            0 => self.customers_lines().await,
            1 => self.latest_of_a_nation().await,
            2 => self.revenues().await,
            3 => self.only_orders::<(i64,)>("SELECT count(*) FROM lineitem").await,
            4 => {
                let query = "SELECT o_orderpriority, count(*), sum(o_totalprice), max(o_orderdate) FROM orders \
                             GROUP BY o_orderpriority ORDER BY o_orderpriority";
                self.only_orders::<(String, i64, Value, Value)>(query).await
            }
            5 => self.quantities_of_a_day().await,
            6 => {
                let query = "SELECT l_orderkey, l_linenumber, l_partkey, l_comment FROM lineitem LIMIT 100";
                self.only_orders::<(i64, i32, i64, String)>(query).await
            }
            7 => self.priorities().await,
            other => panic!("there is no question {other}"),
        }
    }

    async fn only_orders<R: FromRow + Send + 'static>(&mut self, query: &str) -> Asked {
        let rows: Vec<R> = self.orders(query, &[]).await;
        Asked { rows: rows.len() as u64, shipped: rows.len() as u64 }
    }

    async fn customers_lines(&mut self) -> Asked {
        let customers = self.named("SELECT c_custkey, c_name FROM customer WHERE c_custkey = 370").await;
        let lines: Vec<Line> = self
            .orders(
                "SELECT o_orderkey, o_orderdate, l_linenumber, l_quantity, l_extendedprice FROM orders \
                 JOIN lineitem ON l_orderkey = o_orderkey WHERE o_custkey IN (KEYS) ORDER BY o_orderkey, l_linenumber",
                &keys(&customers),
            )
            .await;
        Asked { rows: lines.len() as u64, shipped: (customers.len() + lines.len()) as u64 }
    }

    async fn latest_of_a_nation(&mut self) -> Asked {
        let query =
            "SELECT c_custkey, c_name FROM customer JOIN nation ON c_nationkey = n_nationkey WHERE n_name = 'KENYA'";
        let customers = self.named(query).await;
        let orders: Vec<(i64, Value, Value, i64)> = self
            .orders(
                "SELECT o_orderkey, o_orderdate, o_totalprice, o_custkey FROM orders WHERE o_custkey IN (KEYS) \
                 ORDER BY o_orderdate DESC, o_orderkey LIMIT 10",
                &keys(&customers),
            )
            .await;
        let named = orders.iter().filter(|order| customers.contains_key(&order.3)).count();
        Asked { rows: named as u64, shipped: (customers.len() + orders.len()) as u64 }
    }

    async fn revenues(&mut self) -> Asked {
        let customers = self.named("SELECT c_custkey, c_name FROM customer WHERE c_acctbal > 9990").await;
        let sums: Vec<(i64, i64, Value)> = self
            .orders(
                "SELECT o_custkey, count(*), sum(l_extendedprice * (1 - l_discount)) FROM orders \
                 JOIN lineitem ON l_orderkey = o_orderkey WHERE o_custkey IN (KEYS) GROUP BY o_custkey ORDER BY o_custkey",
                &keys(&customers),
            )
            .await;
        let named = sums.iter().filter(|sum| customers.contains_key(&sum.0)).count();
        Asked { rows: named as u64, shipped: (customers.len() + sums.len()) as u64 }
    }

    async fn quantities_of_a_day(&mut self) -> Asked {
        let orders: Vec<(i64, i64, Value)> = self
            .orders(
                "SELECT o_custkey, o_orderkey, sum(l_quantity) FROM orders JOIN lineitem ON l_orderkey = o_orderkey \
                 WHERE o_orderdate = DATE '1995-03-15' GROUP BY o_custkey, o_orderkey ORDER BY o_orderkey",
                &[],
            )
            .await;
        let mut wanted: Vec<i64> = orders.iter().map(|order| order.0).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let query = "SELECT c_custkey, c_name FROM customer WHERE c_custkey = ANY ($1)";
        let customers = self.customers.query(query, &[&wanted]).await.expect("Postgres answers");
        let names: HashMap<i64, String> = customers.iter().map(|row| (row.get(0), row.get(1))).collect();
        let named = orders.iter().filter(|order| names.contains_key(&order.0)).count();
        Asked { rows: named as u64, shipped: (orders.len() + names.len()) as u64 }
    }

    async fn priorities(&mut self) -> Asked {
        let customers = self.named("SELECT c_custkey, c_name FROM customer WHERE c_acctbal > 9990").await;
        let counts: Vec<(String, i64)> = self
            .orders(
                "SELECT o_orderpriority, count(*) FROM orders WHERE o_custkey IN (KEYS) \
                 GROUP BY o_orderpriority ORDER BY o_orderpriority",
                &keys(&customers),
            )
            .await;
        Asked { rows: counts.len() as u64, shipped: (customers.len() + counts.len()) as u64 }
    }

    async fn named(&self, query: &str) -> HashMap<i64, String> {
        let rows = self.customers.query(query, &[]).await.expect("Postgres answers");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// `KEYS` in the query stands for a placeholder for each key. Of no keys nothing is asked.
    async fn orders<R: FromRow + Send + 'static>(&mut self, query: &str, keys: &[i64]) -> Vec<R> {
        if query.contains("KEYS") && keys.is_empty() {
            return vec![];
        }
        let query = query.replace("KEYS", &vec!["?"; keys.len()].join(", "));
        let values = match keys {
            [] => Params::Empty,
            keys => Params::Positional(keys.iter().map(|key| Value::from(*key)).collect()),
        };
        self.orders.exec(query, values).await.expect("MariaDB answers")
    }
}

/// The keys in order: an index is walked one way.
fn keys(customers: &HashMap<i64, String>) -> Vec<i64> {
    let mut keys: Vec<i64> = customers.keys().copied().collect();
    keys.sort_unstable();
    keys
}
