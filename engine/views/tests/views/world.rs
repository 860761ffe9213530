//! A maintenance of views beside the sources that it follows, and DataFusion to judge it.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_rules::{
    mended_analyzer_rules, mended_optimizer_rules, mended_physical_optimizer_rules, mended_scalar_functions,
};
use headwater_source::{Dependency, Position, TableChange, Transaction};
use headwater_views::{Input, Maintenance, Options, Query, Report, Resolved, SourceId, TableId, ViewId};

use crate::model::Model;

/// A source with its tables.
pub(crate) struct Source {
    pub(crate) id: SourceId,
    pub(crate) models: Vec<Model>,
    pub(crate) tables: Vec<TableId>,
    pub(crate) position: u64,
}

pub(crate) struct World {
    pub(crate) views: Maintenance,
    pub(crate) sources: Vec<Source>,
    pub(crate) queries: Vec<(ViewId, String)>,
}

/// One runtime for planning and judging.
pub(crate) fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

pub(crate) fn covers() -> headwater_views::Covers {
    Arc::new(|position, token| {
        token.parse::<u64>().map(|wanted| position.order() >= wanted).map_err(|_| format!("{token:?} is no number"))
    })
}

impl World {
    pub(crate) fn new(sources: Vec<(&'static str, Vec<Model>)>) -> Self {
        // So few that views are computed from pieces of their inputs.
        Self::with(Options { load_rows: 3, ..Options::default() }, sources)
    }

    pub(crate) fn with(options: Options, sources: Vec<(&'static str, Vec<Model>)>) -> Self {
        let mut views = Maintenance::new(options);
        let sources = sources
            .into_iter()
            .map(|(service, models)| {
                let id = views.add_source(service, covers());
                let add = |model: &Model| views.add_table(id, model.name, &model.definition).expect("a good table");
                let tables = models.iter().map(add).collect();
                Source { id, models, tables, position: 0 }
            })
            .collect();
        Self { views, sources, queries: vec![] }
    }

    /// Reads every table of every source, at a position of its own.
    pub(crate) fn load(&mut self) {
        for source in 0..self.sources.len() {
            self.load_source(source);
        }
    }

    pub(crate) fn load_source(&mut self, source: usize) -> Report {
        let source = &mut self.sources[source];
        source.position += 1;
        let mut loaders = Vec::new();
        for (model, table) in source.models.iter().zip(&source.tables) {
            let mut loader = self.views.loader(*table).expect("the table is there");
            loader.push(&model.batch()).expect("rows of the table");
            loaders.push(loader);
        }
        let position = Position::new(source.position, source.position.to_string());
        let report = self.views.load(source.id, position, loaders).expect("the source is loaded");
        self.tell_ends(&report);
        report
    }

    /// Tells where the logs end of which that is asked.
    pub(crate) fn tell_ends(&mut self, report: &Report) {
        for asked in &report.unsettled {
            let source = self.sources.iter().find(|source| source.id == *asked).expect("a known source");
            let end = Position::new(source.position, source.position.to_string());
            let report = self.views.settle(*asked, Some(end)).expect("a known source");
            self.check_report(&report);
        }
    }

    /// Tells where all logs end, as after a restart.
    pub(crate) fn tell_ends_after_restart(&mut self) {
        for source in &self.sources {
            let end = Position::new(source.position, source.position.to_string());
            self.views.settle_restart(source.id, end).expect("a known source");
        }
    }

    /// Creates a view, shown from now on.
    pub(crate) fn create(&mut self, sql: &str) -> ViewId {
        let view = self.try_create(sql).unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
        let report = self.views.start_views();
        self.check_report(&report);
        view
    }

    pub(crate) fn try_create(&mut self, sql: &str) -> headwater_views::Result<ViewId> {
        let query = self.query(sql)?;
        let name = format!("view{}", self.queries.len());
        let view = self.views.create_view(&name, query)?;
        self.queries.push((view, sql.to_owned()));
        Ok(view)
    }

    pub(crate) fn query(&self, sql: &str) -> headwater_views::Result<Query> {
        let context = self.context();
        let plan = block(context.state().create_logical_plan(sql))?;
        Query::new(plan, &mut |scan| {
            let name = &scan.table_name;
            let named = |model: &Model| model.name == name.table();
            for source in &self.sources {
                if let Some(place) = source.models.iter().position(named) {
                    let schema = source.models[place].definition.schema();
                    return Ok(Resolved { input: Input::Table(source.tables[place]), schema });
                }
            }
            let view = self.queries.iter().enumerate().find(|(number, _)| format!("view{number}") == name.table());
            let (view, _) = view.expect("a table or a view").1;
            let epoch = self.views.published();
            let schema = Arc::clone(epoch.view(*view).expect("it is visible").version.schema());
            Ok(Resolved { input: Input::View(*view), schema })
        })
    }

    pub(crate) fn offer(&mut self, source: usize, changes: Vec<TableChange>, depends_on: Vec<Dependency>) {
        let source = &mut self.sources[source];
        source.position += 1;
        let position = Position::new(source.position, source.position.to_string());
        let transaction = Transaction { position, committed_us: None, depends_on, changes };
        self.views.offer(source.id, transaction, &source.tables).expect("the transaction is taken");
    }

    pub(crate) fn step(&mut self) -> Report {
        let report = self.views.step();
        self.check_report(&report);
        report
    }

    /// Steps until nothing waits that could come.
    pub(crate) fn settle(&mut self) {
        while self.step().more {}
    }

    fn check_report(&self, report: &Report) {
        if let Some((view, error)) = report.failed_views.first() {
            let (_, sql) = self.queries.iter().find(|(id, _)| id == view).expect("a known view");
            panic!("{sql}: {}", error.report());
        }
        if let Some((_, error)) = report.failed_sources.first() {
            panic!("{}", error.report());
        }
    }

    /// A context over the tables as the sources hold them now, and some views' rows.
    fn context(&self) -> SessionContext {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        // What DataFusion answers wrong is no reference.
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_scalar_functions(mended_scalar_functions())
            .with_analyzer_rules(mended_analyzer_rules())
            .with_optimizer_rules(mended_optimizer_rules())
            .with_physical_optimizer_rules(mended_physical_optimizer_rules())
            .build();
        let context = SessionContext::new_with_state(state);
        for model in self.sources.iter().flat_map(|source| &source.models) {
            let table = MemTable::try_new(model.definition.schema(), vec![vec![model.batch()]]).expect("a table");
            context.register_table(model.name, Arc::new(table)).expect("a free name");
        }
        let epoch = self.views.published();
        for (number, (view, _)) in self.queries.iter().enumerate() {
            if let Some(shown) = epoch.view(*view) {
                let rows = shown.version.batches().expect("rows");
                let table = MemTable::try_new(Arc::clone(shown.version.schema()), vec![rows]).expect("a table");
                context.register_table(format!("view{number}"), Arc::new(table)).expect("a free name");
            }
        }
        context
    }

    /// Every view shows what DataFusion computes over the tables as they are now.
    pub(crate) fn check(&self, what: &str) {
        let context = self.context();
        for (view, sql) in &self.queries {
            let epoch = self.views.published();
            let shown = epoch.view(*view).unwrap_or_else(|| panic!("{sql} is not visible"));
            let found = shown.version.batches().expect("rows");
            let sql = &at(sql, epoch.now);
            let expected = block(async { context.sql(sql).await.expect("a query").collect().await });
            let expected = expected.unwrap_or_else(|error| panic!("{sql}: {error}"));
            let (found, expected) = (rows_of(&found), rows_of(&expected));
            if !same(&found, &expected) {
                let only = |a: &[String], b: &[String]| {
                    a.iter().filter(|row| !b.contains(row)).take(8).cloned().collect::<Vec<_>>().join("\n")
                };
                panic!(
                    "{what}: {sql}\n{} rows shown, {} expected\nonly shown:\n{}\nonly expected:\n{}\n{}",
                    found.len(),
                    expected.len(),
                    only(&found, &expected),
                    only(&expected, &found),
                    self.explain(*view)
                );
            }
        }
    }

    pub(crate) fn explain(&self, view: ViewId) -> String {
        let lines = self.views.explain(view).expect("the view is there");
        let line = |line: headwater_views::Explained| {
            let description = line.description;
            format!(
                "{}{} [{:?}, {} rows]",
                "  ".repeat(line.depth),
                description.operator,
                description.mode,
                description.rows
            )
        };
        lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A query as of a time, in nanoseconds since 1970.
fn at(sql: &str, now: i64) -> String {
    let time = format!("arrow_cast({now}, 'Timestamp(Nanosecond, None)')");
    let sql = sql.replace("now()", &time).replace("current_timestamp", &time);
    sql.replace("current_date", &format!("CAST({time} AS DATE)"))
}

/// Whether rows are equal, floats but for their last digits: DataFusion's depend on the order in which it met the rows.
pub(crate) fn same(found: &[String], expected: &[String]) -> bool {
    let close = |found: &str, expected: &str| match (found.parse::<f64>(), expected.parse::<f64>()) {
        (Ok(found), Ok(expected)) => (found - expected).abs() <= 1e-8 * found.abs().max(expected.abs()),
        _ => false,
    };
    let cells = |found: &str, expected: &str| {
        let (found, expected): (Vec<&str>, Vec<&str>) = (found.split('|').collect(), expected.split('|').collect());
        found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| *found == expected || close(found, expected))
    };
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| found == expected || cells(found, expected))
}

/// Rows as texts in order; floats to ten digits, since DataFusion's sums depend on the order of rows.
pub(crate) fn rows_of(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| cell(column.as_ref(), row));
            rows.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort();
    rows
}

fn cell(column: &dyn Array, row: usize) -> String {
    match ScalarValue::try_from_array(column, row).expect("a value") {
        ScalarValue::Float64(Some(value)) if value == 0.0 || value.abs() < 1e-6 => "0".to_owned(),
        ScalarValue::Float64(Some(value)) => format!("{value:.9e}"),
        other if other.is_null() => "NULL".to_owned(),
        other => format!("{other}:{}", other.data_type()),
    }
}
