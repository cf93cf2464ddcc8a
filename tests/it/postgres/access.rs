//! Who gets in: passwords, encryption.

use std::process::{Command, Stdio};
use std::{io::Write as _, sync::Arc};

use pgwire::tokio::tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio::net::TcpStream;
use tokio_postgres::{Config, NoTls, error::SqlState};

use super::client::value;
use crate::server::{Server, driftwatt, start_with};

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/key.pem");

fn config(server: &Server, user: &str, password: &str) -> Config {
    let (host, port) = server.postgres.rsplit_once(':').unwrap();
    let mut config = Config::new();
    config.host(host).port(port.parse().unwrap()).user(user).password(password);
    config
}

/// What `driftwatt password` prints.
fn verifier(password: &str) -> String {
    let mut child = driftwatt().arg("password").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_with_their_password_get_in() {
    let verifier = verifier("correct horse\n");
    assert!(verifier.starts_with("SCRAM-SHA-256$4096:"), "{verifier}");
    let users = [("DRIFTWATT_QUERY__USERS__ALICE", verifier.as_str()), ("DRIFTWATT_QUERY__USERS__BOB", "plain")];
    let (_dir, server) = start_with(&users);
    for (user, password) in [("alice", "correct horse"), ("bob", "plain")] {
        let (client, connection) = config(&server, user, password).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(value(&client, "SELECT current_user").await, user);
    }
    for (user, password) in [("alice", "wrong"), ("alice", ""), ("bob", verifier.as_str()), ("mallory", "plain")] {
        let error = config(&server, user, password).connect(NoTls).await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD), "{user}: {error:?}");
    }
    assert!(!server.log().contains("plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_open_to_others_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let start = |variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_driftwatt"))
            .args(["serve", "--postgres", "0.0.0.0:0", "--http", "127.0.0.1:0", "--data"])
            .arg(dir.path())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = start(&[]);
    assert!(said.contains("server.postgres") && said.contains("query.users"), "{said}");
    let said = start(&[("DRIFTWATT_QUERY__USERS__ALICE", "SCRAM-SHA-256$4096:cut")]);
    assert!(said.contains("query.users") && said.contains("cut"), "{said}");
}

/// The handshake of TLS on a connection that has asked for it.
async fn encrypted(server: &Server) -> TlsStream<TcpStream> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut stream = TcpStream::connect(&server.postgres).await.unwrap();
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_where_there_is_a_certificate() {
    let tls = [
        ("DRIFTWATT_SERVER__TLS_CERT", CERTIFICATE),
        ("DRIFTWATT_SERVER__TLS_KEY", KEY),
        ("DRIFTWATT_QUERY__USERS__ALICE", "secret"),
    ];
    let (_dir, server) = start_with(&tls);
    let stream = encrypted(&server).await;
    // The stream is encrypted already; the client speaks the protocol within.
    let mut config = config(&server, "alice", "secret");
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config.connect_raw(stream, NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(value(&client, "SELECT 1").await, "1");
    // Who does not ask for encryption is not forced to it.
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(value(&client, "SELECT 2").await, "2");
}
