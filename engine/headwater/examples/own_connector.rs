//! A connector of one's own: the processes of this machine, from `/proc`, as a table to ask SQL of.
//!
//! `cargo run -p headwater --example own_connector`

use std::error::Error as StdError;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow::util::pretty::print_batches;
use headwater::{Engine, ServiceName, Tables};
use headwater_source::{
    BatchStream, Capabilities, ColumnDef, Error, RemoteStatement, Result, Scan, ScanRequest, Source, TableDef,
    ValueClass, async_trait, futures,
};

/// Can compare nothing by itself: every filter stays with the engine.
const CAPABILITIES: Capabilities = Capabilities::new("proc", &[]);

#[derive(Debug)]
struct Processes {
    service: ServiceName,
}

#[derive(Debug)]
struct ReadProc {
    service: ServiceName,
    request: ScanRequest,
    statement: RemoteStatement,
}

#[async_trait]
impl Source for Processes {
    fn location(&self) -> String {
        "/proc".to_owned()
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        let columns = vec![
            ColumnDef::new("pid", DataType::Int64, "pid", ValueClass::Integer).not_null(),
            ColumnDef::new("command", DataType::Utf8, "text", ValueClass::Text),
        ];
        Ok(vec![TableDef::new(["processes"], columns).with_key(["pid"])])
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        let known = self.tables().await?;
        known.into_iter().find(|table| table.name == from).ok_or_else(|| Error::TableNotFound {
            service: self.service.clone(),
            table: from.to_owned(),
            known: vec!["processes".to_owned()],
        })
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        let statement = RemoteStatement { text: "read /proc".to_owned(), binds: vec![] };
        Ok(Arc::new(ReadProc { service: self.service.clone(), request, statement }))
    }
}

#[async_trait]
impl Scan for ReadProc {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    async fn open(&self, _partition: usize) -> Result<BatchStream> {
        let failed = |cause| Error::Interrupted { service: self.service.clone(), table: "processes".to_owned(), cause };
        let (mut pids, mut commands) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir("/proc").map_err(|error| failed(error.into()))?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else { continue };
            pids.push(pid);
            // A process may end between the listing and this read: its command is then unknown.
            commands.push(std::fs::read_to_string(entry.path().join("comm")).ok().map(|text| text.trim().to_owned()));
        }
        let (pids, commands) = (Arc::new(Int64Array::from(pids)), Arc::new(StringArray::from(commands)));
        let batch = RecordBatch::try_new(self.request.table.schema(), vec![pids, commands]);
        let batch =
            batch.and_then(|batch| batch.project(&self.request.projection)).map_err(|error| failed(error.into()));
        Ok(Box::pin(futures::stream::iter([batch])))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let service = ServiceName::parse("machine")?;
    let engine = Engine::builder().source("machine", Arc::new(Processes { service }), Tables::All).build().await?;
    let answer = engine.sql("SELECT pid, command FROM machine.processes WHERE pid < 100 ORDER BY pid LIMIT 5").await?;
    print_batches(&answer.collect().await?)?;
    Ok(())
}
