use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::compose_command::Origin;
use crate::{Error, Project};

const FILE_BYTES_MAX: u64 = 16 << 20;
const FILES_MAX: usize = 1000;

/// The files that a project is made of: Compose files with all they include and extend, env files,
/// and the files of secrets and configs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    pub files: BTreeSet<PathBuf>,
    /// Named somewhere, and not there.
    pub not_there: BTreeSet<PathBuf>,
    /// Named by a variable, so that only Compose itself can tell where they are.
    pub unknown: Vec<String>,
}

#[derive(Deserialize, Default)]
struct ComposeFile {
    #[serde(default)]
    include: Vec<Include>,
    #[serde(default)]
    services: std::collections::BTreeMap<String, Option<Service>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Include {
    Path(String),
    Long { path: Option<OneOrMore>, env_file: Option<OneOrMore>, project_directory: Option<String> },
}

#[derive(Deserialize, Default)]
struct Service {
    env_file: Option<OneOrMore>,
    extends: Option<Extends>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Extends {
    File { file: String },
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<Item>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Path(String),
    Long { path: String },
}

impl OneOrMore {
    fn paths(&self) -> Vec<&str> {
        match self {
            Self::One(path) => vec![path],
            Self::More(items) => items
                .iter()
                .map(|item| match item {
                    Item::Path(path) | Item::Long { path } => path.as_str(),
                })
                .collect(),
        }
    }
}

impl Project {
    /// The files that this project is made of, as its containers or else its settings say.
    pub async fn sources(&self) -> Result<Sources, Error> {
        let containers = self.containers().await?;
        let origin = self.origin(&containers)?;
        let model = self.model_from(&origin).await.ok();
        let mut sources = read_sources(&origin)?;
        for file in model.iter().flat_map(crate::Model::mounted_files) {
            sources.add(&file);
        }
        Ok(sources)
    }

    /// A digest over the contents of the files that decide how containers are made.
    pub(crate) async fn sources_digest(&self) -> Result<Option<String>, Error> {
        match self.sources().await {
            Ok(sources) => digest_of(&sources).map(Some),
            Err(Error::NoFiles { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Sources {
    fn add(&mut self, path: &Path) {
        if path.is_file() {
            self.files.insert(path.to_owned());
        } else {
            self.not_there.insert(path.to_owned());
        }
    }

    /// A path as a Compose file names it, seen from `folder`.
    fn add_named(&mut self, folder: &Path, named: &str) -> Option<PathBuf> {
        if named.contains('$') || named.contains("://") {
            self.unknown.push(named.to_owned());
            return None;
        }
        let path = tidy(&folder.join(named));
        self.add(&path);
        path.is_file().then_some(path)
    }
}

/// A digest over all that Compose reads to make a model of this project, or nothing where only Compose can tell what
/// that is.
pub(crate) fn inputs_digest(origin: &Origin) -> Option<String> {
    let sources = read_sources(origin).ok().filter(|sources| sources.unknown.is_empty())?;
    let files = digest_of(&sources).ok()?;
    Some(format!("{files} {:?} {origin:?}", sources.not_there))
}

fn read_sources(origin: &Origin) -> Result<Sources, Error> {
    let mut sources = Sources::default();
    let first = origin.files.first().and_then(|file| file.parent()).map(Path::to_owned);
    let directory = origin.directory.clone().or(first).unwrap_or_default();
    for file in &origin.environment_files {
        sources.add(&tidy(&directory.join(file)));
    }
    let env = directory.join(".env");
    if origin.environment_files.is_empty() && env.is_file() {
        sources.add(&env);
    }
    let mut waiting: Vec<(PathBuf, PathBuf)> =
        origin.files.iter().map(|file| (tidy(&directory.join(file)), directory.clone())).collect();
    let mut seen = BTreeSet::new();
    while let Some((file, folder)) = waiting.pop() {
        sources.add(&file);
        if seen.len() < FILES_MAX && seen.insert(file.clone()) && file.is_file() {
            let read = parse(&file)?;
            read_one(&read, &folder, &mut sources, &mut waiting);
        }
    }
    Ok(sources)
}

fn read_one(file: &ComposeFile, folder: &Path, sources: &mut Sources, waiting: &mut Vec<(PathBuf, PathBuf)>) {
    for include in &file.include {
        let (paths, env_files, directory) = match include {
            Include::Path(path) => (vec![path.as_str()], Vec::new(), None),
            Include::Long { path, env_file, project_directory } => (
                path.iter().flat_map(OneOrMore::paths).collect(),
                env_file.iter().flat_map(OneOrMore::paths).collect(),
                project_directory.as_ref(),
            ),
        };
        for path in paths {
            let Some(found) = sources.add_named(folder, path) else { continue };
            let own = found.parent().unwrap_or(folder).to_owned();
            let own = directory.map_or(own, |directory| tidy(&folder.join(directory)));
            if env_files.is_empty() && own.join(".env").is_file() {
                sources.add(&own.join(".env"));
            }
            waiting.push((found, own));
        }
        for path in env_files {
            sources.add_named(folder, path);
        }
    }
    for service in file.services.values().flatten() {
        for path in service.env_file.iter().flat_map(OneOrMore::paths) {
            sources.add_named(folder, path);
        }
        if let Some(Extends::File { file }) = &service.extends
            && let Some(found) = sources.add_named(folder, file)
        {
            let own = found.parent().unwrap_or(folder).to_owned();
            waiting.push((found, own));
        }
    }
}

fn parse(path: &Path) -> Result<ComposeFile, Error> {
    let unreadable = |source| Error::File { action: "read", path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(unreadable(std::io::Error::other("it is larger than any Compose file")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    // The reason may quote the file, and the file may hold secrets: the place is enough.
    let read: Result<Option<ComposeFile>, _> = serde_saphyr::from_str(&text);
    let read = read.map_err(|_| Error::Yaml { path: path.to_owned() })?;
    Ok(read.unwrap_or_default())
}

fn digest_of(sources: &Sources) -> Result<String, Error> {
    let mut digest = Sha256::new();
    for path in &sources.files {
        let bytes = std::fs::read(path).map_err(|source| Error::File { action: "read", path: path.clone(), source })?;
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(Sha256::digest(&bytes));
    }
    Ok(hex::encode(digest.finalize()))
}

/// A path without `.` and `..`, as far as that can be told from its words.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for word in path.components() {
        match word {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if tidied.file_name().is_some() => {
                tidied.pop();
            }
            word => tidied.push(word),
        }
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_project_is_made_of_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), text).unwrap();
        };
        write(
            "compose.yml",
            "include:\n  - parts/jobs.yml\n  - path: [more.yml]\n    env_file: more.env\nservices:\n  api:\n    image: \"a:1\"\n    build: !reset null\n    \
             env_file: [api.env, {path: ./absent.env, required: false}]\n    extends: {file: base/base.yml, service: b}\n  own:\n    extends: {service: api}\n  \
             named:\n    env_file: ${WHERE}.env\n",
        );
        write("parts/jobs.yml", "services:\n  job:\n    image: j\n    env_file: job.env\n");
        write("base/base.yml", "services:\n  b:\n    env_file: base.env\n");
        for name in ["parts/job.env", "parts/.env", "base/base.env", "api.env", "more.env", ".env"] {
            write(name, "A=1\n");
        }
        write("more.yml", "services: {}\n");
        let origin = Origin { files: vec![at("compose.yml")], ..Origin::default() };
        let sources = read_sources(&origin).unwrap();
        let names = |paths: &BTreeSet<PathBuf>| -> Vec<String> {
            paths.iter().map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string()).collect()
        };
        let wanted = [
            ".env",
            "api.env",
            "base/base.env",
            "base/base.yml",
            "compose.yml",
            "more.env",
            "more.yml",
            "parts/.env",
            "parts/job.env",
            "parts/jobs.yml",
        ];
        assert_eq!(names(&sources.files), wanted);
        assert_eq!(names(&sources.not_there), ["absent.env"]);
        assert_eq!(sources.unknown, ["${WHERE}.env"]);
    }
}
