use std::collections::{BTreeMap, BTreeSet};

use backstay_model::{
    Environment, HEALTH_LABEL, HEALTHY, Loss, Manifest, PartKind, PartName, PartPlan, Project, SnapshotId,
};
use backstay_part::{Recorded, Site};
use backstay_repository::{Entry, Repository};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

/// The snapshot to take back to, read from the repository once for the whole run.
pub struct Source {
    pub(crate) manifest: Manifest,
    pub(crate) proven: bool,
    pub(crate) parts: BTreeMap<PartName, Recorded>,
}

impl Source {
    pub async fn open(repository: &Repository, entry: &Entry) -> Result<Self, Error> {
        let mut parts = BTreeMap::new();
        for record in &entry.manifest.parts {
            parts.insert(record.name.clone(), Recorded::open(repository, record).await?);
        }
        Ok(Self { manifest: entry.manifest.clone(), proven: entry.is_proven(), parts })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the snapshot holds of one kind of part.
    pub fn recorded(&self, kind: PartKind) -> impl Iterator<Item = &Recorded> {
        self.parts.values().filter(move |recorded| recorded.record.kind == kind)
    }
}

/// What of a snapshot is to be taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// These kinds alone. Nothing for the whole release.
    pub only: Option<BTreeSet<PartKind>>,
    /// Start an image on a schema it was not captured with.
    pub on_other_schema: bool,
}

/// What a restore would do, made without changing anything. Carrying it out leaves no choice open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub project: Project,
    pub environment: Environment,
    pub snapshot: SnapshotId,
    pub taken_at: DateTime<Utc>,
    /// The newest verdict on the snapshot is good. It is proven again before anything is switched.
    pub proven: bool,
    pub depth: Depth,
    pub parts: Vec<PartPlan>,
    /// What runs on the parts, and which of it is stopped for the switch.
    pub workload: String,
    pub stops: Vec<String>,
    pub steps: Vec<String>,
    pub loss: Option<Loss>,
    pub bytes_needed: u64,
    pub warnings: Vec<String>,
    pub not_covered: Vec<String>,
    /// Why this cannot be carried out. Empty where it can.
    pub refusals: Vec<String>,
    /// A digest of what must still be so when the plan is carried out.
    pub basis: String,
}

/// How much goes back, and by what evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    pub kinds: BTreeSet<PartKind>,
    /// What could go back alone, without data: schema and migration head are as captured.
    pub enough: Option<BTreeSet<PartKind>>,
    /// Why data must go back, where it must.
    pub data_must_go_back: Vec<String>,
}

/// Looks at every part and says what taking it back would do.
pub async fn plan(site: &Site<'_>, source: &Source, wish: &Wish) -> Result<Plan, Error> {
    let manifest = &source.manifest;
    let mut all = Vec::new();
    for part in site.parts {
        if let Some(recorded) = source.parts.get(part.name()) {
            all.push(part.plan(site.context, recorded).await?);
        }
    }
    let wanted = |kind: PartKind| wish.only.as_ref().is_none_or(|only| only.contains(&kind));
    let depth = depth(&all, &wanted);
    let mut refusals = refusals(site, source, &wanted);
    let mut warnings = Vec::from_iter(unhealthy_then(manifest));
    if let Some(text) = schema_mismatch(&depth) {
        if wish.on_other_schema { warnings.push(text) } else { refusals.push(text) }
    }
    let parts: Vec<PartPlan> = all.into_iter().filter(|part| wanted(part.kind)).collect();
    refusals.extend(parts.iter().flat_map(|part| named(part, &part.refusals)));
    warnings.extend(parts.iter().flat_map(|part| named(part, &part.warnings)));
    if parts.iter().filter(|part| part.kind == PartKind::Database).count() > 1 {
        warnings.push("databases of different servers do not switch in one moment: it is not atomic".to_owned());
    }
    let stops = site.workload.running(site.context).await?;
    Ok(Plan {
        project: manifest.project.clone(),
        environment: manifest.environment.clone(),
        snapshot: manifest.id.clone(),
        taken_at: manifest.taken_at,
        proven: source.proven,
        steps: steps(&parts, &stops),
        workload: site.workload.describe(),
        stops,
        loss: estimate(&parts),
        bytes_needed: parts.iter().filter_map(|part| part.bytes_needed).sum(),
        warnings,
        not_covered: not_covered(site, manifest, &parts, &wanted),
        refusals,
        basis: digest(manifest, &parts),
        depth,
        parts,
    })
}

impl Plan {
    /// The parts that are not as recorded, in order.
    pub fn changing(&self) -> impl Iterator<Item = &PartPlan> {
        self.parts.iter().filter(|part| !part.unchanged)
    }

    /// Looks again: the plan with fresh figures, or which parts are no longer as they were.
    pub(crate) async fn renewed(&self, site: &Site<'_>, source: &Source) -> Result<Vec<PartPlan>, Error> {
        if !self.refusals.is_empty() {
            return Err(Error::Refused { refusals: self.refusals.clone() });
        }
        let mut fresh = Vec::new();
        for planned in &self.parts {
            let missing = || Error::PartNotHere { snapshot: self.snapshot.clone(), part: planned.part.clone() };
            let part = site.part(&planned.part).ok_or_else(missing)?;
            let recorded = source.parts.get(&planned.part).ok_or_else(missing)?;
            fresh.push(part.plan(site.context, recorded).await?);
        }
        let of_this_snapshot =
            source.manifest.id == self.snapshot && digest(&source.manifest, &self.parts) == self.basis;
        let moved: Vec<PartName> = self
            .parts
            .iter()
            .zip(&fresh)
            .filter(|(planned, fresh)| planned.basis != fresh.basis || !of_this_snapshot)
            .map(|(planned, _)| planned.part.clone())
            .collect();
        if moved.is_empty() { Ok(fresh) } else { Err(Error::Moved { parts: moved }) }
    }
}

/// The rows that would be lost, where every database can say so.
pub(crate) fn estimate(parts: &[PartPlan]) -> Option<Loss> {
    let losses =
        parts.iter().filter(|part| part.kind == PartKind::Database && !part.unchanged).map(|part| part.loss.as_ref());
    together(losses.collect::<Option<Vec<_>>>()?)
}

pub(crate) fn together<'a>(losses: impl IntoIterator<Item = &'a Loss>) -> Option<Loss> {
    let mut whole: Option<Loss> = None;
    for loss in losses {
        let sum = whole.get_or_insert_with(|| Loss { exact: true, ..Loss::default() });
        sum.exact &= loss.exact;
        sum.tables.extend(loss.tables.iter().cloned());
        sum.caveats.extend(loss.caveats.iter().cloned());
    }
    whole
}

fn depth(parts: &[PartPlan], wanted: &impl Fn(PartKind) -> bool) -> Depth {
    let kinds: BTreeSet<PartKind> = parts.iter().map(|part| part.kind).filter(|kind| wanted(*kind)).collect();
    let why: Vec<String> = parts.iter().flat_map(|part| named(part, &part.must_go_back)).collect();
    let rest: BTreeSet<PartKind> = kinds.iter().copied().filter(|kind| *kind != PartKind::Database).collect();
    let alone = kinds.contains(&PartKind::Database) && !rest.is_empty() && why.is_empty();
    Depth { kinds, enough: alone.then_some(rest), data_must_go_back: why }
}

fn unhealthy_then(manifest: &Manifest) -> Option<String> {
    let health = manifest.labels.get(HEALTH_LABEL).filter(|health| *health != HEALTHY)?;
    Some(format!("when this snapshot was taken the release was not known to be healthy ({health})"))
}

fn schema_mismatch(depth: &Depth) -> Option<String> {
    let without_data = !depth.kinds.contains(&PartKind::Database) && !depth.kinds.is_empty();
    (without_data && !depth.data_must_go_back.is_empty()).then(|| {
        format!("the release was not captured with the schema that is live: {}", depth.data_must_go_back.join("; "))
    })
}

fn refusals(site: &Site<'_>, source: &Source, wanted: &impl Fn(PartKind) -> bool) -> Vec<String> {
    let manifest = &source.manifest;
    let mut refusals = Vec::new();
    if manifest.project != site.context.project || manifest.environment != site.context.environment {
        let (project, environment) = (&manifest.project, &manifest.environment);
        refusals.push(format!("snapshot {} is of {project}, {environment}", manifest.id));
    }
    let mut any = false;
    for record in manifest.parts.iter().filter(|record| wanted(record.kind)) {
        any = true;
        if site.part(&record.name).is_none() {
            refusals.push(backstay_model::with_causes(&Error::PartNotHere {
                snapshot: manifest.id.clone(),
                part: record.name.clone(),
            }));
        }
    }
    if !any {
        refusals.push(format!("snapshot {} holds nothing of what was asked for", manifest.id));
    }
    refusals
}

fn not_covered(
    site: &Site<'_>,
    manifest: &Manifest,
    parts: &[PartPlan],
    wanted: &impl Fn(PartKind) -> bool,
) -> Vec<String> {
    let mut texts = manifest.not_covered.clone();
    texts.extend(parts.iter().flat_map(|part| named(part, &part.not_covered)));
    let stays = site.parts.iter().filter(|part| manifest.part(part.name()).is_none());
    texts.extend(stays.map(|part| format!("{}: the snapshot holds nothing of it, and it stays as it is", part.name())));
    let left = manifest.parts.iter().filter(|record| !wanted(record.kind));
    texts.extend(left.map(|record| format!("{}: not asked for, and it stays as it is", record.name)));
    texts
}

fn steps(parts: &[PartPlan], stops: &[String]) -> Vec<String> {
    let changing: Vec<&PartPlan> = parts.iter().filter(|part| !part.unchanged).collect();
    let mut steps: Vec<String> = Vec::new();
    if changing.is_empty() {
        return vec!["nothing: everything is as it was recorded".to_owned()];
    }
    steps.extend(changing.iter().map(|part| format!("stage {} beside what is live, and prove it", part.part)));
    if !stops.is_empty() {
        steps.push(format!("stop {}", stops.join(", ")));
    }
    for part in changing {
        steps.extend(part.steps.iter().map(|step| format!("{}: {step}", part.part)));
    }
    steps.push("start and probe; what is unhealthy is taken back".to_owned());
    steps
}

fn named<'a>(part: &'a PartPlan, texts: &'a [String]) -> impl Iterator<Item = String> + 'a {
    texts.iter().map(|text| format!("{}: {text}", part.part))
}

fn digest(manifest: &Manifest, parts: &[PartPlan]) -> String {
    let basis: Vec<_> = parts.iter().map(|part| (&part.part, &part.basis)).collect();
    let text = serde_json::json!({ "snapshot": manifest.id, "environment": manifest.environment, "parts": basis });
    hex::encode(Sha256::digest(text.to_string().as_bytes()))
}
