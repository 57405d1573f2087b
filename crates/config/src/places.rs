//! Where keys stand, for messages.

use toml::de::{DeTable, DeValue};

use crate::shape::quoted;

/// The line of a key, by its full path.
pub(crate) struct Places {
    lines: Vec<(String, usize)>,
}

impl Places {
    pub(crate) fn of(text: &str) -> Self {
        let mut places = Self { lines: Vec::new() };
        if let Ok(table) = DeTable::parse(text) {
            places.note(table.get_ref(), "", text);
        }
        places
    }

    /// The line `key` stands on, or the nearest table around it that stands anywhere.
    pub(crate) fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.exact(key) {
                return Some(line);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    /// The line `key` itself stands on.
    pub(crate) fn exact(&self, key: &str) -> Option<usize> {
        self.lines.iter().find(|(known, _)| known == key).map(|(_, line)| *line)
    }

    fn note(&mut self, table: &DeTable<'_>, above: &str, text: &str) {
        for (key, value) in table {
            let name = quoted(key.get_ref());
            let path = if above.is_empty() { name } else { format!("{above}.{name}") };
            self.lines.push((path.clone(), line_at(text, key.span().start)));
            match value.get_ref() {
                DeValue::Table(table) => self.note(table, &path, text),
                DeValue::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.lines.push((format!("{path}[{index}]"), line_at(text, item.span().start)));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Lines count from one.
pub(crate) fn line_at(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

/// Columns count letters from one.
pub(crate) fn column_at(text: &str, byte: usize) -> usize {
    let before = text.get(..byte).unwrap_or(text);
    1 + before.chars().rev().take_while(|letter| *letter != '\n').count()
}
