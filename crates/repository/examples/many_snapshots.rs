//! Fills a folder repository that `backstay init` has made with many small snapshots, an hour apart, the newest an hour
//! ago: `many_snapshots REPOSITORY KEY-FILE COUNT`. For measuring what listing and pruning them costs. They are taken in
//! memory and written out at the end: a folder waits for the disk at each of them, and lists all before it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Clock, Manifest, Origin, PartKind, PartRecord, Purpose, RunId, Silent, SnapshotId};
use backstay_repository::{LeasePurpose, MemoryStore, Options, Put, Repository, Secret, Store};
use backstay_testkit::ManualClock;
use chrono::{TimeDelta, Utc};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, key_file, count] = words.as_slice() else {
        return Err("usage: many_snapshots REPOSITORY KEY-FILE COUNT".into());
    };
    let count: i32 = count.parse()?;
    let began = Utc::now() - TimeDelta::hours(1) * (count + 1);
    let clock = Arc::new(ManualClock::at(SnapshotId::at(began).as_str()));
    let options = Options { cache: None, clock: Arc::clone(&clock) as Arc<dyn Clock>, host: "bench".to_owned() };
    let key = Secret::KeyFile(fs::read(key_file)?.into());
    let (folder, store) = (Path::new(folder), MemoryStore::default());
    load(&store, folder, "").await?;
    let repository = Repository::open(Arc::new(store.clone()), &key, options).await?;

    let run = RunId::new(clock.now(), 1);
    for number in 0..count {
        clock.advance(Duration::from_secs(3600));
        let lease = repository.lease(LeasePurpose::Write, &run, Duration::ZERO, &Silent).await?;
        snapshot(&repository, &lease, &run, number).await?;
        lease.release().await;
    }
    for key in store.keys() {
        let file = folder.join(&key);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(file, store.get(&key).await?)?;
    }
    Ok(())
}

async fn load(store: &MemoryStore, folder: &Path, prefix: &str) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder.join(prefix))? {
        let entry = entry?;
        let key = format!("{prefix}{}", entry.file_name().display());
        if entry.file_type()?.is_dir() {
            Box::pin(load(store, folder, &format!("{key}/"))).await?;
        } else {
            store.put(&key, fs::read(entry.path())?.into(), Put::Create).await?;
        }
    }
    Ok(())
}

async fn snapshot(
    repository: &Repository,
    lease: &backstay_repository::Lease,
    run: &RunId,
    number: i32,
) -> Result<(), Box<dyn Error>> {
    let writer = repository.begin(lease, &"default".parse()?).await?;
    let own = writer.bytes(format!("what snapshot {number} holds alone").into_bytes()).await?;
    let facts = writer.bytes(b"{}".to_vec()).await?;
    let part = PartRecord {
        name: "bench".parse()?,
        kind: PartKind::Files,
        contents: writer.bytes(serde_json::to_vec(&BTreeMap::from([("own", &own)]))?).await?,
        facts,
        bytes: own.bytes,
        summary: "one file".to_owned(),
    };
    let taken_at = writer.id().moment();
    let manifest = Manifest {
        id: writer.id().clone(),
        project: "bench".parse()?,
        environment: "default".parse()?,
        purpose: Purpose::Deliberate,
        taken_at,
        committed_at: taken_at,
        run: run.clone(),
        origin: Origin::default(),
        labels: BTreeMap::new(),
        parts: vec![part],
        not_covered: Vec::new(),
    };
    writer.commit(manifest).await?;
    Ok(())
}
