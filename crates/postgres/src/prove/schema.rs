use std::collections::{BTreeMap, BTreeSet};

use super::Reproof;
use crate::stage::archive::{Archive, Stretch, Target};
use crate::statement::change;
use crate::swap::{connect_in_name_of, drop_database, staged_name};
use crate::{Error, ObjectFacts, Settings, identifier, literal, schema};

type Key = (String, String, String);

/// Compares the schema object by object. Where a text differs, it may be PostgreSQL that says the same
/// in other words after a restore: then the recorded archive, restored into an empty database by the
/// same tools, says it in those words too.
pub(super) async fn compare(proof: &Reproof<'_>, settings: &Settings, major: u32) -> Result<Vec<String>, Error> {
    let tools = proof.part.tools().as_ref();
    let lock_timeout = proof.part.options().lock_timeout;
    let here = by_name(&schema::objects(tools, settings, major, lock_timeout).await?);
    let recorded = by_name(&proof.facts.objects);
    let differing = differing(&recorded, &here);
    if differing.is_empty() {
        return Ok(Vec::new());
    }
    let second = by_name(&second_generation(proof, settings, major).await?);
    let finding = |key: &Key| {
        let title = format!("{} {} {}", key.0.to_lowercase(), key.1, key.2);
        match (recorded.get(key), here.get(key), second.get(key)) {
            (Some(_), Some(here), Some(second)) if here == second => None,
            (Some(_), None, _) => Some(format!("{title} is missing")),
            (None, Some(_), _) => Some(format!("{title} was not recorded")),
            _ => Some(format!("{title} is not as recorded")),
        }
    };
    Ok(differing.iter().filter_map(finding).collect())
}

/// What a copy of the schema made of nothing but the archive says.
async fn second_generation(proof: &Reproof<'_>, settings: &Settings, major: u32) -> Result<Vec<ObjectFacts>, Error> {
    let name = staged_name(&format!("{}~schema", proof.trio.live), &proof.context.run);
    let mut outside = connect_in_name_of(proof.part, &[], "prove", &proof.context.run).await?;
    drop_database(&mut outside, &name).await?;
    let facts = proof.facts;
    let sql = format!(
        "create database {} template template0 encoding {} lc_collate {} lc_ctype {}",
        identifier(&name),
        literal(&facts.encoding),
        literal(&facts.collate),
        literal(&facts.ctype)
    );
    change(&mut outside, "create a database to compare with", &sql).await?;
    let settings = settings.with_database(&name);
    let dumped = async {
        let archive = Archive::fetch(proof.recorded, facts, proof.server).await?;
        let target = Target { part: proof.part, settings: &settings, major };
        for stretch in [Stretch::BeforeRows, Stretch::AfterRows, Stretch::Rights, Stretch::EventTriggers] {
            archive.restore(target, stretch).await?;
        }
        let (tools, lock_timeout) = (proof.part.tools().as_ref(), proof.part.options().lock_timeout);
        schema::objects(tools, &settings, major, lock_timeout).await
    }
    .await;
    drop_database(&mut outside, &name).await?;
    outside.close().await;
    dumped
}

/// Subscriptions are left out on purpose: a copy that subscribed would take from the publisher.
fn by_name(objects: &[ObjectFacts]) -> BTreeMap<Key, String> {
    let kept = objects.iter().filter(|object| !object.kind.contains("SUBSCRIPTION"));
    kept.map(|object| ((object.kind.clone(), object.schema.clone(), object.name.clone()), object.digest.clone()))
        .collect()
}

fn differing(recorded: &BTreeMap<Key, String>, here: &BTreeMap<Key, String>) -> BTreeSet<Key> {
    let all = recorded.keys().chain(here.keys());
    all.filter(|key| recorded.get(*key) != here.get(*key)).cloned().collect()
}
