//! The calls of Flight, as Flight SQL uses them.

use std::{future::Future, pin::Pin};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
    ipc::writer::IpcWriteOptions,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty, FlightData,
    FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, PollInfo, PutResult,
    Result as ActionResult, SchemaAsIpc, SchemaResult, Ticket,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_server::FlightService,
    sql::{
        ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Command,
        DoPutPreparedStatementResult, ProstMessageExt,
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

use super::{
    access::Token,
    command::{command, unpack},
    internal, metadata, parameters,
    prepared::PreparedStatements,
    running::Running,
    sent_schema,
    statement::{Statement, failed},
    status,
};
use crate::{
    error::{Error, Result as QueryResult},
    question_log::Surface,
    questions::{Asked, Questions},
    run,
};

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What [`FlightService::do_action`] does.
const ACTIONS: [(&str, &str); 4] = [
    ("CreatePreparedStatement", "Keeps a statement with parameters (ActionCreatePreparedStatementRequest)"),
    ("ClosePreparedStatement", "Forgets one (ActionClosePreparedStatementRequest)"),
    ("CancelFlightInfo", "Stops the query of a FlightInfo (CancelFlightInfoRequest)"),
    ("CancelQuery", "The same for older clients (ActionCancelQueryRequest)"),
];

/// Flight SQL over the questions of all surfaces.
pub(super) struct Service {
    questions: Questions,
    prepared: PreparedStatements,
    running: Running,
}

impl Service {
    pub(super) fn new(questions: Questions) -> Self {
        let (prepared, running) = (PreparedStatements::default(), Running::default());
        Self { questions, prepared, running }
    }

    /// The ticket that gets the rows of `command`, and what they look like.
    async fn flight(&self, command: Command) -> Result<(Command, SchemaRef), Status> {
        let statement = match command {
            Command::CommandStatementQuery(query) => Statement::new(query.query, Bytes::new())?,
            Command::CommandPreparedStatementQuery(query) => {
                self.prepared.statement(&query.prepared_statement_handle)?
            }
            command => {
                let schema = metadata::schema(&command)?;
                return Ok((command, schema));
            }
        };
        let schema = self.within_time(statement.schema(self.questions.session())).await?;
        Ok((statement.ticket(), schema))
    }

    /// `work`, unless it takes longer than a query may.
    async fn within_time<T>(&self, work: impl Future<Output = QueryResult<T>>) -> Result<T, Status> {
        let timeout = self.questions.config().timeout;
        let done = tokio::time::timeout(timeout, work).await;
        failed(done.unwrap_or(Err(Error::Timeout { timeout })))
    }

    /// The rows of `statement`, as the client asks for them.
    async fn rows(&self, statement: Statement) -> Result<Items<FlightData>, Status> {
        let execution = self.running.begin(statement.id);
        let (text, stop) = (&statement.sql, execution.stop());
        let asked = Asked { surface: Surface::Flight, user: None, text, timeout: None, stop };
        let question = failed(self.questions.ask(asked).await)?;
        let answer = failed(question.answer(statement.start(self.questions.session())).await)?;
        let schema = answer.schema();
        let batches = answer.map(move |batch| {
            // Held, so that it can be cancelled until its last row.
            let _execution = &execution;
            batch.map_err(|error| FlightError::from(status(&error)))
        });
        Ok(sent(schema, batches))
    }

    async fn prepare(&self, sql: String) -> Result<ActionCreatePreparedStatementResult, Status> {
        let statement = Statement::new(sql, Bytes::new())?;
        let plan = self.within_time(run::plan(self.questions.session(), &statement.sql)).await?;
        let parameters = failed(parameters::schema(&plan).map_err(|error| Error::of(&statement.sql, error)))?;
        // Without values for its parameters no plan can be made that runs, which alone says what is never null.
        let rows = if parameters.fields().is_empty() {
            self.within_time(statement.schema(self.questions.session())).await?
        } else {
            sent_schema(SchemaRef::new(plan.schema().as_arrow().clone()))
        };
        Ok(ActionCreatePreparedStatementResult {
            dataset_schema: message(&rows)?,
            parameter_schema: message(&parameters)?,
            prepared_statement_handle: self.prepared.create(statement.sql)?,
        })
    }

    /// Stops the query whose ticket is in `info`.
    fn cancel(&self, info: &FlightInfo) -> Result<(), Status> {
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
        let mut found = false;
        for ticket in tickets {
            if let Command::TicketStatementQuery(ticket) = command(&ticket.ticket)? {
                found |= self.running.cancel(Statement::of_ticket(&ticket)?.id);
            }
        }
        if found { Ok(()) } else { Err(Status::not_found("no query of this ticket waits or runs")) }
    }

    /// The body of the answer to an action; nothing where there is none.
    async fn act(&self, action: Action) -> Result<Option<Bytes>, Status> {
        let encoded = |message: Vec<u8>| Ok(Some(message.into()));
        match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let request: ActionCreatePreparedStatementRequest = unpack(&action.body)?;
                encoded(self.prepare(request.query).await?.as_any().encode_to_vec())
            }
            "ClosePreparedStatement" => {
                let request: ActionClosePreparedStatementRequest = unpack(&action.body)?;
                self.prepared.close(&request.prepared_statement_handle);
                Ok(None)
            }
            "CancelFlightInfo" => {
                let request = CancelFlightInfoRequest::decode(action.body).map_err(|_| no_info())?;
                self.cancel(&request.info.ok_or_else(no_info)?)?;
                encoded(CancelFlightInfoResult::new(CancelStatus::Cancelled).encode_to_vec())
            }
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = unpack(&action.body)?;
                self.cancel(&FlightInfo::decode(request.info).map_err(|_| no_info())?)?;
                // The numbers of its statuses are those of `CancelStatus`.
                encoded(ActionCancelQueryResult { result: CancelStatus::Cancelled as i32 }.as_any().encode_to_vec())
            }
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                Err(Status::unimplemented("there are no transactions: this surface only reads"))
            }
            other => Err(Status::unimplemented(format!("there is no action {other:?}"))),
        }
    }

    async fn put(&self, mut data: Streaming<FlightData>) -> Result<PutResult, Status> {
        let first = data.message().await?.ok_or_else(|| Status::invalid_argument("no command came"))?;
        let descriptor = first.flight_descriptor.as_ref();
        let descriptor = descriptor.ok_or_else(|| Status::invalid_argument("the first message has no descriptor"))?;
        match command(&descriptor.cmd)? {
            Command::CommandPreparedStatementQuery(query) => {
                let handle = query.prepared_statement_handle;
                let data = stream::iter([Ok(first)]).chain(data.map_err(FlightError::from));
                self.prepared.bind(&handle, parameters::receive(data).await?)?;
                let bound = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
                Ok(PutResult { app_metadata: bound.encode_to_vec().into() })
            }
            Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => {
                Err(status(&Error::Denied("an update is refused".into())))
            }
            Command::CommandStatementIngest(_) => Err(status(&Error::Denied("data is sent over OTLP".into()))),
            other => Err(Status::invalid_argument(format!("nothing is put with {}", other.type_url()))),
        }
    }
}

/// Encodes `batches` as they are asked for.
fn sent(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> Items<FlightData> {
    let data = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
    data.map_err(Status::from).boxed()
}

/// A schema as the answer to an action carries it.
fn message(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into().map_err(internal)?;
    Ok(bytes)
}

fn no_info() -> Status {
    Status::invalid_argument("the body must hold the FlightInfo of a query")
}

fn unimplemented<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{what} is not part of Flight SQL here")))
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoGetStream = Items<FlightData>;
    type DoPutStream = Items<PutResult>;
    type DoExchangeStream = Items<FlightData>;
    type DoActionStream = Items<ActionResult>;
    type ListActionsStream = Items<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        // Some clients insist on a token, also where none is needed.
        let token = request.extensions().get::<Token>().map_or_else(|| "anonymous".to_owned(), |token| token.0.clone());
        let header = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Status::internal("the token cannot be sent in a header"))?;
        let answer = HandshakeResponse { protocol_version: 0, payload: token.into() };
        let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        let (ticket, schema) = self.flight(command(&descriptor.cmd)?).await?;
        let ticket = Ticket::new(ticket.into_any().encode_to_vec());
        let info = FlightInfo::new().try_with_schema(&schema).map_err(internal)?;
        let info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)).with_descriptor(descriptor);
        Ok(Response::new(info))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let (_ticket, schema) = self.flight(command(&request.into_inner().cmd)?).await?;
        let options = IpcWriteOptions::default();
        Ok(Response::new(SchemaAsIpc::new(&schema, &options).try_into().map_err(internal)?))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let statement = match command(&request.into_inner().ticket)? {
            Command::TicketStatementQuery(ticket) => Statement::of_ticket(&ticket)?,
            Command::CommandPreparedStatementQuery(query) => {
                self.prepared.statement(&query.prepared_statement_handle)?
            }
            command => {
                let session = self.questions.session();
                let batch = self.within_time(async { Ok(metadata::batch(session, command).await) }).await??;
                return Ok(Response::new(sent(batch.schema(), stream::iter([Ok(batch)]))));
            }
        };
        Ok(Response::new(self.rows(statement).await?))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let put = self.within_time(async { Ok(self.put(request.into_inner()).await) }).await??;
        Ok(Response::new(stream::iter([Ok(put)]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let body = self.act(request.into_inner()).await?;
        let results = body.map(|body| Ok(ActionResult { body }));
        Ok(Response::new(stream::iter(results).boxed()))
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let actions = ACTIONS
            .map(|(name, description)| Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() }));
        Ok(Response::new(stream::iter(actions).boxed()))
    }

    async fn list_flights(&self, _request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        unimplemented("ListFlights")
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        unimplemented("PollFlightInfo")
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        unimplemented("DoExchange")
    }
}
