//! New files that only their owner can read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::exit::Exit;
use crate::report::Failure;

/// Writes a secret into a file that was not there before.
pub fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| cannot("make", folder, &error))?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(|error| cannot("make", path, &error))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| cannot("write", path, &error))
}

pub fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("cannot {action} {}: {error}", path.display()))
}
