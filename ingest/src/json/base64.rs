//! Base64 of `bytesValue`, standard or URL alphabet, padded or not, as the proto3 JSON mapping allows.

/// Appends the decoded bytes; none if `text` is not base64.
pub(super) fn decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let digits = text.trim_end_matches('=').as_bytes();
    for chunk in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in chunk {
            bits = bits << 6 | u32::from(value(digit)?);
        }
        let byte_count = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            // One digit holds less than a byte.
            _ => return None,
        };
        bits <<= 6 * (4 - chunk.len());
        out.extend(bits.to_be_bytes().into_iter().skip(1).take(byte_count));
    }
    Some(())
}

fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn padding_and_both_alphabets_are_accepted() {
        let check = |text: &str, expected: Option<&[u8]>| {
            let mut out = Vec::new();
            assert_eq!(super::decode(text, &mut out).map(|()| out.as_slice()), expected, "{text}");
        };
        check("", Some(b""));
        check("Zg==", Some(b"f"));
        check("Zm8", Some(b"fo"));
        check("Zm9v", Some(b"foo"));
        check("-_+/", Some(&[0xfb, 0xff, 0xbf]));
        check("Z", None);
        check("Z!==", None);
    }
}
