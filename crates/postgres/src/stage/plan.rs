use backstay_model::{Difference, Loss, PartKind, PartPlan};
use backstay_part::{Part, Recorded};
use backstay_run::Context;
use serde_json::json;

use super::refusals::lacking;
use crate::swap::{Entry, connect_outside, look_up, renaming_refusals, standbys};
use crate::{DatabaseFacts, Error, ServerFacts, ServerPart, Session, loss};

/// What taking these databases back would do, from the catalogs alone.
pub(crate) async fn plan(part: &ServerPart, context: &Context, recorded: &Recorded) -> Result<PartPlan, Error> {
    let facts: ServerFacts = recorded.facts().map_err(|source| Error::Facts { source })?;
    let live: Vec<_> = part.databases().iter().map(|database| database.settings.database().to_owned()).collect();
    let mut outside = connect_outside(part, &live, "plan").await?;
    let entries = look_up(&mut outside, &live).await?;
    let mut plan = PartPlan::new(part.name().clone(), PartKind::Database, json!({}));
    plan.refusals = lacking(&mut outside, &facts).await?;
    let warm = super::warm::is_there(part, context, recorded, &facts, &mut outside).await?;
    if !warm {
        plan.refusals.extend(super::room::lacking_disk(&mut outside, &facts).await);
    }
    for role in super::roles::to_make(&mut outside, &facts).await? {
        plan.steps.push(format!("make the role {}, which is not here", role.name));
    }
    plan.refusals.extend(renaming_refusals(&mut outside, &live).await?);
    let named: usize = part.databases().iter().map(|database| database.standbys.len()).sum();
    if named > 0 {
        plan.steps.push("end the sessions on standbys that read what was live before".to_owned());
    } else if standbys(&mut outside).await? > 0 {
        let text = "sessions on standbys outlive the switch and go on reading what was live before; name the standbys \
                    as `standbys` of the database, and they are ended";
        plan.warnings.push(text.to_owned());
    }
    let mut basis = serde_json::Map::new();
    let mut written = Some(Loss::default());
    for database in &facts.databases {
        let Some(configured) = part.database(&database.label) else {
            plan.refusals.push(format!("the configuration has no database {}", database.label));
            continue;
        };
        let name = configured.settings.database();
        let entry = entries.get(name);
        plan.steps.push(match warm {
            true => format!("take up the warm copy of {name}, then rename both"),
            false => format!("build {} beside {name}, prove it, then rename both", database.label),
        });
        plan.not_covered.extend(database.not_covered.iter().map(|what| format!("{name}: {what}")));
        let state = match entry {
            Some(entry) => {
                let since = written_since(configured, database).await?;
                match since {
                    Ok(loss) => written = written.map(|written| together(written, loss)),
                    Err(why) => {
                        plan.warnings.push(format!("how many rows of {name} were written since is not known: {why}"));
                        written = None;
                    }
                }
                Live::read(part, configured, entry).await?
            }
            None => {
                plan.warnings.push(format!("there is no database {name}: it is made anew"));
                Live::default()
            }
        };
        plan.differences.extend(state.differences(database, name));
        plan.must_go_back.extend(state.must_go_back(database, name));
        basis.insert(database.label.clone(), state.basis(database));
    }
    plan.loss = written;
    plan.basis = serde_json::Value::Object(basis);
    let needed = facts.databases.iter().map(|database| database.bytes).sum();
    plan.bytes_needed = Some(if warm { 0 } else { needed });
    outside.close().await;
    Ok(plan)
}

/// What was written to the live database since, or why that is not known.
async fn written_since(configured: &crate::Database, recorded: &DatabaseFacts) -> Result<Result<Loss, String>, Error> {
    let mut session = crate::connect(&configured.settings, "plan").await?;
    let since = loss::estimate(&mut session, recorded, &configured.exclude_rows).await?;
    session.close().await;
    Ok(since)
}

fn together(mut sum: Loss, loss: Loss) -> Loss {
    sum.tables.extend(loss.tables);
    sum.caveats.extend(loss.caveats);
    sum
}

/// What is live now, as far as it concerns a plan.
#[derive(Default)]
struct Live {
    oid: Option<i64>,
    properties: DatabaseFacts,
}

impl Live {
    async fn read(part: &ServerPart, configured: &crate::Database, entry: &Entry) -> Result<Self, Error> {
        let mut session: Session = crate::connect(&configured.settings, "plan").await?;
        let mut properties = crate::catalog::database::read(&mut session, &configured.label).await?;
        properties.migrations = crate::history::heads(&mut session).await?;
        let major = session.major();
        session.close().await;
        let tools = part.tools().as_ref();
        properties.objects =
            crate::schema::objects(tools, &configured.settings, major, part.options().lock_timeout).await?;
        Ok(Self { oid: Some(entry.oid), properties })
    }

    fn basis(&self, recorded: &DatabaseFacts) -> serde_json::Value {
        json!({
            "oid": self.oid,
            "schema": digest(&self.properties),
            "schema_unchanged": self.properties.objects == recorded.objects,
            "migrations": self.properties.migrations,
        })
    }

    /// Why an image captured with the recorded schema cannot run on the live one.
    fn must_go_back(&self, recorded: &DatabaseFacts, name: &str) -> Option<String> {
        let live = &self.properties;
        if self.oid.is_none() {
            Some(format!("there is no database {name}"))
        } else if live.migrations != recorded.migrations {
            Some(format!("the migrations of {name} are not where they were"))
        } else if live.objects != recorded.objects {
            let count = objects(name, recorded, live).len();
            Some(format!("the schema of {name} is not as captured: {count} of its objects differ"))
        } else {
            None
        }
    }

    fn differences(&self, recorded: &DatabaseFacts, name: &str) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |subject: String, recorded: String, live: String| {
            if recorded != live {
                found.push(Difference { subject, recorded, live });
            }
        };
        let live = &self.properties;
        let heads = |facts: &DatabaseFacts| {
            let head = |head: &crate::MigrationHead| format!("{} {}", head.tool, head.versions.join(", "));
            facts.migrations.iter().map(head).collect::<Vec<_>>().join("; ")
        };
        compare(format!("{name}: migrations"), heads(recorded), heads(live));
        compare(format!("{name}: owner"), recorded.owner.clone(), live.owner.clone());
        compare(format!("{name}: grants"), grants(recorded), grants(live));
        let limit = |facts: &DatabaseFacts| facts.connection_limit.to_string();
        compare(format!("{name}: connection limit"), limit(recorded), limit(live));
        let settings = |facts: &DatabaseFacts| {
            let one = |setting: &crate::SettingFacts| match &setting.role {
                Some(role) => format!("{} for {role}", setting.name),
                None => setting.name.clone(),
            };
            // Values may be secrets of extensions; that one differs shows in the digest.
            let names = facts.settings.iter().map(one).collect::<Vec<_>>().join(", ");
            format!("{names} ({})", short(&format!("{:?}", facts.settings)))
        };
        compare(format!("{name}: settings"), settings(recorded), settings(live));
        for extension in &recorded.extensions {
            let now = live.extensions.iter().find(|one| one.name == extension.name);
            let now = now.map_or_else(|| "none".to_owned(), |now| now.version.clone());
            compare(format!("{name}: extension {}", extension.name), extension.version.clone(), now);
        }
        found.extend(objects(name, recorded, live));
        found
    }
}

/// Objects that are not as recorded, each by its kind and name.
fn objects(name: &str, recorded: &DatabaseFacts, live: &DatabaseFacts) -> Vec<Difference> {
    let key = |object: &crate::ObjectFacts| (object.kind.clone(), object.schema.clone(), object.name.clone());
    let of = |facts: &DatabaseFacts| -> std::collections::BTreeMap<_, _> {
        facts.objects.iter().map(|object| (key(object), object.digest.clone())).collect()
    };
    let (then, now) = (of(recorded), of(live));
    let all: std::collections::BTreeSet<_> = then.keys().chain(now.keys()).collect();
    all.into_iter()
        .filter(|key| then.get(*key) != now.get(*key))
        .map(|key| {
            let (recorded, live) = match (then.get(key), now.get(key)) {
                (Some(_), Some(_)) => ("as captured", "differs"),
                (Some(_), None) => ("there", "gone"),
                _ => ("none", "new"),
            };
            let subject = format!(
                "{name}: {} {}",
                key.0.to_lowercase(),
                [key.1.as_str(), key.2.as_str()].join(".").trim_start_matches('.')
            );
            Difference { subject, recorded: recorded.to_owned(), live: live.to_owned() }
        })
        .collect()
}

/// The grants on a database in words; what PostgreSQL gives by itself, said or not, is one thing.
fn grants(facts: &DatabaseFacts) -> String {
    let owner = &facts.owner;
    let usual = [format!("=Tc/{owner}"), format!("{owner}=CTc/{owner}")];
    match &facts.acl {
        None => "the usual".to_owned(),
        Some(items) if items.iter().all(|item| usual.contains(item)) && items.len() == usual.len() => {
            "the usual".to_owned()
        }
        Some(items) => items.join(" "),
    }
}

fn digest(facts: &DatabaseFacts) -> String {
    let objects = facts.objects.iter().map(|object| format!("{object:?}\n")).collect::<String>();
    short(&objects)
}

fn short(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text.as_bytes())).chars().take(16).collect()
}
