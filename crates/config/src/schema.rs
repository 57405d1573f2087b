//! The JSON schema of backstay.toml: what editors complete from, and what a document is held to.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::tables::Document;

/// The schema of a whole backstay.toml, environments included.
pub fn schema() -> Value {
    let generated = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Document>();
    let mut root = generated.to_value();
    let overlay = overlay_of(&root);
    insert(&mut root, "$defs", "Overlay", overlay);
    let environments = json!({
        "type": "object",
        "description": "Environments by name: each lays any of the tables above over the rest. Tables are merged, \
                        lists and values replaced. Where there are any, one must be chosen with `--env` or \
                        `BACKSTAY_ENV`.",
        "additionalProperties": { "$ref": "#/$defs/Overlay" },
    });
    insert(&mut root, "properties", "environment", environments);
    if let Value::Object(root) = &mut root {
        root.insert("title".to_owned(), json!("backstay.toml"));
        root.insert("description".to_owned(), json!("The configuration of Backstay for one project."));
    }
    root
}

/// What may stand in an environment: all that may stand on top, but the project's name.
fn overlay_of(root: &Value) -> Value {
    let mut properties = root.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    properties.remove("project");
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn insert(root: &mut Value, table: &str, name: &str, value: Value) {
    if let Value::Object(root) = root
        && let Value::Object(table) = root.entry(table).or_insert_with(|| Value::Object(Map::new()))
    {
        table.insert(name.to_owned(), value);
    }
}
