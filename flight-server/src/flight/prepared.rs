//! Prepared statements: their schemas, what is bound to them, and their runs.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use headwater::Prepared;
use parking_lot::Mutex;
use tonic::Status;

use super::error::status;
use super::parameters::Row;
use super::statements::batches_of;
use super::stream::Batches;
use crate::auth::current;
use crate::detached::Threads;

/// A prepared statement and the parameters that are bound to it.
pub(super) struct PreparedStatement {
    text: String,
    /// None for a SET, which is not planned but run when it is executed.
    pub(super) plan: Option<Prepared>,
    bound: Mutex<Option<Vec<Row>>>,
}

impl PreparedStatement {
    pub(super) fn new(text: &str, plan: Option<Prepared>) -> Self {
        Self { text: text.to_owned(), plan, bound: Mutex::new(None) }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The schema of the result.
    pub(super) fn schema(&self) -> SchemaRef {
        self.plan.as_ref().map_or_else(no_columns, Prepared::schema)
    }

    /// The parameters: their names and types.
    pub(super) fn parameters(&self) -> SchemaRef {
        self.plan.as_ref().map_or_else(no_columns, Prepared::parameters)
    }

    /// Binds rows of parameters to the executions that follow.
    pub(super) fn bind(&self, rows: Vec<Row>) {
        *self.bound.lock() = Some(rows);
    }

    /// What is bound, or one row of nothing where there is nothing to bind.
    pub(super) fn rows(&self) -> Result<Vec<Row>, Status> {
        match (self.bound.lock().clone(), self.parameters().fields().len()) {
            (Some(rows), _) => Ok(rows),
            (None, 0) => Ok(vec![vec![]]),
            (None, count) => {
                Err(Status::invalid_argument(format!("the statement has {count} parameters and none is bound")))
            }
        }
    }
}

fn no_columns() -> SchemaRef {
    Arc::new(Schema::empty())
}

/// The results for each row of parameters, one after the other. An execution begins when the one before has ended.
pub(super) fn per_row(
    statement: Arc<PreparedStatement>,
    rows: Vec<Row>,
    schema: SchemaRef,
    threads: Threads,
) -> Batches {
    let parent = current::parent();
    let runs = futures::stream::iter(rows).then(move |row| {
        let (statement, schema, threads) = (Arc::clone(&statement), Arc::clone(&schema), threads.clone());
        async move {
            let plan = statement.plan.as_ref().ok_or_else(|| Status::internal("a SET has no rows of parameters"))?;
            let answer = plan.under(parent).execute(row).await.map_err(|error| status(&error))?;
            let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
            if types(&answer.schema()) != types(&schema) {
                let message = "the bound values change the result's types; give the parameters types with CAST";
                return Err(Status::invalid_argument(message));
            }
            batches_of(answer, &threads)
        }
    });
    Box::pin(runs.try_flatten())
}
