//! What PostgreSQL keeps to verify passwords by. It is no password, but whoever has it may guess at one
//! for as long as they like: it lies in a stream of its own, is stored sealed or not at all, and is shown nowhere.

use std::collections::BTreeMap;

use backstay_model::Root;
use backstay_part::Recorded;
use backstay_repository::SnapshotWriter;
use zeroize::Zeroizing;

use crate::{Error, ServerFacts, Session, literal};

const STREAM: &str = "roles/verifiers";
const BYTES_MAX: u64 = 64 << 20;

/// By the role's name.
pub(crate) type Verifiers = BTreeMap<String, Zeroizing<String>>;

/// Stores those of the described roles, where the session may read them and the repository seals them;
/// else says whose are not covered.
pub(super) async fn capture(
    session: &mut Session,
    writer: &SnapshotWriter,
    facts: &mut ServerFacts,
    not_covered: &mut Vec<String>,
) -> Result<Option<(String, Root)>, Error> {
    let logins: Vec<_> = facts.roles.iter().filter(|role| role.login).map(|role| role.name.as_str()).collect();
    if logins.is_empty() {
        return Ok(None);
    }
    let sql = "select pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    let (readable,): (bool,) = session.row("look at rights", sql).await?;
    if !readable || !writer.is_sealed() {
        let why = if readable { "a repository that is not sealed may not hold" } else { "only a superuser can read" };
        not_covered.push(format!("the passwords of {}, which {why}", logins.join(", ")));
        return Ok(None);
    }
    let names: Vec<_> = facts.roles.iter().map(|role| literal(&role.name)).collect();
    let sql = format!(
        "select rolname::pg_catalog.text, rolpassword from pg_catalog.pg_authid
          where rolpassword is not null and rolname::pg_catalog.text = any (array[{}]::pg_catalog.text[])",
        names.join(", ")
    );
    let rows: Vec<(String, String)> = session.rows("read the verifiers of the roles", &sql).await?;
    let text = serde_json::to_vec(&rows.into_iter().collect::<BTreeMap<_, _>>());
    let failed = |source| Error::Store { subject: STREAM.to_owned(), source };
    let root = writer.bytes(text.map_err(|source| Error::Facts { source })?).await.map_err(failed)?;
    facts.verifiers_stream = Some(STREAM.to_owned());
    Ok(Some((STREAM.to_owned(), root)))
}

/// Those that a snapshot holds.
pub(crate) async fn fetch(recorded: &Recorded, facts: &ServerFacts) -> Result<Verifiers, Error> {
    let Some(name) = &facts.verifiers_stream else { return Ok(Verifiers::new()) };
    let root = crate::stage::archive::stream(recorded, name)?;
    let failed = |source| Error::Fetch { subject: name.clone(), source };
    let bytes = Zeroizing::new(recorded.repository.read_whole(root, BYTES_MAX).await.map_err(failed)?);
    let found: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|source| Error::Facts { source })?;
    Ok(found.into_iter().map(|(role, verifier)| (role, Zeroizing::new(verifier))).collect())
}
