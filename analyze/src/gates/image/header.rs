//! Size and channels of an image from its first bytes, without decoding it.
//!
//! Sources: PNG (W3C, third edition, 11.2.1), JPEG (ITU-T T.81, annex B), GIF89a (CompuServe 1990), WebP container
//! (RFC 9649). Only the headers and the last bytes of a file are read, so an image whose middle is damaged passes.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// Format of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the formats")]
pub enum Format {
    Png,
    Jpeg,
    Gif,
    WebP,
}

/// What the header of an image says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Format of the file, whatever its name says.
    pub format: Format,
    /// Width in pixels, as stored: an orientation in the metadata is not applied.
    pub width: u32,
    /// Height in pixels, as stored.
    pub height: u32,
    /// Samples per pixel, 1 to 4; a palette counts as 3.
    pub channels: u8,
}

/// Why a file is no image that can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It has no bytes.
    Empty,
    /// Its first bytes are of none of the formats.
    UnknownFormat,
    /// It ends before its header does, or lacks the end that its format asks for.
    Truncated,
    /// The header says something impossible, such as a width of 0.
    InvalidHeader,
    /// The operating system does not give the file out.
    Unreadable,
}

impl Damage {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::UnknownFormat => "no PNG, JPEG, GIF or WebP",
            Self::Truncated => "truncated",
            Self::InvalidHeader => "invalid header",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Unreadable }
    }
}

/// Bytes at the end in which the end marker is looked for: cameras append metadata.
const TAIL_BYTES: u64 = 4096;

/// Segments before the frame header of a JPEG; more are no photograph.
const JPEG_SEGMENTS_MAX: usize = 4096;

/// Reads the header of an image.
///
/// # Errors
/// The [`Damage`] of a file that is no image.
pub fn read_header(file: &mut (impl Read + Seek)) -> Result<Header, Damage> {
    let len = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    if len == 0 {
        return Err(Damage::Empty);
    }
    let mut start = [0; 12];
    let count = file.by_ref().take(12).read(&mut start).map_err(Damage::from)?;
    let start = &start[..count];
    let header = if start.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(file)?
    } else if start.starts_with(&[0xff, 0xd8]) {
        jpeg(file)?
    } else if start.starts_with(b"GIF87a") || start.starts_with(b"GIF89a") {
        gif(file)?
    } else if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
        webp(file)?
    } else {
        return Err(Damage::UnknownFormat);
    };
    if header.width == 0 || header.height == 0 {
        return Err(Damage::InvalidHeader);
    }
    if is_whole(file, header.format, len)? { Ok(header) } else { Err(Damage::Truncated) }
}

fn bytes_at<const N: usize>(file: &mut (impl Read + Seek), offset: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn png(file: &mut (impl Read + Seek)) -> Result<Header, Damage> {
    let ihdr: [u8; 18] = bytes_at(file, 8)?;
    let [_, _, _, length, b'I', b'H', b'D', b'R', w0, w1, w2, w3, h0, h1, h2, h3, _depth, colour] = ihdr else {
        return Err(Damage::InvalidHeader);
    };
    let channels = match colour {
        0 => 1,
        2 | 3 => 3,
        4 => 2,
        6 => 4,
        _ => return Err(Damage::InvalidHeader),
    };
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    if length != 13 || width > i32::MAX as u32 || height > i32::MAX as u32 {
        return Err(Damage::InvalidHeader);
    }
    Ok(Header { format: Format::Png, width, height, channels })
}

fn jpeg(file: &mut (impl Read + Seek)) -> Result<Header, Damage> {
    let mut offset = 2;
    for _ in 0..JPEG_SEGMENTS_MAX {
        let [mark, marker] = bytes_at(file, offset)?;
        match (mark, marker) {
            // Bytes of 0xff before a marker are padding.
            (0xff, 0xff) => offset += 1,
            (0xff, 0xc0..=0xcf) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, _, _precision, h0, h1, w0, w1, channels] = bytes_at(file, offset + 2)?;
                if !(1..=4).contains(&channels) {
                    return Err(Damage::InvalidHeader);
                }
                let (width, height) = (u16::from_be_bytes([w0, w1]).into(), u16::from_be_bytes([h0, h1]).into());
                return Ok(Header { format: Format::Jpeg, width, height, channels });
            }
            // Pixels or the end before a frame header.
            (0xff, 0xda | 0xd9) => return Err(Damage::InvalidHeader),
            // Markers without a length.
            (0xff, 0x01 | 0xd0..=0xd8) => offset += 2,
            (0xff, _) => {
                let length = u16::from_be_bytes(bytes_at(file, offset + 2)?);
                if length < 2 {
                    return Err(Damage::InvalidHeader);
                }
                offset += 2 + u64::from(length);
            }
            _ => return Err(Damage::InvalidHeader),
        }
    }
    Err(Damage::InvalidHeader)
}

fn gif(file: &mut (impl Read + Seek)) -> Result<Header, Damage> {
    let [w0, w1, h0, h1] = bytes_at(file, 6)?;
    let (width, height) = (u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into());
    Ok(Header { format: Format::Gif, width, height, channels: 3 })
}

fn webp(file: &mut (impl Read + Seek)) -> Result<Header, Damage> {
    let chunk: [u8; 4] = bytes_at(file, 12)?;
    let (width, height, channels) = match &chunk {
        b"VP8 " => {
            let [_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = bytes_at(file, 20)? else {
                return Err(Damage::InvalidHeader);
            };
            let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            (side(w0, w1), side(h0, h1), 3)
        }
        b"VP8L" => {
            let [0x2f, b0, b1, b2, b3] = bytes_at(file, 20)? else { return Err(Damage::InvalidHeader) };
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            let has_alpha = bits >> 28 & 1 == 1;
            ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, if has_alpha { 4 } else { 3 })
        }
        b"VP8X" => {
            let [flags, _, _, _, w0, w1, w2, h0, h1, h2] = bytes_at(file, 20)?;
            let has_alpha = flags & 0x10 != 0;
            let side = |a, b, c| u32::from_le_bytes([a, b, c, 0]) + 1;
            (side(w0, w1, w2), side(h0, h1, h2), if has_alpha { 4 } else { 3 })
        }
        _ => return Err(Damage::InvalidHeader),
    };
    Ok(Header { format: Format::WebP, width, height, channels })
}

/// Whether the file has the end that its format asks for.
fn is_whole(file: &mut (impl Read + Seek), format: Format, len: u64) -> Result<bool, Damage> {
    if format == Format::WebP {
        let declared = u64::from(u32::from_le_bytes(bytes_at(file, 4)?));
        return Ok(declared + 8 <= len);
    }
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
    file.by_ref().take(TAIL_BYTES).read_to_end(&mut tail)?;
    if format == Format::Gif {
        // The trailer is the last byte, but for padding; within the pixels it may be anywhere.
        return Ok(tail.iter().rfind(|byte| **byte != 0) == Some(&0x3b));
    }
    let marker: &[u8] = if format == Format::Png { b"IEND\xae\x42\x60\x82" } else { &[0xff, 0xd9] };
    Ok(tail.windows(marker.len()).any(|window| window == marker))
}
