//! Where a database is and how to get in: from a URL or a list of keywords, the libpq variables and
//! home folder that the caller hands over, a service file and a password file.

mod keywords;
mod passfile;
mod servicefile;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use zeroize::Zeroizing;

use crate::Error;

pub(crate) type Keywords = BTreeMap<String, Zeroizing<String>>;

/// What libpq would look at outside the connection string. The caller reads it; this crate never does.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The variables of the environment whose names begin with `PG`.
    pub variables: BTreeMap<String, String>,
    /// Where `.pgpass` and `.pg_service.conf` would lie.
    pub home: Option<PathBuf>,
    /// The name of the user who runs this, which libpq takes for want of another.
    pub login: Option<String>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Surroundings").field("variables", &names).field("home", &self.home).finish_non_exhaustive()
    }
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Name(String),
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

/// Everything needed to connect to one database. `Debug` and `Display` never show the password.
#[derive(Clone)]
pub struct Settings {
    host: Host,
    port: u16,
    user: String,
    password: Option<Zeroizing<String>>,
    database: String,
    ssl_mode: String,
    ssl_root_cert: Option<PathBuf>,
    ssl_cert: Option<PathBuf>,
    ssl_key: Option<PathBuf>,
    connect_timeout: Duration,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

impl Settings {
    /// Reads a URL (`postgres://…`, also with a driver's name as in `postgresql+asyncpg://…`) or a list of
    /// `keyword=value`; an empty text leaves everything to the surroundings.
    pub fn parse(text: &str, surroundings: &Surroundings) -> Result<Self, Error> {
        let mut given = if text.contains("://") { url::parse(text)? } else { keywords::parse(text)? };
        let service = given.remove("service").map(|name| name.to_string());
        if let Some(service) = service.or_else(|| surroundings.variables.get("PGSERVICE").cloned()) {
            for (key, value) in servicefile::read(&service, surroundings)? {
                given.entry(key).or_insert(value);
            }
        }
        for (key, variable) in keywords::VARIABLES {
            if let Some(value) = surroundings.variables.get(variable) {
                given.entry(key.to_owned()).or_insert_with(|| Zeroizing::new(value.clone()));
            }
        }
        Self::from_keywords(given, surroundings)
    }

    fn from_keywords(mut given: Keywords, surroundings: &Surroundings) -> Result<Self, Error> {
        let mut take = |key: &str| given.remove(key).filter(|value| !value.is_empty());
        let host_name = take("host");
        let mode = take("sslmode").map_or_else(|| "prefer".to_owned(), |mode| mode.to_string());
        if !SSL_MODES.contains(&mode.as_str()) {
            return Err(bad("sslmode", "is not one of libpq's modes"));
        }
        let verified = mode.starts_with("verify-");
        let address = take("hostaddr").filter(|_| !verified || host_name.is_none());
        let host = address.or(host_name).map_or_else(|| "localhost".to_owned(), |host| host.to_string());
        if host.contains(',') {
            return Err(bad("host", "names several servers; name the one to capture"));
        }
        let port = match take("port") {
            Some(port) => port.parse().map_err(|_| bad("port", "is not a port number"))?,
            None => 5432,
        };
        let user = take("user").map(|user| user.to_string()).or_else(|| surroundings.login.clone());
        let user = user.ok_or_else(|| bad("user", "is not given"))?;
        let database = take("dbname").map_or_else(|| user.clone(), |name| name.to_string());
        let connect_timeout = match take("connect_timeout").map(|seconds| seconds.parse::<u64>()) {
            Some(Ok(0)) | None => CONNECT_TIMEOUT,
            Some(Ok(seconds)) => Duration::from_secs(seconds.max(2)),
            Some(Err(_)) => return Err(bad("connect_timeout", "is not a number of seconds")),
        };
        let mut path = |key: &str| take(key).map(|path| PathBuf::from(path.as_str()));
        let (mut ssl_root_cert, ssl_cert, ssl_key) = (path("sslrootcert"), path("sslcert"), path("sslkey"));
        if verified && ssl_root_cert.is_none() {
            let usual = surroundings.home.as_ref().map(|home| home.join(".postgresql/root.crt"));
            ssl_root_cert = usual.filter(|path| path.is_file());
        }
        let passfile = path("passfile");
        let mut settings = Self {
            host: if host.starts_with('/') { Host::Socket(host.into()) } else { Host::Name(host) },
            port,
            user,
            password: take("password"),
            database,
            ssl_mode: mode,
            ssl_root_cert,
            ssl_cert,
            ssl_key,
            connect_timeout,
        };
        if settings.password.is_none() {
            settings.password = passfile::look_up(&settings, passfile.as_deref(), surroundings)?;
        }
        Ok(settings)
    }

    /// The same server and user, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The same user and database, reached elsewhere: a container's own address.
    #[must_use]
    pub fn with_host(&self, host: Host, port: u16) -> Self {
        Self { host, port, ..self.clone() }
    }

    /// A URL with everything in it, the password too: for the environment of a program, never for its arguments.
    pub fn to_url(&self) -> Zeroizing<String> {
        let escape = |text: &str| -> String {
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                    other => format!("%{other:02X}"),
                })
                .collect()
        };
        let password = self.password.as_ref().map(|password| format!(":{}", escape(password))).unwrap_or_default();
        let (user, database) = (escape(&self.user), escape(&self.database));
        Zeroizing::new(match &self.host {
            Host::Name(host) => {
                let host = if host.contains(':') { format!("[{host}]") } else { escape(host) };
                format!("postgres://{user}{password}@{host}:{}/{database}?sslmode={}", self.port, self.ssl_mode)
            }
            Host::Socket(folder) => {
                let folder = escape(&folder.display().to_string());
                format!("postgres://{user}{password}@localhost:{}/{database}?host={folder}", self.port)
            }
        })
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    /// The server for messages: `db.example:5432`.
    pub fn server(&self) -> String {
        match &self.host {
            Host::Name(name) => format!("{name}:{}", self.port),
            Host::Socket(folder) => format!("{}/.s.PGSQL.{}", folder.display(), self.port),
        }
    }

    /// What a client program of PostgreSQL is to find in its environment. Holds the password: never print it.
    pub fn child_environment(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let mut variables = vec![
            ("PGHOST", self.host_text()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGSSLMODE", self.ssl_mode.clone()),
            ("PGCONNECT_TIMEOUT", self.connect_timeout.as_secs().to_string()),
        ];
        let files =
            [("PGSSLROOTCERT", &self.ssl_root_cert), ("PGSSLCERT", &self.ssl_cert), ("PGSSLKEY", &self.ssl_key)];
        for (name, path) in files {
            variables.extend(path.iter().map(|path| (name, path.display().to_string())));
        }
        let mut variables: Vec<_> = variables.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
        variables.extend(self.password.iter().map(|password| ("PGPASSWORD", password.clone())));
        variables
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Every option is set, because those that are not come from this process's environment.
    pub(crate) fn options(&self) -> Result<PgConnectOptions, Error> {
        let mode = PgSslMode::from_str(&self.ssl_mode).map_err(|_| bad("sslmode", "is not one of libpq's modes"))?;
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host_text())
            .port(self.port)
            .username(&self.user)
            .password(self.password.as_ref().map_or("", |password| password.as_str()))
            .database(&self.database)
            .ssl_mode(mode)
            .statement_cache_capacity(32);
        let options = match &self.ssl_root_cert {
            // libpq's word for the authorities that everybody trusts, which are the ones taken without a file.
            Some(path) if path.as_os_str() != "system" => options.ssl_root_cert(path),
            _ => options,
        };
        let options = match &self.ssl_cert {
            Some(path) => options.ssl_client_cert(path),
            None => options,
        };
        Ok(match &self.ssl_key {
            Some(path) => options.ssl_client_key(path),
            None => options,
        })
    }

    fn host_text(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Socket(folder) => folder.display().to_string(),
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {} on {}", self.database, self.user, self.server())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({self}, sslmode={})", self.ssl_mode)
    }
}

pub(crate) fn bad(subject: &'static str, why: impl Into<String>) -> Error {
    Error::Settings { subject, why: why.into() }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
