//! Whether there is room for a copy: sessions that the server grants, and disk where it can be looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, ServerFacts, ServerPart, Session};

/// Sessions that the run itself has beside its workers: the one outside, and one in the copy.
const OTHER_SESSIONS: i64 = 2;

const SPARE_SESSIONS: &str = "
    select least(
        case when r.rolsuper or r.rolconnlimit < 0 then 1000000
             else r.rolconnlimit - (select pg_catalog.count(*) from pg_catalog.pg_stat_activity where usesysid = r.oid) end,
        pg_catalog.current_setting('max_connections')::pg_catalog.int8
            - case when r.rolsuper then 0
                   else pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int8 end
            - (select pg_catalog.count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend'))
    from pg_catalog.pg_roles r where r.rolname = current_user";

/// Only superusers may ask where the server lies.
const PLACE: &str = "
    select pg_catalog.current_setting('data_directory'), pg_catalog.pg_read_file('postmaster.pid')";

const TABLESPACES: &str = "
    select spcname::pg_catalog.text, pg_catalog.pg_tablespace_location(oid) from pg_catalog.pg_tablespace";

/// The same part with no more workers than the server has sessions for. Those that have just ended may
/// still count for a moment, so half of what is spare is left.
pub(crate) async fn with_workers_that_fit(part: &ServerPart, session: &mut Session) -> Result<ServerPart, Error> {
    let (spare,): (i64,) = session.row("count the sessions there is room for", SPARE_SESSIONS).await?;
    let fit = usize::try_from((spare - OTHER_SESSIONS) / 2).unwrap_or_default();
    Ok(part.clone().with_workers(part.options().workers.min(fit).max(1)))
}

/// Why a disk is too small, where the server is on this machine and may be asked.
pub(super) async fn lacking_disk(session: &mut Session, facts: &ServerFacts) -> Vec<String> {
    let Ok((folder, told)) = session.row::<(String, String)>("look where the server lies", PLACE).await else {
        return Vec::new();
    };
    // Another machine's server may lie in a folder of the same name.
    let seen = std::fs::read_to_string(Path::new(&folder).join("postmaster.pid"));
    if seen.ok().as_ref() != Some(&told) {
        return Vec::new();
    }
    let places: Vec<(String, String)> =
        session.rows("look where the tablespaces lie", TABLESPACES).await.unwrap_or_default();
    let mut needed: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for database in &facts.databases {
        // The server's own lie in its folder, and have no place of their own.
        let place = places.iter().find(|(name, place)| *name == database.tablespace && !place.is_empty());
        let place = place.map_or(folder.as_str(), |(_, place)| place.as_str());
        *needed.entry(place.into()).or_default() += database.bytes;
    }
    needed.iter().filter_map(|(place, needed)| too_small(place, *needed)).collect()
}

fn too_small(place: &Path, needed: u64) -> Option<String> {
    let disk = rustix::fs::statvfs(place).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    (needed > free).then(|| {
        let (place, needed, free) = (place.display(), needed >> 20, free >> 20);
        format!("the copy needs {needed} MB, and the disk that {place} lies on has {free} MB free")
    })
}
