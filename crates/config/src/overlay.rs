//! Lays an environment over the rest, and knows which keys stand for different ways to the same end.

use toml::{Table, Value};

/// Keys of which one chooses the way, and the keys that go with that way alone.
pub(crate) struct Way {
    pub choice: &'static str,
    pub with: &'static [&'static str],
}

const fn way(choice: &'static str, with: &'static [&'static str]) -> Way {
    Way { choice, with }
}

/// The tables that know several ways; `*` stands for a name that people give.
pub(crate) const CHOICES: [(&[&str], &[Way]); 5] = [
    (&[], &[way("compose", &[]), way("workload", &[])]),
    (&["repository"], &[way("key", &[]), way("passphrase", &[])]),
    (&["database", "*"], &[way("url", &[]), way("service", &["dbname", "user", "password"])]),
    (&["migrations"], &[way("folder", &[]), way("command", &["url_variable"])]),
    (
        &["health", "*"],
        &[
            way("http", &["status", "contains", "json", "headers"]),
            way("tcp", &[]),
            way("postgres", &["query", "max_lag"]),
            way("redis", &["password"]),
            way("command", &[]),
            way("tls", &["valid_for"]),
            way("oidc", &["client_id", "client_secret"]),
            way("container", &["max_restarts"]),
            way("log", &["patterns"]),
        ],
    ),
];

/// What only an S3 repository has.
pub(crate) const S3_KEYS: [&str; 4] = ["endpoint", "region", "path_style", "encryption"];

/// Tables are merged; everything else is replaced. A way chosen in the overlay displaces the others.
pub(crate) fn lay(base: &mut Table, overlay: Table) {
    merge(base, overlay, &mut Vec::new());
}

fn merge(base: &mut Table, overlay: Table, path: &mut Vec<String>) {
    displace(base, &overlay, path);
    for (key, value) in overlay {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                path.push(key);
                // The values an answer must hold belong together, like a list.
                if is_whole(path) {
                    *below = above;
                } else {
                    merge(below, above, path);
                }
                path.pop();
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn is_whole(path: &[String]) -> bool {
    path.len() == 3 && path[0] == "health" && path[2] == "json"
}

fn displace(base: &mut Table, overlay: &Table, path: &[String]) {
    for (_, ways) in CHOICES.iter().filter(|(table, _)| matches(table, path)) {
        let Some(chosen) = ways.iter().find(|way| overlay.contains_key(way.choice)) else { continue };
        for other in ways.iter().filter(|way| way.choice != chosen.choice) {
            base.remove(other.choice);
            for key in other.with {
                base.remove(*key);
            }
        }
    }
    if path == ["repository"]
        && let Some(url) = overlay.get("url").and_then(Value::as_str)
        && !is_s3(url)
    {
        for key in S3_KEYS {
            base.remove(key);
        }
    }
    // Standbys are of one server, however it is reached.
    if matches(&["database", "*"], path) && ["url", "service"].iter().any(|way| overlay.contains_key(*way)) {
        base.remove("standbys");
    }
}

pub(crate) fn is_s3(url: &str) -> bool {
    url.starts_with("s3://")
}

fn matches(pattern: &[&str], path: &[String]) -> bool {
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(wanted, is)| *wanted == "*" || wanted == is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(base: &str, overlay: &str) -> Table {
        let mut base: Table = base.parse().unwrap();
        lay(&mut base, overlay.parse().unwrap());
        base
    }

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn tables_are_merged_and_lists_replaced() {
        let laid = laid(
            "[retention]\nkeep_last = 5\nkeep_labels = ['a', 'b']\n[files]\ninclude = ['x']",
            "retention.keep_labels = ['c']\nretention.daily = 3",
        );
        let wanted = "[retention]\nkeep_last = 5\nkeep_labels = ['c']\ndaily = 3\n[files]\ninclude = ['x']";
        assert_eq!(laid, table(wanted));
    }

    #[test]
    fn a_way_chosen_above_displaces_the_other_with_all_that_goes_with_it() {
        for (base, overlay, wanted) in [
            ("compose.project = 'x'", "workload.stop = ['y']", "workload.stop = ['y']"),
            (
                "[database.shop]\nservice = 'db'\nuser = 'u'\nexclude_rows = ['a.b']",
                "database.shop.url = 'env:X'",
                "[database.shop]\nurl = 'env:X'\nexclude_rows = ['a.b']",
            ),
            (
                "[database.shop]\nurl = 'env:X'\nstandbys = ['env:Y']\nassertions = ['select true']",
                "database.shop.url = 'env:Z'",
                "[database.shop]\nurl = 'env:Z'\nassertions = ['select true']",
            ),
            (
                "[health.api]\nhttp = 'http://h'\nstatus = 200\ntimeout = '1s'",
                "health.api.tcp = 'h:1'",
                "[health.api]\ntcp = 'h:1'\ntimeout = '1s'",
            ),
            (
                "[health.api]\nhttp = 'http://h'\nstatus = 200",
                "health.api.http = 'http://i'",
                "[health.api]\nhttp = 'http://i'\nstatus = 200",
            ),
            (
                "[migrations]\ncommand = ['x']\nurl_variable = 'U'\nlock_timeout = '1s'",
                "migrations.folder = 'm'",
                "[migrations]\nfolder = 'm'\nlock_timeout = '1s'",
            ),
            (
                "[repository]\nurl = 's3://b'\nregion = 'r'\nkey = 'env:K'",
                "repository.url = '/r'\nrepository.passphrase = 'env:P'",
                "[repository]\nurl = '/r'\npassphrase = 'env:P'",
            ),
            (
                "[health.api]\nhttp = 'http://h'\njson = { a = 1, b = 2 }",
                "health.api.json = { c = 3 }",
                "[health.api]\nhttp = 'http://h'\njson = { c = 3 }",
            ),
        ] {
            assert_eq!(laid(base, overlay), table(wanted), "{overlay}");
        }
    }
}
