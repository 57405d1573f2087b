//! Holds a document to the schema, key by key, and says every problem at once: deserializing stops
//! at the first one and repeats values, which may be secret.

use serde_json::Value as Schema;
use toml::{Table, Value};

use crate::key::KeySource;
use crate::probe::HeaderValue;
use crate::{Address, Problem, Reference, Size, Span};

type Check = fn(&str) -> Result<(), &'static str>;

/// The texts that have a form of their own, by the name of their schema.
const FORMS: [(&str, Check); 6] = [
    ("Span", |text| text.parse::<Span>().map(drop)),
    ("Size", |text| text.parse::<Size>().map(drop)),
    ("Reference", |text| text.parse::<Reference>().map(drop)),
    ("Address", |text| text.parse::<Address>().map(drop)),
    ("KeySource", |text| text.parse::<KeySource>().map(drop)),
    ("HeaderValue", |text| text.parse::<HeaderValue>().map(drop)),
];

/// Everything in `document` that the schema does not allow, without places.
pub(crate) fn problems(document: &Table, schema: &Schema) -> Vec<Problem> {
    let mut walk = Walk { root: schema, problems: Vec::new() };
    walk.table(document, schema, "");
    walk.problems
}

struct Walk<'a> {
    root: &'a Schema,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, value: &Value, schema: &'a Schema, key: &str) {
        let mut schema = schema;
        while let Some(reference) = schema.get("$ref").and_then(Schema::as_str) {
            let name = reference.trim_start_matches("#/$defs/");
            if let Some((_, check)) = FORMS.iter().find(|(form, _)| *form == name) {
                return self.form(value, *check, key);
            }
            let Some(target) = self.root.get("$defs").and_then(|definitions| definitions.get(name)) else { return };
            schema = target;
        }
        if let Some(words) = words(schema) {
            return self.word(value, &words, key);
        }
        if let Some(ways) = schema.get("anyOf").and_then(Schema::as_array) {
            return self.any(value, ways, key);
        }
        self.typed(value, schema, key);
    }

    fn form(&mut self, value: &Value, check: Check, key: &str) {
        match value.as_str() {
            Some(text) => {
                if let Err(what) = check(text) {
                    self.problem(key, what.to_owned(), None);
                }
            }
            None => self.problem(key, format!("wants a text, not {}", named(value)), None),
        }
    }

    fn word(&mut self, value: &Value, words: &[&str], key: &str) {
        if value.as_str().is_some_and(|text| words.contains(&text)) {
            return;
        }
        let suggestion = value.as_str().and_then(|text| nearest(text, words.iter().copied()));
        let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        self.problem(key, format!("wants one of {listed}"), suggestion);
    }

    fn any(&mut self, value: &Value, ways: &'a [Schema], key: &str) {
        let ways: Vec<_> = ways.iter().filter(|way| way.get("type").and_then(Schema::as_str) != Some("null")).collect();
        if let [only] = ways.as_slice() {
            return self.value(value, only, key);
        }
        let fits = ways.iter().any(|way| {
            let mut attempt = Walk { root: self.root, problems: Vec::new() };
            attempt.value(value, way, key);
            attempt.problems.is_empty()
        });
        if !fits {
            let wanted: Vec<_> = ways.iter().filter_map(|way| types(way).first().copied()).map(wanted).collect();
            self.problem(key, format!("wants {}", wanted.join(" or ")), None);
        }
    }

    fn typed(&mut self, value: &Value, schema: &'a Schema, key: &str) {
        let types = types(schema);
        let fits = types.is_empty()
            || types.iter().any(|name| match *name {
                "object" => value.is_table(),
                "array" => value.is_array(),
                "string" => value.is_str(),
                "boolean" => value.is_bool(),
                "integer" => value.is_integer(),
                "number" => value.is_integer() || value.is_float(),
                _ => false,
            });
        if !fits {
            let wanted: Vec<_> = types.iter().filter(|name| **name != "null").copied().map(wanted).collect();
            return self.problem(key, format!("wants {}, not {}", wanted.join(" or "), named(value)), None);
        }
        match value {
            Value::Table(table) => self.table(table, schema, key),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.value(item, schema, &format!("{key}[{index}]"));
                    }
                }
            }
            Value::Integer(number) => self.number(*number, schema, key),
            _ => {}
        }
    }

    fn number(&mut self, number: i64, schema: &Schema, key: &str) {
        let most = match schema.get("format").and_then(Schema::as_str) {
            Some("uint16") => i64::from(u16::MAX),
            Some("uint32") => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        let least = schema.get("minimum").and_then(Schema::as_i64).unwrap_or(i64::MIN);
        if number < least || number > most {
            self.problem(key, format!("wants a number from {least} to {most}"), None);
        }
    }

    fn table(&mut self, table: &Table, schema: &'a Schema, key: &str) {
        let properties = schema.get("properties").and_then(Schema::as_object);
        for (name, value) in table {
            let inner = if key.is_empty() { quoted(name) } else { format!("{key}.{}", quoted(name)) };
            if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                self.value(value, schema, &inner);
                continue;
            }
            match schema.get("additionalProperties") {
                Some(Schema::Object(_)) => self.value(value, &schema["additionalProperties"], &inner),
                Some(Schema::Bool(true)) => {}
                _ => {
                    let known = properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str));
                    let suggestion = nearest(name, known);
                    self.problem(&inner, "is no key that Backstay knows".to_owned(), suggestion);
                }
            }
        }
    }

    fn problem(&mut self, key: &str, what: String, suggestion: Option<String>) {
        self.problems.push(Problem { key: key.to_owned(), line: None, what, suggestion });
    }
}

/// The words a schema allows, where it allows only words.
fn words(schema: &Schema) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Schema::as_array) {
        return Some(words.iter().filter_map(Schema::as_str).collect());
    }
    let ways = schema.get("oneOf").and_then(Schema::as_array)?;
    let mut words = Vec::new();
    for way in ways {
        match (way.get("const").and_then(Schema::as_str), way.get("enum").and_then(Schema::as_array)) {
            (Some(word), _) => words.push(word),
            (None, Some(several)) => words.extend(several.iter().filter_map(Schema::as_str)),
            (None, None) => return None,
        }
    }
    Some(words)
}

fn types(schema: &Schema) -> Vec<&str> {
    match schema.get("type") {
        Some(Schema::String(name)) => vec![name],
        Some(Schema::Array(names)) => names.iter().filter_map(Schema::as_str).collect(),
        _ => Vec::new(),
    }
}

fn wanted(name: &str) -> &str {
    match name {
        "object" => "a table",
        "array" => "a list",
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        other => other,
    }
}

fn named(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// A key as it would be written: bare where it can be.
pub(crate) fn quoted(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") }
}

/// The known word that was probably meant, if any is near enough.
pub(crate) fn nearest<'w>(text: &str, known: impl Iterator<Item = &'w str>) -> Option<String> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    known
        .map(|word| (strsim::damerau_levenshtein(&text, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len().min(text.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word.to_owned())
}
