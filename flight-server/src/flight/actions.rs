//! Actions: prepared statements, the options of sessions, cancelling.

use std::collections::HashMap;

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, IpcMessage, SchemaAsIpc,
};
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Request, Status};

use super::answers::named_by;
use super::error::internal;
use super::queries::no_transaction;
use super::service::{Service, key_of};
use super::session::SessionKey;
use super::statements::handle_of;
use super::stream::plain_schema;
use super::{options, parameters};

/// The actions that arrow-flight's dispatch does not know.
pub(super) const CLOSE_SESSION: &str = "CloseSession";
pub(super) const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
pub(super) const GET_SESSION_OPTIONS: &str = "GetSessionOptions";
pub(super) const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

impl Service {
    /// Prepares a statement: its handle, and the schemas of its rows and parameters.
    pub(super) async fn prepared_statement(
        &self,
        command: &ActionCreatePreparedStatementRequest,
        request: &Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        no_transaction(command.transaction_id.as_ref())?;
        let (name, prepared) = self.statements.prepare(key_of(request), &command.query).await?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle_of(name),
            dataset_schema: ipc(&plain_schema(&prepared.schema()))?,
            parameter_schema: ipc(&parameters::schema(&prepared.parameters()))?,
        })
    }

    /// Cancels what a FlightInfo is of.
    pub(super) fn cancelled(&self, info: &FlightInfo) -> CancelStatus {
        let (handles, polled) = named_by(info);
        let mut found: Vec<CancelStatus> = handles.iter().map(|handle| self.statements.cancel(handle)).collect();
        found.extend(polled.map(|name| self.statements.cancel_polled(name)));
        let is_cancelled = found.contains(&CancelStatus::Cancelled);
        if is_cancelled { CancelStatus::Cancelled } else { CancelStatus::NotCancellable }
    }

    /// An action that arrow-flight's dispatch does not know.
    pub(super) async fn own_action(&self, key: SessionKey, name: &str, body: Bytes) -> Result<Vec<u8>, Status> {
        let unreadable = |_| Status::invalid_argument(format!("the body of {name} can't be read"));
        Ok(match name {
            CLOSE_SESSION => {
                self.statements.close_session(key);
                options::closed()
            }
            SET_SESSION_OPTIONS => {
                let request = options::SetRequest::decode(body).map_err(unreadable)?;
                self.set_options(key, &request).await.encode_to_vec()
            }
            GET_SESSION_OPTIONS => {
                let found = self.statements.options(key).await?.into_iter();
                let value = |text| options::OptionValue { given: Some(options::Given::Text(text)) };
                options::GetResult { options: found.map(|(name, text)| (name, value(text))).collect() }.encode_to_vec()
            }
            CANCEL_FLIGHT_INFO => {
                let request = CancelFlightInfoRequest::decode(body).map_err(unreadable)?;
                let info =
                    request.info.ok_or_else(|| Status::invalid_argument("CancelFlightInfo needs a FlightInfo"))?;
                CancelFlightInfoResult::new(self.cancelled(&info)).encode_to_vec()
            }
            _ => return Err(Status::unimplemented(format!("there is no action \"{name}\""))),
        })
    }

    async fn set_options(&self, key: SessionKey, request: &options::SetRequest) -> options::SetResult {
        let mut errors = HashMap::new();
        for (name, value) in &request.options {
            let set = match options::statement(name, value) {
                Ok(None) => Ok(()),
                Ok(Some(statement)) => match self.statements.set_option(key, &statement).await {
                    Ok(()) => Ok(()),
                    Err(status) if status.code() == tonic::Code::InvalidArgument => Err(options::Wrong::Value),
                    Err(_) => Err(options::Wrong::Error),
                },
                Err(wrong) => Err(wrong),
            };
            if let Err(wrong) = set {
                errors.insert(name.clone(), options::SetError { value: wrong as i32 });
            }
        }
        options::SetResult { errors }
    }
}

fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &options).try_into().map_err(|error: ArrowError| internal(error))?;
    Ok(bytes)
}
