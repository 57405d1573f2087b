//! A snapshot leaves as an ordinary archive, and comes back with ordinary tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backstay_testkit::{Backstay, PrivateCluster};
use tempfile::TempDir;

use crate::ground::{Ground, bytes_under};
use crate::tidy::root;

/// An archive unpacked, and the server it goes to.
struct Unpacked<'target> {
    folder: TempDir,
    target: &'target PrivateCluster,
}

impl<'target> Unpacked<'target> {
    fn of(archive: &Path, target: &'target PrivateCluster) -> Self {
        let unpacked = Self { folder: TempDir::new().expect("a folder to unpack into"), target };
        ended(&unpacked.shell(&format!("tar -xpzf '{}'", archive.display())), 0);
        unpacked
    }

    /// The one folder that an archive holds.
    fn inside(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.folder.path()).expect("the folder is read").flatten();
        let one = entries.find(|entry| entry.file_name().to_string_lossy().starts_with("shop-"));
        one.expect("one folder is unpacked").path()
    }

    /// Runs a script beside what was unpacked, with the target's programs and address and nothing else.
    fn shell(&self, script: &str) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-euc", script])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", format!("{}:{path}", self.target.bin().display()))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.target.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGCONNECT_TIMEOUT", "60");
        command.output().expect("a shell")
    }

    fn restore(&self, arguments: &str) -> Output {
        self.shell(&format!("sh shop-*/restore.sh {arguments}"))
    }

    fn databases(&self) -> String {
        self.target.sql("postgres", "select datname from pg_database where oid >= 16384 order by 1")
    }
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "\n--- stdout\n{out}\n--- stderr\n{err}");
    format!("{out}{err}")
}

/// What `pg_dump` writes, with its rows sorted: their order is nobody's promise.
fn dumped(cluster: &PrivateCluster, database: &str) -> String {
    let schema = cluster.dump_with(database, &["--schema-only", "--no-subscriptions"]);
    // The hash of an enum's value is another in every copy, and its partitions have their columns in another order.
    let rows = cluster.dump_with(database, &["--data-only", "--exclude-table-data=app.feelings_*"]);
    let mut rows: Vec<_> = rows.lines().collect();
    rows.sort_unstable();
    format!("{schema}\n{}", rows.join("\n"))
}

/// Says the first lines that differ instead of two whole dumps.
#[track_caller]
fn same(ours: &str, theirs: &str) {
    let different: Vec<_> = ours.lines().zip(theirs.lines()).filter(|(ours, theirs)| ours != theirs).take(5).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

/// What stands beside a database.
fn beside(cluster: &PrivateCluster, database: &str) -> String {
    let sql = format!(
        "select pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba), datconnlimit, datacl,
                shobj_description(oid, 'pg_database'),
                (select array_agg(coalesce(setrole::regrole::text, '') || s order by s)
                 from pg_db_role_setting, unnest(setconfig) s where setdatabase = d.oid)
         from pg_database d where datname = '{database}'"
    );
    cluster.sql("postgres", &sql)
}

fn export(ground: &Ground<'_>) -> PathBuf {
    let exported = ground.backstay.run(&["export", "latest", "--json", "--output", "out.tar.gz"]).ended(0).json();
    assert_eq!(exported["command"], "export");
    let file = ground.path("out.tar.gz");
    assert_eq!(exported["file"], file.display().to_string());
    assert_eq!(exported["bytes"], fs::metadata(&file).expect("the archive is there").len());
    file
}

#[test]
fn an_archive_restores_by_hand_with_nothing_but_ordinary_tools() {
    let (Some(source), Some(target)) = (PrivateCluster::start(), PrivateCluster::start()) else { return };
    let ground = Ground::new(&source, "shop");
    let _ = ground.snapshot();
    let unpacked = Unpacked::of(&export(&ground), &target);
    let by_hand = "
        cd shop-*
        sha256sum -c SHA256SUMS
        tar -xpf files/files.tar
        psql='psql -X -q -v ON_ERROR_STOP=1'
        $psql -d postgres -f database/roles.sql
        cd database/main
        $psql -d postgres -v name=shop -f create.sql
        export PGDATABASE=shop
        $psql -f before-rows.sql
        for table in rows/*.sql; do
            { cat $table; gunzip -c ${table%.sql}.copy.*.gz; printf '\\\\.\\n'; } | $psql
        done
        $psql -f after-rows.sql
        if [ -e rights.sql ]; then $psql -f rights.sql; fi
        $psql -f finish.sql
        $psql -d postgres -v name=shop -f settings.sql";
    ended(&unpacked.shell(by_hand), 0);
    same(&dumped(&target, "shop"), &dumped(&source, "shop"));
    let files = unpacked.inside().join("root");
    for name in [".env", "config/shop.conf"] {
        let read = |path: PathBuf| {
            (fs::read(&path).expect("a file is read"), fs::metadata(&path).expect("its rights").permissions().mode())
        };
        assert_eq!(read(files.join(name)), read(ground.path(name)), "{name}");
    }
}

#[test]
fn restore_sh_puts_back_one_of_everything_and_touches_nothing_that_is_there() {
    let (Some(source), Some(target)) = (PrivateCluster::start(), PrivateCluster::start()) else { return };
    let ground = Ground::bare(&source, "shop");
    torture(&source);
    ground.write(".env", &format!("DATABASE_URL={}\n", source.url("torture")));
    symlink("shop.conf", ground.path("config/link")).expect("a link");
    fs::set_permissions(ground.path("config/shop.conf"), fs::Permissions::from_mode(0o751)).expect("rights");
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    let _ = ground.backstay.run(&["snapshot"]).ended(0);
    let unpacked = Unpacked::of(&export(&ground), &target);

    assert!(ended(&unpacked.restore("--help"), 0).contains("--only"));
    let _ = ended(&unpacked.restore("--unknown"), 2);
    let _ = ended(&unpacked.restore("--only volumes"), 2);
    // Where the files go nobody can guess.
    assert!(ended(&unpacked.restore(""), 10).contains("--into"));
    let _ = ended(&unpacked.restore("--check --into new"), 0);
    assert_eq!((unpacked.databases(), unpacked.folder.path().join("new").exists()), (String::new(), false));

    let _ = ended(&unpacked.restore("--into new"), 0);
    plain_copy(&source, &target);
    same(&dumped(&target, "torture"), &dumped(&target, "plain"));
    let feelings = |cluster: &PrivateCluster| cluster.sql("torture", "select * from app.feelings order by id");
    assert_eq!((feelings(&target), feelings(&target).lines().count()), (feelings(&source), 500));
    assert_eq!(beside(&target, "torture"), beside(&source, "torture"));
    let roles = |cluster: &PrivateCluster| {
        let roles = "select r.*::text from (select rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb,
            rolcanlogin, rolreplication, rolbypassrls, rolconnlimit from pg_roles order by 1) r";
        cluster.sql("postgres", roles)
    };
    assert_eq!(roles(&target), roles(&source));
    let new = unpacked.folder.path().join("new");
    let ours = |folder: &Path| {
        let files = bytes_under(&folder.join("config")).into_iter().map(|(path, bytes)| {
            let mode = fs::metadata(&path).expect("rights").permissions().mode();
            (path.strip_prefix(folder).expect("within").to_owned(), bytes, mode)
        });
        files.collect::<Vec<_>>()
    };
    assert_eq!(ours(&new), ours(ground.path("").as_path()));
    assert_eq!(fs::read_link(new.join("config/link")).expect("a link"), Path::new("shop.conf"));

    // Neither what it made nor anything else is written over.
    target.sql("torture", "drop table app.long_values");
    assert!(ended(&unpacked.restore("--only database"), 10).contains("not empty"));
    assert!(ended(&unpacked.restore("--only files --into new"), 10).contains("not empty"));
    let _ = ended(&unpacked.restore("--only files --into again"), 0);
    let _ = ended(&unpacked.restore("--only database --as 'torture=an other'"), 0);
    same(&dumped(&target, "an other"), &dumped(&target, "plain"));
    assert_eq!(target.sql("torture", "select to_regclass('app.long_values') is null"), "t");
}

/// A database that holds one of everything PostgreSQL has.
fn torture(cluster: &PrivateCluster) {
    let fixture = |role: &str, database: &str, name: &str| {
        let text = fs::read_to_string(root().join("fixtures/postgres").join(name)).expect("a fixture");
        cluster.sql_as(role, database, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    fixture("postgres", "postgres", "roles.sql");
    cluster.sql("postgres", "create database torture owner torture_owner");
    fixture("torture_owner", "torture", "torture.sql");
    fixture("postgres", "torture", "torture_superuser.sql");
    cluster.sql(
        "postgres",
        "alter database torture set work_mem = '5MB'; alter database torture connection limit 90;
         alter role torture_reader in database torture set search_path = '$user', app;
         comment on database torture is 'it''s :name';
         revoke all on database torture from public;
         grant connect on database torture to torture_reader with grant option",
    );
}

/// The oracle: what anybody gets who copies with `pg_dump` and psql. Some expressions read otherwise in every copy.
fn plain_copy(source: &PrivateCluster, target: &PrivateCluster) {
    target.sql("postgres", "create database plain owner torture_owner");
    let text = source.client("pg_dump").args(["-U", "postgres", "--no-subscriptions", "torture"]).output();
    let text = text.expect("pg_dump").stdout;
    let file = tempfile::NamedTempFile::new().expect("a file for the dump");
    fs::write(file.path(), text).expect("the dump is written");
    let loaded = target
        .client("psql")
        .args(["-Xq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "plain", "-f"])
        .arg(file.path())
        .output();
    let _ = ended(&loaded.expect("psql"), 0);
}

#[test]
fn a_damaged_archive_is_found_before_anything_is_restored() {
    let (Some(source), Some(target)) = (PrivateCluster::start(), PrivateCluster::start()) else { return };
    let ground = Ground::new(&source, "shop");
    let _ = ground.backstay.run(&["snapshot"]).ended(0);
    let unpacked = Unpacked::of(&export(&ground), &target);
    let inside = unpacked.inside();
    let script = inside.join("restore.sh");
    for (file, bytes) in bytes_under(&inside).into_iter().filter(|(file, bytes)| *file != script && !bytes.is_empty()) {
        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for damage in [Some(&flipped[..]), Some(&bytes[..middle]), None] {
            match damage {
                Some(damage) => fs::write(&file, damage).expect("a file is damaged"),
                None => fs::remove_file(&file).expect("a file is removed"),
            }
            let said = ended(&unpacked.restore("--into new"), 20);
            assert!(said.contains("nothing was changed"), "{}: {said}", file.display());
        }
        fs::write(&file, bytes).expect("the file is mended");
    }
    assert_eq!((unpacked.databases(), unpacked.folder.path().join("new").exists()), (String::new(), false));
    let _ = ended(&unpacked.restore("--into new"), 0);
    same(&dumped(&target, "shop"), &dumped(&source, "shop"));
}

#[test]
fn a_step_that_fails_ends_the_restore_and_says_where() {
    let (Some(source), Some(target)) = (PrivateCluster::start(), PrivateCluster::start()) else { return };
    let ground = Ground::new(&source, "shop");
    let _ = ground.backstay.run(&["snapshot"]).ended(0);
    let unpacked = Unpacked::of(&export(&ground), &target);
    // A row that is not in the file any more, with sums that fit: psql itself would not notice.
    let shorten = "cd shop-*; for file in database/main/rows/*orders.copy.*.gz; do
        gunzip -c $file | sed '$d' | gzip -c > new; cat new > $file; done
        rm new; sha256sum $(cut -c67- SHA256SUMS) > sums; cat sums > SHA256SUMS; rm sums";
    ended(&unpacked.shell(shorten), 0);
    let said = ended(&unpacked.restore("--only database"), 13);
    assert!(said.contains("200 rows were recorded") && said.contains("drop the database shop"), "{said}");
    assert_eq!(target.sql("shop", "select count(*) from pg_indexes where schemaname = 'store'"), "0");
}

#[test]
fn an_export_needs_no_project_is_whole_or_not_there_and_writes_over_nothing() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let _ = ground.backstay.run(&["snapshot"]).ended(0);
    let archive = export(&ground);
    let bytes = fs::read(&archive).expect("the archive is read");
    assert_eq!(fs::metadata(&archive).expect("rights").permissions().mode() & 0o7777, 0o600);

    let refused = ground.backstay.run(&["export", "latest", "--json", "-o", "out.tar.gz"]).ended(10).json();
    assert_eq!(refused["changed"], false);
    let _ = ground.backstay.run(&["export", "latest", "-o", "."]).ended(10);
    let _ = ground.backstay.run(&["export", "latest", "-o", "nowhere/out.tar.gz"]).ended(3);
    let _ = ground.backstay.run(&["export", "latest", "--json", "-o", "-"]).ended(2);
    let _ = ground.backstay.run(&["export", "19990101_000000"]).ended(10);
    assert!(fs::read(&archive).expect("the archive is read") == bytes, "an archive was written over");

    // The server is gone, and so is the project: repository, key and settings are enough.
    cluster.stop();
    let elsewhere = TempDir::new().expect("another folder");
    let toml = fs::read_to_string(ground.path("backstay.toml")).expect("backstay.toml is read");
    fs::write(elsewhere.path().join("backstay.toml"), toml).expect("the settings are there");
    let there = Backstay::in_folder(elsewhere.path());
    let output = there.command(&["export", "latest", "-o", "-"]).output().expect("backstay");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let streamed = elsewhere.path().join("streamed.tar.gz");
    fs::write(&streamed, output.stdout).expect("the archive is written");
    let names = |archive: &Path| {
        let listed = Command::new("tar").args(["-tzf"]).arg(archive).output();
        ended(&listed.expect("tar"), 0)
    };
    assert_eq!(names(&streamed), names(&archive));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not sealed") && said.contains(".env"), "{said}");

    // A damaged object: nothing is left of the archive.
    for (file, bytes) in bytes_under(&ground.repository().join("objects")) {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("an object to damage");
        fs::write(file, &bytes[..bytes.len() / 2]).expect("an object is damaged");
    }
    let before = fs::read_dir(elsewhere.path()).expect("the folder is read").count();
    let _ = there.run(&["export", "latest"]).ended(20);
    assert_eq!(fs::read_dir(elsewhere.path()).expect("the folder is read").count(), before);
}
