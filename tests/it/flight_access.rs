//! Who may ask over Flight SQL: tokens, and TLS.

use std::{path::Path, process::Command, sync::Arc};

use arrow_flight::{error::FlightError, sql::client::FlightSqlServiceClient};
use datafusion::arrow::array::{Int64Array, RecordBatch};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    flight::{Client, ask, connect, refused},
    server::Server,
};

/// A server with a configuration file of its own.
fn start_with_file(dir: &Path, settings: &str) -> Server {
    let file = dir.join("driftwatt.toml");
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" --config \"$CONFIG\""]).arg(env!("CARGO_BIN_EXE_driftwatt"));
    Server::start_command(command, &dir.join("data"), &[("CONFIG", file.to_str().unwrap())])
}

async fn answers(client: &mut Client) -> Result<(), FlightError> {
    let batch: RecordBatch = ask(client, "SELECT 1 AS one").await?;
    assert_eq!(batch.column(0).as_ref(), &Int64Array::from(vec![1]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_where_the_settings_name_any() {
    let dir = tempfile::tempdir().unwrap();
    let server = start_with_file(dir.path(), "[server]\ntokens = [\"one\", \"two\"]");
    let mut client = connect(&server).await;
    assert_eq!(refused(answers(&mut client).await).0, Code::Unauthenticated);
    let calls = client.inner_mut();
    assert_eq!(calls.list_actions(arrow_flight::Empty {}).await.unwrap_err().code(), Code::Unauthenticated);
    let action = arrow_flight::Action::new("CreatePreparedStatement", "");
    assert_eq!(calls.do_action(action).await.unwrap_err().code(), Code::Unauthenticated);
    let put = calls.do_put(futures::stream::empty()).await;
    assert_eq!(put.unwrap_err().code(), Code::Unauthenticated);
    for token in ["one", "two"] {
        client.set_token(token.to_owned());
        answers(&mut client).await.unwrap();
    }
    client.set_token("three".to_owned());
    assert_eq!(refused(answers(&mut client).await).0, Code::Unauthenticated);
    client.clear_token();
    assert!(client.handshake("anyone", "three").await.is_err());
    // What the handshake gives is shown by the client in the calls that follow.
    assert_eq!(client.handshake("anyone", "two").await.unwrap().as_ref(), b"two");
    answers(&mut client).await.unwrap();
    // The token protects Flight SQL only.
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_everybody_on_this_machine_may_ask_with_any_password() {
    let (_dir, server) = crate::server::start();
    let mut client = connect(&server).await;
    client.handshake("anyone", "any").await.unwrap();
    answers(&mut client).await.unwrap();
}

/// A channel that trusts the certificate of the tests only.
async fn encrypted(address: &str) -> Channel {
    let certificate = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/cert.pem");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let address = address.to_owned();
    let connect = service_fn(move |_uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_only_encrypted_clients_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let settings =
        format!("[server]\ntokens = [\"one\"]\ntls_cert = {:?}\ntls_key = {:?}", cert.display(), key.display());
    let server = start_with_file(dir.path(), &settings);
    // Clients that connect and say nothing, or no TLS, hold up nobody.
    let mut silent = Vec::new();
    for _client in 0..100 {
        silent.push(TcpStream::connect(&server.flight).await.unwrap());
    }
    let plain = Channel::from_shared(format!("http://{}", server.flight)).unwrap().connect().await;
    if let Ok(plain) = plain {
        assert!(answers(&mut FlightSqlServiceClient::new(plain)).await.is_err());
    }
    let mut client = FlightSqlServiceClient::new(encrypted(&server.flight).await);
    assert_eq!(refused(answers(&mut client).await).0, Code::Unauthenticated);
    client.set_token("one".to_owned());
    answers(&mut client).await.unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_beyond_the_limit_are_told_so() {
    let (_dir, server) = crate::server::start_with(&[("DRIFTWATT_QUERY__CONNECTIONS_MAX", "2")]);
    let mut clients = vec![connect(&server).await, connect(&server).await];
    for client in &mut clients {
        answers(client).await.unwrap();
    }
    let mut third = connect(&server).await;
    let (code, message) = refused(answers(&mut third).await);
    assert_eq!(code, Code::ResourceExhausted, "{message}");
    assert!(message.contains("connections_max"), "{message}");
    assert_eq!(server.rows("SELECT 1").await[0][0], 1, "HTTP is answered all the same");
    drop(clients);
    let again = async {
        while answers(&mut connect(&server).await).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), again).await.expect("their places come free");
}
