use crate::{Error, MigrationHead, Session, identifier, qualified};

/// Which tool a table of these columns belongs to, and how to read it. The name of a table says
/// little: four tools share `schema_migrations`.
struct Tool {
    name: &'static str,
    /// All must be there.
    columns: &'static [&'static str],
    /// How many columns such a table has at most.
    columns_max: usize,
    /// Part of the table's name, where columns alone would be too little.
    named: &'static str,
    /// SQL for one version as text, in terms of the columns.
    version: &'static str,
    applied: &'static str,
    dirty: &'static str,
    heads: Heads,
}

#[derive(Clone, Copy)]
enum Heads {
    /// The last in the order of this expression.
    Last(&'static str),
    /// Every row is one.
    All,
    /// The last of each group.
    PerGroup(&'static str, &'static str),
}

const NEVER: &str = "false";
const ALWAYS: &str = "true";

const TOOLS: &[Tool] = &[
    Tool {
        name: "sqlx",
        columns: &["version", "description", "installed_on", "success", "checksum", "execution_time"],
        columns_max: 7,
        named: "",
        version: "version::pg_catalog.text",
        applied: "success",
        dirty: "not success",
        heads: Heads::Last("version"),
    },
    Tool {
        name: "flyway",
        columns: &["installed_rank", "version", "script", "checksum", "installed_by", "success"],
        columns_max: 12,
        named: "",
        version: "coalesce(version, script)::pg_catalog.text",
        applied: "success and type not like 'UNDO%' and type <> 'DELETE'",
        dirty: "not success",
        heads: Heads::Last("(version is not null), installed_rank"),
    },
    Tool {
        name: "liquibase",
        columns: &["id", "author", "filename", "dateexecuted", "orderexecuted", "exectype", "md5sum"],
        columns_max: 20,
        named: "",
        version: "(filename || '::' || id || '::' || author)::pg_catalog.text",
        applied: "exectype in ('EXECUTED', 'RERAN', 'MARK_RAN')",
        dirty: "exectype = 'FAILED'",
        heads: Heads::Last("orderexecuted, dateexecuted"),
    },
    Tool {
        name: "alembic",
        columns: &["version_num"],
        columns_max: 1,
        named: "",
        version: "version_num::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::All,
    },
    Tool {
        name: "prisma",
        columns: &["id", "checksum", "finished_at", "migration_name", "rolled_back_at", "started_at"],
        columns_max: 10,
        named: "",
        version: "migration_name::pg_catalog.text",
        applied: "finished_at is not null and rolled_back_at is null",
        dirty: "finished_at is null and rolled_back_at is null",
        heads: Heads::Last("started_at, migration_name"),
    },
    Tool {
        name: "goose",
        columns: &["id", "version_id", "is_applied", "tstamp"],
        columns_max: 4,
        named: "",
        version: "version_id::pg_catalog.text",
        applied: "version_id > 0 and is_applied and not exists (
            select 1 from {table} later where later.version_id = h.version_id and later.id > h.id
                and not later.is_applied)",
        dirty: NEVER,
        heads: Heads::Last("version_id"),
    },
    Tool {
        name: "refinery",
        columns: &["version", "name", "applied_on", "checksum"],
        columns_max: 4,
        named: "",
        version: "version::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("version"),
    },
    Tool {
        name: "django",
        columns: &["id", "app", "name", "applied"],
        columns_max: 4,
        named: "migration",
        version: "(app || '.' || name)::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::PerGroup("app", "id"),
    },
    Tool {
        name: "golang-migrate",
        columns: &["version", "dirty"],
        columns_max: 2,
        named: "",
        version: "version::pg_catalog.text",
        applied: "not dirty",
        dirty: "dirty",
        heads: Heads::All,
    },
    Tool {
        name: "ecto",
        columns: &["version", "inserted_at"],
        columns_max: 2,
        named: "migration",
        version: "version::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("version"),
    },
    Tool {
        name: "diesel",
        columns: &["version", "run_on"],
        columns_max: 2,
        named: "migration",
        version: "version::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("version"),
    },
    Tool {
        name: "seaorm",
        columns: &["version", "applied_at"],
        columns_max: 2,
        named: "migration",
        version: "version::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("version"),
    },
    Tool {
        name: "atlas",
        columns: &["version", "description", "type", "applied", "total", "error", "hash", "operator_version"],
        columns_max: 16,
        named: "",
        version: "version::pg_catalog.text",
        applied: "applied = total and coalesce(error, '') = ''",
        dirty: "applied < total or coalesce(error, '') <> ''",
        heads: Heads::Last("version"),
    },
    Tool {
        name: "sqitch",
        columns: &["change_id", "script_hash", "change", "project", "committed_at"],
        columns_max: 16,
        named: "changes",
        version: "(project || ':' || change)::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::PerGroup("project", "committed_at"),
    },
    Tool {
        name: "pgroll",
        columns: &["schema", "name", "migration", "parent", "done"],
        columns_max: 16,
        named: "migrations",
        version: "(schema || '.' || name)::pg_catalog.text",
        applied: "done",
        dirty: "not done",
        heads: Heads::PerGroup("schema", "created_at"),
    },
    Tool {
        name: "drizzle",
        columns: &["id", "hash", "created_at"],
        columns_max: 3,
        named: "migration",
        version: "hash::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("created_at, id"),
    },
    Tool {
        name: "knex",
        columns: &["id", "name", "batch", "migration_time"],
        columns_max: 4,
        named: "",
        version: "name::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("id"),
    },
    Tool {
        name: "efcore",
        columns: &["MigrationId", "ProductVersion"],
        columns_max: 2,
        named: "",
        version: "\"MigrationId\"::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("\"MigrationId\""),
    },
    Tool {
        name: "laravel",
        columns: &["id", "migration", "batch"],
        columns_max: 3,
        named: "migrations",
        version: "migration::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("id"),
    },
    Tool {
        name: "typeorm",
        columns: &["id", "timestamp", "name"],
        columns_max: 3,
        named: "migrations",
        version: "name::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("\"timestamp\", id"),
    },
    Tool {
        name: "sequelize",
        columns: &["name"],
        columns_max: 1,
        named: "sequelizemeta",
        version: "name::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("name"),
    },
    Tool {
        name: "pgmigrations",
        columns: &["id", "name", "run_on"],
        columns_max: 3,
        named: "migrations",
        version: "name::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("run_on, id"),
    },
    Tool {
        name: "dbmate",
        columns: &["version"],
        columns_max: 1,
        named: "migration",
        version: "version::pg_catalog.text",
        applied: ALWAYS,
        dirty: NEVER,
        heads: Heads::Last("version"),
    },
];

const TABLES: &str = "
    select n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
           array(select a.attname::pg_catalog.text from pg_catalog.pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relnatts < 40 and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        and exists (select 1 from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0
            and lower(a.attname) in ('version', 'version_num', 'version_id', 'installed_rank', 'orderexecuted',
                'migration_name', 'migration', 'migration_time', 'migrationid', 'app', 'script_hash', 'done', 'hash',
                'timestamp', 'name', 'run_on'))
        and (c.relname ~* '(migrat|schema_history|schema_version|alembic|changelog|goose|revisions|changes|sequelizemeta)'
            or exists (select 1 from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0
                and a.attname in ('version_num', 'installed_rank', 'orderexecuted', 'is_applied', 'execution_time',
                    'rolled_back_at', 'dirty', 'checksum')))
    order by 1, 2";

/// How far the migrations of every tool that left a history here have come, found by the columns of
/// its table, whatever its name and schema.
pub async fn heads(session: &mut Session) -> Result<Vec<MigrationHead>, Error> {
    let tables: Vec<(String, String, Vec<String>)> = session.rows("look for histories of migrations", TABLES).await?;
    let rails: Vec<_> = tables
        .iter()
        .filter(|(_, name, _)| name == "ar_internal_metadata")
        .map(|(schema, ..)| schema.clone())
        .collect();
    let mut found = Vec::new();
    for (schema, table, columns) in &tables {
        let Some(tool) = TOOLS.iter().find(|tool| tool.owns(table, columns)) else { continue };
        let mut head = tool.read(session, schema, table).await?;
        if tool.name == "dbmate" && (rails.contains(schema) || is_rails(session, schema).await?) {
            head.tool = "rails".to_owned();
        }
        found.push(head);
    }
    Ok(found)
}

async fn is_rails(session: &mut Session, schema: &str) -> Result<bool, Error> {
    let name = crate::literal(&format!("{}.ar_internal_metadata", identifier(schema)));
    let sql = format!("select pg_catalog.to_regclass({name}) is not null");
    let (found,): (bool,) = session.row("look for histories of migrations", &sql).await?;
    Ok(found)
}

impl Tool {
    fn owns(&self, table: &str, columns: &[String]) -> bool {
        columns.len() <= self.columns_max
            && table.to_lowercase().contains(self.named)
            && self.columns.iter().all(|wanted| columns.iter().any(|column| column == wanted))
    }

    async fn read(&self, session: &mut Session, schema: &str, table: &str) -> Result<MigrationHead, Error> {
        let from = qualified(schema, table);
        let (version, applied, dirty) = (self.version, self.applied.replace("{table}", &from), self.dirty);
        let heads = match self.heads {
            Heads::All => format!("select {version} from {from} h order by 1"),
            Heads::Last(order) => {
                let order = descending(order);
                format!("select {version} from {from} h where {applied} order by {order} limit 1")
            }
            Heads::PerGroup(group, order) => format!(
                "select v from (select distinct on ({group}) {version} as v from {from} h where {applied}
                 order by {group}, {}) as newest order by 1",
                descending(order)
            ),
        };
        let action = format!("read the history of migrations in {schema}.{table}");
        let versions: Vec<(String,)> = session.rows(&action, &heads).await?;
        let sql = format!("select pg_catalog.count(*) from {from} h where {applied}");
        let (applied,): (i64,) = session.row(&action, &sql).await?;
        let sql = format!("select {version} from {from} h where {dirty} order by 1 limit 100");
        let dirty: Vec<(String,)> = session.rows(&action, &sql).await?;
        Ok(MigrationHead {
            tool: self.name.to_owned(),
            schema: schema.to_owned(),
            table: table.to_owned(),
            versions: versions.into_iter().map(|(version,)| version).collect(),
            applied: u64::try_from(applied).unwrap_or_default(),
            dirty: dirty.into_iter().map(|(version,)| version).collect(),
        })
    }
}

fn descending(order: &str) -> String {
    order.split(", ").map(|key| format!("{key} desc")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::session::connect;

    const HISTORIES: &str = "
        create schema a; create schema b; create schema c; create schema d; create schema e;
        create table a._sqlx_migrations (version bigint primary key, description text, installed_on timestamptz,
            success boolean, checksum bytea, execution_time bigint);
        insert into a._sqlx_migrations values (1, 'one', now(), true, '', 1), (2, 'two', now(), true, '', 1), (3, '', now(), false, '', -1);
        create table a.alembic_version (version_num varchar(32) primary key);
        insert into a.alembic_version values ('aaa'), ('bbb');
        create table b.schema_migrations (version varchar primary key);
        insert into b.schema_migrations values ('20240101'), ('20240102');
        create table c.schema_migrations (version varchar primary key);
        create table c.ar_internal_metadata (key varchar, value varchar);
        insert into c.schema_migrations values ('7');
        create table d.schema_migrations (version bigint primary key, dirty boolean);
        insert into d.schema_migrations values (5, true);
        create table e.schema_migrations (version bigint primary key, inserted_at timestamp);
        create table e.django_migrations (id serial, app varchar(255), name varchar(255), applied timestamptz);
        insert into e.django_migrations (app, name) values ('shop', '0001'), ('auth', '0001'), ('shop', '0002');
        create table e.goose_db_version (id serial, version_id bigint, is_applied boolean, tstamp timestamp);
        insert into e.goose_db_version (version_id, is_applied) values (0, true), (1, true), (2, true), (2, false);
        create table e._prisma_migrations (id varchar(36), checksum varchar(64), finished_at timestamptz, migration_name varchar(255),
            logs text, rolled_back_at timestamptz, started_at timestamptz default now(), applied_steps_count integer);
        insert into e._prisma_migrations (migration_name, finished_at) values ('first', now()), ('broken', null);
        create table e.flyway_schema_history (installed_rank int, version varchar(50), description varchar(200), type varchar(20),
            script varchar(1000), checksum int, installed_by varchar(100), installed_on timestamp, execution_time int, success boolean);
        insert into e.flyway_schema_history (installed_rank, version, type, success) values (1, '1', 'SQL', true), (2, '1.1', 'SQL', true);
        create table e.orders (id serial, name text, applied timestamptz, version int, hash text)";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn histories_are_told_apart_by_their_columns() {
        let Some(bench) = Bench::start().await else { return };
        bench.cluster.create("shop");
        bench.cluster.sql("shop", HISTORIES);
        let mut session = connect(&bench.settings("postgres", "shop"), "test").await.unwrap();
        let heads = heads(&mut session).await.unwrap();
        let seen: Vec<_> = heads
            .iter()
            .map(|head| {
                format!(
                    "{}.{} {} +{} !{}",
                    head.schema,
                    head.tool,
                    head.versions.join(","),
                    head.applied,
                    head.dirty.join(",")
                )
            })
            .collect();
        let expected = [
            "a.sqlx 2 +2 !3",
            "a.alembic aaa,bbb +2 !",
            "b.dbmate 20240102 +2 !",
            "c.rails 7 +1 !",
            "d.golang-migrate 5 +0 !5",
            "e.prisma first +1 !broken",
            "e.django auth.0001,shop.0002 +3 !",
            "e.flyway 1.1 +2 !",
            "e.goose 1 +1 !",
            "e.ecto  +0 !",
        ];
        assert_eq!(seen, expected);
    }
}
