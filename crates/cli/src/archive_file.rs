//! Where an archive goes: standard output, or a new file that is there whole or not at all.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::Exit;
use crate::report::Failure;
use crate::secret_file::cannot;
use crate::surroundings::Surroundings;

const STANDARD_OUTPUT: &str = "-";

/// Written beside, readable by its owner alone, and gone again unless it is kept.
pub enum ArchiveFile {
    Standard,
    Beside { path: PathBuf, file: NamedTempFile },
}

impl ArchiveFile {
    /// Refuses what would replace something before anything is written.
    pub fn begin(surroundings: &Surroundings, named: &Path) -> Result<Self, Failure> {
        if named == Path::new(STANDARD_OUTPUT) {
            return standard(surroundings);
        }
        let path = surroundings.folder.join(named);
        if path.is_dir() {
            return Err(Failure::refused(format!("{} is a folder", path.display()))
                .hint("name a file in it: `--output FOLDER/NAME.tar.gz`"));
        }
        if path.symlink_metadata().is_ok() {
            return Err(taken(&path));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let made = tempfile::Builder::new().prefix(".backstay-export-").suffix(".partial").tempfile_in(folder);
        let file = made.map_err(|error| cannot("write into", folder, &error))?;
        Ok(Self::Beside { path, file })
    }

    pub fn writer(&self) -> Result<Box<dyn Write + Send>, Failure> {
        Ok(match self {
            Self::Standard => Box::new(BufWriter::new(io::stdout())),
            Self::Beside { path, file } => {
                Box::new(BufWriter::new(file.reopen().map_err(|error| cannot("write", path, &error))?))
            }
        })
    }

    /// Makes it last under its name. Says where it is and how long, where that is known.
    pub fn keep(self, mut writer: Box<dyn Write + Send>) -> Result<Option<(PathBuf, u64)>, Failure> {
        let Self::Beside { path, file } = self else {
            return writer
                .flush()
                .map(|()| None)
                .map_err(|error| cannot("write", Path::new("standard output"), &error));
        };
        let failed = |error: io::Error| cannot("write", &path, &error);
        writer.flush().map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        if let Err(error) = file.persist_noclobber(&path) {
            let there = error.error.kind() == io::ErrorKind::AlreadyExists;
            return Err(if there { taken(&path) } else { failed(error.error) });
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let bytes = path.metadata().map_err(failed)?.len();
        Ok(Some((path, bytes)))
    }
}

fn standard(surroundings: &Surroundings) -> Result<ArchiveFile, Failure> {
    if surroundings.everywhere.json {
        let failure = Failure::usage("`--json` and the archive cannot both go to standard output");
        return Err(failure.hint("leave one out, or write the archive to a file: `--output FILE`"));
    }
    if io::stdout().is_terminal() {
        let failure = Failure::usage("an archive is not for a terminal");
        return Err(failure.hint("write it to a file: `--output FILE`; or into a pipe"));
    }
    Ok(ArchiveFile::Standard)
}

fn taken(path: &Path) -> Failure {
    Failure::new(Exit::Refused, format!("{} is there already", path.display()))
        .hint("nothing is written over: name another file with `--output FILE`, or remove this one")
}
