use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backstay_testkit::wait_until;

use super::*;
use crate::bench::Bench;
use crate::{Fingerprint, LocalTools, Options, RowSum, RowsOf, Tool, ToolCall, ToolOutcome, Tools};

fn table<'a>(facts: &'a ServerFacts, name: &str) -> &'a TableFacts {
    let (schema, name) = name.split_once('.').unwrap();
    let found = facts.databases[0].tables.iter().find(|table| table.schema == schema && table.name == name);
    found.unwrap_or_else(|| panic!("no facts of {schema}.{name}"))
}

fn sum_of(bytes: &[u8]) -> Fingerprint {
    let mut sum = RowSum::default();
    sum.push(bytes);
    sum.fingerprint()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_one_of_everything_is_captured_whole() {
    let Some(bench) = Bench::start().await else { return };
    bench.torture("tortured");
    let part = bench.part("postgres", &["tortured"]);
    let (captured, facts) = bench.capture(&part).await.unwrap();
    let database = &facts.databases[0];

    // Every table that the catalog counts rows of is there with as many.
    let listed = bench.cluster.sql(
        "tortured",
        "select string_agg(format('select %L, %L, count(*) from only %I.%I',
                                  translate(nspname, e'\n', '~'), translate(relname, e'\n', '~'), nspname, relname), ' union all ')
         from pg_class c join pg_namespace n on n.oid = relnamespace
         where relkind in ('r', 'p') and nspname in ('app', 'Odd Schema', 'a', 'a.b')",
    );
    let counted = bench.cluster.sql("tortured", &listed);
    assert_eq!(counted.lines().count(), database.tables.len());
    for line in counted.lines() {
        let (name, rows) = line.rsplit_once('|').unwrap();
        let named = |table: &&TableFacts| format!("{}|{}", table.schema, table.name).replace('\n', "~") == name;
        let table = database.tables.iter().find(named).unwrap_or_else(|| panic!("no facts of {name}"));
        let partitioned = table.rows_of == RowsOf::PartitionedTable;
        assert_eq!(table.rows, rows.parse::<u64>().unwrap(), "{name}");
        assert_eq!(table.ranges.is_empty(), partitioned, "{name}");
    }

    // What was stored is what was fingerprinted, and what psql reads.
    for name in ["app.Every \"Value", "app.generated", "app.no_columns", "app.long_values", "app.all_generated"] {
        let table = table(&facts, name);
        let text = bench.text(&captured, &table.ranges[0].stream).await;
        assert_eq!((sum_of(&text), text.len() as u64), (table.fingerprint, table.bytes), "{name}");
    }
    let every = table(&facts, "app.Every \"Value");
    let text = String::from_utf8(bench.text(&captured, &every.ranges[0].stream).await).unwrap();
    assert!(text.contains("0.30000000000000004"), "extra_float_digits of the database must not matter: {text}");
    assert!(text.contains("0044-03-15 BC"), "the date style of the database must not matter: {text}");
    assert!(text.contains("app.\"Every \"\"Value\""), "names are never cut by a search path: {text}");
    assert_eq!(bench.text(&captured, &table(&facts, "app.no_columns").ranges[0].stream).await, b"\n\n");

    let generated = table(&facts, "app.generated");
    assert_eq!(
        (&generated.columns[..], &generated.generated[..]),
        (&["a", "b", "c"].map(String::from)[..], &["twice", "upper"].map(String::from)[..])
    );
    let computed = bench.cluster.sql("tortured", "copy (select twice, upper from app.generated) to stdout");
    assert_eq!(generated.generated_fingerprint, Some(sum_of(format!("{computed}\n").as_bytes())));
    assert_eq!(table(&facts, "app.dropped").columns, ["first", "third", "fourth", "fifth"]);
    assert_eq!(table(&facts, "app.wide").columns.len(), 1600);

    assert_sequences_and_the_rest(&bench, &captured, database).await;
}

async fn assert_sequences_and_the_rest(bench: &Bench, captured: &Captured, database: &DatabaseFacts) {
    let sequence = |name: &str| {
        let found = database.sequences.iter().find(|sequence| sequence.name == name);
        found.map(|sequence| (sequence.last_value, sequence.is_called)).unwrap()
    };
    assert_eq!(sequence("unused"), (1, false));
    assert_eq!(sequence("used"), (87, true));
    assert_eq!(sequence("set_back"), (42, false));
    assert!(database.sequences.iter().any(|sequence| sequence.name == "Every \"Value_id_seq"));

    let large = &database.large_objects;
    assert_eq!((large.count, large.bytes), (4, 5 + 480_000 + 3_000_001));
    let list = bench.text(captured, large.list_stream.as_ref().unwrap()).await;
    let list = String::from_utf8(list).unwrap();
    assert!(
        list.contains(
            "700001\ttorture_owner\t{torture_owner=rw/torture_owner,torture_reader=r/torture_owner}\tlarge\t5\n"
        ),
        "{list}"
    );
    let contents = bench.text(captured, large.contents_stream.as_ref().unwrap()).await;
    assert_eq!(sum_of(&contents), large.contents_fingerprint);
    assert!(contents.starts_with(b"700001\t0\t\\\\xdeadbeef00\n"));

    let populated: Vec<_> = database.matviews.iter().map(|view| (view.name.as_str(), view.populated)).collect();
    let (filled, not) = (["Of aa", "aa_on_it", "from_function", "zz_base"], "never_filled");
    assert!(filled.iter().all(|name| populated.contains(&(name, true))) && populated.contains(&(not, false)));
    for role in ["torture_owner", "torture_reader", "Odd \"Role", "postgres"] {
        assert!(database.roles.iter().any(|name| name == role), "{role} is needed: {:?}", database.roles);
    }
    assert_eq!((database.owner.as_str(), database.connection_limit), ("torture_owner", 77));
    assert_eq!(database.comment.as_deref(), Some("tortured"));
    assert!(
        database.acl.as_ref().unwrap().iter().any(|item| item.starts_with("torture_reader=Tc/")),
        "{:?}",
        database.acl
    );
    let settings: Vec<_> = database.settings.iter().map(|s| (s.role.as_deref(), s.name.as_str())).collect();
    assert!(settings.contains(&(Some("torture_reader"), "search_path")) && settings.contains(&(None, "work_mem")));
    assert!(database.not_covered.iter().any(|what| what.contains("foreign table app.elsewhere")));
    assert!(database.extensions.iter().any(|extension| extension.name == "plpgsql"));
    assert!(database.objects.iter().any(|object| object.kind == "EVENT TRIGGER" && object.name == "watch_ddl"));
    assert!(database.publications.iter().any(|name| name == "everything"));
    assert_eq!(&bench.text(captured, &database.schema_stream).await[..5], b"PGDMP");
    let expected: u64 = bench
        .heard
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::TransferBegan { bytes_expected, .. } => *bytes_expected,
            _ => None,
        })
        .sum();
    let rows_moved: u64 = bench
        .heard
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::TransferMoved { subject, bytes, .. } if !subject.contains("large objects") => Some(*bytes),
            _ => None,
        })
        .sum();
    assert!(expected > 0 && expected == rows_moved, "{rows_moved} of {expected}");
    let events = bench.heard.events();
    let known = events.iter().position(|event| matches!(event, Event::TotalKnown { .. })).unwrap();
    assert!(!events[..known].iter().any(|event| matches!(event, Event::TransferMoved { .. })), "told too late");
    let Event::TotalKnown { bytes, rows, .. } = &events[known] else { unreachable!() };
    assert!(*bytes > 0 && *bytes <= expected && rows.is_none_or(|rows| rows > 0), "{bytes} of {expected}, {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_read_a_table_whole_is_told_which() {
    let Some(bench) = Bench::start().await else { return };
    bench.torture_of_owner("owned");
    let unreadable = |result: Result<(Captured, ServerFacts), Error>| match result {
        Err(Error::Unreadable { tables, .. }) => tables.join("; "),
        Err(other) => panic!("{other:?}"),
        Ok((_, facts)) => panic!("captured {:?}", facts.databases[0].tables.len()),
    };

    // The owner, who passes by policies, and a reader of everything who bypasses them, get the same rows.
    let (_, as_owner) = bench.capture(&bench.part("torture_owner", &["owned"])).await.unwrap();
    assert_eq!(table(&as_owner, "app.secrets").rows, 10);
    bench.cluster.sql("owned", "select lo_unlink(oid) from pg_largeobject_metadata");
    let (_, as_bypass) = bench.capture(&bench.part("torture_bypass", &["owned"])).await.unwrap();
    assert_eq!(as_owner.databases[0].tables, as_bypass.databases[0].tables);
    assert_eq!(as_owner.databases[0].objects, as_bypass.databases[0].objects);

    // Five of ten rows and no error is what COPY would give these.
    let said = unreadable(bench.capture(&bench.part("torture_watcher", &["owned"])).await);
    assert!(said.contains("app.secrets") && said.contains("row security"), "{said}");
    bench.cluster.sql("owned", "alter table app.secrets force row level security");
    let said = unreadable(bench.capture(&bench.part("torture_owner", &["owned"])).await);
    assert_eq!(said.matches("app.").count(), 1, "{said}");
    let part = bench.part_with("torture_owner", &["owned"], &["app.secrets"], Options::default());
    let (captured, facts) = bench.capture(&part).await.unwrap();
    assert!(table(&facts, "app.secrets").excluded && table(&facts, "app.secrets").ranges.is_empty());
    assert!(captured.not_covered.iter().any(|what| what.contains("app.secrets")), "{:?}", captured.not_covered);

    let said = unreadable(bench.capture(&bench.part("torture_reader", &["owned"])).await);
    assert!(said.contains("app.orders (no right to select)"), "{said}");
    bench.cluster.sql("owned", "grant select on all tables in schema app, \"Odd Schema\", a, \"a.b\" to torture_reader; grant usage on schema \"Odd Schema\", a, \"a.b\" to torture_reader; alter table app.secrets disable row level security");
    let said = unreadable(bench.capture(&bench.part("torture_reader", &["owned"])).await);
    assert!(said.contains("app.unused"), "sequences too: {said}");
    bench.cluster.sql_as("torture_owner", "owned", "select lo_from_bytea(700009, 'x')").unwrap();
    let said = unreadable(bench.capture(&bench.part("torture_watcher", &["owned"])).await);
    assert!(said.contains("700009"), "{said}");
}

fn psql(bench: &Bench, sql: &str) -> std::process::Child {
    let mut command = bench.cluster.client("psql");
    command.args(["-XAtq", "-U", "postgres", "-d", "shop", "-c", sql]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
}

fn quick() -> Options {
    Options {
        lock_timeout: std::time::Duration::from_millis(200),
        lock_wait: std::time::Duration::from_millis(800),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_stand_still_from_before_the_snapshot_to_the_last_row() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", "create table goods as select n as id, 'good ' || n as name from generate_series(1, 1000) n; create table more (id integer); insert into more values (1)");

    // Whoever holds a table is named, and waiting ends.
    let mut holder = bench.settings("postgres", "shop");
    holder = holder.with_database("shop");
    let mut session = connect(&holder, "test holder").await.unwrap();
    session.execute("hold", "begin; lock table goods in access exclusive mode").await.unwrap_err();
    session.execute("leave", "rollback").await.unwrap();
    session.execute("hold", "begin; lock table public.goods in access exclusive mode").await.unwrap();
    let part = bench.part_with("postgres", &["shop"], &[], quick());
    let error = bench.capture(&part).await.unwrap_err();
    let Error::Locked { blocker, .. } = &error else { panic!("{error:?}") };
    assert!(
        blocker.contains("public.goods")
            && blocker.contains("backstay test holder")
            && blocker.contains(&session.pid.to_string()),
        "{blocker}"
    );
    session.execute("let go", "rollback").await.unwrap();

    // Frozen: a TRUNCATE and an ALTER wait, and workers that are refused leave the table to the coordinator.
    let coordinator = connect(&holder, "test freeze").await.unwrap();
    let frozen = freeze::freeze(coordinator, &Options::default(), &bench.context).await.unwrap();
    let mut truncate = psql(&bench, "truncate goods");
    let waiting = || bench.cluster.sql("shop", "select count(*) from pg_locks where not granted") == "1";
    wait_until("TRUNCATE waits", waiting);
    let Frozen { mut session, relations, snapshot, .. } = frozen;
    let source = Source { label: "shop".to_owned(), settings: holder.clone(), exclude_rows: Vec::new() };
    let one = OneDatabase { part: &part, context: &bench.context, writer: &bench.writer, source: &source };
    let tables = one.tables(&session, &relations).unwrap();
    let name = "database".parse().unwrap();
    let plan = rows::Plan {
        part: &name,
        context: &bench.context,
        writer: &bench.writer,
        settings: &holder,
        snapshot: &snapshot,
        label: "shop",
        workers: 3,
        block_bytes: 8192,
    };
    let rows = rows::copy_all(&mut session, &relations, tables, &plan).await.unwrap();
    let goods = rows.tables.iter().find(|table| table.name == "goods").unwrap();
    assert_eq!(goods.rows, 1000);
    assert!(waiting(), "TRUNCATE still waits");
    session.close().await;
    truncate.wait().unwrap();
    assert_eq!(bench.cluster.sql("shop", "select count(*) from goods"), "0");

    // Tables that are made and dropped all the while are no reason to fail or to hang.
    let mut busy = psql(
        &bench,
        "do $$ begin for n in 1..200 loop execute 'create table come (id integer)'; commit; execute 'drop table come'; commit; end loop; end $$",
    );
    let (_, facts) = bench.capture(&bench.part("postgres", &["shop"])).await.unwrap();
    assert_eq!(table(&facts, "public.more").rows, 1);
    busy.wait().unwrap();
}

#[test]
fn numbers_are_grouped_for_people() {
    assert_eq!(
        (grouped(0), grouped(999), grouped(1204), grouped(1_234_567)),
        ("0".into(), "999".into(), "1,204".into(), "1,234,567".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_blocks_together_are_the_whole_table() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", "create table goods as select n as id, repeat('x', 500) as body from generate_series(1, 1000) n; delete from goods where id % 7 = 0");
    let mut session = connect(&bench.settings("postgres", "shop"), "test").await.unwrap();
    let facts = TableFacts {
        schema: "public".to_owned(),
        name: "goods".to_owned(),
        columns: vec!["id".to_owned(), "body".to_owned()],
        ..TableFacts::default()
    };
    let mut parts = RowSum::default();
    for (first, end) in [(0, Some(10)), (10, Some(20)), (20, None)] {
        let sql = statements::stored_rows(&facts, crate::Extent { first, end }, "UTF8");
        let mut part = RowSum::default();
        copy::copy_out(&mut session, "goods", &sql, &mut copy::Sink::Nowhere, &mut part, &|_| {}).await.unwrap();
        assert!(part.rows() > 0 && part.rows() < 858);
        parts.merge(&part);
    }
    let mut whole = RowSum::default();
    let sql = statements::stored_rows(&facts, crate::Extent::default(), "UTF8");
    assert!(sql.starts_with("copy \"public\".\"goods\" (\"id\", \"body\") to stdout"), "{sql}");
    copy::copy_out(&mut session, "goods", &sql, &mut copy::Sink::Nowhere, &mut whole, &|_| {}).await.unwrap();
    assert_eq!((whole.rows(), whole.bytes(), whole.fingerprint()), (parts.rows(), parts.bytes(), parts.fingerprint()));
}

/// Has pg_dump write out the rows as well, under the same exported snapshot.
struct Witness {
    tools: Arc<LocalTools>,
    rows: Mutex<Vec<u8>>,
}

#[async_trait]
impl Tools for Witness {
    async fn version(&self, tool: Tool, major: u32) -> Result<String, Error> {
        self.tools.version(tool, major).await
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutcome, Error> {
        if let Some(snapshot) = call.arguments.iter().find(|argument| argument.starts_with("--snapshot=")) {
            let output = tempfile::NamedTempFile::new().unwrap();
            let rows = ToolCall {
                arguments: vec!["--data-only".to_owned(), snapshot.clone()],
                options: call.options.clone(),
                output: Some(output.path()),
                ..call
            };
            self.tools.run(rows).await?;
            *self.rows.lock().unwrap() = std::fs::read(output.path()).unwrap();
        }
        self.tools.run(call).await
    }
}

impl Witness {
    fn rows_of(&self, table: &str) -> Vec<String> {
        let text = String::from_utf8(self.rows.lock().unwrap().clone()).unwrap();
        let begin = format!("COPY public.pgbench_{table} ");
        let rows = text.lines().skip_while(|line| !line.starts_with(&begin)).skip(1);
        sorted(rows.take_while(|line| *line != "\\."))
    }
}

fn sorted<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_captured_while_others_write_are_of_one_moment() {
    let Some(bench) = Bench::start().await else { return };
    if !bench.cluster.bin().join("pgbench").is_file() {
        backstay_testkit::left_out("capture under writes", "no pgbench beside the server's programs");
        return;
    }
    bench.cluster.create("shop");
    let pgbench = |arguments: &[&str]| {
        let mut command = bench.cluster.client("pgbench");
        command.args(["-U", "postgres"]).args(arguments).arg("shop");
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    assert!(pgbench(&["-i"]).wait().unwrap().success());
    let mut writers = pgbench(&["-c", "3", "-T", "600"]);
    let witness = Arc::new(Witness { tools: bench.tools(), rows: Mutex::default() });
    let written = || bench.cluster.sql("shop", "select count(*) > 50 from pgbench_history") == "t";
    wait_until("there are writes", written);
    let shop = bench.part("postgres", &["shop"]);
    let part = ServerPart::new("database".parse().unwrap(), shop.databases().to_vec(), witness.clone(), quick());
    let (captured, facts) = bench.capture(&part).await.unwrap();
    assert!(writers.try_wait().unwrap().is_none(), "they wrote all the while");
    writers.kill().unwrap();
    writers.wait().unwrap();

    // Every transaction moves the same amount in four tables.
    let mut sums = Vec::new();
    for (name, column) in [("accounts", 2), ("tellers", 2), ("branches", 1), ("history", 3)] {
        let stream = &table(&facts, &format!("public.pgbench_{name}")).ranges[0].stream;
        let text = String::from_utf8(bench.text(&captured, stream).await).unwrap();
        let amount = |line: &str| line.split('\t').nth(column).unwrap().parse::<i64>().unwrap();
        sums.push(text.lines().map(amount).sum::<i64>());
    }
    assert!(table(&facts, "public.pgbench_history").rows > 50);
    assert_eq!(sums, [sums[0]; 4]);
    for name in ["accounts", "tellers", "branches", "history"] {
        let stream = &table(&facts, &format!("public.pgbench_{name}")).ranges[0].stream;
        let text = String::from_utf8(bench.text(&captured, stream).await).unwrap();
        assert!(sorted(text.lines()) == witness.rows_of(name), "{name} is not what pg_dump saw at the same moment");
    }
}
