//! A YAML or JSON document as a tree whose nodes know their line and their path, so that an error can name both.

mod json;
mod yaml;

use super::error::{Error, Place, Result};

/// Largest document that is read; contracts are written by people.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// One value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    line: Option<usize>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    /// `plain`: written without quotes, so it may be a number or a truth value.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Parses YAML; JSON is a subset of it, but [`Node::from_json`] reads every JSON file.
    pub(crate) fn from_yaml(file: &str, text: &str) -> Result<Self> {
        check_size(file, text)?;
        yaml::parse(file, text)
    }

    /// Parses JSON; its nodes know no line.
    pub(crate) fn from_json(file: &str, text: &str) -> Result<Self> {
        check_size(file, text)?;
        json::parse(file, text)
    }

    /// The root with its place.
    pub(crate) fn root<'a>(&'a self, file: &'a str) -> At<'a> {
        At { node: self, file, path: String::new() }
    }
}

fn check_size(file: &str, text: &str) -> Result<()> {
    if text.len() <= DOCUMENT_BYTES_MAX {
        return Ok(());
    }
    let problem = format!("the document has {} bytes, more than {DOCUMENT_BYTES_MAX}", text.len());
    let place = Place { file: file.into(), line: None, path: String::new() };
    Err(Error::Document { place, problem, remedy: "split it into one file for each table".into() })
}

/// A node together with where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<'a> {
    node: &'a Node,
    file: &'a str,
    path: String,
}

impl<'a> At<'a> {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where the node stands, with a reason, as text.
    pub(crate) fn place(&self) -> Place {
        Place { file: self.file.into(), line: self.node.line, path: self.path.clone() }
    }

    pub(crate) fn error(&self, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Document { place: self.place(), problem: problem.into(), remedy: remedy.into() }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// The member of a map; `None` if it is absent or null, or if this is no map.
    pub(crate) fn get(&self, key: &str) -> Option<At<'a>> {
        let Value::Map(members) = &self.node.value else { return None };
        let (_, node) = members.iter().find(|(name, _)| name == key)?;
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        let at = At { node, file: self.file, path };
        (!at.is_null()).then_some(at)
    }

    /// The member of a map that has to be there.
    pub(crate) fn require(&self, key: &str, remedy: &str) -> Result<At<'a>> {
        self.get(key).ok_or_else(|| self.error(format!("{key:?} is missing"), remedy))
    }

    /// All members of a map, in the order of the document.
    pub(crate) fn members(&self) -> Result<Vec<(&'a str, At<'a>)>> {
        let Value::Map(members) = &self.node.value else {
            return Err(self.error(format!("a map was expected, not {}", self.what()), "write `key: value` lines"));
        };
        let at = |key: &'a str, node: &'a Node| {
            let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
            (key, At { node, file: self.file, path })
        };
        Ok(members.iter().map(|(key, node)| at(key, node)).collect())
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Result<Vec<At<'a>>> {
        let Value::List(items) = &self.node.value else {
            return Err(self.error(format!("a list was expected, not {}", self.what()), "write `- item` lines"));
        };
        let at = |(index, node)| At { node, file: self.file, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(at).collect())
    }

    /// The items of the list `key`; none if it is absent.
    pub(crate) fn items_of(&self, key: &str) -> Result<Vec<At<'a>>> {
        self.get(key).map_or(Ok(Vec::new()), |at| at.items())
    }

    /// The text of a scalar, quoted or not.
    pub(crate) fn text(&self) -> Result<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Ok(text),
            _ => Err(self.error(format!("a text was expected, not {}", self.what()), "write one value")),
        }
    }

    /// The text of the member `key`; `None` if it is absent.
    pub(crate) fn text_of(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|at| at.text()).transpose()
    }

    /// A finite number.
    pub(crate) fn number(&self) -> Result<f64> {
        let number = match &self.node.value {
            Value::Scalar { text, plain: true } => text.parse::<f64>().ok().filter(|number| number.is_finite()),
            _ => None,
        };
        number
            .ok_or_else(|| self.error(format!("a number was expected, not {}", self.what()), "write it without quotes"))
    }

    /// The number `key`; `None` if it is absent.
    pub(crate) fn number_of(&self, key: &str) -> Result<Option<f64>> {
        self.get(key).map(|at| at.number()).transpose()
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Result<bool> {
        match &self.node.value {
            Value::Scalar { text, plain: true } if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::Scalar { text, plain: true } if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.error(format!("a truth value was expected, not {}", self.what()), "write true or false")),
        }
    }

    /// The truth value `key`; `false` if it is absent.
    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        self.get(key).map_or(Ok(false), |at| at.boolean())
    }

    /// The texts of a list; null items are left out.
    pub(crate) fn texts(&self) -> Result<Vec<String>> {
        self.items()?.iter().filter(|at| !at.is_null()).map(|at| at.text().map(str::to_string)).collect()
    }

    fn what(&self) -> String {
        match &self.node.value {
            Value::Null => "nothing".into(),
            Value::Scalar { text, .. } => format!("{:?}", text.chars().take(40).collect::<String>()),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_line_and_path() {
        let node = Node::from_yaml("c.yaml", "a: 1\nb:\n  - x: true\n  - x: '2'\n").unwrap();
        let root = node.root("c.yaml");
        assert_eq!(root.number_of("a").unwrap(), Some(1.0));
        let second = root.get("b").unwrap().items().unwrap()[1].get("x").unwrap();
        assert_eq!(second.text().unwrap(), "2");
        let error = second.number().unwrap_err().to_string();
        assert_eq!(error, "c.yaml:4 at b[1].x: a number was expected, not \"2\"; write it without quotes");
        assert!(root.get("b").unwrap().items().unwrap()[0].flag("x").unwrap());
    }

    #[test]
    fn json_and_yaml_give_the_same_tree_but_for_lines() {
        let json = r#"{"a": [1, "x", null, true, {"b": 2.5}], "c": "1"}"#;
        let (from_json, from_yaml) = (Node::from_json("f", json).unwrap(), Node::from_yaml("f", json).unwrap());
        let (json, yaml) = (from_json.root("f"), from_yaml.root("f"));
        for root in [json, yaml] {
            let items = root.get("a").unwrap().items().unwrap();
            assert_eq!(items[0].number().unwrap(), 1.0);
            assert_eq!(items[1].text().unwrap(), "x");
            assert!(items[2].is_null());
            assert!(items[3].boolean().unwrap());
            assert_eq!(items[4].number_of("b").unwrap(), Some(2.5));
            assert!(root.get("c").unwrap().number().is_err());
        }
    }

    #[test]
    fn what_cannot_be_read_says_where_and_what_to_do() {
        let check = |text: &str, wanted: &str| {
            let error = Node::from_yaml("c.yaml", text).unwrap_err().to_string();
            assert!(error.starts_with("c.yaml") && error.contains(wanted), "{text:?} gave {error}");
        };
        check("a: [1, 2", "c.yaml:1 at a[1]: unclosed bracket");
        check("a: 1\na: 2\n", "c.yaml:2");
        check("a: &x 1\nb: *x\n", "anchor");
        check("a: 1\n---\nb: 2\n", "more than one document");
        check("", "empty");
        check(&("[".repeat(200) + &"]".repeat(200)), "nested");
        assert!(Node::from_json("c.json", "{\"a\":\n 1,}").unwrap_err().to_string().starts_with("c.json:2"));
        let large = "x".repeat(DOCUMENT_BYTES_MAX + 1);
        assert!(Node::from_yaml("c.yaml", &large).unwrap_err().to_string().contains("split it"));
    }

    proptest::proptest! {
        /// Whatever the bytes, the reader answers; it does not panic, and what it reads is bounded.
        #[test]
        fn any_text_is_read_or_refused(text in "[-a:{}\\[\\],&*!|>'\" \n#?%@0-9\t]{0,80}") {
            if let Ok(node) = Node::from_yaml("f", &text) {
                proptest::prop_assert!(!node.root("f").what().is_empty());
            }
        }
    }
}
