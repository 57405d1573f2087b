use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::*;

const FIXTURE: &str = include_str!("../../../fixtures/backstay.toml");

const MINIMAL: &str = "project = 'shop'\n[repository]\nurl = 'repository'\nkey = 'file:key'\n";

fn settings(text: &str, environment: Option<&str>) -> Result<Settings, Error> {
    parse(text, Path::new("/srv/shop/backstay.toml"), environment)
}

fn problems(text: &str) -> Vec<String> {
    match settings(text, None) {
        Err(Error::Invalid { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, not {other:?}"),
    }
}

fn with(more: &str) -> String {
    format!("{MINIMAL}{more}")
}

#[test]
fn a_minimal_file_has_every_default() {
    let settings = settings(MINIMAL, None).unwrap();
    assert_eq!(settings.folder, Path::new("/srv/shop"));
    assert_eq!(settings.environment, backstay_model::Environment::unnamed());
    assert_eq!(settings.repository.place, RepositoryPlace::Folder(PathBuf::from("/srv/shop/repository")));
    assert_eq!(settings.repository.unlock, Unlock::Key("file:key".parse().unwrap()));
    assert_eq!(settings.runtime, Runtime::Nothing);
    assert!(!settings.production && !settings.snapshot.prove);
    assert_eq!((settings.retention.keep_last, settings.retention.min_proven), (5, 1));
    assert_eq!(settings.guard.on_loss, OnLoss::TakeBack);
    assert_eq!(settings.restore.unhealthy, Unhealthy::Revert);
}

#[test]
fn retention_and_caution_follow_the_environment() {
    let text = with(
        "[environment.development]\n[environment.staging]\n[environment.production]\n\
         [environment.live]\nproduction = true\n[environment.calm]\nretention.keep_within = '1d'",
    );
    for (name, days, production) in [
        ("development", 7, false),
        ("staging", 30, false),
        ("production", 90, true),
        ("live", 90, true),
        ("calm", 1, false),
    ] {
        let settings = settings(&text, Some(name)).unwrap();
        assert_eq!(settings.retention.keep_within, Span::from_days(days), "{name}");
        assert_eq!(settings.production, production, "{name}");
        assert_eq!(settings.snapshot.prove, production, "{name}");
        assert_eq!(settings.guard.on_loss, if production { OnLoss::Ask } else { OnLoss::TakeBack }, "{name}");
    }
}

#[test]
fn an_environment_must_be_chosen_where_there_are_any() {
    let text = with("[environment.staging]\n[environment.production]");
    let error = settings(&text, None).unwrap_err();
    assert!(error.is_usage());
    assert_eq!(error.to_string(), "no environment was chosen; there are production, staging");
    let Err(Error::EnvironmentUnknown { suggestion, .. }) = settings(&text, Some("prodction")) else { panic!() };
    assert_eq!(suggestion.as_deref(), Some("production"));
    let error = settings(MINIMAL, Some("staging")).unwrap_err();
    assert_eq!(error.to_string(), "there is no environment `staging`, and none is configured");
    assert!(settings(MINIMAL, Some("default")).is_ok());
}

#[test]
fn unknown_keys_are_refused_with_their_place_and_what_was_meant() {
    let text = with(
        "[retension]\nkeep_last = 5\n[database.shop]\nurl = 'env:X'\nexclude-rows = []\n\
         [environment.production]\nretention.keep_lst = 3\nproject = 'other'\n[healht.api]\n",
    );
    assert_eq!(
        problems(&text),
        [
            "line 5: `retension` is no key that Backstay knows; did you mean `retention`?",
            "line 9: `database.shop.exclude-rows` is no key that Backstay knows; did you mean `exclude_rows`?",
            "line 11: `environment.production.retention.keep_lst` is no key that Backstay knows; \
             did you mean `keep_last`?",
            "line 12: `environment.production.project` is no key that Backstay knows",
            "line 13: `healht` is no key that Backstay knows; did you mean `health`?",
        ]
    );
}

#[test]
fn values_of_the_wrong_kind_are_all_named_at_once() {
    let text = with(
        "[retention]\nkeep_last = -1\nkeep_within = 7\ndaily = '3'\n[compose]\nimages = 'archiv'\nfiles = 'compose.yml'\n\
         [health.api]\nhttp = 'http://h'\nstatus = '200'\ntimeout = 'soon'\n[hooks]\non_result = [1]\n",
    );
    assert_eq!(
        problems(&text),
        [
            "line 6: `retention.keep_last` wants a number from 0 to 4294967295",
            "line 7: `retention.keep_within` wants a text, not a whole number",
            "line 8: `retention.daily` wants a whole number, not a text",
            "line 10: `compose.images` wants one of `auto`, `archive`, `registry`, `none`; did you mean `archive`?",
            "line 11: `compose.files` wants a list, not a text",
            "line 14: `health.api.status` wants a whole number or a list",
            "line 15: `health.api.timeout` wants a length of time such as 30s, 5m, 12h or 7d",
            "line 17: `hooks.on_result[0]` wants a text, not a whole number",
        ]
    );
}

#[test]
fn no_message_repeats_what_may_be_a_secret() {
    let secret = "hunter2";
    for text in [
        format!("[database.shop]\nurl = 'postgres://shop:{secret}@h/shop'"),
        format!("[database.shop]\nservice = 'db'\npassword = '{secret}'\n[compose]"),
        format!("[scratch]\nurl = '{secret}'"),
        format!("[health.a]\nredis = 'redis://:{secret}@h'"),
        format!("[health.a]\nhttp = 'http://u:{secret}@h'"),
        format!("[health.a]\nhttp = 'http://h/?token={secret}'"),
        format!("[health.a]\nhttp = 'http://h'\nheaders = {{ X-Api-Key = '{secret}' }}"),
        format!("[health.a]\noidc = 'https://h'\nclient_id = 'x'\nclient_secret = '{secret}'"),
        format!("[retention]\nkeep_within = '{secret}'"),
        format!("[files]\nmax_bytes = '{secret}'"),
        format!("[compose]\nimages = '{secret}'"),
        format!("[hooks]\non_result = '{secret}'"),
        format!("[snapshot]\nprove = '{secret}'"),
        format!("[broken]\nx = '{secret}"),
        format!("broken = {secret}"),
        format!("[files]\ninclude = ['{secret}' '{secret}']"),
    ] {
        let error = settings(&with(&text), None).expect_err(&text);
        let mut shown = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            shown.push_str(&inner.to_string());
            source = inner.source();
        }
        assert!(!shown.contains(secret), "{shown}");
    }
    for key in ["key", "passphrase"] {
        let text = format!("project = 'shop'\n[repository]\nurl = 'r'\n{key} = '{secret}'");
        let error = settings(&text, None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}

#[test]
fn ways_that_exclude_each_other_are_not_mixed() {
    for (text, wanted) in [
        (
            "[compose]\n[workload]\nstop = ['a']\nstart = ['b']",
            "line 6: `workload` does not go together with `compose`",
        ),
        (
            "[database.a]\nurl = 'env:U'\nuser = 'x'",
            "line 7: `database.a.user` goes with `service` alone, not with `url`",
        ),
        ("[health.a]\ntcp = 'h:1'\nstatus = 200", "line 7: `health.a.status` goes with `http` alone, not with `tcp`"),
        (
            "[environment.x.health.a]\ntcp = 'h:1'\nhttp = 'http://h'",
            "line 6: `environment.x.health.a.tcp` does not go together with `http`",
        ),
    ] {
        assert_eq!(problems(&with(text)), [wanted], "{text}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (text, wanted) in [
        ("[database.a]\n", "line 5: `database.a` says not where it is: give it a `url` or a `service`"),
        (
            "[database.a]\nservice = 'db'",
            "line 6: `database.a.service` wants a `[compose]` project that has the service",
        ),
        (
            "[database.'A b']\nurl = 'env:U'",
            "line 5: `database.\"A b\"` is no name: take lower-case letters, digits, `-` and `_`",
        ),
        ("[migrations]\nlock_timeout = '1s'", "line 5: `migrations` says not how: give it a `folder` or a `command`"),
        ("[migrations]\nfolder = 'm'\ndatabase = 'x'", "line 7: `migrations.database` names no database of this file"),
        ("[health.a]\npostgres = 'x'", "line 6: `health.a.postgres` names no database of this file"),
        ("[health.a]\ntcp = 'nowhere'", "line 6: `health.a.tcp` wants host:port"),
        ("[health.a]\nsuccesses = 0\ntcp = 'h:1'", "line 6: `health.a.successes` is at least 1"),
        (
            "[retention]\nmin_proven = 0",
            "line 6: `retention.min_proven` is at least 1: the last proven snapshot is never removed",
        ),
        ("[workload]\nstop = ['x']", "line 5: `workload.start` is missing: a list of words"),
    ] {
        assert_eq!(problems(&with(text)), [wanted], "{text}");
    }
    assert_eq!(
        problems(""),
        [
            "`project` is missing: name the project",
            "`repository.key` is missing: refer to a key file, or say \"none\" for a repository that is not sealed",
            "`repository.url` is missing: a folder, or s3://bucket/prefix",
        ]
    );
}

#[test]
fn a_bucket_is_read_with_everything_around_it() {
    let place = |more: &str| {
        let text = format!("project = 'shop'\n[repository]\nkey = 'none'\n{more}");
        settings(&text, None).map(|settings| settings.repository.place)
    };
    let plain = place("url = 's3://acme/shop/'").unwrap();
    let RepositoryPlace::S3 { bucket, prefix, path_style: false, encryption: None, .. } = plain else { panic!() };
    assert_eq!((bucket.as_str(), prefix.as_str()), ("acme", "shop"));
    let own = place("url = 's3://acme'\nendpoint = 'http://127.0.0.1:9000'\nencryption = 'aws:kms:alias/x'").unwrap();
    let RepositoryPlace::S3 { prefix, path_style: true, encryption, .. } = own else { panic!() };
    assert_eq!((prefix.as_str(), encryption), ("", Some(BucketEncryption::Kms { key: Some("alias/x".to_owned()) })));
    for more in [
        "url = 's3://'",
        "url = 's3://u:p@h/x'",
        "url = 's3://b/../x'",
        "url = 's3://b'\nencryption = 'rot13'",
        "url = 's3://b'\nendpoint = 'h:1'",
        "url = 'gs://b'",
        "url = '/r'\nregion = 'x'",
    ] {
        assert!(matches!(place(more), Err(Error::Invalid { .. })), "{more}");
    }
}

#[test]
fn a_problem_of_the_overlay_is_placed_in_the_overlay() {
    let text = with("[retention]\nmin_proven = 1\n[environment.staging]\nretention.min_proven = 0");
    let Err(Error::Invalid { problems, .. }) = settings(&text, Some("staging")) else { panic!() };
    assert_eq!((problems[0].key.as_str(), problems[0].line), ("retention.min_proven", Some(8)));
}

#[test]
fn syntax_errors_say_where() {
    let error = settings("project = 'shop'\n[repository\n", None).unwrap_err();
    let Error::Syntax { line, column, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*line, *column), (2, 12));
}

#[test]
fn the_file_is_found_from_a_folder_below() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    // A folder of that name is no configuration.
    fs::create_dir(deep.join(FILE_NAME)).unwrap();
    fs::write(folder.path().join(FILE_NAME), MINIMAL).unwrap();
    let found = find(&deep).unwrap();
    assert_eq!(found, folder.path().join(FILE_NAME));
    assert_eq!(load(&found, None).unwrap().folder, folder.path());
    fs::remove_file(&found).unwrap();
    assert!(matches!(load(&found, None), Err(Error::Unreadable { .. })));
}

#[test]
fn the_annotated_file_is_valid_in_every_environment() {
    let names = environments(FIXTURE, Path::new(FILE_NAME)).unwrap();
    assert_eq!(names.len(), 3);
    for name in names {
        let settings = settings(FIXTURE, Some(name.as_str())).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(matches!(settings.runtime, Runtime::Commands(_)), name.as_str() == "staging");
        assert_eq!(matches!(settings.repository.place, RepositoryPlace::S3 { .. }), name.as_str() == "production");
    }
}

#[test]
fn the_annotated_file_holds_every_key() {
    let schema = schema();
    let mut known = BTreeSet::new();
    leaves(&schema, &schema, "", &mut known);
    let mut used = BTreeSet::new();
    let mut table: toml::Table = FIXTURE.parse().unwrap();
    let environments: toml::Table = table.remove("environment").unwrap().try_into().unwrap();
    keys(&table, "", &mut used);
    for (_, overlay) in environments {
        keys(overlay.as_table().unwrap(), "", &mut used);
    }
    assert_eq!(known.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new(), "missing in the annotated file");
    assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "unknown in the schema");
}

/// The tables whose keys are names that people give.
fn named(above: &str) -> bool {
    matches!(above, "database" | "health")
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

fn leaves(root: &Json, schema: &Json, above: &str, found: &mut BTreeSet<String>) {
    let mut schema = schema;
    if let Some([way, _]) = schema.get("anyOf").and_then(Json::as_array).map(Vec::as_slice) {
        schema = way;
    }
    if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
        schema = &root["$defs"][name.trim_start_matches("#/$defs/")];
    }
    if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
        for (name, inner) in properties.iter().filter(|(name, _)| *name != "environment") {
            leaves(root, inner, &join(above, name), found);
        }
    } else if named(above) {
        leaves(root, &schema["additionalProperties"], &join(above, "*"), found);
    } else {
        found.insert(above.to_owned());
    }
}

fn keys(table: &toml::Table, above: &str, found: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = join(above, if named(above) { "*" } else { name });
        match value {
            toml::Value::Table(inner) if !key.ends_with(".json") && !key.ends_with(".headers") => {
                keys(inner, &key, found);
            }
            _ => {
                found.insert(key);
            }
        }
    }
}
