//! The SQL of an export. It is read by psql, where `:"name"` and `:'name'` are the name that the database is
//! to have.

use crate::capture::statements::listed;
use crate::catalog::partitions::SCATTERED;
use crate::stage::create;
use crate::stage::finish::{parameter, value};
use crate::stage::large_objects::{FILL, TABLES};
use crate::stage::statistics::ANALYZED;
use crate::{DatabaseFacts, RoleFacts, ServerFacts, SettingFacts, TableFacts, identifier, literal, qualified, swap};

/// Makes the roles that are missing, those that others are members of first. What is there stays as it is.
pub(super) fn roles(roles: &[RoleFacts]) -> String {
    let mut sql =
        "-- Roles that are missing are made, without passwords; those that are there stay as they are.\n".to_owned();
    for role in members_last(roles) {
        let name = identifier(&role.name);
        let mut create = format!("create role {name} with connection limit {}", role.connection_limit);
        let attributes = [
            (role.superuser, " superuser"),
            (!role.inherit, " noinherit"),
            (role.create_role, " createrole"),
            (role.create_database, " createdb"),
            (role.login, " login"),
            (role.replication, " replication"),
            (role.bypass_row_security, " bypassrls"),
        ];
        create.extend(attributes.into_iter().filter(|(has, _)| *has).map(|(_, word)| word));
        if !role.member_of.is_empty() {
            let groups: Vec<_> = role.member_of.iter().map(|group| identifier(group)).collect();
            create += &format!(" in role {}", groups.join(", "));
        }
        let settings = role.settings.iter().map(|setting| format!("alter role {name} {}", set(setting)));
        let statements: Vec<_> = std::iter::once(create).chain(settings).map(|sql| literal(&sql)).collect();
        sql += &format!(
            "select {} where not exists (select from pg_catalog.pg_roles where rolname = {}) \\gexec\n",
            statements.join(", "),
            literal(&role.name)
        );
    }
    sql
}

/// Roles of PostgreSQL's own are there already.
fn members_last(roles: &[RoleFacts]) -> Vec<&RoleFacts> {
    let mut left: Vec<_> = roles.iter().filter(|role| !role.name.starts_with("pg_")).collect();
    let mut ordered: Vec<&RoleFacts> = Vec::new();
    while !left.is_empty() {
        let waiting: Vec<_> = left.iter().map(|role| role.name.clone()).collect();
        let (later, now): (Vec<&RoleFacts>, Vec<&RoleFacts>) =
            left.into_iter().partition(|role| role.member_of.iter().any(|group| waiting.contains(group)));
        // PostgreSQL has no circles of members; what claims to be one is taken as it comes.
        let stuck = now.is_empty();
        ordered.extend(now);
        left = later;
        if stuck {
            ordered.append(&mut left);
        }
    }
    ordered
}

/// Says, a line each, what the server lacks for this database, or what is in the way.
pub(super) fn check(facts: &DatabaseFacts, server: &ServerFacts) -> String {
    let major = server.server_version / 10_000;
    let encoding = literal(&facts.encoding);
    let mut sql = format!(
        "select 'it was recorded on PostgreSQL {major}, and this is ' || pg_catalog.current_setting('server_version')
  where pg_catalog.current_setting('server_version_num')::int < {major}0000;
select pg_catalog.format('%I is there already and has another encoding: %s instead of %s', datname,
                         pg_catalog.pg_encoding_to_char(encoding), {encoding})
  from pg_catalog.pg_database where datname = :'name' and pg_catalog.pg_encoding_to_char(encoding) <> {encoding};
select 'it has to be made, and ' || current_user || ' may not create databases'
  where not exists (select from pg_catalog.pg_database where datname = :'name')
    and not (select rolcreatedb or rolsuper from pg_catalog.pg_roles where rolname = current_user);\n"
    );
    for role in facts.roles.iter().chain([&facts.owner]) {
        sql += &format!(
            "select 'the role ' || {0} || ' is missing, and ' || current_user || ' may not create roles'
  where not exists (select from pg_catalog.pg_roles where rolname = {0})
    and not (select rolcreaterole or rolsuper from pg_catalog.pg_roles where rolname = current_user);\n",
            literal(role)
        );
    }
    for extension in &facts.extensions {
        sql += &format!(
            "select 'the extension ' || {0} || ' is not installed on the server'
  where not exists (select from pg_catalog.pg_available_extensions where name = {0});\n",
            literal(&extension.name)
        );
    }
    if !matches!(facts.tablespace.as_str(), "" | "pg_default") {
        sql += &format!(
            "select 'the tablespace ' || {0} || ' is missing'
  where not exists (select from pg_catalog.pg_tablespace where spcname = {0});\n",
            literal(&facts.tablespace)
        );
    }
    sql
}

pub(super) fn create(facts: &DatabaseFacts, server: &ServerFacts) -> String {
    format!("{};\n", create::statement(":\"name\"", facts, server.server_version / 10_000))
}

/// What goes before the lines of one file of rows. The first line says how many there are.
pub(super) fn rows(facts: &DatabaseFacts, table: &TableFacts, rows: u64) -> String {
    let name = qualified(&table.schema, &table.name);
    let columns = listed(&table.columns);
    let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
    let options = format!("with (format text, encoding {})", literal(&facts.encoding).trim());
    let is_partition = facts
        .objects
        .iter()
        .any(|object| object.kind == "TABLE ATTACH" && object.schema == table.schema && object.name == table.name);
    if !is_partition {
        return format!("-- {rows}\ncopy {name}{columns} from stdin {options};\n");
    }
    let place = format!("schema = {} and name = {}", literal(&table.schema), literal(&table.name));
    format!(
        "-- {rows}
-- Where a partition is chosen by a hash that is another in every copy, its rows go through the whole table.
select coalesce((select pg_catalog.format('%I.%I', root_schema, root)
  from ({SCATTERED}) as scattered (schema, name, root_schema, root, columns)
  where {place}), {}) as target \\gset
copy :target{columns} from stdin {options};\n",
        literal(&name)
    )
}

pub(super) fn before_large_objects() -> String {
    format!("{TABLES};\n")
}

/// Ends by saying how many there are.
pub(super) fn after_large_objects() -> String {
    format!("{FILL};\nselect pg_catalog.count(*) from pg_catalog.pg_largeobject_metadata;\n")
}

/// Sequences, materialised views in an order in which they can be computed, statistics.
pub(super) fn finish(facts: &DatabaseFacts) -> String {
    let mut sql = String::new();
    for sequence in &facts.sequences {
        let name = literal(&qualified(&sequence.schema, &sequence.name));
        sql += &format!(
            "select pg_catalog.setval({name}, {}, {}) \\g /dev/null\n",
            sequence.last_value, sequence.is_called
        );
    }
    let views = facts.matviews.iter().filter(|view| view.populated);
    let views: Vec<_> = views.map(|view| literal(&qualified(&view.schema, &view.name))).collect();
    if !views.is_empty() {
        sql += &REFRESH.replace("VIEWS", &views.join(", "));
    }
    sql + &format!("select 'analyze ' || name from ({ANALYZED}) as tables (name, remote) where not remote \\gexec\n")
}

const REFRESH: &str = "do $backstay$
declare
  waiting text[] := array[VIEWS];
  later text[];
  one text;
begin
  while pg_catalog.cardinality(waiting) > 0 loop
    later := '{}';
    foreach one in array waiting loop
      begin
        execute 'refresh materialized view ' || one;
      exception when object_not_in_prerequisite_state then
        later := later || one;
      end;
    end loop;
    if pg_catalog.cardinality(later) = pg_catalog.cardinality(waiting) then
      raise exception 'these views cannot be computed: %', later;
    end if;
    waiting := later;
  end loop;
end $backstay$;
";

/// What stands beside a database: settings, grants, comment.
pub(super) fn settings(facts: &DatabaseFacts) -> String {
    let mut sql = String::new();
    for setting in &facts.settings {
        let whose = match &setting.role {
            Some(role) => format!("alter role {} in database :\"name\"", identifier(role)),
            None => "alter database :\"name\"".to_owned(),
        };
        sql += &format!("{whose} {};\n", set(setting));
    }
    if facts.connection_limit >= 0 {
        sql += &format!("alter database :\"name\" connection limit {};\n", facts.connection_limit);
    }
    if let Some(comment) = swap::words_of(facts.comment.as_deref()) {
        sql += &format!("comment on database :\"name\" is {};\n", literal(&comment));
    }
    let Some(acl) = &facts.acl else { return sql };
    let items: Vec<_> = acl.iter().map(|item| literal(item)).collect();
    sql += &format!("revoke all on database :\"name\" from public, {};\n", identifier(&facts.owner));
    sql += &format!(
        "select pg_catalog.format('grant %s on database %I to %s%s', a.privilege_type, :'name',
    case a.grantee when 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end,
    case when a.is_grantable then ' with grant option' else '' end)
  from pg_catalog.unnest(array[{}]::pg_catalog.text[]) with ordinality i(item, place),
       pg_catalog.aclexplode(array[i.item::pg_catalog.aclitem]) a
  order by i.place \\gexec\n",
        items.join(", ")
    );
    sql
}

fn set(setting: &SettingFacts) -> String {
    format!("set {} = {}", parameter(&setting.name), value(setting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_comes_after_those_it_is_a_member_of() {
        let role = |name: &str, groups: &[&str]| RoleFacts {
            name: name.to_owned(),
            member_of: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..RoleFacts::default()
        };
        let roles = [role("a", &["b", "pg_monitor"]), role("b", &["c"]), role("c", &[]), role("pg_monitor", &[])];
        let names: Vec<_> = members_last(&roles).into_iter().map(|role| role.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
        assert_eq!(members_last(&[role("x", &["y"]), role("y", &["x"])]).len(), 2);
    }
}
