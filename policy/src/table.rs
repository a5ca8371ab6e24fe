//! Tables and values of a TOML document, with their positions.

use crate::error::{Fault, Reason, quote};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table: which one, where, and what is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'t> {
    place: &'static str,
    offset: usize,
    entries: &'t DeTable<'t>,
}

/// A value: of which key, where, and what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'t> {
    key: &'static str,
    offset: usize,
    content: &'t DeValue<'t>,
}

impl<'t> Table<'t> {
    /// The outermost table of a document.
    pub(crate) fn outermost(place: &'static str, document: &'t DeTable<'t>) -> Self {
        Self { place, offset: 0, entries: document }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first key, in the order of the file, that isn't among the known ones is an error.
    pub(crate) fn expect_keys(&self, known: &'static [&'static str]) -> Result<(), Fault> {
        let unknown = self.entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(()),
            Some(key) => Err(Fault {
                offset: key.span().start,
                reason: Reason::UnknownKey { place: self.place, key: key.get_ref().to_string(), known },
            }),
        }
    }

    pub(crate) fn optional(&self, key: &'static str) -> Option<Value<'t>> {
        self.entries.get(key).map(|value| Value::new(key, value))
    }

    pub(crate) fn required(&self, key: &'static str) -> Result<Value<'t>, Fault> {
        let missing = || Fault { offset: self.offset, reason: Reason::MissingKey { place: self.place, key } };
        self.optional(key).ok_or_else(missing)
    }
}

impl<'t> Value<'t> {
    fn new(key: &'static str, value: &'t Spanned<DeValue<'t>>) -> Self {
        Self { key, offset: value.span().start, content: value.get_ref() }
    }

    pub(crate) fn fault(&self, reason: Reason) -> Fault {
        Fault { offset: self.offset, reason }
    }

    pub(crate) fn key(&self) -> &'static str {
        self.key
    }

    pub(crate) fn string(&self, expected: &'static str) -> Result<&'t str, Fault> {
        self.content.as_str().ok_or_else(|| self.wrong(expected))
    }

    /// An integer; `None` if it is out of range.
    pub(crate) fn integer(&self, expected: &'static str) -> Result<Option<u32>, Fault> {
        let integer = self.content.as_integer().ok_or_else(|| self.wrong(expected))?;
        Ok(u32::from_str_radix(integer.as_str(), integer.radix()).ok())
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.content.as_integer().is_some()
    }

    pub(crate) fn boolean(&self, expected: &'static str) -> Result<bool, Fault> {
        self.content.as_bool().ok_or_else(|| self.wrong(expected))
    }

    pub(crate) fn table(&self, place: &'static str, expected: &'static str) -> Result<Table<'t>, Fault> {
        let entries = self.content.as_table().ok_or_else(|| self.wrong(expected))?;
        Ok(Table { place, offset: self.offset, entries })
    }

    /// The elements of a list that isn't empty.
    pub(crate) fn elements(&self, expected: &'static str) -> Result<Vec<Self>, Fault> {
        let elements = self.content.as_array().ok_or_else(|| self.wrong(expected))?;
        if elements.is_empty() {
            return Err(self.fault(Reason::EmptyList { key: self.key }));
        }
        Ok(elements.iter().map(|element| Self::new(self.key, element)).collect())
    }

    /// The elements of a list that isn't empty, or this value alone if it is no list.
    pub(crate) fn one_or_more(&self) -> Result<Vec<Self>, Fault> {
        if self.content.is_array() { self.elements("a list") } else { Ok(vec![*self]) }
    }

    /// The fault that this value isn't what it must be.
    pub(crate) fn wrong(&self, expected: &'static str) -> Fault {
        self.fault(Reason::WrongValue { key: self.key, expected, found: self.shown() })
    }

    /// What it is, in a few words.
    pub(crate) fn shown(&self) -> String {
        match self.content {
            DeValue::String(text) => format!("the string {}", quote(text)),
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Float(_) => "a fraction".to_owned(),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Datetime(_) => "a date or time".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }
}
