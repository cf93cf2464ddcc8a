//! Bodies compressed as the client accepts it, piece by piece: what is written is sent, not kept for a better ratio.

use std::io::{self, Write};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::{Stream, StreamExt, stream};

use crate::{body::BodyError, format::ranked};

/// The level at which zstd costs little more than sending.
const ZSTD_LEVEL: i32 = 1;

/// A content encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    /// The encoding to answer with: zstd where the client accepts it, else gzip, else none. What a client likes less than
    /// no encoding is not accepted.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let ranked = ranked(headers, header::ACCEPT_ENCODING);
        let mut gzip = None;
        for name in ranked.iter().map(String::as_str).take_while(|name| *name != "identity") {
            match name {
                "zstd" => return Some(Self::Zstd),
                "gzip" | "x-gzip" | "*" => gzip = Some(Self::Gzip),
                _ => {}
            }
        }
        gzip
    }

    /// The value of the header `content-encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A compressor with what it has put out so far.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
        })
    }

    /// The compressed bytes of `piece`, all of them.
    fn write(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
        }
        .into())
    }

    /// What follows the last piece.
    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}

/// `pieces` compressed, each as it comes. An error stays an error, and the end of the encoding is then missing.
///
/// # Errors
/// If the compressor cannot be made.
pub(crate) fn compressed<S>(
    pieces: S,
    encoding: Encoding,
) -> io::Result<impl Stream<Item = Result<Bytes, BodyError>> + Send>
where
    S: Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
{
    let state = (pieces.boxed(), Encoder::new(encoding)?);
    Ok(stream::unfold(Some(state), async |state| {
        let (mut pieces, mut encoder) = state?;
        Some(match pieces.next().await {
            Some(Ok(piece)) => match encoder.write(&piece) {
                Ok(piece) => (Ok(piece), Some((pieces, encoder))),
                Err(error) => (Err(error.into()), None),
            },
            Some(Err(error)) => (Err(error), None),
            None => (encoder.finish().map_err(Into::into), None),
        })
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures::TryStreamExt;

    use super::*;

    #[test]
    fn the_encoding_is_what_the_client_accepts() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some(Encoding::Zstd)),
            ("deflate, gzip;q=0.5", Some(Encoding::Gzip)),
            ("zstd;q=0, gzip", Some(Encoding::Gzip)),
            ("gzip;q=0, br", None),
            ("identity, gzip;q=0.5", None),
            ("*", Some(Encoding::Gzip)),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(Encoding::accepted(&headers), expected, "{accepted}");
        }
    }

    #[tokio::test]
    async fn each_piece_can_be_read_before_the_next_is_there() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let pieces = stream::iter(["one", "two"].map(|text| Ok(Bytes::from_static(text.as_bytes()))));
            let pieces: Vec<Bytes> = compressed(pieces, encoding).unwrap().try_collect().await.unwrap();
            assert_eq!(pieces.len(), 3);
            let read = |bytes: Vec<u8>| {
                let mut reader: Box<dyn Read> = match encoding {
                    Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(io::Cursor::new(bytes))),
                    Encoding::Zstd => Box::new(zstd::stream::read::Decoder::new(io::Cursor::new(bytes)).unwrap()),
                };
                let mut text = [0; 3];
                reader.read_exact(&mut text).map(|()| {
                    let mut rest = String::new();
                    (text, reader.read_to_string(&mut rest).map(|_| rest))
                })
            };
            let (first, rest) = read(pieces[0].to_vec()).unwrap();
            assert_eq!(&first, b"one");
            assert!(rest.is_err(), "a cut body must not look whole");
            let (first, rest) = read(pieces.concat()).unwrap();
            assert_eq!((&first, rest.unwrap().as_str()), (b"one", "two"));
        }
    }

    #[tokio::test]
    async fn an_error_stays_one() {
        let pieces = stream::iter([Ok(Bytes::from_static(b"one")), Err("broken".into())]);
        let pieces: Vec<_> = compressed(pieces, Encoding::Gzip).unwrap().collect().await;
        assert!(pieces.len() == 2 && pieces[1].is_err());
    }
}
