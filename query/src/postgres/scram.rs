//! Passwords: SCRAM-SHA-256, and the verifiers that PostgreSQL keeps instead of them.
//!
//! Source: RFC 5802, RFC 7677; `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>` as in `pg_authid`.

use std::{fmt, num::NonZeroU32, str::FromStr};

use aws_lc_rs::{digest, hmac, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pgwire::api::auth::sasl::scram::gen_salted_password;

/// Iterations of new verifiers, as PostgreSQL has them.
const ITERATIONS: u32 = 4096;
/// More would let whoever writes the configuration stop the server.
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_SIZE_BYTES: usize = 16;
const NONCE_SIZE_BYTES: usize = 18;
const METHOD: &str = "SCRAM-SHA-256";

/// What a password is checked by. It does not let anybody in who has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt, &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{METHOD}${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// A text that is no verifier.
#[derive(Debug)]
pub struct NoVerifier;

impl FromStr for Verifier {
    type Err = NoVerifier;

    fn from_str(text: &str) -> Result<Self, NoVerifier> {
        Self::read(text).ok_or(NoVerifier)
    }
}

impl Verifier {
    fn read(text: &str) -> Option<Self> {
        let (iterations, rest) = text.strip_prefix(METHOD)?.strip_prefix('$')?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let [salt, stored_key, server_key] = [salt, stored, server].map(|text| STANDARD.decode(text).ok());
        let key = |key: Option<Vec<u8>>| key.filter(|key| key.len() == digest::SHA256_OUTPUT_LEN);
        let iterations = iterations.parse().ok().filter(|count| *count <= ITERATIONS_MAX).and_then(NonZeroU32::new)?;
        Some(Self { iterations, salt: salt?, stored_key: key(stored_key)?, server_key: key(server_key)? })
    }

    /// The verifier of `password`, with a salt of its own.
    pub fn of(password: &str) -> Self {
        let mut salt = [0; SALT_SIZE_BYTES];
        fill(&mut salt);
        Self::salted(password, &salt)
    }

    fn salted(password: &str, salt: &[u8]) -> Self {
        let salted = gen_salted_password(password, salt, ITERATIONS as usize);
        let client_key = hmac(&salted, b"Client Key");
        Self {
            iterations: NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN),
            salt: salt.to_vec(),
            stored_key: digest::digest(&digest::SHA256, &client_key).as_ref().to_vec(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// One that no password passes, the same each time for a name, so that a user who is not there looks like one who is.
    pub(crate) fn of_nobody(user: &str, secret: &[u8]) -> Self {
        let salt = hmac(secret, user.as_bytes())[..SALT_SIZE_BYTES].to_vec();
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        fill(&mut key);
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        Self { iterations, salt, stored_key: key.to_vec(), server_key: key.to_vec() }
    }
}

/// Random bytes that nobody guesses.
pub(crate) fn fill(bytes: &mut [u8]) {
    // The generator is seeded from the operating system when it is first used, and does not fail afterwards.
    rand::fill(bytes).expect("the operating system gives random bytes");
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// The exchange after the client's first message.
#[derive(Debug)]
pub(crate) struct Exchange {
    verifier: Verifier,
    /// What the client says about binding to the channel, which it repeats.
    gs2_header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl Exchange {
    /// The name of the method, and the only one.
    pub(crate) const METHOD: &str = METHOD;

    /// Takes the client's first message; [`Self::server_first`] answers it. `None` for one that is no such message.
    pub(crate) fn begin(verifier: Verifier, client_first: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(client_first).ok()?;
        // Binding to the channel is not offered, so a client must not ask for it.
        let mut parts = text.splitn(3, ',');
        let (binding, authorization, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(binding, "n" | "y") {
            return None;
        }
        let client_nonce = bare.split(',').find_map(|part| part.strip_prefix("r="))?;
        let mut own = [0; NONCE_SIZE_BYTES];
        fill(&mut own);
        let nonce = format!("{client_nonce}{}", STANDARD.encode(own));
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let gs2_header = format!("{binding},{authorization},");
        Some(Self { verifier, gs2_header, client_first_bare: bare.to_owned(), server_first, nonce })
    }

    pub(crate) fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Takes the client's last message and gives the server's; `None` if the password is wrong.
    pub(crate) fn end(&self, client_final: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(client_final).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = STANDARD.decode(parts.next()?.strip_prefix("c=")?).ok()?;
        if binding != self.gs2_header.as_bytes() || parts.next()?.strip_prefix("r=")? != self.nonce {
            return None;
        }
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = hmac(&self.verifier.stored_key, message.as_bytes());
        let proof = STANDARD.decode(proof).ok().filter(|proof| proof.len() == signature.len())?;
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        aws_lc_rs::constant_time::verify_slices_are_equal(stored_key.as_ref(), &self.verifier.stored_key).ok()?;
        Some(format!("v={}", STANDARD.encode(hmac(&self.verifier.server_key, message.as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_are_written_as_postgresql_writes_them() {
        let verifier = Verifier::of("secret");
        let text = verifier.to_string();
        assert!(text.starts_with("SCRAM-SHA-256$4096:"), "{text}");
        assert_eq!(text.parse::<Verifier>().unwrap(), verifier);
        assert_ne!(Verifier::of("secret"), verifier, "each has a salt of its own");
        for wrong in ["", "secret", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$4096:AA==$AA==:AA==", "md5abc"] {
            assert!(wrong.parse::<Verifier>().is_err(), "{wrong}");
        }
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let mut exchange = Exchange::begin(Verifier::salted("pencil", &salt), first.as_bytes()).unwrap();
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into();
        exchange.server_first = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", exchange.nonce);
        let last = format!("c=biws,r={},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", exchange.nonce);
        let expected = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(exchange.end(last.as_bytes()).as_deref(), Some(expected));
        assert_eq!(exchange.end(last.replace("dHzb", "eHzb").as_bytes()), None);
        assert!(Exchange::begin(Verifier::of("x"), b"p=tls-unique,,n=,r=a").is_none());
    }
}
