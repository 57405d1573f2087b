use backstay_model::{Manifest, Purpose};
use backstay_part::{Recorded, Site};
use serde_json::Value;

use crate::Error;
use crate::capture::CapturedPart;

/// The key under which facts hold what differs although nothing changed.
const MOMENT: &str = "moment";

/// The newest snapshot of the environment, where it holds the same as what was captured now.
pub(crate) async fn newest_if_same(site: &Site<'_>, captured: &[CapturedPart]) -> Result<Option<Manifest>, Error> {
    let listed = site.repository.list(Some(&site.context.environment)).await;
    let listed = listed.map_err(|source| Error::Repository { action: "list", source })?;
    let newest = listed
        .into_iter()
        .map(|entry| entry.manifest)
        .find(|manifest| manifest.project == site.context.project && manifest.purpose != Purpose::Safety);
    let Some(newest) = newest.filter(|newest| newest.parts.len() == captured.len()) else { return Ok(None) };
    for part in captured {
        let Some(record) = newest.part(&part.record.name) else { return Ok(None) };
        let recorded = Recorded::open(site.repository, record).await?;
        let digests_differ = recorded.contents.len() != part.contents.len()
            || part
                .contents
                .iter()
                .any(|(name, root)| recorded.contents.get(name).is_none_or(|known| known.digest != root.digest));
        if digests_differ || timeless(&recorded.facts) != timeless(&part.facts) {
            return Ok(None);
        }
    }
    Ok(Some(newest))
}

fn timeless(facts: &Value) -> Value {
    match facts {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| *key != MOMENT);
            Value::Object(kept.map(|(key, value)| (key.clone(), timeless(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(timeless).collect()),
        other => other.clone(),
    }
}
