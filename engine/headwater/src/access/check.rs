//! Holds an access file against the services that there are, for `headwater check`.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use headwater_source::{TableDef, nearest};

use super::file::{Placed, Policy};
use super::planner;
use super::rights::On;
use crate::Fault;

/// The tables of each service by their names in SQL; `None` for a service that could not be asked.
pub(crate) type Known = BTreeMap<String, Option<BTreeMap<String, TableDef>>>;

/// What grants name that is not there, and rules that do not fit their tables. Of a view nothing is known here but the names of those that files define.
pub(crate) fn check(policy: &Policy, known: &Known, views: &[String]) -> Vec<Fault> {
    let checker = Checker { policy, known, views, state: planner() };
    policy.grants().flat_map(|placed| checker.grant(placed)).collect()
}

struct Checker<'a> {
    policy: &'a Policy,
    known: &'a Known,
    views: &'a [String],
    state: SessionState,
}

impl Checker<'_> {
    fn grant(&self, placed: &Placed) -> Vec<Fault> {
        match &placed.grant.on {
            On::Everything => vec![],
            On::View(name) => {
                let name = name.to_string();
                let near = nearest(&name, self.views.iter().map(String::as_str)).filter(|near| *near != name);
                match near.filter(|_| !self.views.contains(&name)) {
                    Some(near) => {
                        let message = format!("no file defines a view \"{name}\"; did you mean \"{near}\"?");
                        vec![self.fault(placed, "view", message)]
                    }
                    None => vec![],
                }
            }
            On::Service { service, tables } => match self.known.get(service) {
                None => {
                    let hint = hint(service, self.known.keys());
                    vec![self.fault(placed, "service", format!("there is no service \"{service}\"{hint}"))]
                }
                // That it can't be asked is told already.
                Some(None) => vec![],
                Some(Some(known)) => {
                    tables.iter().flatten().flat_map(|table| self.table(placed, service, table, known)).collect()
                }
            },
        }
    }

    fn table(&self, placed: &Placed, service: &str, table: &str, known: &BTreeMap<String, TableDef>) -> Vec<Fault> {
        let Some(definition) = known.get(table) else {
            let hint = hint(table, known.keys());
            return vec![self.fault(
                placed,
                "tables",
                format!("service \"{service}\" publishes no table \"{table}\"{hint}"),
            )];
        };
        let columns: Vec<&String> = definition.columns.iter().map(|column| &column.name).collect();
        let grant = &placed.grant;
        let named = grant.columns.iter().flatten().map(|column| ("columns", column));
        let named = named.chain(grant.masks.keys().map(|column| ("masks", column)));
        let strange = named.filter(|(_, column)| !columns.contains(column)).map(|(key, column)| {
            let hint = hint(column, columns.iter().copied());
            self.fault(placed, key, format!("table \"{service}.{table}\" has no column \"{column}\"{hint}"))
        });
        let mut faults: Vec<Fault> = strange.collect();
        faults.extend(self.rules(placed, service, table, definition));
        faults
    }

    fn rules(&self, placed: &Placed, service: &str, table: &str, definition: &TableDef) -> Vec<Fault> {
        let misfit = |key: &str, error: &datafusion::error::DataFusionError| {
            let message = format!("does not fit table \"{service}.{table}\": {}", error.strip_backtrace());
            self.fault(placed, key, message)
        };
        let schema = match DFSchema::try_from_qualified_schema(table, &definition.schema()) {
            Ok(schema) => schema,
            Err(error) => return vec![misfit("tables", &error)],
        };
        let mut faults = Vec::new();
        // Anybody will do: the name of the user is text whoever it is.
        let user = Some("somebody");
        if let Some(rule) = &placed.grant.rows {
            let condition = rule.condition(user, &schema, &self.state).and_then(|rule| self.planned(rule, &schema));
            faults.extend(condition.err().map(|error| misfit("rows", &error)));
        }
        for (column, rule) in &placed.grant.masks {
            let Some(field) = schema.fields().iter().find(|field| field.name() == column) else { continue };
            let wanted: &DataType = field.data_type();
            let value = rule.value(user, wanted, &schema, &self.state).and_then(|rule| self.planned(rule, &schema));
            faults.extend(value.err().map(|error| misfit(&format!("masks.{column}"), &error)));
        }
        faults
    }

    /// Types are settled when an expression is planned to its end.
    fn planned(&self, expression: Expr, schema: &DFSchema) -> Result<()> {
        self.state.create_physical_expr(expression, schema).map(|_| ())
    }

    fn fault(&self, placed: &Placed, key: &str, message: String) -> Fault {
        let key = format!("{}.{key}", placed.key);
        Fault { file: self.policy.file().to_owned(), line: placed.line, key, message }
    }
}

fn hint<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    nearest(name, known.map(String::as_str)).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}
