use backstay_run::Context;

use super::search_path;
use crate::statement::change;
use crate::{DatabaseFacts, Error, MatviewFacts, Session, SettingFacts, identifier, literal, qualified};

/// Parameters whose value is a list of quoted names.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];
/// What reading an unpopulated view is called.
const NOT_IN_STATE: &str = "55000";

/// What remains within the database but for statistics: sequences and views.
pub(super) async fn finish(session: &mut Session, context: &Context, facts: &DatabaseFacts) -> Result<(), Error> {
    for sequence in &facts.sequences {
        let name = literal(&qualified(&sequence.schema, &sequence.name));
        let sql = format!("select pg_catalog.setval({name}, {}, {})", sequence.last_value, sequence.is_called);
        change(session, "set a sequence", &sql).await?;
    }
    refresh_all(session, context, facts).await
}

/// Refreshes each once all it reads from is populated.
async fn refresh_all(session: &mut Session, context: &Context, facts: &DatabaseFacts) -> Result<(), Error> {
    let mut waiting: Vec<_> = facts.matviews.iter().filter(|view| view.populated).collect();
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        let mut last = None;
        for view in waiting {
            match refresh(session, context, facts, view).await {
                Err(error) if error.sqlstate().as_deref() == Some(NOT_IN_STATE) => {
                    later.push(view);
                    last = Some(error);
                }
                other => other?,
            }
        }
        if let Some(error) = last.filter(|_| later.len() == before) {
            return Err(error);
        }
        waiting = later;
    }
    Ok(())
}

async fn refresh(
    session: &mut Session,
    context: &Context,
    facts: &DatabaseFacts,
    view: &MatviewFacts,
) -> Result<(), Error> {
    let name = qualified(&view.schema, &view.name);
    let (action, sql) = (format!("refresh {name}"), format!("refresh materialized view {name}"));
    match change(session, &action, &sql).await {
        Err(error) if search_path::finds_nothing(&error) => {
            context.warn(search_path::warning(&format!("{}.{}", view.schema, view.name), &error));
            let path = format!("set search_path = {}", search_path::of(facts, &view.schema));
            session.execute("set the search path", &path).await?;
            let refreshed = change(session, &action, &sql).await;
            session.execute("take the search path back", "set search_path = ''").await?;
            refreshed
        }
        other => other,
    }
}

/// What stands beside the database: its settings and grants. They stay with it when it is renamed.
pub(super) async fn describe(outside: &mut Session, database: &str, facts: &DatabaseFacts) -> Result<(), Error> {
    let name = identifier(database);
    for setting in &facts.settings {
        let whose = match &setting.role {
            Some(role) => format!("alter role {} in database {name}", identifier(role)),
            None => format!("alter database {name}"),
        };
        let sql = format!("{whose} set {}", assignment(setting));
        change(outside, &format!("set {} for the database", setting.name), &sql).await?;
    }
    let Some(acl) = &facts.acl else { return Ok(()) };
    let owner = identifier(&facts.owner);
    change(outside, "take the default grants back", &format!("revoke all on database {name} from public, {owner}"))
        .await?;
    for grant in grants(outside, acl, &name).await? {
        change(outside, "grant rights on the database", &grant).await?;
    }
    Ok(())
}

async fn grants(outside: &mut Session, acl: &[String], database: &str) -> Result<Vec<String>, Error> {
    let items = acl.iter().map(|item| literal(item)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "select a.privilege_type, case a.grantee when 0 then 'public'
                    else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end, a.is_grantable
           from pg_catalog.unnest(array[{items}]::pg_catalog.text[]) with ordinality i(item, place),
                pg_catalog.aclexplode(array[i.item::pg_catalog.aclitem]) a
          order by i.place"
    );
    let rows: Vec<(String, String, bool)> = outside.rows("read the recorded grants", &sql).await?;
    let grant = |(privilege, role, grantable)| {
        let option = if grantable { " with grant option" } else { "" };
        format!("grant {privilege} on database {database} to {role}{option}")
    };
    Ok(rows.into_iter().map(grant).collect())
}

/// `work_mem = '5MB'`.
pub(super) fn assignment(setting: &SettingFacts) -> String {
    format!("{} = {}", parameter(&setting.name), value(setting))
}

/// The name of a parameter, which may be an extension's: `auto_explain.log_analyze`.
pub(crate) fn parameter(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// Its value, where the parameter is a list, name by name.
pub(crate) fn value(setting: &SettingFacts) -> String {
    if !LISTS.contains(&setting.name.to_ascii_lowercase().as_str()) {
        return literal(&setting.value);
    }
    let names = elements(&setting.value);
    if names.is_empty() {
        "''".to_owned()
    } else {
        names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
    }
}

/// The names of a list such as `"$user", public`.
fn elements(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut name = String::new();
    let mut quoted = false;
    let mut any = false;
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                name.push('"');
                characters.next();
            }
            '"' => (quoted, any) = (!quoted, true),
            ',' if !quoted => {
                found.push(std::mem::take(&mut name));
                any = false;
            }
            space if !quoted && space.is_whitespace() => {}
            other => {
                name.push(other);
                any = true;
            }
        }
    }
    if any {
        found.push(name);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_set_name_by_name() {
        let set = |name: &str, value: &str| {
            super::value(&SettingFacts { role: None, name: name.to_owned(), value: value.to_owned() })
        };
        assert_eq!(set("search_path", "\"$user\", public, \"a\"\"b, c\""), "'$user', 'public', 'a\"b, c'");
        assert_eq!(set("search_path", "\"\""), "''");
        assert_eq!(set("work_mem", "4MB"), "'4MB'");
    }
}
