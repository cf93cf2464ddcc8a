//! Flight SQL with the Arrow project's own client: statements, parameters, large answers, cancelling, and what is refused.

use std::{sync::Arc, time::Duration};

use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo, Ticket,
    decode::FlightRecordBatchStream,
    error::FlightError,
    sql::{ActionCancelQueryRequest, CommandStatementUpdate, ProstMessageExt, client::FlightSqlServiceClient},
};
use datafusion::arrow::{
    array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray},
    compute::concat_batches,
    datatypes::{DataType, Int64Type, Schema},
    util::pretty::pretty_format_batches,
};
use futures::TryStreamExt;
use prost::Message;
use serde_json::json;
use tonic::{Code, transport::Channel};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, start, start_with},
};

pub(crate) type Client = FlightSqlServiceClient<Channel>;

/// Far more rows than anybody waits for.
const ENDLESS: &str =
    "SELECT a.value AS a, b.value AS b FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

pub(crate) async fn connect(server: &Server) -> Client {
    let endpoint = Channel::from_shared(format!("http://{}", server.flight)).unwrap();
    FlightSqlServiceClient::new(endpoint.connect().await.unwrap())
}

fn ticket(info: &FlightInfo) -> Ticket {
    info.endpoint[0].ticket.clone().unwrap()
}

/// All rows of a flight, which must be what its info announces.
pub(crate) async fn rows(client: &mut Client, info: FlightInfo) -> Result<RecordBatch, FlightError> {
    let batches: Vec<RecordBatch> = client.do_get(ticket(&info)).await?.try_collect().await?;
    let schema = Arc::new(info.try_decode_schema().unwrap());
    for batch in &batches {
        assert_eq!(batch.schema().fields(), schema.fields());
    }
    Ok(concat_batches(&schema, &batches).unwrap())
}

pub(crate) async fn ask(client: &mut Client, sql: &str) -> Result<RecordBatch, FlightError> {
    let info = client.execute(sql.to_owned(), None).await?;
    rows(client, info).await
}

/// The status of what must fail.
pub(crate) fn refused<T>(answer: Result<T, FlightError>) -> (Code, String) {
    match answer.err().expect("refused") {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        error => panic!("{error}"),
    }
}

fn table(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

/// One integer of the answer to a question over HTTP.
async fn number(server: &Server, sql: &str) -> i64 {
    server.rows(sql).await[0][0].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_answers_as_over_http_before_and_after_a_flush() {
    let (_dir, server) = start();
    let now = now_nanos();
    let points = (0..3).map(|n| point(now - n * 1_000_000, n as f64 / 2.0, vec![label("host.name", &format!("h{n}"))]));
    assert_eq!(export(&server, vec![gauge("temperature", points.collect())]).await.0, 0);
    let mut client = connect(&server).await;
    for _flushed in [false, true] {
        let sql = "SELECT host_name, value FROM metrics WHERE metric = 'temperature' ORDER BY value";
        let batch = ask(&mut client, sql).await.unwrap();
        assert_eq!(batch.column(0).as_ref(), &StringArray::from(vec!["h0", "h1", "h2"]), "{}", server.log());
        assert_eq!(batch.column(1).as_ref(), &Float64Array::from(vec![0.0, 0.5, 1.0]));
        let rows = server.rows(sql).await;
        assert_eq!(rows, [[json!("h0"), json!(0.0)], [json!("h1"), json!(0.5)], [json!("h2"), json!(1.0)]]);
        // Every column of every view can be sent, whatever its type.
        for view in
            ["metrics", "gpu", "histograms", "raw.series", "system.queries", "coverage(now() - INTERVAL '1 day')"]
        {
            ask(&mut client, &format!("SELECT * FROM {view}")).await.unwrap_or_else(|error| panic!("{view}: {error}"));
        }
        server.flush().await;
    }
    let empty = ask(&mut client, "SELECT 1 AS one WHERE false").await.unwrap();
    assert_eq!((empty.num_rows(), empty.schema().field(0).name().as_str()), (0, "one"));
    let schema = client.inner_mut().get_schema(FlightDescriptor::new_cmd(
        arrow_flight::sql::CommandStatementQuery { query: "SELECT 1 AS one".into(), transaction_id: None }
            .as_any()
            .encode_to_vec(),
    ));
    let schema: Schema = schema.await.unwrap().into_inner().try_into().unwrap();
    assert_eq!(schema.field(0).data_type(), &DataType::Int64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_takes_typed_parameters_again_and_again() {
    let (_dir, server) = start();
    let mut client = connect(&server).await;
    for sql in [
        "SELECT n, s FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) t(n, s) WHERE n >= $1 AND s <> $2 ORDER BY n",
        "SELECT n, s FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) t(n, s) WHERE n >= ? AND s <> ? ORDER BY n",
    ] {
        let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
        let types: Vec<_> =
            prepared.parameter_schema().unwrap().fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Int64, DataType::Utf8], "{sql}");
        assert_eq!(prepared.dataset_schema().unwrap().field(1).name(), "s");
        for (from, without, expected) in [(2, "b", &["c"][..]), (1, "b", &["a", "c"]), (9, "x", &[])] {
            let (from, without): (ArrayRef, ArrayRef) =
                (Arc::new(Int64Array::from(vec![from])), Arc::new(StringArray::from(vec![without])));
            let values = RecordBatch::try_from_iter_with_nullable([("$1", from, true), ("$2", without, true)]).unwrap();
            prepared.set_parameters(values).unwrap();
            let info = prepared.execute().await.unwrap();
            let batch = rows(&mut client, info).await.unwrap();
            assert_eq!(batch.column(1).as_ref(), &StringArray::from(expected.to_vec()), "{sql}");
        }
        prepared.close().await.unwrap();
    }
    let mut without = client.prepare("SELECT 7 AS seven".into(), None).await.unwrap();
    assert!(without.parameter_schema().unwrap().fields().is_empty());
    let info = without.execute().await.unwrap();
    assert_eq!(without.dataset_schema().unwrap(), &info.clone().try_decode_schema().unwrap());
    assert_eq!(rows(&mut client, info).await.unwrap().column(0).as_ref(), &Int64Array::from(vec![7]));
    assert_eq!(refused(without.execute_update().await).0, Code::PermissionDenied);
    let mut closed = without.clone();
    without.close().await.unwrap();
    assert_eq!(refused(closed.execute().await).0, Code::NotFound);
    let mut unbound = client.prepare("SELECT 1 + $1".into(), None).await.unwrap();
    let asked = match unbound.execute().await {
        Ok(info) => rows(&mut client, info).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(refused(asked).0, Code::InvalidArgument);
    let two: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    unbound.set_parameters(RecordBatch::try_from_iter([("$1", two)]).unwrap()).unwrap();
    assert!(refused(unbound.execute().await).1.contains("one row"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_comes_piece_by_piece() {
    let (_dir, server) = start();
    let mut client = connect(&server).await;
    let count = 3_000_000;
    let sql = format!("SELECT value, 'a text that takes some room ' || value AS text FROM generate_series(1, {count})");
    let info = client.execute(sql, None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    let (mut sum, mut pieces) = (0, 0);
    while let Some(batch) = stream.try_next().await.unwrap() {
        assert!(batch.get_array_memory_size() < 16 << 20);
        sum += batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>();
        pieces += 1;
    }
    assert_eq!(sum, count * (count + 1) / 2);
    assert!(pieces > 100, "{pieces}");
}

/// Starts `ENDLESS` and reads until rows have come.
async fn endless(client: &mut Client) -> (FlightInfo, FlightRecordBatchStream) {
    let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    assert!(stream.try_next().await.unwrap().unwrap().num_rows() > 0);
    (info, stream)
}

async fn rest(mut stream: FlightRecordBatchStream) -> Result<(), FlightError> {
    while stream.try_next().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_it_is_cancelled_or_its_client_leaves() {
    let (_dir, server) = start();
    let mut client = connect(&server).await;
    let running = "SELECT count(*) FROM system.queries WHERE surface = 'flight' AND state = 'running'";
    let (info, stream) = endless(&mut client).await;
    assert_eq!(number(&server, running).await, 1);
    let request = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let mut results = client.do_action(tonic::Request::new(Action::new("CancelFlightInfo", request))).await.unwrap();
    let result = CancelFlightInfoResult::decode(results.message().await.unwrap().unwrap().body).unwrap();
    assert_eq!(result.status, CancelStatus::Cancelled as i32);
    assert_eq!(refused(rest(stream).await).0, Code::Cancelled);
    // The deprecated way of older clients.
    let (info, stream) = endless(&mut client).await;
    let request = ActionCancelQueryRequest { info: info.encode_to_vec().into() }.as_any().encode_to_vec();
    let action = Action::new("CancelQuery", request);
    client.do_action(tonic::Request::new(action.clone())).await.unwrap();
    assert_eq!(refused(rest(stream).await).0, Code::Cancelled);
    assert_eq!(refused(client.do_action(tonic::Request::new(action)).await).0, Code::NotFound);
    // By its id, over HTTP.
    let (_info, stream) = endless(&mut client).await;
    let id = number(&server, "SELECT id FROM system.queries WHERE surface = 'flight' AND state = 'running'").await;
    let url = format!("http://{}/api/v1/admin/queries/{id}/cancel", server.http);
    assert_eq!(reqwest::Client::new().post(url).send().await.unwrap().status(), 200);
    assert_eq!(refused(rest(stream).await).0, Code::Cancelled);
    let (_info, stream) = endless(&mut client).await;
    drop(stream);
    let ended = async {
        while number(&server, running).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the query goes on without its client");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_by_status_and_the_server_goes_on() {
    let (_dir, server) = start_with(&[
        ("DRIFTWATT_QUERY__TIMEOUT", "1s"),
        ("DRIFTWATT_QUERY__CONCURRENCY_MAX", "1"),
        ("DRIFTWATT_QUERY__QUEUE_MAX", "0"),
    ]);
    let mut client = connect(&server).await;
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    for (sql, code, part) in [
        ("SELEC 1", Code::InvalidArgument, "character 1"),
        ("SELECT nothing FROM metrics", Code::InvalidArgument, "nothing"),
        ("", Code::InvalidArgument, ""),
        ("INSERT INTO raw.samples SELECT * FROM raw.samples", Code::PermissionDenied, "only reads"),
        ("COPY (SELECT 1) TO '/tmp/x'", Code::PermissionDenied, "only reads"),
        (
            "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
            Code::DeadlineExceeded,
            "1s",
        ),
        (&deep, Code::InvalidArgument, ""),
        (&"x".repeat(2 << 20), Code::InvalidArgument, "longer than"),
    ] {
        let (found, message) = refused(ask(&mut client, sql).await);
        let shown: String = sql.chars().take(60).collect();
        assert_eq!(found, code, "{shown}: {message}");
        assert!(message.contains(part), "{shown}: {message}");
    }
    let (_info, stream) = endless(&mut client).await;
    assert_eq!(refused(ask(&mut client, "SELECT 1").await).0, Code::ResourceExhausted);
    assert_eq!(refused(rest(stream).await).0, Code::DeadlineExceeded);
    let update = CommandStatementUpdate { query: "DELETE FROM raw.samples".into(), transaction_id: None };
    assert_eq!(refused(client.execute_update(update.query, None).await).0, Code::PermissionDenied);
    assert_eq!(refused(client.begin_transaction().await).0, Code::Unimplemented);
    for bytes in [&b""[..], b"garbage", &[0xff; 100]] {
        let ticket = Ticket::new(bytes.to_vec());
        assert_eq!(refused(client.do_get(ticket).await).0, Code::InvalidArgument);
        let info = client.inner_mut().get_flight_info(FlightDescriptor::new_cmd(bytes.to_vec())).await;
        assert_eq!(info.unwrap_err().code(), Code::InvalidArgument);
    }
    let huge = Ticket::new(vec![0; 5 << 20]);
    assert!(client.do_get(huge).await.is_err());
    let batch = ask(&mut client, "SELECT 1 AS one").await.unwrap();
    assert!(table(&batch).contains("one"));
}
