//! Certificate and key of the server.

use std::{fmt, path::Path, sync::Arc};

use pgwire::tokio::tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

use tokio::net::TcpStream;
use tokio_util::either::Either;

use crate::error::{Error, Result};

/// The socket of a client, as it is or encrypted.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What a server shows of itself to clients that ask for encryption.
#[derive(Clone)]
pub struct Tls {
    config: ServerConfig,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

impl Tls {
    /// Reads a chain of certificates, the server's first, and its key, each as PEM.
    ///
    /// # Errors
    /// [`Error::Tls`] naming the file that cannot be used.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let of =
            |path: &Path, reason: &dyn fmt::Display| Error::Tls { path: path.to_owned(), reason: reason.to_string() };
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| of(certificate, &error))?;
        if chain.is_empty() {
            return Err(of(certificate, &"there is no certificate in it"));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error: rustls::Error| of(certificate, &error))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|error| of(key, &error))?;
        Ok(Self { config })
    }

    /// Takes connections of clients that speak `protocol`, by its ALPN name.
    pub(crate) fn acceptor(mut self, protocol: &[u8]) -> TlsAcceptor {
        self.config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(self.config))
    }
}
