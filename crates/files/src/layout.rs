//! What a run leaves in the state folder of this host, and how it is found again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use backstay_model::RunId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::disk::Disk;
use crate::entry::{Entry, State};

/// The files of one run: `<state>/files/<run>`.
///
/// `staged.json` is written when everything in `staged` is; `kept.json` when everything in `kept` is,
/// and no live file is touched before; `switched` when all live files are the staged ones; `settled`
/// when what was kept may go. Each is there whole or not at all.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub folder: PathBuf,
    pub run: RunId,
}

/// What is to be live: written once, when everything is staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Staged {
    pub root: PathBuf,
    /// The run whose kept files these are, if they are not a snapshot's.
    pub kept_by: Option<RunId>,
    pub items: Vec<Item>,
    /// Folders that files need, outermost first.
    pub folders: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub path: String,
    pub wanted: State,
}

/// What was live before the switch, in the order of the staged items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub states: Vec<State>,
    /// Folders that were not there.
    pub made: Vec<String>,
}

impl Layout {
    pub(crate) fn new(state: &Path, run: &RunId) -> Self {
        Self { folder: state.join("files").join(run.as_str()), run: run.clone() }
    }

    pub(crate) fn staged_content(&self, index: usize) -> PathBuf {
        self.folder.join("staged").join(index.to_string())
    }

    pub(crate) fn kept_content(&self, index: usize) -> PathBuf {
        self.folder.join("kept").join(index.to_string())
    }

    /// What was found at a place that a revert had to take, and that neither side had put there.
    pub(crate) fn stray_content(&self, index: usize) -> PathBuf {
        self.folder.join("strays").join(index.to_string())
    }

    /// The name a live file is written under before it takes its place.
    pub(crate) fn beside(&self, index: usize) -> String {
        format!("{}{}-{index}", crate::selection::BESIDE, self.run)
    }

    pub(crate) fn staged(&self) -> Result<Option<Staged>, Error> {
        read(&self.folder.join("staged.json"))
    }

    pub(crate) fn kept(&self) -> Result<Option<Kept>, Error> {
        read(&self.folder.join("kept.json"))
    }

    pub(crate) fn write_staged(&self, disk: &Disk, staged: &Staged) -> Result<(), Error> {
        disk.write_private(&self.folder.join("staged.json"), &json(staged)?)
    }

    pub(crate) fn write_kept(&self, disk: &Disk, kept: &Kept) -> Result<(), Error> {
        disk.write_private(&self.folder.join("kept.json"), &json(kept)?)
    }

    pub(crate) fn is_switched(&self) -> bool {
        self.folder.join("switched").exists()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.folder.join("settled").exists()
    }

    pub(crate) fn mark_switched(&self, disk: &Disk) -> Result<(), Error> {
        disk.write_private(&self.folder.join("switched"), b"")
    }

    pub(crate) fn unmark_switched(&self, disk: &Disk) -> Result<(), Error> {
        disk.remove_private(&self.folder.join("switched"))
    }

    pub(crate) fn mark_settled(&self, disk: &Disk) -> Result<(), Error> {
        disk.write_private(&self.folder.join("settled"), b"")
    }

    pub(crate) fn forget_staged(&self, disk: &Disk) -> Result<(), Error> {
        self.forget(disk, "staged.json", "staged")
    }

    pub(crate) fn forget_kept(&self, disk: &Disk) -> Result<(), Error> {
        self.forget(disk, "kept.json", "kept")
    }

    /// The list goes first: what it does not name is not there.
    fn forget(&self, disk: &Disk, list: &str, contents: &str) -> Result<(), Error> {
        if self.folder.exists() {
            disk.remove_private(&self.folder.join(list))?;
        }
        disk.remove_private_folder(&self.folder.join(contents))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => {
            let read = serde_json::from_slice(&bytes);
            read.map(Some).map_err(|source| Error::Json { what: "a list of files", source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path.display().to_string())(error)),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Json { what: "a list of files", source })
}
