//! A source of the tests' own: a few rows in memory that can be taken away, changed, and that remembers what it was asked.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::cmp;
use arrow::compute::{and_kleene, filter_record_batch, is_null, not, or_kleene};
use arrow::datatypes::DataType;
use headwater::{Engine, ServiceName, Tables};
use headwater_source::{
    BatchStream, Capabilities, ColumnDef, CompareOp, Error, Expr, Operator, RemoteStatement, Result, ScalarValue, Scan,
    ScanRequest, Source, Support, TableDef, ValueClass, async_trait, futures,
};
use parking_lot::Mutex;

/// Integers are exact; text is compared without case, as some databases do.
const CAPABILITIES: Capabilities = Capabilities::new(
    "sheet",
    &[
        (Operator::Equal, ValueClass::Integer, Support::Exact),
        (Operator::Order, ValueClass::Integer, Support::Exact),
        (Operator::IsNull, ValueClass::Integer, Support::Exact),
        (Operator::Sort, ValueClass::Integer, Support::Exact),
        (Operator::Equal, ValueClass::TextFolded, Support::Superset),
    ],
);

/// A table `items(id, name)` of one service.
#[derive(Debug, Clone)]
pub(crate) struct Sheet {
    service: ServiceName,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    table: TableDef,
    down: bool,
    fail_after_first_batch: bool,
    /// Whether what is prepared holds something of the sheet as it then is.
    passing: bool,
    asked: Vec<ScanRequest>,
}

impl Sheet {
    pub(crate) fn new(service: &str) -> Self {
        let columns = vec![
            ColumnDef::new("id", DataType::Int64, "integer", ValueClass::Integer),
            ColumnDef::new("name", DataType::Utf8, "text", ValueClass::TextFolded),
        ];
        let table = TableDef::new(["items"], columns).with_key(["id"]);
        let state = State { table, down: false, fail_after_first_batch: false, passing: false, asked: vec![] };
        Self { service: ServiceName::parse(service).unwrap(), state: Arc::new(Mutex::new(state)) }
    }

    /// An engine of these sheets, each publishing `items`.
    pub(crate) async fn engine(sheets: &[&Sheet]) -> Engine {
        let mut builder = Engine::builder();
        for sheet in sheets {
            builder = builder.source(sheet.service.as_str(), Arc::new((*sheet).clone()), items());
        }
        builder.build().await.unwrap()
    }

    pub(crate) fn take_down(&self) {
        self.state.lock().down = true;
    }

    pub(crate) fn bring_back(&self) {
        self.state.lock().down = false;
    }

    pub(crate) fn fail_after_first_batch(&self) {
        self.state.lock().fail_after_first_batch = true;
    }

    /// What is prepared from now on holds good for the moment only.
    pub(crate) fn prepare_for_the_moment(&self) {
        self.state.lock().passing = true;
    }

    /// Renames the column `name`.
    pub(crate) fn rename_name_to(&self, name: &str) {
        self.state.lock().table.columns[1].name = name.to_owned();
    }

    /// Forgets what was asked.
    pub(crate) fn forget_asked(&self) {
        self.state.lock().asked.clear();
    }

    /// How many scans were prepared.
    pub(crate) fn times_asked(&self) -> usize {
        self.state.lock().asked.len()
    }

    /// The last scan that was prepared.
    pub(crate) fn last_asked(&self) -> ScanRequest {
        self.state.lock().asked.last().cloned().expect("something was asked")
    }

    fn unless_down(&self) -> Result<()> {
        match self.state.lock().down {
            false => Ok(()),
            true => Err(Error::Unavailable {
                service: self.service.clone(),
                location: self.location(),
                cause: "the sheet was taken away".into(),
            }),
        }
    }
}

/// Only the table `items`, under its own name.
pub(crate) fn items() -> Tables {
    Tables::Named(vec![headwater::Published { name: "items".to_owned(), from: "items".to_owned(), key: None }])
}

#[async_trait]
impl Source for Sheet {
    fn location(&self) -> String {
        format!("memory of {}", self.service)
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        self.unless_down()?;
        Ok(vec![self.state.lock().table.clone()])
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        let tables = self.tables().await?;
        tables.into_iter().find(|table| table.name == from).ok_or_else(|| Error::TableNotFound {
            service: self.service.clone(),
            table: from.to_owned(),
            known: vec!["items".to_owned()],
        })
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        self.unless_down()?;
        let mut state = self.state.lock();
        if *request.table != state.table {
            return Err(Error::SchemaChanged {
                service: self.service.clone(),
                table: "items".to_owned(),
                change: "a column was renamed".to_owned(),
            });
        }
        state.asked.push(request.clone());
        let mut text = "items".to_owned();
        for filter in &request.filters {
            text.push_str(&format!(" where {filter}"));
        }
        if let Some(limit) = request.limit {
            text.push_str(&format!(" first {limit}"));
        }
        Ok(Arc::new(SheetScan { sheet: self.clone(), request, statement: RemoteStatement { text, binds: vec![] } }))
    }
}

#[derive(Debug)]
struct SheetScan {
    sheet: Sheet,
    request: ScanRequest,
    statement: RemoteStatement,
}

#[async_trait]
impl Scan for SheetScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    fn is_timeless(&self) -> bool {
        !self.sheet.state.lock().passing
    }

    async fn open(&self, _: usize) -> Result<BatchStream> {
        self.sheet.unless_down()?;
        let mut batch = rows(&self.request.table);
        for filter in &self.request.filters {
            batch = filter_record_batch(&batch, &evaluate(filter, &batch)).unwrap();
        }
        if let Some(limit) = self.request.limit {
            batch = batch.slice(0, batch.num_rows().min(limit as usize));
        }
        let batch = batch.project(&self.request.projection).unwrap();
        let mut batches = vec![Ok(batch)];
        if self.sheet.state.lock().fail_after_first_batch {
            batches.push(Err(Error::Interrupted {
                service: self.sheet.service.clone(),
                table: "items".to_owned(),
                cause: "the sheet was torn".into(),
            }));
        }
        Ok(Box::pin(futures::stream::iter(batches)))
    }
}

/// Rows in the order of id, so that a sort by id is what the table gives.
fn rows(table: &TableDef) -> RecordBatch {
    let ids = Int64Array::from(vec![Some(1), Some(2), Some(3), Some(4), None]);
    let names = StringArray::from(vec![Some("a"), Some("A"), Some("b"), None, Some("a")]);
    RecordBatch::try_new(table.schema(), vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

fn evaluate(filter: &Expr, batch: &RecordBatch) -> BooleanArray {
    let fold = |parts: &[Expr], join: fn(&BooleanArray, &BooleanArray) -> BooleanArray| {
        parts.iter().map(|part| evaluate(part, batch)).reduce(|a, b| join(&a, &b)).unwrap()
    };
    match filter {
        Expr::And(parts) => return fold(parts, |a, b| and_kleene(a, b).unwrap()),
        Expr::Or(parts) => return fold(parts, |a, b| or_kleene(a, b).unwrap()),
        Expr::Not(inner) => return not(&evaluate(inner, batch)).unwrap(),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
            let Expr::Column(index) = **inner else { panic!("the sheet was offered {filter}") };
            let nulls = is_null(batch.column(index)).unwrap();
            return if matches!(filter, Expr::IsNull(_)) { nulls } else { not(&nulls).unwrap() };
        }
        _ => {}
    }
    if let Expr::InList { expr, values, negated: false } = filter {
        let equals = |value: &ScalarValue| {
            evaluate(&Expr::compare(CompareOp::Equal, (**expr).clone(), Expr::Literal(value.clone())), batch)
        };
        return values.iter().map(equals).reduce(|a, b| or_kleene(&a, &b).unwrap()).unwrap();
    }
    let Expr::Compare { op, left, right } = filter else { panic!("the sheet was offered {filter}") };
    let (Expr::Column(index), Expr::Literal(value)) = (left.as_ref(), right.as_ref()) else { panic!("{filter}") };
    let column = batch.column(*index);
    if let ScalarValue::Utf8(Some(text)) = value {
        let names = column.as_any().downcast_ref::<StringArray>().unwrap();
        return names.iter().map(|name| Some(name?.eq_ignore_ascii_case(text))).collect();
    }
    let value = Scalar::new(value.to_array().unwrap());
    match op {
        CompareOp::Equal => cmp::eq(column, &value),
        CompareOp::Less => cmp::lt(column, &value),
        CompareOp::LessOrEqual => cmp::lt_eq(column, &value),
        CompareOp::Greater => cmp::gt(column, &value),
        CompareOp::GreaterOrEqual => cmp::gt_eq(column, &value),
        CompareOp::NotEqual => cmp::neq(column, &value),
    }
    .unwrap()
}
