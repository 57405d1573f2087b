//! Warm copies as the commands tell of them.

use std::time::Duration;

use backstay_model::Manifest;
use backstay_part::{Part, WarmCopy};
use backstay_repository::Repository;
use serde_json::{Value, json};

use crate::output::amounts;
use crate::report::Failure;
use crate::wiring::{Project, server_parts};

/// A command that only tells of them does not wait longer for a server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those of one snapshot.
pub fn of_snapshot(copies: Vec<WarmCopy>, manifest: &Manifest) -> Vec<WarmCopy> {
    let own = |copy: &WarmCopy| manifest.parts.iter().any(|record| record.facts.digest.to_string() == copy.facts);
    copies.into_iter().filter(own).collect()
}

/// All there are on the servers of these parts.
pub async fn on(parts: &[impl AsRef<dyn Part>], context: &backstay_run::Context) -> Result<Vec<WarmCopy>, Failure> {
    let mut copies = Vec::new();
    for part in parts {
        copies.extend(part.as_ref().warm(context).await?);
    }
    Ok(copies)
}

/// Those of a snapshot, or nothing where the servers cannot be asked.
pub async fn looked_up(project: &Project, manifest: &Manifest) -> Option<Vec<WarmCopy>> {
    let context = project.context();
    let look = async {
        let mut copies = Vec::new();
        for part in server_parts(project).await.ok()? {
            copies.extend(part.warm(&context).await.ok()?);
        }
        Some(of_snapshot(copies, manifest))
    };
    tokio::time::timeout(PATIENCE, look).await.ok()?
}

/// Drops the copies whose snapshots the repository no longer holds. Says which.
pub async fn drop_orphans(
    parts: &[impl AsRef<dyn Part>],
    context: &backstay_run::Context,
    repository: &Repository,
) -> Result<Vec<String>, Failure> {
    let entries = repository.list(None).await?;
    let records = entries.iter().flat_map(|entry| &entry.manifest.parts);
    let kept: Vec<String> = records.map(|record| record.facts.digest.to_string()).collect();
    let mut dropped = Vec::new();
    for part in parts {
        dropped.extend(part.as_ref().cool(context, &kept).await?);
    }
    Ok(dropped)
}

pub fn lines(copies: &[WarmCopy]) -> impl Iterator<Item = String> + '_ {
    copies.iter().map(|copy| {
        let size = copy.bytes.map_or("size unknown".to_owned(), amounts::bytes);
        let open = if copy.open { ", open, to be proven again" } else { "" };
        format!("  warm: {}, a copy of {} ({size}{open}): taking it back loads nothing", copy.name, copy.of)
    })
}

pub fn json(copies: &[WarmCopy]) -> Value {
    copies
        .iter()
        .map(|copy| json!({"database": copy.name, "of": copy.of, "bytes": copy.bytes, "open": copy.open}))
        .collect()
}
