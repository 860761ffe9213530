// Asks a Headwater server as programs with node-postgres do.
//
// Usage: node client.js HOST:PORT
//
// The server has the services orders (orders, lines) and customers, and no users; sql-tests/tests/flight starts it. Ends with
// status 0 when every check passed.
"use strict";

const assert = require("node:assert");
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");

const HOSTILE = ["a'da", "x\\", "\\') OR 1=1 -- ", "\u{1F600}"];

async function reads(client) {
  const values =
    "SELECT CAST(1 AS SMALLINT) AS a, 2 AS b, CAST(1.5 AS REAL) AS c, CAST(12.340 AS DECIMAL(10,3)) AS d, true AS e, 'x' AS f, " +
    "TIMESTAMP '2024-02-29 13:05:00.25' AS h, NULL AS i, X'00ff' AS j, [1, NULL] AS k, {'n': 1} AS l";
  const { rows, fields } = await client.query(values);
  assert.deepStrictEqual({ ...rows[0], h: undefined, j: [...rows[0].j] }, {
    a: 1, b: "2", c: 1.5, d: "12.340", e: true, f: "x", h: undefined, i: null, j: [0, 255], k: ["1", null], l: { n: 1 },
  });
  assert.strictEqual(rows[0].h.getFullYear(), 2024);
  assert.strictEqual(fields.find((field) => field.name === "d").dataTypeID, 1700);
}

async function binds(client) {
  for (const text of HOSTILE) {
    const { rows } = await client.query("SELECT id FROM orders.orders WHERE customer = $1", [text]);
    assert.deepStrictEqual(rows, text === "a'da" ? [{ id: "3" }] : []);
  }
  for (let i = 0; i < 3; i++) {
    const query = { name: "by id", text: "SELECT customer FROM orders.orders WHERE id = $1", values: [2], rowMode: "array" };
    assert.deepStrictEqual((await client.query(query)).rows, [["bob"]]);
  }
  const { rows } = await client.query("SELECT relname FROM pg_class WHERE relname = ANY($1) ORDER BY 1", [["orders", "lines"]]);
  assert.deepStrictEqual(rows, [{ relname: "lines" }, { relname: "orders" }]);
  const binary = new Client({ ...client.connectionParameters, binary: true });
  await binary.connect();
  assert.deepStrictEqual((await binary.query("SELECT id FROM orders.orders WHERE id > $1 ORDER BY id", [1])).rows.length, 2);
  await binary.end();
}

async function walks(client) {
  await client.query("BEGIN");
  const cursor = client.query(new Cursor("SELECT value FROM generate_series(1, 250) ORDER BY value"));
  let seen = 0;
  for (let rows = await cursor.read(100); rows.length > 0; rows = await cursor.read(100)) {
    seen += rows.length;
  }
  assert.strictEqual(seen, 250);
  await cursor.close();
  await client.query("COMMIT");
}

async function fails(client) {
  for (const [text, code] of [["SELEC 1", "42601"], ["SELECT * FROM orders.nothing", "42P01"], ["DELETE FROM orders.orders", "25006"]]) {
    await assert.rejects(client.query(text), (error) => error.code === code);
  }
  assert.strictEqual((await client.query("SELECT count(*) AS n FROM orders.orders")).rows[0].n, "3");
}

async function main() {
  const [host, port] = process.argv[2].split(":");
  const options = { host, port: Number(port), user: "ada", database: "headwater" };
  const client = new Client(options);
  await client.connect();
  for (const check of [reads, binds, walks, fails]) {
    await check(client);
    console.log(check.name, "passed");
  }
  await client.end();
  const pool = new Pool({ ...options, max: 4 });
  const asked = Array.from({ length: 20 }, (_, i) => pool.query("SELECT $1::bigint + 1 AS n", [i]));
  const answers = await Promise.all(asked);
  assert.deepStrictEqual(answers.map(({ rows }) => Number(rows[0].n)), Array.from({ length: 20 }, (_, i) => i + 1));
  await pool.end();
  console.log("every check passed");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
