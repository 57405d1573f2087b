use crate::{DatabaseFacts, identifier, literal};

/// `CREATE DATABASE` with everything that cannot be changed afterwards as it was recorded. The name is as it
/// stands in SQL.
pub(crate) fn statement(name: &str, facts: &DatabaseFacts, major: u32) -> String {
    let mut sql = format!(
        "create database {name} template template0 owner {} encoding {} lc_collate {} lc_ctype {}",
        identifier(&facts.owner),
        literal(&facts.encoding),
        literal(&facts.collate),
        literal(&facts.ctype),
    );
    let locale = |keyword: &str| facts.locale.as_ref().map(|text| format!(" {keyword} {}", literal(text)));
    match facts.locale_provider.as_str() {
        "i" => sql += &format!(" locale_provider icu{}", locale("icu_locale").unwrap_or_default()),
        "b" => sql += &format!(" locale_provider builtin{}", locale("builtin_locale").unwrap_or_default()),
        _ => sql += " locale_provider libc",
    }
    if let Some(rules) = facts.icu_rules.as_ref().filter(|_| major >= 16) {
        sql += &format!(" icu_rules {}", literal(rules));
    }
    if !matches!(facts.tablespace.as_str(), "" | "pg_default") {
        sql += &format!(" tablespace {}", identifier(&facts.tablespace));
    }
    sql
}
