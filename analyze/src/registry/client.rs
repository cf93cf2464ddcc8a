//! The connection to the registry: `GET` only, each answer of bounded size and time.

use futures::StreamExt as _;
use reqwest::{Client as Http, header, redirect};

use super::{
    poller::RegistryError,
    settings::{Login, MlflowConfig},
};
use crate::{lineage::mlflow::Request, request_failure::request_failure};

/// Bytes of one answer: a page of 1 000 versions with all their tags has a few million.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Asks one registry.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    url: String,
    login: Login,
}

impl Client {
    /// A client of `config`; nothing is connected yet.
    pub(super) fn new(config: &MlflowConfig) -> Result<Self, RegistryError> {
        // A redirect would carry the token to an address that nobody configured.
        let http = Http::builder().timeout(config.timeout).redirect(redirect::Policy::none()).build();
        let http = http.map_err(|error| RegistryError::Unreachable { reason: request_failure(error) })?;
        Ok(Self { http, url: config.url.clone(), login: config.login.clone() })
    }

    /// Status and body of the answer to `request`.
    pub(super) async fn get(&self, request: &Request) -> Result<(u16, Vec<u8>), RegistryError> {
        let unreachable = |error| RegistryError::Unreachable { reason: request_failure(error) };
        let asked = self.http.get(format!("{}{}", self.url, request.path)).query(&request.query);
        let asked = match &self.login {
            Login::None => asked,
            Login::Token(token) => {
                let mut value = header::HeaderValue::try_from(token.authorization())
                    .map_err(|_| RegistryError::Unreachable { reason: "the token cannot stand in a header".into() })?;
                value.set_sensitive(true);
                asked.header(header::AUTHORIZATION, value)
            }
            Login::Basic { user, password } => asked.basic_auth(user, Some(password.reveal())),
        };
        let answer = asked.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(unreachable)?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(RegistryError::TooLarge { path: request.path, bytes_max: ANSWER_BYTES_MAX });
            }
        }
        Ok((status, body))
    }
}
