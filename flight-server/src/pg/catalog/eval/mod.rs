//! Answers questions of the catalog: a small evaluator of PostgreSQL's queries over tables that are in memory.
//!
//! Clients ask the catalog in everything that PostgreSQL's dialect has (correlated subqueries anywhere, LATERAL, lists and their subscripts, functions that yield rows,
//! `::regclass`, USING, WITH RECURSIVE, windows), and the tables are small. So a statement is compiled (`compile`) to a tree that is evaluated row by row (`run`, `expr`,
//! `aggregate`, `sets`), with PostgreSQL's functions (`functions`, `texts`) and types (`value`), and its result becomes Arrow (`arrow`).
//!
//! # Promised
//! The columns and their types are known before anything runs; NULL and three-valued logic are PostgreSQL's. Nothing is written, nothing outside of the tables is asked.
//!
//! # Refused
//! Tables that are not the catalog's, functions that are not known, statements that look at too many rows.
//!
//! Rejected: DataFusion, which plans none of the correlated subqueries that these questions are made of; SQLite, which has no lists and no types to tell.

mod aggregate;
mod arrow;
mod calls;
mod compile;
mod expr;
mod from;
mod functions;
mod names;
mod plan;
mod run;
mod select;
mod sets;
mod terms;
mod texts;
pub(in crate::pg) mod value;

use std::sync::atomic::AtomicBool;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;

use super::relations::Relations;
use super::rows::Cell;
use crate::pg::error::PgError;
use crate::pg::settings::Settings;
use compile::Compiler;
use value::{Kind, Value};

/// The tables of a statement, and what its connection is.
pub(super) struct Tables {
    all: Vec<Table>,
    pub(super) user: String,
    pub(super) settings: Settings,
    pub(super) process: i32,
}

/// A table.
pub(super) struct Table {
    schema: &'static str,
    name: &'static str,
    columns: Vec<(&'static str, Kind)>,
    rows: Vec<Vec<Value>>,
}

impl Tables {
    pub(super) fn new(all: Vec<Table>, user: String, settings: Settings, process: i32) -> Self {
        Self { all, user, settings, process }
    }

    fn at(&self, place: usize) -> &Table {
        &self.all[place]
    }

    fn place(&self, schema: &str, name: &str) -> Option<usize> {
        self.all.iter().position(|table| table.schema == schema && table.name == name)
    }
}

impl Table {
    /// A table of this shape (`name:type ...`) whose rows have some of its columns; the others are NULL.
    pub(super) fn new(
        schema: &'static str,
        name: &'static str,
        shape: &'static str,
        given: &[&'static str],
        rows: &[Vec<Cell>],
    ) -> Self {
        let columns: Vec<(&'static str, Kind)> = shape
            .split(' ')
            .filter_map(|column| column.split_once(':'))
            .map(|(name, kind)| (name, Kind::named(kind)))
            .collect();
        let places: Vec<Option<usize>> =
            columns.iter().map(|(name, _)| given.iter().position(|given| given == name)).collect();
        debug_assert_eq!(
            places.iter().flatten().count(),
            given.len(),
            "{name} has columns that PostgreSQL's has not: {given:?}"
        );
        let row = |row: &Vec<Cell>| -> Vec<Value> {
            let value = |place: &Option<usize>| place.and_then(|place| row.get(place)).map_or(Value::Null, Cell::value);
            places.iter().map(value).collect()
        };
        Self { schema, name, rows: rows.iter().map(row).collect(), columns }
    }
}

/// A statement that was compiled.
pub(super) struct Compiled {
    tables: Tables,
    relations: Relations,
    query: plan::Query,
    parameters: Vec<Kind>,
}

impl Compiled {
    /// Compiles a query that has so many parameters.
    pub(super) fn new(
        query: &ast::Query,
        tables: Tables,
        relations: Relations,
        parameters: usize,
    ) -> Result<Self, PgError> {
        let mut compiler = Compiler::new(&tables, parameters);
        let query = compiler.query(query)?;
        let parameters = compiler.parameters();
        Ok(Self { tables, relations, query, parameters })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        arrow::schema(&self.query.columns)
    }

    pub(super) fn parameters(&self) -> SchemaRef {
        arrow::parameters(&self.parameters)
    }

    /// Runs it to its end, or to where it is not wanted any more.
    pub(super) fn run(&self, values: &[ScalarValue], is_unwanted: &AtomicBool) -> Result<RecordBatch, PgError> {
        let values: Vec<Value> = values.iter().map(arrow::value_of).collect();
        let world = run::World::new(&self.tables, &self.relations, &values, is_unwanted);
        let rows = world.query(&self.query, None)?;
        arrow::batch(&world, &self.query.columns, &rows)
    }
}

#[cfg(test)]
mod tests;
