//! Content encodings of OTLP/HTTP, decompressed in a stream that stops at the limit.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// A content encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Window of a zstd frame, as a power of two: 8 MiB, the size that RFC 9659 asks HTTP receivers for.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

impl Encoding {
    /// Reads the header `content-encoding`.
    pub(crate) fn parse(header: &str) -> Result<Self> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(Error::ContentEncoding(other.chars().take(64).collect())),
        }
    }

    /// The decompressed body, at most `limit_bytes` of it.
    pub(crate) fn decompress(self, body: &[u8], limit_bytes: usize) -> Result<Vec<u8>> {
        match self {
            Self::Identity => read(body, limit_bytes, "identity"),
            Self::Gzip => read(flate2::read::MultiGzDecoder::new(body), limit_bytes, "gzip"),
            Self::Zstd => {
                let broken = |error: io::Error| Error::Decompress { encoding: "zstd", reason: error.to_string() };
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
                read(decoder, limit_bytes, "zstd")
            }
        }
    }
}

fn read(source: impl Read, limit_bytes: usize, encoding: &'static str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "at the limit" from "over it".
    source
        .take(limit_bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::Decompress { encoding, reason: error.to_string() })?;
    if bytes.len() > limit_bytes {
        return Err(Error::TooLarge { stage: "after decompression", limit_bytes, setting: "decompressed_size_max" });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        for (encoding, body) in
            [(Encoding::Gzip, gzip(&zeros)), (Encoding::Zstd, zstd::encode_all(zeros.as_slice(), 1).unwrap())]
        {
            assert!(matches!(encoding.decompress(&body, (1 << 20) - 1), Err(Error::TooLarge { .. })));
            assert_eq!(encoding.decompress(&body, 1 << 20).unwrap(), zeros);
        }
    }

    #[test]
    fn damaged_bodies_are_refused() {
        let mut body = gzip(b"some text that is compressed");
        body.truncate(body.len() - 6);
        assert!(matches!(Encoding::Gzip.decompress(&body, 1000), Err(Error::Decompress { encoding: "gzip", .. })));
        assert!(matches!(Encoding::Zstd.decompress(b"no", 1000), Err(Error::Decompress { encoding: "zstd", .. })));
        assert!(matches!(Encoding::parse("br"), Err(Error::ContentEncoding(_))));
    }
}
