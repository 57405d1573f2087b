use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The generated file that pins images: the last of the files that Compose is given.
pub(crate) const OVERRIDE: &str = "backstay.override.yml";
const PINS: &str = "pins.json";

/// Which image each service is to run, and which run decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pins {
    pub run: String,
    pub project: String,
    pub services: BTreeMap<String, Pin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub id: String,
    pub tag: String,
    pub built: bool,
    /// How many of its containers ran when it was recorded.
    pub running: u32,
}

/// What an activation replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    pub pins: Option<Pins>,
    pub services: BTreeMap<String, Before>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// What the service ran; nothing where it had no container.
    pub image: Option<String>,
    pub running: u32,
    pub built: bool,
    pub name: Option<String>,
    /// What the name meant; it need not be what ran.
    pub name_meant: Option<String>,
}

/// The pins of one project on this machine, in a folder of its state.
#[derive(Debug, Clone)]
pub(crate) struct PinsFolder(pub PathBuf);

impl PinsFolder {
    pub fn pins(&self) -> Result<Option<Pins>, Error> {
        read(&self.0.join(PINS))
    }

    /// Writes the pins and the override made of them; or takes both away.
    pub fn set(&self, pins: Option<&Pins>) -> Result<(), Error> {
        match pins {
            Some(pins) => {
                write(&self.0.join(OVERRIDE), override_of(pins).as_bytes())?;
                write_json(&self.0.join(PINS), pins)
            }
            None => {
                remove(&self.0.join(PINS))?;
                remove(&self.0.join(OVERRIDE))
            }
        }
    }

    pub fn override_file(&self) -> PathBuf {
        self.0.join(OVERRIDE)
    }

    /// Writes an override of these pins without deciding anything.
    pub fn write_override(&self, pins: &Pins) -> Result<PathBuf, Error> {
        let path = self.override_file();
        write(&path, override_of(pins).as_bytes())?;
        Ok(path)
    }

    pub fn replaced(&self, run: &str) -> Result<Option<Replaced>, Error> {
        read(&self.replaced_file(run))
    }

    pub fn keep_replaced(&self, run: &str, replaced: &Replaced) -> Result<(), Error> {
        write_json(&self.replaced_file(run), replaced)
    }

    pub fn forget_replaced(&self, run: &str) -> Result<(), Error> {
        remove(&self.replaced_file(run))
    }

    fn replaced_file(&self, run: &str) -> PathBuf {
        self.0.join(format!("replaced-{run}.json"))
    }
}

/// An override in YAML. Its strings are written as JSON, which YAML reads the same.
pub(crate) fn override_of(pins: &Pins) -> String {
    let mut text =
        format!("# Written by Backstay in run {}: the images that this project runs.\nservices:\n", pins.run);
    for (service, pin) in &pins.services {
        let quoted = |value: &str| serde_json::Value::from(value.replace('$', "$$")).to_string();
        text += &format!("  {}:\n    image: {}\n    pull_policy: never\n", quoted(service), quoted(&pin.tag));
        if pin.built {
            text += "    build: !reset null\n";
        }
    }
    if pins.services.is_empty() { text.replace("services:\n", "services: {}\n") } else { text }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(Error::Token),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { action: "read", path: path.to_owned(), source }),
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    write(path, &serde_json::to_vec_pretty(value).map_err(Error::Token)?)
}

/// Written beside and renamed, so that the file is whole or as it was, whenever this ends.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::File { action: "write", path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_back_and_their_override_says_the_same() {
        let state = tempfile::tempdir().unwrap();
        let folder = PinsFolder(state.path().join("compose"));
        assert_eq!(folder.pins().unwrap(), None);
        let pin = Pin { id: "sha256:1".into(), tag: "backstay/keep/shop:1-api".into(), built: true, running: 1 };
        let pins = Pins { run: "r".into(), project: "shop".into(), services: BTreeMap::from([("api".into(), pin)]) };
        folder.set(Some(&pins)).unwrap();
        assert_eq!(folder.pins().unwrap(), Some(pins));
        let text = std::fs::read_to_string(folder.override_file()).unwrap();
        let body = text.split_once('\n').unwrap().1;
        let wanted = "services:\n  \"api\":\n    image: \"backstay/keep/shop:1-api\"\n    pull_policy: never\n    build: !reset null\n";
        assert_eq!(body, wanted);
        folder.set(None).unwrap();
        assert!(folder.pins().unwrap().is_none() && !folder.override_file().exists());
    }
}
