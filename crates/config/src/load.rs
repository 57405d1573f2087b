use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use backstay_model::Environment;
use serde::Deserialize;
use toml::{Table, Value};

use crate::overlay::{CHOICES, Way, lay};
use crate::places::{Places, column_at, line_at};
use crate::shape::{nearest, quoted};
use crate::tables::Document;
use crate::validate::{Origin, Problems};
use crate::{Error, Problem, Settings, schema, shape, validate};

/// The name of the file that makes a folder a project.
pub const FILE_NAME: &str = "backstay.toml";

const FILE_BYTES_MAX: u64 = 1 << 20;

/// The backstay.toml of the folder `from`, or of the nearest folder above it that has one.
pub fn find(from: &Path) -> Result<PathBuf, Error> {
    from.ancestors()
        .map(|folder| folder.join(FILE_NAME))
        .find(|file| file.is_file())
        .ok_or_else(|| Error::NotFound { from: from.to_owned() })
}

/// Reads the settings of one environment from a file.
pub fn load(file: &Path, environment: Option<&str>) -> Result<Settings, Error> {
    let unreadable = |source| Error::Unreadable { path: file.to_owned(), source };
    let length = fs::metadata(file).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: file.to_owned() });
    }
    // Made absolute here, because everything that is named in the file begins in its folder.
    let absolute = std::path::absolute(file).map_err(unreadable)?;
    let text = fs::read_to_string(file).map_err(unreadable)?;
    parse(&text, &absolute, environment)
}

/// The settings that `text` gives for one environment. `file` is where it stands; nothing is read.
pub fn parse(text: &str, file: &Path, environment: Option<&str>) -> Result<Settings, Error> {
    let mut table = table(text, file)?;
    let places = Places::of(text);
    let invalid = |problems| Err(Error::Invalid { path: file.to_owned(), problems });

    let mut problems = shape::problems(&table, &schema());
    let overlays = overlays(&mut table);
    ways(&table, "", &mut problems);
    for (name, overlay) in &overlays {
        let key = format!("environment.{}", quoted(name));
        ways(overlay, &key, &mut problems);
        if name.parse::<Environment>().is_err() {
            let what = "is no name: take lower-case letters, digits, `-` and `_`";
            problems.push(Problem { key, line: None, what: what.to_owned(), suggestion: None });
        }
    }
    if !problems.is_empty() {
        return invalid(placed(problems, &places, None));
    }

    let environments: Vec<Environment> = overlays.keys().filter_map(|name| name.parse().ok()).collect();
    let chosen = choose(environment, &environments)?;
    if let Some(overlay) = overlays.get(chosen.as_str()) {
        lay(&mut table, overlay.clone());
    }
    let mut merged = Vec::new();
    ways(&table, "", &mut merged);
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let overlaid = format!("environment.{}", quoted(chosen.as_str()));
    let Ok(document) = Document::deserialize(Value::Table(table)) else {
        // The schema and the types say the same, and a test holds them to it. The error is not
        // shown because it repeats values.
        let what = "has a value that is not what its key wants".to_owned();
        return invalid(vec![Problem { key: FILE_NAME.to_owned(), line: None, what, suggestion: None }]);
    };
    let mut found = Problems::default();
    let origin = Origin { file: file.to_owned(), folder, environment: chosen, environments };
    match validate::settings(document, origin, &mut found) {
        Some(settings) if merged.is_empty() => Ok(settings),
        _ => {
            merged.extend(found.into_inner());
            invalid(placed(merged, &places, Some(&overlaid)))
        }
    }
}

/// The names of the environments in a file, whether or not the rest of it is valid.
pub fn environments(text: &str, file: &Path) -> Result<Vec<Environment>, Error> {
    let mut table = table(text, file)?;
    Ok(overlays(&mut table).keys().filter_map(|name| name.parse().ok()).collect())
}

fn table(text: &str, file: &Path) -> Result<Table, Error> {
    text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        Error::Syntax {
            path: file.to_owned(),
            line: line_at(text, at),
            column: column_at(text, at),
            // The message alone: the error's own text shows the line, which may hold a secret.
            what: error.message().to_owned(),
        }
    })
}

fn overlays(table: &mut Table) -> BTreeMap<String, Table> {
    let Some(Value::Table(overlays)) = table.remove("environment") else { return BTreeMap::new() };
    overlays.into_iter().filter_map(|(name, overlay)| Some((name, overlay.try_into().ok()?))).collect()
}

fn choose(wanted: Option<&str>, names: &[Environment]) -> Result<Environment, Error> {
    let Some(wanted) = wanted else {
        return match names {
            [] => Ok(Environment::unnamed()),
            _ => Err(Error::EnvironmentNeeded { names: names.to_vec() }),
        };
    };
    if names.is_empty() && wanted == Environment::unnamed().as_str() {
        return Ok(Environment::unnamed());
    }
    names.iter().find(|name| name.as_str() == wanted).cloned().ok_or_else(|| Error::EnvironmentUnknown {
        name: wanted.to_owned(),
        names: names.to_vec(),
        suggestion: nearest(wanted, names.iter().map(Environment::as_str)),
    })
}

/// Finds tables where two ways are chosen, or where something goes with a way that is not the chosen
/// one.
fn ways(table: &Table, above: &str, problems: &mut Vec<Problem>) {
    for (pattern, ways) in CHOICES {
        let mut places = vec![(above.to_owned(), table)];
        for step in pattern {
            places = places.iter().flat_map(|(key, table)| inner(key, table, step)).collect();
        }
        for (key, table) in places {
            one_way(&key, table, ways, problems);
        }
    }
}

fn inner<'t>(key: &str, table: &'t Table, step: &str) -> Vec<(String, &'t Table)> {
    let named = table.iter().filter(|(name, _)| step == "*" || name.as_str() == step);
    named.filter_map(|(name, value)| Some((join(key, name), value.as_table()?))).collect()
}

fn one_way(key: &str, table: &Table, ways: &[Way], problems: &mut Vec<Problem>) {
    let mut chosen = ways.iter().filter(|way| table.contains_key(way.choice));
    let Some(first) = chosen.next() else { return };
    let mut add = |name: &str, what: String| {
        problems.push(Problem { key: join(key, name), line: None, what, suggestion: None });
    };
    for other in chosen {
        add(other.choice, format!("does not go together with `{}`", first.choice));
    }
    for other in ways.iter().filter(|way| !table.contains_key(way.choice)) {
        for name in other.with.iter().filter(|name| table.contains_key(**name)) {
            add(name, format!("goes with `{}` alone, not with `{}`", other.choice, first.choice));
        }
    }
}

fn join(key: &str, name: &str) -> String {
    if key.is_empty() { quoted(name) } else { format!("{key}.{}", quoted(name)) }
}

/// Gives problems their lines: from the environment over the rest, where the key stands there.
fn placed(problems: Vec<Problem>, places: &Places, overlaid: Option<&str>) -> Vec<Problem> {
    let line = |key: &str| {
        let exact = overlaid.and_then(|overlaid| places.exact(&format!("{overlaid}.{key}")));
        exact.or_else(|| places.line(key))
    };
    let mut placed: Vec<_> =
        problems.into_iter().map(|problem| Problem { line: line(&problem.key), ..problem }).collect();
    placed.sort_by_key(|problem| problem.line);
    placed
}
