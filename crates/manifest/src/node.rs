//! A document as a tree with a byte span at every value: what every outside format becomes before it is decoded.

use model::Text;

/// Byte offsets into the file. Zero for documents that came without a file.
pub type Span = (u32, u32);

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written; integers and floats alike.
    Number(Text),
    String(Text),
    List(Vec<Node>),
    /// In the order written. Keys are unique: the parser reports a repeated one.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Text,
    pub key_span: Span,
    pub value: Node,
}

impl Entry {
    /// What a message points at: a scalar itself, or the key of anything larger.
    pub fn place(&self) -> Span {
        match self.value.value {
            Value::Null | Value::List(_) | Value::Map(_) => self.key_span,
            Value::Bool(_) | Value::Number(_) | Value::String(_) => self.value.span,
        }
    }
}

impl Node {
    pub fn field(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| &*entry.key == key)
    }

    pub fn text(&self) -> Option<&Text> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Value {
    /// What a message calls it.
    pub fn noun(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}
