//! Content encodings: those of OTLP/HTTP, decompressed in a stream that stops at the limit, and snappy of remote write.

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

/// The size that a snappy block says it has, if that is at most `limit_bytes`.
pub(crate) fn snappy_size(body: &[u8], limit_bytes: usize) -> Result<usize> {
    let size = snap::raw::decompress_len(body).map_err(|error| broken_snappy(&error))?;
    if size > limit_bytes {
        return Err(Error::TooLarge { stage: "after decompression", limit_bytes, setting: "decompressed_size_max" });
    }
    Ok(size)
}

/// Decompresses a snappy block (not the framed format), whose size [`snappy_size`] has checked.
pub(crate) fn snappy(body: &[u8]) -> Result<Vec<u8>> {
    snap::raw::Decoder::new().decompress_vec(body).map_err(|error| broken_snappy(&error))
}

fn broken_snappy(error: &snap::Error) -> Error {
    Error::Decompress { encoding: "snappy", reason: error.to_string() }
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
    fn a_snappy_block_is_believed_up_to_the_limit_only() {
        let body = snap::raw::Encoder::new().compress_vec(&[7; 1000]).unwrap();
        assert_eq!(snappy_size(&body, 1000).unwrap(), 1000);
        assert_eq!(snappy(&body).unwrap(), [7; 1000]);
        assert!(matches!(snappy_size(&body, 999), Err(Error::TooLarge { .. })));
        // A length of four gigabytes in a body of six bytes.
        assert!(matches!(snappy_size(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 1 << 20), Err(Error::TooLarge { .. })));
        assert!(matches!(snappy(&body[..body.len() - 1]), Err(Error::Decompress { encoding: "snappy", .. })));
        assert!(snappy(&[]).is_err());
        let framed = b"\xff\x06\x00\x00sNaPpY";
        assert!(snappy_size(framed, 1 << 30).is_err() || snappy(framed).is_err());
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
