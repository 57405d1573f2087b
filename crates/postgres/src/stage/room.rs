//! Whether there is room for a copy: sessions that the server grants, and disk where it can be looked at.

use std::path::Path;

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

/// The same part with no more workers than the server has sessions for. Those that have just ended may
/// still count for a moment, so half of what is spare is left.
pub(crate) async fn with_workers_that_fit(part: &ServerPart, session: &mut Session) -> Result<ServerPart, Error> {
    let (spare,): (i64,) = session.row("count the sessions there is room for", SPARE_SESSIONS).await?;
    let fit = usize::try_from((spare - OTHER_SESSIONS) / 2).unwrap_or_default();
    Ok(part.clone().with_workers(part.options().workers.min(fit).max(1)))
}

/// Why the disk is too small, where the server is on this machine and may be asked.
pub(super) async fn lacking_disk(session: &mut Session, facts: &ServerFacts) -> Option<String> {
    let (folder, told): (String, String) = session.row("look where the server lies", PLACE).await.ok()?;
    let folder = Path::new(&folder);
    // Another machine's server may lie in a folder of the same name.
    let seen = std::fs::read_to_string(folder.join("postmaster.pid")).ok()?;
    if seen != told {
        return None;
    }
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let here = facts.databases.iter().filter(|database| matches!(database.tablespace.as_str(), "" | "pg_default"));
    let needed: u64 = here.map(|database| database.bytes).sum();
    (needed > free).then(|| {
        format!("the copy needs {} MB, and the disk that the server lies on has {} MB free", needed >> 20, free >> 20)
    })
}
