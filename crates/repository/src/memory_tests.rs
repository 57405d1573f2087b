//! How much memory a long stream takes, measured in a process of its own.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_model::{Silent, SystemClock};
use bytes::Bytes;

use crate::trial::{environment, key, run};
use crate::{FolderStore, LeasePurpose, Options, Repository, trial};

const CHILD: &str = "BACKSTAY_TEST_STREAM_MB";
const PIECE: usize = 1 << 20;
const PEAK_MB_MAX: u64 = 150;

/// Rows that are never the same, and shrink to about a third.
fn rows(number: u64) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut rows = vec![b' '; PIECE];
    for row in rows.chunks_exact_mut(24) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        row[..8].copy_from_slice(&state.to_le_bytes());
    }
    rows.into()
}

fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// The process that is measured: writes one stream into a folder, reads it back and checks it. Without
/// its variable it is nobody's test.
#[tokio::test(flavor = "multi_thread")]
async fn one_long_stream() {
    let Some(pieces) = std::env::var(CHILD).ok().map(|megabytes| megabytes.parse::<u64>().unwrap()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let options = Options { cache: None, clock: Arc::new(SystemClock::default()), host: "web1".to_owned() };
    let repository = Repository::create(Arc::new(FolderStore::new(folder.path())), &key(), options).await.unwrap();
    let run = run(&trial::HeldClock::default());
    let lease = repository.lease(LeasePurpose::Write, &run, Duration::ZERO, &Silent).await.unwrap();
    let writer = repository.begin(&lease, &environment()).await.unwrap();
    let began = Instant::now();
    let mut stream = writer.stream();
    for number in 0..pieces {
        stream.push(rows(number)).await.unwrap();
    }
    let root = stream.finish().await.unwrap();
    let listed = writer.bytes(serde_json::to_vec(&std::collections::BTreeMap::from([("rows", &root)])).unwrap());
    let listed = listed.await.unwrap();
    trial::commit_contents(&writer, listed, root.bytes, 1).await.unwrap();
    let written = (began.elapsed(), peak_mb());
    let mut reader = repository.read(&root);
    let mut bytes = 0;
    while let Some(piece) = reader.next().await.unwrap() {
        bytes += piece.len() as u64;
    }
    assert_eq!(bytes, pieces << 20);
    let read = peak_mb();
    assert!(repository.check(None, None, 100).await.unwrap().is_good());
    println!("written in {:?} with {} MB, read back with {read} MB", written.0, written.1);
    println!("peak {}", peak_mb());
    lease.release().await;
}

#[test]
fn a_stream_of_any_length_takes_little_memory() {
    let megabytes = if std::env::var_os("BACKSTAY_TEST_FULL").is_some() { 6144 } else { 400 };
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory_tests::one_long_stream", "--nocapture"])
        .env(CHILD, megabytes.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
    let peak = said.lines().find_map(|line| line.strip_prefix("peak ")).and_then(|peak| peak.parse::<u64>().ok());
    println!("{megabytes} MB: {}", said.lines().filter(|line| line.contains("written")).collect::<String>());
    println!("peak {} MB", peak.unwrap_or_default());
    assert!(peak.is_some_and(|peak| peak <= PEAK_MB_MAX), "{megabytes} MB took {peak:?} MB of memory");
}
