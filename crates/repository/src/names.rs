//! Where everything lies in a store.

use backstay_model::{Environment, ObjectId, RunId, SnapshotId};

pub(crate) const DESCRIPTION: &str = "backstay.json";
/// The same bytes once more: without them nothing else can be read.
pub(crate) const DESCRIPTION_COPY: &str = "backstay.json.copy";
pub(crate) const KEYS: &str = "keys";
pub(crate) const MANIFESTS: &str = "manifests";
pub(crate) const OBJECTS: &str = "objects";
pub(crate) const VERDICTS: &str = "verdicts";
pub(crate) const PINS: &str = "pins";
pub(crate) const RUNS: &str = "runs";
pub(crate) const LEASES: &str = "leases";
pub(crate) const CONDEMNED: &str = "condemned";

pub(crate) fn object(id: &ObjectId) -> String {
    let hex = id.to_string();
    format!("{OBJECTS}/{}/{hex}", &hex[..2])
}

/// The object a key names, where it is spelled as [`object`] spells it.
pub(crate) fn object_of(key: &str) -> Option<ObjectId> {
    let id = key.rsplit_once('/')?.1.parse().ok()?;
    (object(&id) == key).then_some(id)
}

pub(crate) fn manifests_of(environment: &Environment) -> String {
    format!("{MANIFESTS}/{environment}")
}

pub(crate) fn manifest(environment: &Environment, id: &SnapshotId) -> String {
    format!("{}/{id}", manifests_of(environment))
}

pub(crate) fn pin(environment: &Environment, id: &SnapshotId) -> String {
    format!("{PINS}/{environment}/{id}")
}

pub(crate) fn run(environment: &Environment, id: &RunId) -> String {
    format!("{RUNS}/{environment}/{id}")
}

/// The environment and snapshot in `folder/<environment>/<snapshot>[/…]`.
pub(crate) fn snapshot_of(key: &str) -> Option<(Environment, SnapshotId)> {
    let mut names = key.split('/').skip(1);
    Some((names.next()?.parse().ok()?, names.next()?.parse().ok()?))
}
