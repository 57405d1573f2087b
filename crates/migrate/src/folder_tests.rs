use std::fs;
use std::path::{Path, PathBuf};

use backstay_model::with_causes;
use backstay_testkit::PrivateCluster;

use crate::stand::{context, dump, files, fresh, read, target_at, write};
use crate::{Error, Folder, ForeignCommand, RunOptions, WayBack, plan, rehearse_on_copy, run, run_command, status};

fn bad() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/migrations-bad")
}

/// Each folder holds a `message`; `applied`, where it is there, is run first.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_folder_is_refused_with_its_own_message_and_nothing_changes() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let (context, _) = context();
    let mut folders: Vec<PathBuf> = fs::read_dir(bad()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() >= 12);
    for path in folders {
        let why = path.file_name().unwrap().to_str().unwrap();
        let target = fresh(&cluster, why);
        if path.join("applied").is_dir() {
            let first = Folder::read(&path.join("applied")).unwrap();
            run(&context, &target, &first, &RunOptions::default()).await.unwrap();
        }
        let before = cluster.dump(why);
        let wanted = fs::read_to_string(path.join("message")).unwrap();
        let error = match Folder::read(&path.join("migrations")) {
            Err(error) => error,
            Ok(folder) => run(&context, &target, &folder, &RunOptions::default()).await.unwrap_err(),
        };
        assert_eq!(with_causes(&error).trim(), wanted.trim(), "{why}");
        assert_eq!(cluster.dump(why), before, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_files_and_one_of_five_megabytes_run_in_one_transaction() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    let folder = files(&[("0001_t.sql", "\u{feff}create table t (i int, s text);\r\n")]);
    for number in 2..=999 {
        write(folder.path(), &format!("{number:04}_n.sql"), &format!("insert into t values ({number}, 'x')"));
    }
    let row = format!("insert into t values (0, '{};--''');\r\n", "é".repeat(2500));
    write(folder.path(), "1000_large.sql", &row.repeat(1000));
    let (context, _) = context();
    let report = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!((report.applied.len(), report.transactions), (1000, 1));
    assert_eq!(cluster.sql("shop", "select count(*) from t"), "1998");
    let kept =
        "select sha384(raw) = checksum from (select h.checksum, convert_to(s.sql, 'UTF8') raw from _sqlx_migrations h
        join backstay.scripts s using (checksum) where version = 1) x";
    assert_eq!(cluster.sql("shop", kept), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_read_can_plan_and_ask_for_the_status() {
    let Some(cluster) = PrivateCluster::start() else { return };
    fresh(&cluster, "shop");
    cluster.sql(
        "shop",
        "create table t (i int); create role reader login; grant select on all tables in schema public to reader",
    );
    cluster.sql("shop", "create table alembic_version (version_num varchar(32) primary key); insert into alembic_version values ('abc')");
    cluster.sql("shop", "grant select on alembic_version to reader");
    let reader = target_at(&cluster.url_as("reader", "shop"));
    let folder = files(&[("1_a.sql", "alter table t add j int not null")]);
    let before = cluster.dump("shop");
    let planned = plan(&reader, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!((planned.pending(), planned.bookkeeping), (1, false));
    assert!(planned.advice.iter().any(|advice| advice.file == "1_a.sql"));
    assert!(planned.to_string().contains("1_a.sql"));
    let status = status(&reader, Some(&read(&folder))).await.unwrap();
    assert_eq!(status.pending, ["1_a.sql"]);
    assert_eq!((status.tools[0].tool.as_str(), status.tools[0].versions[0].as_str()), ("alembic", "abc"));
    assert_eq!(cluster.dump("shop"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_on_a_copy_says_what_each_statement_does_and_whether_there_is_a_way_back() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let (context, _) = context();
    let start = "create table p (i int primary key, v varchar(10)); insert into p select g, 'x' from generate_series(1, 100) g;
        create table c (i int references p on delete cascade); insert into c select g from generate_series(1, 50) g; create sequence s";
    let cases: &[(&str, &str, &str)] = &[
        ("reversible", "alter table p add column n int default 5", "alter table p drop column n"),
        ("lossy", "alter table p drop column v", "alter table p add column v varchar(10)"),
        ("not", "alter table p drop column v", "select 1"),
    ];
    for (verdict, up, down) in cases {
        let copy = fresh(&cluster, verdict);
        cluster.sql(verdict, start);
        let folder = files(&[("1_a.up.sql", up), ("1_a.down.sql", down)]);
        let rehearsal = rehearse_on_copy(&context, &copy, &read(&folder), &RunOptions::default()).await.unwrap();
        let found = serde_json::to_value(&rehearsal.way_back).unwrap();
        assert_eq!(found["verdict"], *verdict, "{found}");
        assert!(rehearsal.to_string().contains("cannot know"));
    }
    let copy = fresh(&cluster, "measured");
    cluster.sql("measured", start);
    let folder = files(&[
        (
            "1_m.sql",
            "alter table p alter column v type varchar(5); alter table p alter column v set not null; delete from p where i <= 10;
             select nextval('s'); alter table c add check (i > 0) not valid; alter table p add column t timestamptz default clock_timestamp()",
        ),
        ("2_i.sql", "-- no-transaction\ncreate index concurrently c_i on c (i)"),
    ]);
    let rehearsal = rehearse_on_copy(&context, &copy, &read(&folder), &RunOptions::default()).await.unwrap();
    let found = &rehearsal.statements;
    assert_eq!(found[0].rewrites[0].why, "a column's type changes in form");
    assert_eq!(found[0].locks[0].mode.words(), "ACCESS EXCLUSIVE");
    assert!(found[1].rewrites.is_empty() && found[1].scans[0].rows == 100);
    let deleted: Vec<_> = found[2].rows.iter().map(|rows| (rows.table.as_str(), rows.deleted)).collect();
    assert_eq!(deleted, [("public.p", 10), ("public.c", 10)]);
    assert_eq!(found[3].sequences, ["public.s"]);
    assert!(found[4].scans.is_empty());
    assert_eq!(found[5].rewrites[0].why, "a column's default must be computed for each row");
    assert!(found[6].note.is_some());
    assert!(matches!(rehearsal.way_back, Some(WayBack::Not { .. })));

    let deferred = files(&[(
        "1_d.sql",
        "create table d (i int references p deferrable initially deferred); insert into d values (-1)",
    )]);
    let copy = fresh(&cluster, "deferred");
    cluster.sql("deferred", start);
    let error = rehearse_on_copy(&context, &copy, &read(&deferred), &RunOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Commit { .. }), "{}", with_causes(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tool_finds_the_url_in_its_variable_and_never_prints_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    let (context, _) = context();
    let command = |script: &str| ForeignCommand {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        url_variable: "SHOP_URL".to_owned(),
        url: cluster.url("shop").replace("postgres@", "postgres:secret@"),
        folder: std::env::temp_dir(),
    };
    let psql = cluster.bin().join("psql");
    let script = "echo \"at $SHOP_URL\"; PSQL -Xq \"$SHOP_URL\" -c 'create table t (i int)' \
        -c 'create table alembic_version (version_num varchar(32) primary key)' -c \"insert into alembic_version values ('abc')\"";
    let script = script.replace("PSQL", psql.to_str().unwrap());
    let wait = std::time::Duration::from_secs(60);
    let report = run_command(&context, &target, &command(&script), wait).await.unwrap();
    assert_eq!((report.heads_before.len(), report.heads_after[0].tool.as_str()), (0, "alembic"));
    assert!(report.changes.iter().any(|change| change.object == "table public.t"));
    assert_eq!(report.said, ["at …"]);
    let before = dump(&cluster, "shop");
    let error = run_command(&context, &target, &command("echo no secret >&2; exit 3"), wait).await.unwrap_err();
    assert!(matches!(error, Error::Command { changed: false, ref said, .. } if said == &["no …"]), "{error:?}");
    assert_eq!(dump(&cluster, "shop"), before);
}
