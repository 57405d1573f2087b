//! The backstay.toml that `init` writes: what was found, explained, and the rest to be looked up.

use std::fmt::Write;

use backstay_model::Project;

/// What `init` saw of a project.
#[derive(Debug, Clone)]
pub struct Found {
    pub project: Project,
    /// A folder, or `s3://bucket/prefix`.
    pub repository: String,
    /// A reference, or `none`.
    pub key: String,
    pub databases: Vec<FoundDatabase>,
    pub compose: Option<FoundCompose>,
    /// Patterns of configuration files.
    pub files: Vec<String>,
    pub migrations: Option<FoundMigrations>,
    /// A name and an address that answers.
    pub health: Vec<(String, String)>,
    /// Environments to begin with. Empty: the project has one and does not name it.
    pub environments: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct FoundDatabase {
    pub name: String,
    pub source: FoundSource,
}

#[derive(Debug, Clone)]
pub enum FoundSource {
    /// A reference, or an address without a password.
    Url(String),
    /// A service of the Compose project.
    Service(String),
}

#[derive(Debug, Clone)]
pub struct FoundCompose {
    pub files: Vec<String>,
    pub project: Option<String>,
}

#[derive(Debug, Clone)]
pub enum FoundMigrations {
    Folder(String),
    Command(Vec<String>),
}

impl Found {
    /// Nothing but a name and a repository.
    pub fn new(project: Project, repository: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            project,
            repository: repository.into(),
            key: key.into(),
            databases: Vec::new(),
            compose: None,
            files: Vec::new(),
            migrations: None,
            health: Vec::new(),
            environments: Vec::new(),
        }
    }
}

/// An annotated backstay.toml. What was not found stands in it as a comment to be filled in.
pub fn template(found: &Found) -> String {
    let mut sections = vec![
        head(found),
        databases(&found.databases),
        compose(found.compose.as_ref()),
        files(&found.files),
        migrations(found),
        retention(),
        health(&found.health),
    ];
    sections.extend(found.environments.iter().map(|name| environment(name)));
    sections.join("\n")
}

fn head(found: &Found) -> String {
    format!(
        "# What belongs to a release of this project, and where its snapshots live. Every key there is:\n\
         # docs/reference/configuration.md. Secrets are references, never values: env:NAME, file:PATH, or\n\
         # file:PATH#NAME for one entry of an env file. Paths begin in this file's folder.\n\
         project = {}\n\n\
         [repository]\n\
         # A folder, or s3://bucket/prefix. Best on another disk than the database, or another machine.\n\
         url = {}\n\
         # Without this key no snapshot can be read: keep a copy, and the recovery phrase, elsewhere.\n\
         key = {}\n",
        text(found.project.as_str()),
        text(&found.repository),
        text(&found.key),
    )
}

fn databases(found: &[FoundDatabase]) -> String {
    if found.is_empty() {
        return "# [database.app]\n\
                # url = \"file:.env#DATABASE_URL\"   # or service = \"db\": a service of the Compose project\n"
            .to_owned();
    }
    let tables = found.iter().map(|database| {
        let source = match &database.source {
            FoundSource::Url(url) => format!("url = {}\n", text(url)),
            FoundSource::Service(service) => {
                format!("# Connected to through the Compose project.\nservice = {}\n", text(service))
            }
        };
        let rows = "# exclude_rows = [\"public.sessions\"]   # tables whose rows are not worth keeping\n";
        format!("[database.{}]\n{source}{rows}", crate::shape::quoted(&database.name))
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn compose(found: Option<&FoundCompose>) -> String {
    let Some(compose) = found else {
        return "# What runs on top and must be quiet while the database is switched: a Compose project ([compose]\n\
                # with files = [\"compose.yml\"]), or anything that is reached by three commands.\n\
                # [workload]\n\
                # stop = [\"systemctl\", \"stop\", \"app\"]\n\
                # start = [\"systemctl\", \"start\", \"app\"]\n\
                # ready = [\"systemctl\", \"is-active\", \"app\"]\n"
            .to_owned();
    };
    let mut table = format!("[compose]\nfiles = {}\n", list(&compose.files));
    if let Some(project) = &compose.project {
        let _ = writeln!(table, "project = {}", text(project));
    }
    table
}

fn files(found: &[String]) -> String {
    let remark =
        "# Configuration that goes back with the release. Compose files and what they include come by themselves.\n";
    match found {
        [] => format!("{remark}# [files]\n# include = [\".env\", \"config/**\"]\n"),
        patterns => format!("{remark}[files]\ninclude = {}\n", list(patterns)),
    }
}

fn migrations(found: &Found) -> String {
    let mut table = match &found.migrations {
        None => {
            return "# [migrations]\n\
                    # folder = \"migrations\"   # SQL files as sqlx writes them; or command = [\"alembic\", \"upgrade\", \"head\"]\n"
                .to_owned();
        }
        Some(FoundMigrations::Folder(folder)) => format!("[migrations]\nfolder = {}\n", text(folder)),
        Some(FoundMigrations::Command(words)) => format!(
            "[migrations]\ncommand = {}\n# The command learns from this variable which database to work on.\n\
             url_variable = \"DATABASE_URL\"\n",
            list(words)
        ),
    };
    if let [first, _, ..] = found.databases.as_slice() {
        let _ = writeln!(table, "# Which of the databases is migrated.\ndatabase = {}", text(&first.name));
    }
    table
}

fn retention() -> String {
    "[retention]\n\
     # The newest so many stay whatever their age, and never fewer proven ones than this. All that are\n\
     # younger than keep_within stay: 7d in development, 90d in production, 30d otherwise.\n\
     keep_last = 5\n\
     min_proven = 1\n\
     # keep_within = \"30d\"\n"
        .to_owned()
}

fn health(found: &[(String, String)]) -> String {
    if found.is_empty() {
        return "# What must answer for the release to count as healthy.\n\
                # [health.app]\n\
                # http = \"http://127.0.0.1:8000/health\"\n"
            .to_owned();
    }
    let tables =
        found.iter().map(|(name, url)| format!("[health.{}]\nhttp = {}\n", crate::shape::quoted(name), text(url)));
    tables.collect::<Vec<_>>().join("\n")
}

fn environment(name: &str) -> String {
    let production = if name == "production" {
        "production = true   # restores ask first, snapshots are proven, guard is careful\n"
    } else {
        "# Lays over the above what differs here.\n"
    };
    format!("[environment.{}]\n{production}", crate::shape::quoted(name))
}

fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    toml::Value::Array(texts.iter().cloned().map(toml::Value::String).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{DatabaseSource, Runtime, parse};

    fn bare() -> Found {
        Found::new("shop".parse().unwrap(), "/var/lib/backstay/shop/repository", "file:/var/lib/backstay/shop/key")
    }

    #[test]
    fn what_init_writes_is_valid_even_where_nothing_was_found() {
        let settings = parse(&template(&bare()), Path::new("/srv/backstay.toml"), None).unwrap();
        assert_eq!(settings.project.as_str(), "shop");
        assert_eq!(settings.runtime, Runtime::Nothing);
    }

    #[test]
    fn what_was_found_stands_in_the_file_whatever_it_is_called() {
        let found = Found {
            databases: vec![
                FoundDatabase { name: "shop".to_owned(), source: FoundSource::Service("db".to_owned()) },
                FoundDatabase { name: "other".to_owned(), source: FoundSource::Url("file:a \"b\".env#U".to_owned()) },
            ],
            compose: Some(FoundCompose { files: vec!["odd \\ name.yml".to_owned()], project: Some("shop".to_owned()) }),
            files: vec![".env".to_owned()],
            migrations: Some(FoundMigrations::Folder("db/migrations".to_owned())),
            health: vec![("api".to_owned(), "http://127.0.0.1/".to_owned())],
            environments: vec!["staging".to_owned(), "production".to_owned()],
            ..bare()
        };
        let settings = parse(&template(&found), Path::new("/srv/backstay.toml"), Some("production")).unwrap();
        assert!(settings.production);
        let Runtime::Compose(compose) = settings.runtime else { panic!() };
        assert_eq!(compose.files, [Path::new("odd \\ name.yml")]);
        let sources: Vec<_> = settings.databases.values().map(|database| &database.source).collect();
        let [DatabaseSource::Url(url), DatabaseSource::Service { service, .. }] = sources.as_slice() else { panic!() };
        assert_eq!((url, service.as_str()), (&"file:a \"b\".env#U".parse().unwrap(), "db"));
    }
}
