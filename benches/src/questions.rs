//! Eight questions that a service's engineer asks over two or three databases, on TPC-H's tables.
//!
//! They are what the planner is for: a key that is followed over three tables, a top-N and groups above a join of two sources, whole
//! aggregates and joins of one source. [`hand`](crate::hand) has the statements that a careful engineer writes for each.

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// What is asked, for people.
    pub name: &'static str,
    /// The query over all services.
    pub sql: &'static str,
}

/// The eight questions, in the order of [`Hand::ask`](crate::hand::Hand::ask).
pub const QUESTIONS: [Question; 8] = [
    Question {
        name: "one customer's orders and their lines",
        sql: "SELECT c_custkey, c_name, o_orderkey, o_orderdate, l_linenumber, l_quantity, l_extendedprice \
              FROM customer JOIN orders ON o_custkey = c_custkey JOIN lineitem ON l_orderkey = o_orderkey \
              WHERE c_custkey = 370 ORDER BY o_orderkey, l_linenumber",
    },
    Question {
        name: "ten latest orders of a nation's customers",
        sql: "SELECT o_orderkey, o_orderdate, o_totalprice, c_name FROM nation \
              JOIN customer ON c_nationkey = n_nationkey JOIN orders ON o_custkey = c_custkey \
              WHERE n_name = 'KENYA' ORDER BY o_orderdate DESC, o_orderkey LIMIT 10",
    },
    Question {
        name: "revenue of the customers above a balance",
        sql: "SELECT c_custkey, c_name, count(*) AS line_count, sum(l_extendedprice * (1 - l_discount)) AS revenue \
              FROM customer, orders, lineitem WHERE c_custkey = o_custkey AND o_orderkey = l_orderkey AND c_acctbal > 9990 \
              GROUP BY c_custkey, c_name ORDER BY c_custkey",
    },
    Question { name: "count of all lines", sql: "SELECT count(*) AS line_count FROM lineitem" },
    Question {
        name: "orders by priority",
        sql: "SELECT o_orderpriority, count(*) AS order_count, sum(o_totalprice) AS total, max(o_orderdate) AS latest \
              FROM orders GROUP BY o_orderpriority ORDER BY o_orderpriority",
    },
    Question {
        name: "quantities of one day's orders, with the customers' names",
        sql: "SELECT c_name, o_orderkey, sum(l_quantity) AS qty FROM customer, orders, lineitem \
              WHERE c_custkey = o_custkey AND o_orderkey = l_orderkey AND o_orderdate = DATE '1995-03-15' \
              GROUP BY c_name, o_orderkey ORDER BY o_orderkey",
    },
    Question {
        name: "any 100 lines",
        sql: "SELECT l_orderkey, l_linenumber, l_partkey, l_comment FROM lineitem LIMIT 100",
    },
    Question {
        name: "orders by priority of the customers above a balance",
        sql: "SELECT o_orderpriority, count(*) AS order_count FROM orders \
              WHERE o_custkey IN (SELECT c_custkey FROM customer WHERE c_acctbal > 9990) \
              GROUP BY o_orderpriority ORDER BY o_orderpriority",
    },
];
