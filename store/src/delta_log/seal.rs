//! The checksum of one entry of a Delta log, kept inside the entry.
//!
//! `commitInfo` is the one action in which the protocol leaves room for a writer's own fields. Its first field holds the
//! CRC-32C of the whole entry, counted with the eight digits of the field itself as zeros: so every byte is covered.

const OPENING: &str = r#"{"commitInfo":{"#;
const SEALED: &str = r#"{"commitInfo":{"crc32c":""#;
const NO_DIGITS: &str = "00000000";

/// What the seal of an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// The entry is what was written.
    Intact,
    /// No seal: another program wrote the entry, or the damage is in the name of the seal.
    Absent,
    /// The entry is not what was written.
    Broken,
}

/// `entry` (one action per line, a `commitInfo` among them) with its checksum filled in; without one it stays as it is.
pub(super) fn seal(entry: &str) -> String {
    let mut sealed = entry.replacen(OPENING, &format!(r#"{SEALED}{NO_DIGITS}","#), 1);
    if let Some(at) = sealed.find(SEALED).map(|at| at + SEALED.len()) {
        let digits = format!("{:08x}", crc32c::crc32c(sealed.as_bytes()));
        sealed.replace_range(at..at + NO_DIGITS.len(), &digits);
    }
    sealed
}

/// Compares the bytes of an entry with their checksum.
pub(crate) fn check_seal(entry: &[u8]) -> Seal {
    let Some(at) = entry.windows(SEALED.len()).position(|window| window == SEALED.as_bytes()) else {
        return Seal::Absent;
    };
    let at = at + SEALED.len();
    let Some((digits, rest)) = entry[at..].split_at_checked(NO_DIGITS.len()) else { return Seal::Broken };
    let sums = crc32c::crc32c_append(crc32c::crc32c(&entry[..at]), NO_DIGITS.as_bytes());
    // Compared as text, so that a changed case of a digit is seen.
    if format!("{:08x}", crc32c::crc32c_append(sums, rest)).as_bytes() == digits { Seal::Intact } else { Seal::Broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_of_an_entry_is_seen() {
        let entry = seal("{\"commitInfo\":{\"operation\":\"WRITE\"}}\n{\"add\":{\"path\":\"a\"}}\n").into_bytes();
        assert_eq!(check_seal(&entry), Seal::Intact);
        for at in 0..entry.len() {
            for bit in 0..8 {
                let mut changed = entry.clone();
                changed[at] ^= 1 << bit;
                assert_ne!(check_seal(&changed), Seal::Intact, "bit {bit} of byte {at}");
            }
        }
        for cut in 0..entry.len() {
            assert_ne!(check_seal(&entry[..cut]), Seal::Intact, "cut to {cut} bytes");
        }
        assert_eq!(check_seal(b"{\"add\":{\"path\":\"a\"}}\n"), Seal::Absent);
    }
}
