use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstay_model::{Clock, RunId};
use rustix::fs::{FlockOperation, flock};

use crate::journal::Page;
use crate::line::decode;
use crate::{Entry, Error, Journal};

const JOURNAL_BYTES_MAX: u64 = 256 << 20;
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The journals of one project and environment on this host.
#[derive(Clone)]
pub struct Journals {
    shelf: Shelf,
}

#[derive(Clone)]
enum Shelf {
    Folder(PathBuf),
    #[cfg(any(test, feature = "fakes"))]
    Memory(crate::fakes::MemoryShelf),
}

/// A journal that exists already.
pub enum Opened {
    /// Its run is alive in another process, which holds it.
    Alive(Vec<Entry>),
    /// Its run ended or died; now this process holds it.
    Free(Journal),
}

impl Journals {
    /// Those under the state folder of a project and environment.
    pub fn at(state: &Path) -> Self {
        Self { shelf: Shelf::Folder(state.join("runs")) }
    }

    #[cfg(any(test, feature = "fakes"))]
    pub fn in_memory(shelf: crate::fakes::MemoryShelf) -> Self {
        Self { shelf: Shelf::Memory(shelf) }
    }

    /// Begins the journal of a new run.
    pub async fn create(&self, run: &RunId, clock: Arc<dyn Clock>) -> Result<Journal, Error> {
        let page: Box<dyn Page> = match &self.shelf {
            Shelf::Folder(folder) => {
                let path = path_of(folder, run);
                let file = blocking(move || create_file(&path)).await;
                Box::new(FilePage::new(file.map_err(|source| failed("create", run, source))?))
            }
            #[cfg(any(test, feature = "fakes"))]
            Shelf::Memory(shelf) => shelf.create(run).await.map_err(|source| failed("create", run, source))?,
        };
        Ok(Journal { run: run.clone(), page, entries: Vec::new(), last: String::new(), clock, broken: false })
    }

    /// Opens the journal of an earlier run, to continue it. A torn tail is cut off.
    pub async fn open(&self, run: &RunId, clock: Arc<dyn Clock>) -> Result<Opened, Error> {
        let (bytes, page): (Vec<u8>, Option<Box<dyn Page>>) = match &self.shelf {
            Shelf::Folder(folder) => {
                let path = path_of(folder, run);
                let opened = blocking(move || open_file(&path)).await;
                let (bytes, file) = opened.map_err(|source| failed("open", run, source))?;
                (bytes, file.map(|file| Box::new(FilePage::new(file)) as Box<dyn Page>))
            }
            #[cfg(any(test, feature = "fakes"))]
            Shelf::Memory(shelf) => shelf.open(run).map_err(|source| failed("open", run, source))?,
        };
        let decoded = decode(&bytes).map_err(|line| Error::Damaged { run: run.clone(), line })?;
        let Some(page) = page else { return Ok(Opened::Alive(decoded.entries)) };
        let (entries, last) = (decoded.entries, decoded.last);
        Ok(Opened::Free(Journal { run: run.clone(), page, entries, last, clock, broken: false }))
    }

    /// The lines of a journal, and whether its run is alive. Changes nothing.
    pub async fn read(&self, run: &RunId) -> Result<(Vec<Entry>, bool), Error> {
        let (bytes, alive) = match &self.shelf {
            Shelf::Folder(folder) => {
                let path = path_of(folder, run);
                let read = blocking(move || read_file(&path)).await;
                read.map_err(|source| failed("read", run, source))?
            }
            #[cfg(any(test, feature = "fakes"))]
            Shelf::Memory(shelf) => shelf.read(run).map_err(|source| failed("read", run, source))?,
        };
        let decoded = decode(&bytes).map_err(|line| Error::Damaged { run: run.clone(), line })?;
        Ok((decoded.entries, alive))
    }

    /// The runs that have a journal here, newest first.
    pub async fn list(&self) -> Result<Vec<RunId>, Error> {
        let mut runs = match &self.shelf {
            Shelf::Folder(folder) => {
                let listed = folder.clone();
                blocking(move || list_folder(&listed))
                    .await
                    .map_err(|source| Error::List { folder: folder.display().to_string(), source })?
            }
            #[cfg(any(test, feature = "fakes"))]
            Shelf::Memory(shelf) => shelf.list(),
        };
        runs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(runs)
    }
}

fn failed(action: &'static str, run: &RunId, source: std::io::Error) -> Error {
    Error::Journal { action, run: run.clone(), source }
}

fn path_of(folder: &Path, run: &RunId) -> PathBuf {
    folder.join(format!("{run}.journal"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|died| Err(std::io::Error::other(died)))
}

fn create_file(path: &Path) -> std::io::Result<std::fs::File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file = std::fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.sync_all()?;
    // The name has to survive a power cut as well as the lines do.
    std::fs::File::open(folder)?.sync_all()?;
    Ok(file)
}

fn open_file(path: &Path) -> std::io::Result<(Vec<u8>, Option<std::fs::File>)> {
    let mut file = std::fs::OpenOptions::new().read(true).append(true).open(path)?;
    let locked = lock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let bytes = read_whole(&mut file)?;
    if !locked {
        return Ok((bytes, None));
    }
    if let Ok(decoded) = decode(&bytes)
        && decoded.whole < bytes.len()
    {
        file.set_len(decoded.whole as u64)?;
        file.sync_all()?;
    }
    Ok((bytes, Some(file)))
}

fn read_file(path: &Path) -> std::io::Result<(Vec<u8>, bool)> {
    let mut file = std::fs::File::open(path)?;
    // A lock that is shared does not look to others as if the run were alive for longer than this.
    let alive = !lock(&file, FlockOperation::NonBlockingLockShared)?;
    Ok((read_whole(&mut file)?, alive))
}

/// Whether the lock was to be had. Who only looks holds it for a moment, so one refusal says little.
fn lock(file: &std::fs::File, operation: FlockOperation) -> std::io::Result<bool> {
    for attempt in 0..LOCK_ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(LOCK_PAUSE);
        }
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

fn read_whole(file: &mut std::fs::File) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn list_folder(folder: &Path) -> std::io::Result<Vec<RunId>> {
    let names = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let mut runs = Vec::new();
    for name in names {
        let name = name?.file_name();
        let run = name.to_str().and_then(|name| name.strip_suffix(".journal")).and_then(|name| name.parse().ok());
        runs.extend(run);
    }
    Ok(runs)
}

struct FilePage {
    file: Arc<Mutex<std::fs::File>>,
}

impl FilePage {
    fn new(file: std::fs::File) -> Self {
        Self { file: Arc::new(Mutex::new(file)) }
    }
}

#[async_trait]
impl Page for FilePage {
    async fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let (file, bytes) = (self.file.clone(), bytes.to_owned());
        blocking(move || {
            let mut file = file.lock().map_err(|_| std::io::Error::other("an earlier write panicked"))?;
            file.write_all(&bytes)?;
            file.sync_data()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use backstay_model::SystemClock;
    use serde_json::json;

    use super::*;
    use crate::{Mark, Steps};

    fn run() -> RunId {
        "20251022_153000_4f2a".parse().unwrap()
    }

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock::default())
    }

    #[tokio::test]
    async fn a_run_that_let_go_of_its_journal_has_died_and_one_that_holds_it_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::at(folder.path());
        assert!(journals.list().await.unwrap().is_empty());
        let mut journal = journals.create(&run(), clock()).await.unwrap();
        journal.append("fence", Mark::Intent, json!({"stops": ["api"]})).await.unwrap();
        assert!(matches!(journals.open(&run(), clock()).await.unwrap(), Opened::Alive(entries) if entries.len() == 1));
        drop(journal);
        let (entries, alive) = journals.read(&run()).await.unwrap();
        assert!(!alive);
        assert_eq!(entries.as_slice().intended("fence"), Some(&json!({"stops": ["api"]})));
        assert_eq!(journals.list().await.unwrap(), [run()]);
    }

    #[tokio::test]
    async fn a_torn_tail_is_cut_off_and_the_journal_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::at(folder.path());
        let mut journal = journals.create(&run(), clock()).await.unwrap();
        journal.append("begin", Mark::Done, json!(1)).await.unwrap();
        drop(journal);
        let path = path_of(&folder.path().join("runs"), &run());
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"0123456789abcdef {\"at\":\"20").unwrap();
        let Opened::Free(mut journal) = journals.open(&run(), clock()).await.unwrap() else {
            panic!("nobody holds it")
        };
        journal.append("end", Mark::Done, json!(2)).await.unwrap();
        drop(journal);
        let (entries, _) = journals.read(&run()).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.step.as_str()).collect::<Vec<_>>(), ["begin", "end"]);
    }

    #[tokio::test]
    async fn a_journal_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        drop(Journals::at(folder.path()).create(&run(), clock()).await.unwrap());
        let runs = folder.path().join("runs");
        assert_eq!(std::fs::metadata(&runs).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(path_of(&runs, &run())).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
