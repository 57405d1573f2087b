use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value};

/// What is promised to scripts, as it is checked in.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/results.schema.json");
    let text = fs::read_to_string(&file).expect("the schema of results is read");
    serde_json::from_str(&text).expect("the schema of results is JSON")
});

/// Where a result is not what the schema promises: each place with what is wrong there. A field that the schema does
/// not describe is wrong too, although readers must bear with new ones.
pub fn broken_promises(result: &Value) -> Vec<String> {
    let command = result["command"].as_str().unwrap_or_default();
    let mut wrong = Vec::new();
    match SCHEMA["$defs"].get(command) {
        Some(schema) => compare(schema, result, command, &mut wrong),
        None => wrong.push(format!("`{command}` is not described in docs/reference/results.schema.json")),
    }
    wrong
}

fn compare(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    narrow(schema, value, at, wrong);
    if let Value::Object(fields) = value {
        let mut known = BTreeSet::new();
        if describes(schema, &mut known) {
            let unknown = fields.keys().filter(|name| !known.contains(*name));
            wrong.extend(unknown.map(|name| format!("{at}.{name} is not described")));
        }
    }
}

/// What the schema says, without asking whether it says all.
fn narrow(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let Value::Object(rules) = schema else { return };
    for (rule, says) in rules {
        let fine = match rule.as_str() {
            "$ref" => {
                compare_into(says, value, at, wrong);
                true
            }
            "allOf" => {
                list(says).iter().for_each(|all| narrow(all, value, at, wrong));
                true
            }
            "anyOf" => list(says).iter().any(|one| fits(one, value)),
            "if" => {
                let then = fits_so_far(says, value).then_some(&schema["then"]);
                then.into_iter().for_each(|then| narrow(then, value, at, wrong));
                true
            }
            "type" => types(says).any(|kind| is(kind, value)),
            "enum" => list(says).contains(value),
            "const" => says == value,
            "minimum" => value.as_i64().zip(says.as_i64()).is_none_or(|(value, least)| value >= least),
            "pattern" => value.as_str().is_none_or(|text| matches_pattern(says.as_str().unwrap_or_default(), text)),
            "required" => {
                let missing = list(says).iter().filter_map(Value::as_str).filter(|name| value.get(name).is_none());
                wrong.extend(missing.map(|name| format!("{at}.{name} is missing")));
                true
            }
            "properties" | "additionalProperties" => {
                inside(rules, value, at, wrong);
                true
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.for_each(|(place, item)| compare(says, item, &format!("{at}[{place}]"), wrong));
                true
            }
            "description" | "title" | "format" | "then" => true,
            other => panic!("the test of contracts does not know `{other}` yet"),
        };
        if !fine {
            wrong.push(format!("{at}: {value} is not as `{rule}` {says} says"));
        }
    }
}

/// The fields of an object, each by its own rule.
fn inside(rules: &Map<String, Value>, value: &Value, at: &str, wrong: &mut Vec<String>) {
    for (name, field) in value.as_object().into_iter().flatten() {
        let rule = rules.get("properties").and_then(|all| all.get(name)).or(rules.get("additionalProperties"));
        rule.into_iter().for_each(|rule| compare(rule, field, &format!("{at}.{name}"), wrong));
    }
}

fn compare_into(reference: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    narrow(definition(reference), value, at, wrong);
}

fn definition(reference: &Value) -> &'static Value {
    let name = reference.as_str().unwrap_or_default().trim_start_matches("#/$defs/").replace("%20", " ");
    SCHEMA["$defs"].get(&name).unwrap_or_else(|| panic!("the schema refers to `{name}`, which it does not define"))
}

fn fits(schema: &Value, value: &Value) -> bool {
    let mut wrong = Vec::new();
    compare(schema, value, "", &mut wrong);
    wrong.is_empty()
}

fn fits_so_far(schema: &Value, value: &Value) -> bool {
    let mut wrong = Vec::new();
    narrow(schema, value, "", &mut wrong);
    wrong.is_empty()
}

/// Collects the names of fields. Says whether the schema describes an object's fields at all: else it is open.
fn describes(schema: &Value, known: &mut BTreeSet<String>) -> bool {
    let own = schema.get("properties").and_then(Value::as_object);
    known.extend(own.into_iter().flat_map(Map::keys).cloned());
    let mut says = own.is_some();
    for inner in list(&schema["allOf"]) {
        says |= describes(inner, known);
    }
    if schema.get("$ref").is_some() {
        says |= describes(definition(&schema["$ref"]), known);
    }
    says && schema.get("additionalProperties").is_none()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn types(says: &Value) -> impl Iterator<Item = &str> {
    says.as_str().into_iter().chain(list(says).iter().filter_map(Value::as_str))
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the test of contracts does not know the type `{other}` yet"),
    }
}

/// Patterns of ids: `^[0-9]{8}_[0-9a-f]{4}$` and the like.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    let mut pattern = pattern.trim_start_matches('^').trim_end_matches('$');
    while let Some(first) = pattern.chars().next() {
        let (allowed, count, after): (&str, usize, &str) = if first == '[' {
            let (class, more) = pattern[1..].split_once("]{").expect("a class and its number");
            let (count, after) = more.split_once('}').expect("a number ends");
            (class, count.parse().expect("a number"), after)
        } else {
            (&pattern[..first.len_utf8()], 1, &pattern[first.len_utf8()..])
        };
        for _ in 0..count {
            let Some(letter) = rest.chars().next() else { return false };
            let fine = match allowed {
                "0-9" => letter.is_ascii_digit(),
                "0-9a-f" => letter.is_ascii_digit() || ('a'..='f').contains(&letter),
                one => one.starts_with(letter),
            };
            if !fine {
                return false;
            }
            rest = &rest[letter.len_utf8()..];
        }
        pattern = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        json!({"command": "prove", "outcome": "done", "exit": 0, "changed": true, "run": "20251022_153000_4f2a",
            "snapshot": {"id": "20251022_153000"}, "error": null, "proven": ["20251022_153000"]})
    }

    #[test]
    fn a_result_as_promised_breaks_nothing() {
        assert_eq!(broken_promises(&result()), Vec::<String>::new());
    }

    #[test]
    fn every_way_to_break_a_promise_is_seen() {
        for (field, value) in [
            ("run", json!("20251022_153000_4F2A")),
            ("run", json!("20251022_153000")),
            ("exit", json!(4)),
            ("changed", json!("yes")),
            ("outcome", json!("fine")),
            ("snapshot", json!({"id": "yesterday"})),
            ("snapshot", json!({"id": "20251022_153000", "more": 1})),
            ("error", json!({"what": "it", "hint": ""})),
            ("proven", json!([1])),
            ("surprise", json!(1)),
            ("command", json!("prophesy")),
        ] {
            let mut changed = result();
            changed[field] = value;
            assert_ne!(broken_promises(&changed), Vec::<String>::new(), "{changed}");
        }
        let mut missing = result();
        missing.as_object_mut().unwrap().remove("proven");
        assert_ne!(broken_promises(&missing), Vec::<String>::new());
        // A run that failed need not have what it failed to make.
        missing["outcome"] = json!("failed");
        assert_eq!(broken_promises(&missing), Vec::<String>::new());
    }
}
