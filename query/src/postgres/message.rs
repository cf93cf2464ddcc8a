//! Messages of clients, read from bytes that anybody may have sent: every length is checked, nothing is taken on trust.
//!
//! Source: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use bytes::{Buf, Bytes};

/// A message is not what the protocol says it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// What a client says after start-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Query(String),
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close(Target),
    Sync,
    Flush,
    Terminate,
    /// Of a `COPY … FROM STDIN`, which is never begun here.
    Copy,
    /// The answer to a request for a password.
    Password(Bytes),
}

/// Values for a prepared statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) formats: Formats,
    pub(crate) values: Vec<Option<Bytes>>,
    pub(crate) result_formats: Formats,
}

/// A prepared statement or a portal, by name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

/// How values are written: none is text for all, one holds for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Formats(Vec<bool>);

impl Formats {
    /// Whether value `index` is binary.
    pub(crate) fn is_binary(&self, index: usize) -> bool {
        match self.0.as_slice() {
            [one] => *one,
            many => many.get(index).copied().unwrap_or(false),
        }
    }

    /// Whether there is none, one, or one for each of `count` values.
    pub(crate) fn fits(&self, count: usize) -> bool {
        self.0.len() <= 1 || self.0.len() == count
    }
}

/// The first message of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FirstMessage {
    /// Asks for TLS.
    Ssl,
    /// Asks for encryption by Kerberos.
    GssEncryption,
    Cancel {
        pid: i32,
        secret: i32,
    },
    Startup {
        minor: u16,
        parameters: Vec<(String, String)>,
    },
    /// Of another major version than 3.
    UnknownVersion(u16),
}

const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

impl FirstMessage {
    /// Reads what follows the length.
    pub(crate) fn read(mut body: Bytes) -> Result<Self> {
        let code = int32(&mut body)?;
        let first = match code {
            SSL_REQUEST => Self::Ssl,
            GSS_REQUEST => Self::GssEncryption,
            CANCEL_REQUEST => Self::Cancel { pid: int32(&mut body)?, secret: int32(&mut body)? },
            _ => {
                let [major_high, major_low, minor_high, minor_low] = code.to_be_bytes();
                if u16::from_be_bytes([major_high, major_low]) != 3 {
                    return Ok(Self::UnknownVersion(u16::from_be_bytes([major_high, major_low])));
                }
                let mut parameters = Vec::new();
                loop {
                    let name = text(&mut body)?;
                    if name.is_empty() {
                        break;
                    }
                    parameters.push((name, text(&mut body)?));
                }
                Self::Startup { minor: u16::from_be_bytes([minor_high, minor_low]), parameters }
            }
        };
        ended(&body).map(|()| first)
    }
}

impl Message {
    /// Reads what follows the length of a message of type `kind`.
    pub(crate) fn read(kind: u8, mut body: Bytes) -> Result<Self> {
        let body = &mut body;
        let message = match kind {
            b'Q' => Self::Query(text(body)?),
            b'P' => {
                Self::Parse { name: text(body)?, query: text(body)?, types: many(body, 4, |body| Ok(body.get_u32()))? }
            }
            b'B' => Self::Bind(Bind {
                portal: text(body)?,
                statement: text(body)?,
                formats: formats(body)?,
                values: many(body, 4, value)?,
                result_formats: formats(body)?,
            }),
            b'D' => Self::Describe(target(body)?),
            b'E' => {
                let portal = text(body)?;
                // 0 and less are no limit.
                Self::Execute { portal, rows_max: usize::try_from(int32(body)?).unwrap_or(0) }
            }
            b'C' => Self::Close(target(body)?),
            b'S' => Self::Sync,
            b'H' => Self::Flush,
            b'X' => Self::Terminate,
            b'd' | b'c' | b'f' => {
                body.clear();
                Self::Copy
            }
            b'p' => Self::Password(body.split_to(body.len())),
            _ => return Err(Malformed),
        };
        ended(body).map(|()| message)
    }

    /// After an error in one of these, what follows is skipped until `Sync`.
    pub(crate) fn is_extended(&self) -> bool {
        !matches!(self, Self::Query(_) | Self::Terminate | Self::Password(_))
    }
}

fn ended(body: &Bytes) -> Result<()> {
    if body.is_empty() { Ok(()) } else { Err(Malformed) }
}

fn int32(body: &mut Bytes) -> Result<i32> {
    body.try_get_i32().map_err(|_short| Malformed)
}

/// Text that ends in a zero byte.
pub(crate) fn text(body: &mut Bytes) -> Result<String> {
    let length = body.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
    let bytes = body.split_to(length);
    body.advance(1);
    std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_not_utf8| Malformed)
}

/// A count and as many items, each of at least `size_min` bytes.
fn many<T>(body: &mut Bytes, size_min: usize, mut item: impl FnMut(&mut Bytes) -> Result<T>) -> Result<Vec<T>> {
    let count = usize::from(body.try_get_u16().map_err(|_short| Malformed)?);
    if body.len() < count * size_min {
        return Err(Malformed);
    }
    (0..count).map(|_| if body.len() < size_min { Err(Malformed) } else { item(body) }).collect()
}

fn formats(body: &mut Bytes) -> Result<Formats> {
    let codes = many(body, 2, |body| match body.get_u16() {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    });
    codes.map(Formats)
}

fn value(body: &mut Bytes) -> Result<Option<Bytes>> {
    match int32(body)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_negative| Malformed)?;
            if body.len() < length { Err(Malformed) } else { Ok(Some(body.split_to(length))) }
        }
    }
}

fn target(body: &mut Bytes) -> Result<Target> {
    match body.try_get_u8() {
        Ok(b'S') => Ok(Target::Statement(text(body)?)),
        Ok(b'P') => Ok(Target::Portal(text(body)?)),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u8, body: &'static [u8]) -> Result<Message> {
        Message::read(kind, Bytes::from_static(body))
    }

    #[test]
    fn whole_messages_are_read_and_cut_ones_refused() {
        let bind = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0";
        let Ok(Message::Bind(whole)) = read(b'B', bind) else { panic!() };
        assert_eq!((whole.portal.as_str(), whole.statement.as_str()), ("p", "s"));
        assert!(whole.formats.is_binary(7) && !whole.result_formats.is_binary(0));
        assert_eq!(whole.values, [Some(Bytes::from_static(b"ab")), None]);
        for length in 0..bind.len() {
            assert_eq!(Message::read(b'B', Bytes::copy_from_slice(&bind[..length])), Err(Malformed), "{length}");
        }
        assert_eq!(read(b'Q', b"SELECT 1\0"), Ok(Message::Query("SELECT 1".into())));
        for body in [&b"SELECT 1"[..], b"SELECT \xff\0", b"SELECT 1\0\0", b""] {
            assert_eq!(Message::read(b'Q', Bytes::from_static(body)), Err(Malformed));
        }
        assert_eq!(read(b'P', b"\0SELECT 1\0\xff\xff\0\0\0\x17"), Err(Malformed), "a count beyond the message");
        assert_eq!(read(b'z', b""), Err(Malformed));
    }
}
