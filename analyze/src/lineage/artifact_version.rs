//! The order of version numbers: numeric, so that `v2.10` follows `v2.9`, and pre-releases precede their release.

use std::cmp::Ordering;
use std::fmt;

/// Digits of one number of a version; a longer one is a hash or a time, not a version.
const DIGITS_MAX: usize = 18;
/// Numbers in one version.
const NUMBERS_MAX: usize = 8;

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// There is no number where one must be.
    #[error("version {text:?} has no number at its start: write v2, v2.1 or v2.1.0-rc.1")]
    NoNumber {
        /// The text as received.
        text: String,
    },
    /// Something between the dots is no number and starts no pre-release.
    #[error("version {text:?} has {part:?} where a number is due: write v2.1 or v2.1-rc.1")]
    NotANumber {
        /// The text as received.
        text: String,
        /// The part in question.
        part: String,
    },
    /// A number has more digits, or the version more numbers, than a version has.
    #[error("version {text:?} is longer than 8 numbers of 18 digits: is it a digest or a time?")]
    TooLong {
        /// The text as received.
        text: String,
    },
}

/// One part of a pre-release, as in `rc.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Identifier {
    Number(u64),
    Word(String),
}

/// A version whose order is that of its numbers.
///
/// `v2`, `2.0` and `v2.0.0` are equal. Two differences from SemVer 2.0: any count of numbers is allowed, and the words
/// that Python packages use have their own order (`dev` < `alpha` or `a` < `beta` or `b` < any other word < `rc`, `c`,
/// `pre`), with their number split off, so that `rc10` follows `rc9`. A `post` part follows its release. Build
/// metadata after `+` does not take part in the order and is not kept.
///
/// Source: SemVer 2.0 §11; PEP 440, summary of permitted suffixes and relative ordering.
#[derive(Debug, Clone)]
pub struct ArtifactVersion {
    numbers: Vec<u64>,
    suffix: Vec<Identifier>,
}

/// Whether `tail` begins with a word that may follow the numbers after a dot; others are the endings of file names.
///
/// Source: PEP 440.
fn is_suffix_word(tail: &str) -> bool {
    let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
    let words = ["dev", "post", "r", "rev", "a", "alpha", "b", "beta", "c", "rc", "pre", "preview"];
    words.contains(&&tail[..end])
}

impl ArtifactVersion {
    /// Reads `v2.1.0-rc.1`, `2.1rc1`, `12` and the like; a leading `v` or `V` is optional.
    ///
    /// # Errors
    /// [`VersionError`] if the text does not begin with a number, or has parts that are neither numbers nor a suffix.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let bare = bare.split('+').next().unwrap_or(bare);
        let numbers_end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
        let (head, tail) = bare.split_at(numbers_end);
        // `2.1.dev3`: the dot belongs to the suffix.
        let (head, tail) = match head.strip_suffix('.') {
            Some(shorter) if is_suffix_word(tail) => (shorter, tail),
            _ => (head, tail.strip_prefix('-').unwrap_or(tail)),
        };
        if head.is_empty() || head.starts_with('.') {
            return Err(VersionError::NoNumber { text: text.to_owned() });
        }
        let numbers = head.split('.').map(|part| number(text, part)).collect::<Result<Vec<_>, _>>()?;
        if numbers.len() > NUMBERS_MAX {
            return Err(VersionError::TooLong { text: text.to_owned() });
        }
        if tail.is_empty() && bare.len() != head.len() {
            return Err(VersionError::NotANumber { text: text.to_owned(), part: bare[head.len()..].to_owned() });
        }
        Ok(Self { numbers, suffix: suffix(text, tail)? })
    }

    /// Whether this precedes the release of the same numbers.
    pub fn is_pre_release(&self) -> bool {
        self.stage() == Stage::Before
    }

    /// The numbers as written.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    fn stage(&self) -> Stage {
        match self.suffix.first() {
            None => Stage::Release,
            Some(Identifier::Word(word)) if matches!(word.as_str(), "post" | "r" | "rev") => Stage::After,
            Some(_) => Stage::Before,
        }
    }
}

/// Where a suffix puts a version, seen from the release of the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Before,
    Release,
    After,
}

fn number(text: &str, part: &str) -> Result<u64, VersionError> {
    if part.len() > DIGITS_MAX {
        return Err(VersionError::TooLong { text: text.to_owned() });
    }
    part.parse().map_err(|_| VersionError::NotANumber { text: text.to_owned(), part: part.to_owned() })
}

/// Splits `rc.1`, `rc1` and `alpha-2` into words and numbers.
fn suffix(text: &str, tail: &str) -> Result<Vec<Identifier>, VersionError> {
    let mut identifiers = Vec::new();
    if tail.is_empty() {
        return Ok(identifiers);
    }
    for part in tail.split(['.', '-']) {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(VersionError::NotANumber { text: text.to_owned(), part: part.to_owned() });
        }
        let word_len = part.find(|c: char| c.is_ascii_digit()).unwrap_or(part.len());
        let (word, digits) = part.split_at(word_len);
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            // A digest such as `g3f2a1`: letters and digits mixed have no number to compare.
            identifiers.push(Identifier::Word(part.to_ascii_lowercase()));
            continue;
        }
        if !word.is_empty() {
            identifiers.push(Identifier::Word(word.to_ascii_lowercase()));
        }
        if !digits.is_empty() {
            identifiers.push(Identifier::Number(number(text, digits)?));
        }
    }
    Ok(identifiers)
}

/// PEP 440's order of the words that it knows; others stand between beta and release candidate.
fn word_rank(word: &str) -> u8 {
    match word {
        "dev" => 0,
        "a" | "alpha" => 1,
        "b" | "beta" => 2,
        "c" | "rc" | "pre" | "preview" => 4,
        _ => 3,
    }
}

impl Ord for Identifier {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => left.cmp(right),
            (Self::Number(_), Self::Word(_)) => Ordering::Less,
            (Self::Word(_), Self::Number(_)) => Ordering::Greater,
            (Self::Word(left), Self::Word(right)) => {
                word_rank(left).cmp(&word_rank(right)).then_with(|| left.cmp(right))
            }
        }
    }
}

impl PartialOrd for Identifier {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ArtifactVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let count = self.numbers.len().max(other.numbers.len());
        let at = |numbers: &[u64], index: usize| numbers.get(index).copied().unwrap_or(0);
        (0..count)
            .map(|index| at(&self.numbers, index).cmp(&at(&other.numbers, index)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
            .then_with(|| self.stage().cmp(&other.stage()))
            .then_with(|| self.suffix.cmp(&other.suffix))
    }
}

impl PartialOrd for ArtifactVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ArtifactVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ArtifactVersion {}

impl fmt::Display for ArtifactVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.numbers.iter().enumerate() {
            write!(formatter, "{}{number}", if index == 0 { "v" } else { "." })?;
        }
        for (index, identifier) in self.suffix.iter().enumerate() {
            let separator = if index == 0 { "-" } else { "." };
            match identifier {
                Identifier::Number(number) => write!(formatter, "{separator}{number}")?,
                Identifier::Word(word) => write!(formatter, "{separator}{word}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> ArtifactVersion {
        ArtifactVersion::parse(text).unwrap()
    }

    #[test]
    fn versions_rise_as_their_numbers_do() {
        let rising = [
            "v1",
            "v1.9",
            "v2.0-dev1",
            "v2.0a1",
            "v2.0-beta.2",
            "v2.0-nightly",
            "v2.0rc9",
            "v2.0rc10",
            "v2.0",
            "v2.0.post1",
            "v2.9",
            "v2.10-rc.1",
            "v2.10",
            "v2.10.1",
            "v10",
        ];
        for (index, low) in rising.iter().enumerate() {
            for high in &rising[index + 1..] {
                assert!(version(low) < version(high), "{low} before {high}");
                assert!(version(high) > version(low), "{high} after {low}");
            }
        }
    }

    #[test]
    fn trailing_zeros_and_the_letter_do_not_matter() {
        assert_eq!(version("v2"), version("2.0.0"));
        assert_eq!(version("V2.1+build.7"), version("2.1"));
        assert_ne!(version("2.1-rc.1"), version("2.1"));
        assert!(version("2.1-rc.1").is_pre_release());
        assert!(!version("2.1.post3").is_pre_release());
    }

    #[test]
    fn what_is_no_version_says_why() {
        for (text, expected) in [
            ("", "no number at its start"),
            ("v", "no number at its start"),
            ("latest", "no number at its start"),
            ("v.2", "no number at its start"),
            ("v2..1", "where a number is due"),
            ("v2.", "where a number is due"),
            ("v2-", "where a number is due"),
            ("v2.1-ä", "where a number is due"),
            ("v2.1-rc..1", "where a number is due"),
            ("v1234567890123456789", "digest or a time"),
            ("v1.1.1.1.1.1.1.1.1", "digest or a time"),
        ] {
            let error = ArtifactVersion::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_number_lists(left in prop::collection::vec(0u64..30, 1..5), right in prop::collection::vec(0u64..30, 1..5)) {
            let text = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
            let padded = |numbers: &[u64]| { let mut all = numbers.to_vec(); all.resize(5, 0); all };
            prop_assert_eq!(version(&text(&left)).cmp(&version(&text(&right))), padded(&left).cmp(&padded(&right)));
        }

        #[test]
        fn any_text_gives_an_answer_and_a_version_reads_back(text in "\\PC{0,24}|v?[0-9.]{1,8}[-a-z0-9.+]{0,8}") {
            if let Ok(parsed) = ArtifactVersion::parse(&text) {
                prop_assert_eq!(ArtifactVersion::parse(&parsed.to_string()).unwrap(), parsed);
            }
        }
    }
}
