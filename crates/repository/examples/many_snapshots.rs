//! Fills a folder repository that `backstay init` has made with many small snapshots, an hour apart, the newest an hour
//! ago: `many_snapshots REPOSITORY KEY-FILE COUNT`. For measuring what listing and pruning them costs.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Clock, Manifest, Origin, PartKind, PartRecord, Purpose, RunId, Silent, SnapshotId};
use backstay_repository::{FolderStore, LeasePurpose, Options, Repository, Secret};
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
    let key = Secret::KeyFile(std::fs::read(key_file)?.into());
    let repository = Repository::open(Arc::new(FolderStore::new(Path::new(folder))), &key, options).await?;

    let run = RunId::new(clock.now(), 1);
    for number in 0..count {
        clock.advance(Duration::from_secs(3600));
        let lease = repository.lease(LeasePurpose::Write, &run, Duration::ZERO, &Silent).await?;
        snapshot(&repository, &lease, &run, number).await?;
        lease.release().await;
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
