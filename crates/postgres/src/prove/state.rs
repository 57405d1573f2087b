use crate::capture::copy::Sink;
use crate::capture::large_objects::{Sinks, read};
use crate::catalog::sequences;
use crate::{DatabaseFacts, Error, RowHash, Session};

/// Indexes that are there and do not hold. One of a partitioned table is not valid until every partition
/// has its own, which may be meant so.
const INVALID: &str = "
    select 'index ' || i.indexrelid::pg_catalog.regclass::text
      from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
     where not (i.indisvalid and i.indisready and i.indislive) and c.relkind = 'i'
    order by 1";
const VIEWS: &str = "
    select n.nspname::text, c.relname::text, c.relispopulated
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'm'";

/// Compares what is neither rows nor schema: sequences, large objects, views, extensions, validity.
pub(super) async fn compare(session: &mut Session, facts: &DatabaseFacts, hash: RowHash) -> Result<Vec<String>, Error> {
    let mut findings = sequence_findings(session, facts).await?;
    findings.extend(large_object_findings(session, facts, hash).await?);
    let views: Vec<(String, String, bool)> = session.rows("list the materialized views", VIEWS).await?;
    for view in facts.matviews.iter().filter(|view| view.populated) {
        if !views.iter().any(|(schema, name, full)| *full && *schema == view.schema && *name == view.name) {
            findings.push(format!("the materialized view {}.{} is not populated", view.schema, view.name));
        }
    }
    let here = crate::catalog::database::read(session, &facts.label).await?;
    for extension in &facts.extensions {
        match here.extensions.iter().find(|one| one.name == extension.name) {
            None => findings.push(format!("the extension {} is missing", extension.name)),
            Some(one) if one.version != extension.version => findings.push(format!(
                "the extension {} is version {}, recorded was {}",
                extension.name, one.version, extension.version
            )),
            Some(_) => {}
        }
    }
    if here.settings != facts.settings {
        findings.push("the settings of the database differ from those recorded".to_owned());
    }
    let properties = |facts: &DatabaseFacts| (facts.owner.clone(), facts.encoding.clone(), facts.collate.clone());
    if properties(&here) != properties(facts) {
        findings.push("the owner, encoding or locale differs from that recorded".to_owned());
    }
    findings.extend(constraint_findings(&here, facts));
    let invalid: Vec<(String,)> = session.rows("look for invalid indexes", INVALID).await?;
    // What was invalid when it was captured is dumped as a definition and restored valid.
    findings.extend(invalid.into_iter().map(|(name,)| format!("the {name} is not valid")));
    Ok(findings)
}

/// A constraint must bind old rows exactly where it did.
fn constraint_findings(here: &DatabaseFacts, recorded: &DatabaseFacts) -> Vec<String> {
    let (Some(here), Some(recorded)) = (&here.unvalidated, &recorded.unvalidated) else { return Vec::new() };
    let fewer = here
        .iter()
        .filter(|name| !recorded.contains(name))
        .map(|name| format!("the constraint {name} is not valid, though it was when it was recorded"));
    let more = recorded
        .iter()
        .filter(|name| !here.contains(name))
        .map(|name| format!("the constraint {name} is valid or gone, and was recorded as not valid"));
    fewer.chain(more).collect()
}

async fn sequence_findings(session: &mut Session, facts: &DatabaseFacts) -> Result<Vec<String>, Error> {
    let here = sequences::read(session).await?;
    let mut findings = Vec::new();
    for recorded in &facts.sequences {
        let title = format!("{}.{}", recorded.schema, recorded.name);
        match here.iter().find(|one| one.schema == recorded.schema && one.name == recorded.name) {
            None => findings.push(format!("the sequence {title} is missing")),
            Some(one) if one != recorded => findings.push(format!(
                "the sequence {title} stands at {}, recorded was {}",
                one.last_value, recorded.last_value
            )),
            Some(_) => {}
        }
    }
    if here.len() as u64 > facts.sequences.len() as u64 + facts.sequences_lost {
        findings.push(format!("there are {} sequences, recorded were {}", here.len(), facts.sequences.len()));
    }
    Ok(findings)
}

async fn large_object_findings(
    session: &mut Session,
    facts: &DatabaseFacts,
    hash: RowHash,
) -> Result<Vec<String>, Error> {
    session.execute("begin", "begin isolation level repeatable read, read only").await?;
    let mut sinks = Sinks { list: Sink::Nowhere, contents: Sink::Nowhere };
    let here = read(session, &mut sinks, hash, &|_| {}).await?;
    session.execute("end", "rollback").await?;
    let recorded = &facts.large_objects;
    let mut findings = Vec::new();
    if (here.count, here.bytes) != (recorded.count, recorded.bytes) {
        findings.push(format!(
            "there are {} large objects of {} bytes, recorded were {} of {}",
            here.count, here.bytes, recorded.count, recorded.bytes
        ));
    } else if here.contents_fingerprint != recorded.contents_fingerprint {
        findings.push("the bytes of large objects differ from those recorded".to_owned());
    } else if here.list_fingerprint != recorded.list_fingerprint {
        findings.push("owners, grants or comments of large objects differ from those recorded".to_owned());
    }
    Ok(findings)
}
