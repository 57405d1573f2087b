use backstay_part::Recorded;

use super::archive::{next, stream};
use crate::statement::change;
use crate::{Error, LargeObjectFacts, Session};

pub(crate) const TABLES: &str = "
    create temporary table pg_temp.backstay_list
        (loid oid, owner text, acl text[], words text, size int8) on commit preserve rows;
    create temporary table pg_temp.backstay_contents (loid oid, place int8, piece bytea) on commit preserve rows";

/// Objects, then bytes, then owners, grants and comments, in the order in which grants were given.
pub(crate) const FILL: &str = "
do $backstay$
declare
  one record;
  item record;
begin
  perform pg_catalog.lo_create(l.loid) from pg_temp.backstay_list l order by l.loid;
  perform pg_catalog.lo_put(c.loid, c.place, c.piece) from pg_temp.backstay_contents c;
  for one in select * from pg_temp.backstay_list order by loid loop
    if one.owner <> current_user then
      execute pg_catalog.format('alter large object %s owner to %I', one.loid, one.owner);
    end if;
    if one.words is not null then
      execute pg_catalog.format('comment on large object %s is %L', one.loid, one.words);
    end if;
    if one.acl is not null then
      execute pg_catalog.format('revoke all on large object %s from %I', one.loid, one.owner);
      for item in
        select case a.grantee when 0 then 'public'
                    else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end as grantee,
               a.privilege_type, a.is_grantable
          from pg_catalog.unnest(one.acl) with ordinality i(item, place),
               pg_catalog.aclexplode(array[i.item::pg_catalog.aclitem]) a
         order by i.place
      loop
        execute pg_catalog.format('grant %s on large object %s to %s%s', item.privilege_type, one.loid, item.grantee,
                                  case when item.is_grantable then ' with grant option' else '' end);
      end loop;
    end if;
  end loop;
end $backstay$";

pub(super) async fn load(session: &mut Session, recorded: &Recorded, facts: &LargeObjectFacts) -> Result<(), Error> {
    let (Some(list), Some(contents)) = (&facts.list_stream, &facts.contents_stream) else { return Ok(()) };
    change(session, "make room for large objects", TABLES).await?;
    copy(session, recorded, list, "backstay_list").await?;
    copy(session, recorded, contents, "backstay_contents").await?;
    change(session, "put the large objects back", FILL).await?;
    session.execute("clear away", "drop table pg_temp.backstay_list, pg_temp.backstay_contents").await
}

async fn copy(session: &mut Session, recorded: &Recorded, name: &str, table: &str) -> Result<(), Error> {
    let mut reader = recorded.repository.read(stream(recorded, name)?);
    let failed = &Error::copying("large objects", &session.database);
    // Captured by a session that speaks UTF-8.
    let sql = format!("copy pg_temp.{table} from stdin with (format text)");
    let mut copy = session.connection.copy_in_raw(&sql).await.map_err(failed)?;
    while let Some(piece) = next(&mut reader, name).await? {
        copy.send(piece).await.map_err(failed)?;
    }
    copy.finish().await.map(drop).map_err(failed)
}
