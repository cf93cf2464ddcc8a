//! Where one statement ends and the next begins.

/// A text cut at its semicolons.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split<'a> {
    /// Statements that ended with a semicolon, without it; empty ones left out.
    pub(super) statements: Vec<&'a str>,
    /// What follows the last of them, unless it says nothing.
    pub(super) rest: &'a str,
}

/// Cuts `text` at semicolons outside of quotes and comments.
pub(super) fn split(text: &str) -> Split<'_> {
    let (mut statements, mut start, mut says_something) = (Vec::new(), 0, false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match c {
            ';' => {
                if says_something {
                    statements.push(text[start..at].trim());
                }
                (start, says_something) = (at + 1, false);
            }
            '-' if next == Some('-') => {
                chars.by_ref().find(|(_, c)| *c == '\n');
            }
            // A comment that is still open waits for its end, whatever it says.
            '/' if next == Some('*') => says_something |= !skip_comment(&mut chars),
            // A doubled quote ends one text and begins the next, which comes to the same.
            '\'' | '"' => {
                chars.by_ref().find(|(_, end)| *end == c);
                says_something = true;
            }
            c => says_something |= !c.is_whitespace(),
        }
    }
    Split { statements, rest: if says_something { text[start..].trim() } else { "" } }
}

/// Whether `text` can be sent: every statement of it has ended.
pub(super) fn is_whole(text: &str) -> bool {
    text.trim_start().starts_with('\\') || split(text).rest.is_empty()
}

/// Reads to the end of a comment, in which others may stand; whether there is one.
fn skip_comment(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> bool {
    let mut depth = 0_u32;
    let mut last = '/';
    for (_, c) in chars.by_ref() {
        match (last, c) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                last = c;
                continue;
            }
        }
        if depth == 0 {
            return true;
        }
        last = ' ';
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, statements: &[&str], rest: &str) {
        assert_eq!(split(text), Split { statements: statements.to_vec(), rest }, "{text:?}");
    }

    #[test]
    fn semicolons_end_statements_outside_of_texts_and_comments() {
        check("SELECT 1; SELECT 2", &["SELECT 1"], "SELECT 2");
        check("SELECT 1;;\n ;", &["SELECT 1"], "");
        check("SELECT ';', \"a;b\", 'it''s; fine';", &["SELECT ';', \"a;b\", 'it''s; fine'"], "");
        check("-- one; two\nSELECT 1;", &["-- one; two\nSELECT 1"], "");
        check("/* a; /* b; */ c; */ SELECT 1;", &["/* a; /* b; */ c; */ SELECT 1"], "");
        check("SELECT 1; -- done", &["SELECT 1"], "");
        check("  \n", &[], "");
        check("SELECT 4 / 2 - 1;", &["SELECT 4 / 2 - 1"], "");
    }

    #[test]
    fn what_is_open_waits_for_its_end() {
        for text in ["SELECT 1", "SELECT 'a;", "/* a;", "SELECT 1; SELECT \"x;"] {
            assert!(!is_whole(text), "{text}");
        }
        for text in ["SELECT 1;", "\\d gpu", "", "SELECT 1; -- and that was it", "/* nothing */"] {
            assert!(is_whole(text), "{text}");
        }
    }
}
