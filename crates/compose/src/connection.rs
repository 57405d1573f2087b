use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Error;

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Where an engine is and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// `unix:///var/run/docker.sock` or `tcp://host:port`.
    pub host: String,
    pub tls: Option<Tls>,
}

/// The files of a connection over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// The files by the names that Docker gives them in one folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { ca: folder.join("ca.pem"), certificate: folder.join("cert.pem"), key: folder.join("key.pem") }
    }

    pub(crate) fn folder(&self) -> Option<&Path> {
        self.ca.parent()
    }
}

/// What the surroundings say of the engine, as the `docker` command reads them; the caller reads
/// the environment, this crate does not.
#[derive(Debug, Clone, Default)]
pub struct ConnectionSettings {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// Whether `DOCKER_TLS_VERIFY` is set to something.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`.
    pub certificates: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `.docker` in the home folder.
    pub folder: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextFile {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: String,
}

impl ConnectionSettings {
    /// The engine that `docker` would speak to: the host, else the context, else the default socket.
    pub fn resolve(&self) -> Result<EngineSettings, Error> {
        if let Some(host) = self.host.as_deref().filter(|host| !host.is_empty()) {
            let folder = self.certificates.as_ref().or(self.folder.as_ref());
            let tls = folder.filter(|_| self.tls).map(|folder| Tls::in_folder(folder));
            return Ok(EngineSettings { host: host.to_owned(), tls });
        }
        let named = self.context.clone().filter(|context| !context.is_empty());
        match (named.or(self.current_context()?), &self.folder) {
            (Some(context), Some(folder)) if context != "default" => of_context(folder, &context),
            (Some(context), None) if context != "default" => Err(Error::NoContext(context)),
            _ => Ok(EngineSettings { host: DEFAULT_HOST.to_owned(), tls: None }),
        }
    }

    fn current_context(&self) -> Result<Option<String>, Error> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let Some(config) = read::<ConfigFile>(&folder.join("config.json"))? else { return Ok(None) };
        Ok(config.current_context.filter(|context| !context.is_empty()))
    }
}

fn of_context(folder: &Path, context: &str) -> Result<EngineSettings, Error> {
    let id = hex::encode(Sha256::digest(context.as_bytes()));
    let contexts = folder.join("contexts");
    let meta: ContextFile = read(&contexts.join("meta").join(&id).join("meta.json"))?
        .ok_or_else(|| Error::NoContext(context.to_owned()))?;
    let tls = contexts.join("tls").join(&id).join("docker");
    let tls = tls.join("ca.pem").is_file().then(|| Tls::in_folder(&tls));
    Ok(EngineSettings { host: meta.endpoints.docker.host, tls })
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, Error> {
    let settings = |source| Error::Settings { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| settings(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(settings(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_goes_before_the_context_and_the_context_before_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let id = hex::encode(Sha256::digest(b"far"));
        let meta = folder.path().join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text =
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        let tls = folder.path().join("contexts/tls").join(&id).join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        std::fs::write(tls.join("ca.pem"), "").unwrap();

        let mut settings = ConnectionSettings { folder: Some(folder.path().to_owned()), ..Default::default() };
        assert_eq!(settings.resolve().unwrap(), EngineSettings { host: DEFAULT_HOST.to_owned(), tls: None });

        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"far","auths":{}}"#).unwrap();
        let far = EngineSettings { host: "tcp://far:2376".to_owned(), tls: Some(Tls::in_folder(&tls)) };
        assert_eq!(settings.resolve().unwrap(), far);

        settings.context = Some("gone".to_owned());
        assert!(matches!(settings.resolve(), Err(Error::NoContext(name)) if name == "gone"));

        settings.host = Some("unix:///run/own.sock".to_owned());
        let own = EngineSettings { host: "unix:///run/own.sock".to_owned(), tls: None };
        assert_eq!(settings.resolve().unwrap(), own);
    }
}
