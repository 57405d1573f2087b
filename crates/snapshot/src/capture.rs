use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_model::{Event, PartKind, PartName, PartRecord};
use backstay_part::{Contents, Part, Site};
use backstay_repository::SnapshotWriter;
use serde_json::Value;

use crate::Error;

/// A part that was captured and whose record is in the repository.
#[derive(Debug)]
pub(crate) struct CapturedPart {
    pub record: PartRecord,
    pub contents: Contents,
    pub facts: Value,
    pub not_covered: Vec<String>,
}

type Looks = BTreeMap<PartName, Value>;

/// Captures all parts, databases first. What has no moment of its own is looked at before and after:
/// where it changed in between, the parts would not belong together, and all are captured again, once.
pub(crate) async fn capture_all(site: &Site<'_>, writer: &SnapshotWriter) -> Result<Vec<CapturedPart>, Error> {
    let mut before = look_all(site).await?;
    let mut again = false;
    loop {
        let captured = capture_each(site, writer).await?;
        let after = look_all(site).await?;
        match changed(&before, &after) {
            None => return Ok(captured),
            Some(part) if again => return Err(Error::Changing { part }),
            Some(part) => {
                site.context.warn(format!("{part} changed while the snapshot was taken; everything is captured again"));
                (before, again) = (after, true);
            }
        }
    }
}

async fn capture_each(site: &Site<'_>, writer: &SnapshotWriter) -> Result<Vec<CapturedPart>, Error> {
    let (databases, others): (Vec<_>, Vec<_>) = site.parts.iter().partition(|part| part.kind() == PartKind::Database);
    let mut captured = Vec::new();
    for part in databases.into_iter().chain(others) {
        captured.push(capture_one(site, part, writer).await?);
    }
    Ok(captured)
}

async fn capture_one(site: &Site<'_>, part: &Arc<dyn Part>, writer: &SnapshotWriter) -> Result<CapturedPart, Error> {
    let step = format!("capture {}", part.name());
    site.context.hear(Event::StepBegan { step: step.clone() });
    let captured = part.capture(site.context, writer).await?;
    let record = captured.record(writer, part.name(), part.kind()).await?;
    site.context.hear(Event::StepEnded { step, remark: Some(captured.summary.clone()) });
    Ok(CapturedPart { record, contents: captured.contents, facts: captured.facts, not_covered: captured.not_covered })
}

async fn look_all(site: &Site<'_>) -> Result<Looks, Error> {
    let mut looks = Looks::new();
    for part in site.parts {
        if let Some(look) = part.look(site.context).await? {
            looks.insert(part.name().clone(), look);
        }
    }
    Ok(looks)
}

fn changed(before: &Looks, after: &Looks) -> Option<PartName> {
    after.iter().find(|(name, look)| before.get(*name) != Some(look)).map(|(name, _)| name.clone())
}
