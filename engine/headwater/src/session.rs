//! A session: what one user SETs, and the way from a statement's text to its answer.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, ParamValues, ScalarValue, SchemaError, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{DdlStatement, Deallocate, LogicalPlan, Statement as Named};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use headwater_federation::{
    CATALOG, Catalog, Federation, JoinOrder, SEARCH_PATH_SCHEMA, SessionCatalog, Settings, SharedSettings, TopN,
    UnambiguousKeys, UncoupledJoins, YieldingJoins, source_error,
};
use headwater_source::Error as SourceError;
use parking_lot::Mutex;

use crate::statement::{Request, parse};
use crate::{Answer, Error, Result};

/// A session over an [`Engine`](crate::Engine). Clones share their settings.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    catalog: Arc<SessionCatalog>,
    settings: SharedSettings,
    /// The statements of PREPARE, by name.
    named: Arc<Mutex<HashMap<String, Statement>>>,
}

/// A statement that was planned once and runs with values for its parameters.
#[derive(Clone)]
pub struct Prepared {
    session: Session,
    text: String,
    schema: SchemaRef,
    parameters: SchemaRef,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("settings", &*self.settings.read()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(catalog: Arc<Catalog>, runtime: Arc<RuntimeEnv>, settings: Settings) -> Self {
        let shared = SharedSettings::new(settings.clone().into());
        let catalog = SessionCatalog::new(catalog, Arc::clone(&shared));
        let state = SessionStateBuilder::new()
            .with_config(config(settings))
            .with_runtime_env(runtime)
            .with_default_features()
            .with_catalog_list(Arc::clone(&catalog) as _)
            .with_query_planner(Arc::new(Federation))
            .with_optimizer_rules(optimizer_rules())
            .with_physical_optimizer_rule(Arc::new(UnambiguousKeys))
            .with_physical_optimizer_rule(Arc::new(UncoupledJoins))
            .with_physical_optimizer_rule(Arc::new(YieldingJoins))
            .build();
        Self { context: SessionContext::new_with_state(state), catalog, settings: shared, named: Arc::default() }
    }

    /// The DataFusion context behind the session, for what a program wants to add: functions, rules.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Plans one statement. SET takes effect at once; a query runs when its answer is read.
    pub async fn sql(&self, text: &str) -> Result<Answer> {
        match parse(text)? {
            Request::SearchPath(path) => {
                self.set_search_path(path)?;
                self.answer(LogicalPlan::EmptyRelation(nothing())).await
            }
            Request::Plan(statement) => self.run(*statement).await,
        }
    }

    /// Plans a query with parameters (`$1` or `?`), whose types are taken from where they stand.
    pub async fn prepare(&self, text: &str) -> Result<Prepared> {
        let Request::Plan(statement) = parse(text)? else {
            let reason = "only queries take parameters".to_owned();
            return Err(Error::Refused { what: "preparing SET".to_owned(), reason });
        };
        let plan = self.plan(&statement).await?;
        let parameters = parameters(&plan)?;
        let schema = self.result_schema(&plan, &parameters);
        Ok(Prepared { session: self.clone(), text: text.to_owned(), schema, parameters })
    }

    async fn run(&self, statement: Statement) -> Result<Answer> {
        let plan = self.plan(&statement).await?;
        match &plan {
            LogicalPlan::Statement(Named::Prepare(prepare)) => {
                self.named.lock().insert(prepare.name.clone(), statement.clone());
            }
            LogicalPlan::Statement(Named::Execute(execute)) => self.prepare_anew(&execute.name).await?,
            LogicalPlan::Statement(Named::Deallocate(deallocate)) => {
                self.named.lock().remove(&deallocate.name);
            }
            _ => {}
        }
        match self.answer(plan).await {
            // The table's description was older than the table: it is forgotten by now, so this plans with the new one.
            Err(error) if is_stale(&error) => self.answer(self.plan(&statement).await?).await,
            other => other,
        }
    }

    /// Plans a statement of PREPARE again before it is executed: tables may have changed since, and so may the settings.
    async fn prepare_anew(&self, name: &str) -> Result<()> {
        let Some(statement) = self.named.lock().get(name).cloned() else { return Ok(()) };
        let plan = self.plan(&statement).await?;
        let old = LogicalPlan::Statement(Named::Deallocate(Deallocate { name: name.to_owned() }));
        self.context.execute_logical_plan(old).await?;
        self.context.execute_logical_plan(plan).await?;
        Ok(())
    }

    /// The logical plan. A name that is not found may be newer than what is remembered: then the tables of the statement
    /// are described anew, once.
    async fn plan(&self, statement: &Statement) -> Result<LogicalPlan> {
        let names = self.context.state().resolve_table_references(statement)?;
        if names.iter().any(|name| name.schema().is_some_and(|schema| schema == "information_schema")) {
            crate::engine::discover_unseen(self.catalog.catalog()).await;
        }
        let planned = match self.context.state().statement_to_plan(statement.clone()).await {
            Err(error) if is_unknown_column(&error) && self.forget(&names) => {
                self.context.state().statement_to_plan(statement.clone()).await
            }
            other => other,
        };
        match planned {
            Ok(plan) => guard_plan(plan),
            Err(error) => Err(self.explained(error, &names).await),
        }
    }

    async fn answer(&self, plan: LogicalPlan) -> Result<Answer> {
        let sets = matches!(plan, LogicalPlan::Statement(_));
        let frame = self.context.execute_logical_plan(plan).await?;
        if sets {
            self.refresh_settings();
        }
        let context = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        Ok(Answer::new(plan, context))
    }

    fn set_search_path(&self, path: Vec<String>) -> Result<()> {
        let known = self.catalog.catalog().schema_names();
        if let Some(strange) = path.iter().find(|name| !known.contains(name)) {
            let hint = headwater_source::nearest(strange, known.iter().map(String::as_str))
                .map(|name| format!("; did you mean \"{name}\"?"))
                .unwrap_or_default();
            let reason = format!("there is no service \"{strange}\"{hint}");
            return Err(Error::Refused { what: "SET search_path".to_owned(), reason });
        }
        let state = self.context.state_ref();
        let mut state = state.write();
        if let Some(settings) = state.config_mut().options_mut().extensions.get_mut::<Settings>() {
            settings.search_path.clone_from(&path);
        }
        self.settings.write().search_path = path;
        Ok(())
    }

    fn refresh_settings(&self) {
        let state = self.context.state();
        if let Some(settings) = state.config_options().extensions.get::<Settings>() {
            *self.settings.write() = settings.clone();
        }
    }

    /// Forgets the descriptions of these tables; whether there was any to forget.
    fn forget(&self, names: &[TableReference]) -> bool {
        let mut forgot = false;
        for name in names {
            let schemas = match name.schema() {
                Some(schema) => vec![schema.to_owned()],
                None => self.settings.read().search_path.clone(),
            };
            for schema in schemas {
                if let Some(service) = self.catalog.catalog().service(&schema)
                    && service.last_seen(name.table()).is_some()
                {
                    service.forget(name.table());
                    forgot = true;
                }
            }
        }
        forgot
    }

    /// An unqualified name that the search path does not hold gets an error that says where it would be found.
    async fn explained(&self, error: DataFusionError, names: &[TableReference]) -> Error {
        if source_error(&error).is_some()
            || !matches!(error.find_root(), DataFusionError::Plan(message) if message.starts_with("table '"))
        {
            return error.into();
        }
        for name in names.iter().filter(|name| name.schema().is_none()) {
            if self.context.table_provider(name.clone()).await.is_ok() {
                continue;
            }
            return DataFusionError::Plan(self.where_to_find(name.table())).into();
        }
        for name in names {
            let Some(schema) = name.schema() else { continue };
            let known = self.catalog.catalog().schema_names();
            if !known.iter().any(|known| known == schema) && schema != "information_schema" {
                let hint = hint(schema, &known);
                return DataFusionError::Plan(format!(
                    "table '{name}' not found: there is no service \"{schema}\"{hint}"
                ))
                .into();
            }
            if let Some(service) = self.catalog.catalog().service(schema)
                && matches!(service.table(name.table()).await, Ok(None))
            {
                let hint = hint(name.table(), &service.table_names());
                let message = format!(
                    "table '{name}' not found: service \"{schema}\" does not publish \"{}\"{hint}",
                    name.table()
                );
                return DataFusionError::Plan(message).into();
            }
        }
        error.into()
    }

    fn where_to_find(&self, table: &str) -> String {
        let path = self.settings.read().search_path.join(", ");
        let path =
            if path.is_empty() { "search_path is empty".to_owned() } else { format!("not in search_path ({path})") };
        match &self.catalog.catalog().schemas_with(table)[..] {
            [] => format!("table '{table}' not found: {path}; write service.table or SET search_path"),
            [first, ..] => {
                format!("table '{table}' not found: {path}; write {first}.{table} or SET search_path = {first}")
            }
        }
    }

    fn result_schema(&self, plan: &LogicalPlan, parameters: &SchemaRef) -> SchemaRef {
        // With typed NULLs for parameters the analyzer coerces types as it will with values.
        let values: Vec<ScalarValue> = parameters
            .fields()
            .iter()
            .map(|field| ScalarValue::try_from(field.data_type()).unwrap_or(ScalarValue::Null))
            .collect();
        let bound = plan.clone().with_param_values(ParamValues::from(values));
        let state = self.context.state();
        let analyzed =
            bound.and_then(|plan| state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}));
        let schema = analyzed.as_ref().map_or_else(|_| plan.schema(), LogicalPlan::schema);
        Arc::new(schema.as_arrow().clone())
    }
}

impl Prepared {
    /// The columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The parameters in their order, named `$1`, `$2`, ...; one whose type the query leaves open is of type Null.
    pub fn parameters(&self) -> SchemaRef {
        Arc::clone(&self.parameters)
    }

    /// Plans the query with these values, one for each parameter. They become typed literals of the plan, never text.
    pub async fn execute(&self, values: Vec<ScalarValue>) -> Result<Answer> {
        let wanted = self.parameters.fields().len();
        if values.len() != wanted {
            let what = format!("running the statement with {} values", values.len());
            return Err(Error::Refused { what, reason: format!("it has {wanted} parameters") });
        }
        let Request::Plan(statement) = parse(&self.text)? else {
            return Err(DataFusionError::Internal("a prepared statement is a plan".to_owned()).into());
        };
        // Planned again each time: tables may have changed, and so may the session's settings.
        let plan = self.session.plan(&statement).await?;
        let bound = plan.with_param_values(ParamValues::from(values))?;
        self.session.answer(bound).await
    }
}

/// The most keys of a join's build side, for each partition, that are sent to the source of its probe side.
const KEYS_MAX: usize = 100_000;

/// The most bytes of such keys, for each partition.
const KEYS_BYTES_MAX: usize = 8 * 1024 * 1024;

fn config(settings: Settings) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SEARCH_PATH_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        // The session's catalog holds an information_schema of its own.
        .with_information_schema(false);
    let options = config.options_mut();
    // Every connector yields Utf8; a second layout of text would only add casts between them and at the clients.
    options.sql_parser.map_string_types_to_utf8view = false;
    // A scan waits for a dynamic filter to be complete before it asks its source. A join's is once its build side is read; those of
    // a top-k or an aggregate never are, and would only be waited for.
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // Keys that cross the network are cheap beside the rows that they save: so many of them still go down as a list.
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = KEYS_MAX;
    options.optimizer.hash_join_inlist_pushdown_max_size = KEYS_BYTES_MAX;
    options.extensions.insert(settings);
    config
}

/// DataFusion's rules with our own among them: joins are put in order before columns are pruned, and scans are cut last.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    const PRUNES_COLUMNS: &str = "optimize_projections";
    let mut rules = Optimizer::new().rules;
    let place = rules.iter().position(|rule| rule.name() == PRUNES_COLUMNS).unwrap_or(rules.len());
    rules.insert(place, Arc::new(JoinOrder));
    rules.push(Arc::new(TopN));
    rules
}

fn nothing() -> datafusion::logical_expr::EmptyRelation {
    datafusion::logical_expr::EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) }
}

fn hint(name: &str, known: &[String]) -> String {
    headwater_source::nearest(name, known.iter().map(String::as_str))
        .map(|name| format!("; did you mean \"{name}\"?"))
        .unwrap_or_default()
}

fn is_stale(error: &Error) -> bool {
    matches!(error.source_error(), Some(SourceError::SchemaChanged { .. }))
}

fn is_unknown_column(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }))
}

/// What the statement guard let through must not turn out to write once it is planned, as SELECT INTO does.
fn guard_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let what = match &plan {
        LogicalPlan::Dml(dml) => format!("{} on {}", dml.op, dml.table_name),
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => format!("SELECT INTO {}", create.name),
        LogicalPlan::Ddl(ddl) => ddl.name().to_owned(),
        LogicalPlan::Copy(_) => "COPY".to_owned(),
        _ => {
            for input in plan.inputs() {
                guard_plan(input.clone())?;
            }
            return Ok(plan);
        }
    };
    let reason = "the tables of services are read-only here; write through the service that owns them".to_owned();
    Err(Error::Refused { what, reason })
}

/// The parameters as fields `$1` to `$n`, without gaps.
fn parameters(plan: &LogicalPlan) -> Result<SchemaRef> {
    let types = plan.get_parameter_types()?;
    let mut numbers = Vec::with_capacity(types.len());
    for name in types.keys() {
        match name.trim_start_matches('$').parse::<usize>() {
            Ok(number) if number > 0 => numbers.push(number),
            _ => {
                let reason = "parameters are numbered: $1, $2, ... or ?".to_owned();
                return Err(Error::Refused { what: format!("the parameter {name}"), reason });
            }
        }
    }
    let count = numbers.into_iter().max().unwrap_or(0);
    /// More parameters than any client sends; a slip like `$99999999` must not make a schema of that size.
    const MAX_PARAMETERS: usize = 65_535;
    if count > MAX_PARAMETERS {
        let reason = format!("a statement takes at most {MAX_PARAMETERS}");
        return Err(Error::Refused { what: format!("the parameter ${count}"), reason });
    }
    let fields: Vec<Field> = (1..=count)
        .map(|number| {
            let name = format!("${number}");
            let data_type = types.get(&name).cloned().flatten().unwrap_or(DataType::Null);
            Field::new(name, data_type, true)
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}
