use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::names::{DESCRIPTION, DESCRIPTION_COPY};
use crate::{Listed, Put, Store, StoreError};

/// Where bytes wait for the barrier. No key begins with a dot.
const STAGING: &str = ".staging";
/// So many staged files wait at most; their names are held in memory.
const STAGED_MAX: usize = 1024;
/// What a process that died left staged is older than any run may be.
const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);

/// A store in a folder of this machine, or of one it mounts.
///
/// What is put with [`Put::Replace`] appears under its name with the next barrier, together with
/// everything else put before it; what is put with [`Put::Create`] appears at once, durable.
#[derive(Debug)]
pub struct FolderStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    staged: Mutex<HashMap<String, PathBuf>>,
    /// One barrier at a time, or a second one would return before the first had done its work.
    barrier: Mutex<()>,
    /// A repository was read here: from then on a folder without one is not this store.
    found: AtomicBool,
}

impl FolderStore {
    pub fn new(root: &Path) -> Self {
        let shared = Shared {
            root: root.to_owned(),
            staged: Mutex::default(),
            barrier: Mutex::default(),
            found: AtomicBool::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    async fn apart<T: Send + 'static>(
        &self,
        action: &'static str,
        key: &str,
        work: impl FnOnce(&Shared, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let owned = key.to_owned();
        let done = tokio::task::spawn_blocking(move || work(&shared, &owned)).await;
        done.unwrap_or_else(|stopped| Err(io::Error::other(stopped))).map_err(|error| explain(error, action, key))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for path in self.staged.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = fs::remove_file(path);
        }
    }
}

#[async_trait]
impl Store for FolderStore {
    fn location(&self) -> String {
        self.shared.root.display().to_string()
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.apart("read", key, |shared, key| shared.get(key).map(Bytes::from)).await
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        let full = self
            .apart("write", key, move |shared, key| match put {
                Put::Create => shared.create(key, &bytes).map(|()| false),
                Put::Replace => shared.stage(key, &bytes),
            })
            .await?;
        if full { self.barrier().await } else { Ok(()) }
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.apart("list", folder, Shared::list).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.apart("remove", key, Shared::remove).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.apart("make durable", "what was written", |shared, _| shared.publish()).await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.apart("sweep", STAGING, |shared, _| shared.sweep()).await
    }
}

impl Shared {
    fn staged(&self) -> std::sync::MutexGuard<'_, HashMap<String, PathBuf>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let plain = |name: &str| !name.is_empty() && !name.starts_with('.');
        if key.split('/').all(plain) {
            Ok(self.root.join(key))
        } else {
            Err(io::Error::new(ErrorKind::InvalidInput, "not a key"))
        }
    }

    fn get(&self, key: &str) -> io::Result<Vec<u8>> {
        let path = self.path(key)?;
        let staged = self.staged().get(key).cloned();
        if let Some(staged) = staged {
            match fs::read(staged) {
                // A barrier gave it its name in this moment.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                read => return read,
            }
        }
        let read = fs::read(path);
        match &read {
            Ok(_) if key == DESCRIPTION || key == DESCRIPTION_COPY => self.found.store(true, Ordering::SeqCst),
            Err(error) if error.kind() == ErrorKind::NotFound => self.is_still_there()?,
            _ => {}
        }
        read
    }

    /// A disk that was unmounted, or a folder that somebody moved, is not to be filled anew.
    fn is_still_there(&self) -> io::Result<()> {
        let is_there = || [DESCRIPTION, DESCRIPTION_COPY].iter().any(|name| self.root.join(name).exists());
        if self.found.load(Ordering::SeqCst) && !is_there() {
            return Err(io::Error::other("the repository is not there any more"));
        }
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.is_still_there()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Writes beside everything that has a name. Returns where.
    fn write(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let folder = self.root.join(STAGING);
        let path = folder.join(hex::encode(rand::random::<[u8; 16]>()));
        let open = || File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folder(&folder)?;
                open()?
            }
            opened => opened?,
        };
        file.write_all(bytes).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        // Nobody reads it again soon, so the disk may begin now, and the barrier finds little left to wait for.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(path)
    }

    /// Returns whether so much is staged that it is time for a barrier.
    fn stage(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        self.path(key)?;
        let path = self.write(bytes)?;
        let mut staged = self.staged();
        if let Some(replaced) = staged.insert(key.to_owned(), path) {
            let _ = fs::remove_file(replaced);
        }
        Ok(staged.len() >= STAGED_MAX)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(key)?;
        let written = self.write(bytes)?;
        let folder = path.parent().unwrap_or(&self.root);
        let named = File::open(&written)
            .and_then(|file| file.sync_all())
            .and_then(|()| self.make_folder(folder))
            .and_then(|()| name_unless_taken(&written, &path));
        let _ = fs::remove_file(&written);
        named?;
        sync_folders(&self.root, [folder])
    }

    fn publish(&self) -> io::Result<()> {
        let _one = self.barrier.lock().unwrap_or_else(PoisonError::into_inner);
        let staged: Vec<_> = self.staged().iter().map(|(key, path)| (key.clone(), path.clone())).collect();
        let mut folders = Vec::new();
        // First every file, then every name: a name never stands for bytes that are not on the disk.
        for (_, path) in &staged {
            match File::open(path).and_then(|file| file.sync_all()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // A second try would say yes without the bytes being on the disk. Without the file
                // every barrier fails until the key is put again.
                Err(error) => {
                    let _ = fs::remove_file(path);
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        for (key, path) in staged {
            let named = self.path(&key)?;
            if let Some(folder) = named.parent() {
                self.make_folder(folder)?;
                folders.push(folder.to_owned());
            }
            let mut waiting = self.staged();
            // Put again since: the newer bytes were not synced, and wait for the next barrier.
            if waiting.get(&key) == Some(&path) {
                fs::rename(&path, &named)?;
                waiting.remove(&key);
            }
        }
        sync_folders(&self.root, folders.iter().map(PathBuf::as_path))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        let mut folders = vec![(self.path(folder)?, folder.to_owned())];
        while let Some((path, prefix)) = folders.pop() {
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound && self.root.is_dir() => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let key = format!("{prefix}/{name}");
                if entry.file_type()?.is_dir() {
                    folders.push((entry.path(), key));
                    continue;
                }
                match entry.metadata() {
                    // Removed since the folder was read.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    metadata => found.push(Listed { key, bytes: metadata?.len() }),
                }
            }
        }
        Ok(found)
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        let path = self.path(key)?;
        let staged = self.staged().remove(key);
        if let Some(staged) = staged {
            let _ = fs::remove_file(staged);
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| path.parent().map_or(Ok(()), sync_folder)),
        }
    }

    /// Removes what processes that died had staged.
    fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(STAGING)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
            if age.is_some_and(|age| age > LITTER_AGE) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

/// A hard link refuses to replace on every file system that has them; the others can rename so.
fn name_unless_taken(written: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(written, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            let renamed = rustix::fs::renameat_with(rustix::fs::CWD, written, rustix::fs::CWD, path, flags);
            renamed.map_err(|_| error)
        }
        linked => linked,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot sync a folder and need not.
        Err(error) if matches!(error.raw_os_error(), Some(22 | 95)) => Ok(()),
        synced => synced,
    }
}

/// The folders and all above them up to the root: each may have been made just now.
fn sync_folders<'a>(root: &Path, folders: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let above = |folder: &'a Path| folder.ancestors().take_while(|above| above.starts_with(root));
    let all: BTreeSet<_> = folders.into_iter().flat_map(above).collect();
    all.into_iter().rev().try_for_each(sync_folder)
}

fn explain(error: io::Error, action: &'static str, key: &str) -> StoreError {
    let key = key.to_owned();
    match error.kind() {
        ErrorKind::NotFound if matches!(action, "read" | "list") => StoreError::NotThere { key },
        ErrorKind::AlreadyExists => StoreError::AlreadyThere { key },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { key },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::Denied { action, key, source: error.into() }
        }
        _ => StoreError::Failed { action, key, source: error.into() },
    }
}
