//! The schema and the reference page that are checked in are made of the types, and compared here.
//! `BACKSTAY_BLESS=1` writes them anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::schema;

#[test]
fn the_schema_that_is_checked_in_is_the_one_of_the_types() {
    let wanted = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    let there = checked_in("docs/reference/backstay.schema.json", &wanted);
    // Compared as values: the order of keys depends on what else is built with serde_json.
    assert_eq!(serde_json::from_str::<Json>(&there).unwrap(), schema(), "write it anew with BACKSTAY_BLESS=1");
}

#[test]
fn the_reference_page_says_what_the_types_say() {
    let wanted = page();
    let there = checked_in("docs/reference/configuration.md", &wanted);
    assert!(there == wanted, "docs/reference/configuration.md is to be written anew with BACKSTAY_BLESS=1");
}

fn checked_in(path: &str, wanted: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("BACKSTAY_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, wanted).unwrap();
    }
    fs::read_to_string(&file).unwrap_or_else(|_| panic!("{path} is not there; BACKSTAY_BLESS=1 writes it"))
}

const HEAD: &str = "# backstay.toml

Every key there is. This page is made of the same types that read the file.

`backstay init` writes a first one, and [fixtures/backstay.toml](../../fixtures/backstay.toml) shows every key in
use. Editors complete from [backstay.schema.json](backstay.schema.json).

The file is found from any folder below it, or named by `--config`. Relative paths begin in its folder. A key that
is not known is an error, and so is a table where two ways to the same end are chosen.

**Secrets** are references, never values: `env:NAME` is a variable of the environment, `file:PATH` a whole file
without the line end it closes with, `file:PATH#NAME` one entry of an env file. An env file may hold comments,
`export`, single quotes (taken as they stand), double quotes (with `\\n`, `\\r`, `\\t`, `\\\"`, `\\\\`, `\\$`, over several
lines) and `${NAME}` or `${NAME:-otherwise}` outside single quotes; a bare `$` stays as it is.

**Environments**, `[environment.<name>]`, lay any table over the rest: tables are merged, lists and values replaced.
A way that is chosen there displaces the other: `workload` the `compose` beneath it, `url` the `service`, `tcp` the
`http` and all that goes with it. Where there are environments, `--env` or `BACKSTAY_ENV` must name one.
";

fn page() -> String {
    let root = schema();
    let mut page = HEAD.to_owned();
    let (tables, values): (Vec<_>, Vec<_>) =
        properties(&root).into_iter().partition(|(_, schema)| !properties(inner(&root, schema)).is_empty());
    page.push_str("\n## At the top\n\n");
    rows(&mut page, &root, &values);
    for (name, schema) in tables {
        let named = schema.get("additionalProperties").is_some_and(Json::is_object);
        let title = if named { format!("{name}.<name>") } else { name.to_owned() };
        let _ = write!(page, "\n## `[{title}]`\n\n{}\n\n", described(schema));
        if name == "environment" {
            page.push_str("It holds `production` and every table above.\n");
        } else {
            rows(&mut page, &root, &properties(inner(&root, schema)));
        }
    }
    page
}

fn rows(page: &mut String, root: &Json, keys: &[(&str, &Json)]) {
    page.push_str("| key | is | meaning |\n| --- | --- | --- |\n");
    for (name, schema) in keys {
        let target = target(root, schema);
        let mut meaning = described(schema);
        for (word, says) in words(target) {
            let _ = write!(meaning, "<br>`{word}`: {says}");
        }
        match schema.get("default") {
            Some(Json::Null) | None => {}
            Some(Json::Array(items)) if items.is_empty() => {}
            Some(default) => {
                let _ = write!(meaning, " Default `{default}`.");
            }
        }
        let _ = writeln!(page, "| `{name}` | {} | {meaning} |", kind(root, schema));
    }
}

fn properties(schema: &Json) -> Vec<(&str, &Json)> {
    let properties = schema.get("properties").and_then(Json::as_object);
    let mut properties: Vec<_> =
        properties.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect();
    properties.sort_by_key(|(name, _)| *name);
    properties
}

/// The table a key leads to, past the name that people give.
fn inner<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    target(root, schema.get("additionalProperties").filter(|inner| inner.is_object()).unwrap_or(schema))
}

fn target<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let schema = match schema.get("anyOf").and_then(Json::as_array).map(Vec::as_slice) {
        Some([way, null]) if null["type"] == "null" => way,
        _ => schema,
    };
    match schema.get("$ref").and_then(Json::as_str) {
        Some(name) => &root["$defs"][name.trim_start_matches("#/$defs/")],
        None => schema,
    }
}

fn described(schema: &Json) -> String {
    schema.get("description").and_then(Json::as_str).unwrap_or_default().replace('\n', " ")
}

fn words(schema: &Json) -> Vec<(&str, String)> {
    let ways = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten();
    ways.filter_map(|way| Some((way.get("const")?.as_str()?, described(way)))).collect()
}

fn kind(root: &Json, schema: &Json) -> String {
    let schema = target(root, schema);
    if let Some(title) = schema.get("title").and_then(Json::as_str) {
        return title.to_owned();
    }
    if !words(schema).is_empty() {
        return "word".to_owned();
    }
    if let Some(ways) = schema.get("anyOf").and_then(Json::as_array) {
        return ways.iter().map(|way| kind(root, way)).collect::<Vec<_>>().join(" or ");
    }
    let name = match &schema["type"] {
        Json::Array(names) => names[0].as_str(),
        name => name.as_str(),
    };
    match name {
        Some("string") => "text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("array") => format!("list of {}s", kind(root, &schema["items"])),
        Some("object") => "table".to_owned(),
        _ => "value".to_owned(),
    }
}
