//! What the fuzz targets (`fuzz/`) and the mutation tests run: any bytes at all go in, nothing panics, and what is accepted
//! can be stored. Hidden from the documentation, and not for any other use.

use driftwatt_store::fuzzing::round_trip;

use crate::{
    decode::{Decoder, WriteMessage},
    json,
};

/// Decodes `bytes` as a request in protobuf; true if they are one.
pub fn protobuf(decoder: &Decoder, bytes: &[u8]) -> bool {
    let Ok(decoded) = decoder.decode(bytes) else { return false };
    let rejected: u64 = decoded.batch.rejections.iter().map(|row| row.count).sum();
    assert_eq!(rejected, decoded.rejected_count, "a refused point is not accounted for");
    round_trip(&decoded.batch);
    true
}

/// Decodes `bytes` as a request in JSON; true if they are one.
pub fn json(decoder: &Decoder, bytes: &[u8]) -> bool {
    let Ok(transcoded) = json::transcode(bytes) else { return false };
    assert!(protobuf(decoder, &transcoded), "JSON became what is not protobuf");
    true
}

/// Decodes `bytes` as a remote-write request, of 2.0 or 1.0; true if they are one.
pub fn remote_write(decoder: &Decoder, bytes: &[u8], second: bool) -> bool {
    let message = if second { WriteMessage::V2 } else { WriteMessage::V1 };
    let Ok(decoded) = decoder.decode_remote_write(bytes, message) else { return false };
    let rejected: u64 = decoded.batch.rejections.iter().map(|row| row.count).sum();
    assert_eq!(rejected, decoded.rejected_count, "a refused point is not accounted for");
    round_trip(&decoded.batch);
    true
}
