//! Ways to a server that have something in between: TLS that is verified, a pooler.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use backstay_testkit::{left_out, wait_until};

use crate::bench::Bench;
use crate::session::connect;
use crate::wire::Rows;
use crate::{Error, Settings, Surroundings};

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tls/postgres").join(name)
}

fn to(bench: &Bench, host: &str, more: &str) -> Settings {
    let text = format!("postgres://postgres@{host}:{}/shop?{more}", bench.cluster.port());
    Settings::parse(&text, &Surroundings::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_show_who_it_is_gets_no_password() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    let ca = |name: &str| format!("sslmode=verify-full&sslrootcert={}", certificate(name).display());

    let error = connect(&to(&bench, "localhost", &ca("ca.pem")), "test").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "a server without TLS: {error:?}");
    let error = connect(&to(&bench, "localhost", "sslmode=require"), "test").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "a server without TLS: {error:?}");

    for (name, setting) in [("server.pem", "ssl_cert_file"), ("server.key", "ssl_key_file")] {
        let path = bench.cluster.place(name, &std::fs::read(certificate(name)).unwrap());
        bench.cluster.sql("postgres", &format!("alter system set {setting} = '{}'", path.display()));
    }
    bench.cluster.sql("postgres", "alter system set ssl = on");
    bench.cluster.restart();
    let error = connect(&to(&bench, "localhost", &ca("other-ca.pem")), "test").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "of another authority: {error:?}");
    let error = connect(&to(&bench, "127.0.0.1", &ca("ca.pem")), "test").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "for another host: {error:?}");
    let by_authority = ca("ca.pem").replace("verify-full", "verify-ca");
    let mut session = connect(&to(&bench, "127.0.0.1", &by_authority), "test").await.unwrap();
    drop(Rows::begin(&mut session, "copy (select 1) to stdout").await.unwrap());
    assert!(matches!(session.wire, Some(None)), "only sqlx can read what is encrypted");

    // Rows, and the schema by pg_dump, both by the verified way.
    let mut part = bench.part("postgres", &["shop"]);
    let mut database = part.databases()[0].clone();
    database.settings = to(&bench, "localhost", &ca("ca.pem"));
    part = crate::ServerPart::new("database".parse().unwrap(), vec![database], bench.tools(), part.options().clone());
    bench.cluster.sql("shop", "create table goods as select 1 as id");
    let plain = bench.cluster.data().join("pg_hba.conf");
    std::fs::write(&plain, "local all all trust\nhostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n")
        .unwrap();
    bench.cluster.restart();
    let (_, facts) = bench.capture(&part).await.unwrap();
    assert_eq!(facts.databases[0].rows(), 1);

    // As libpq does, without being told: from the home folder.
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".postgresql")).unwrap();
    std::fs::copy(certificate("ca.pem"), home.path().join(".postgresql/root.crt")).unwrap();
    let around = Surroundings { home: Some(home.path().to_owned()), ..Surroundings::default() };
    let text = format!("postgres://postgres@localhost:{}/shop?sslmode=verify-full", bench.cluster.port());
    connect(&Settings::parse(&text, &around).unwrap(), "test").await.unwrap().close().await;
}

/// Ended when the test is.
struct Pooler(Child);

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pooler(bench: &Bench, program: &Path, mode: &str, more: &str) -> (Pooler, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let users = bench.cluster.place("users.txt", b"\"postgres\" \"\"\n");
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n{more}\n",
        bench.cluster.port(),
        users.display()
    );
    let settings = bench.cluster.place(&format!("{mode}.ini"), text.as_bytes());
    let mut command = Command::new(program);
    if std::fs::metadata(bench.cluster.data()).map(|data| std::os::unix::fs::MetadataExt::uid(&data)).unwrap() != 0 {
        // As the server, it refuses root.
        command.args(["-u", "postgres"]);
    }
    let child = command.arg(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let child = Pooler(child);
    wait_until("the pooler answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (child, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_is_refused_with_advice() {
    let Some(bench) = Bench::start().await else { return };
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];
    let Some(program) = folders.iter().map(|folder| Path::new(folder).join("pgbouncer")).find(|path| path.is_file())
    else {
        return left_out("a pooler", "no pgbouncer here; `scripts/lab up pgbouncer` installs it");
    };
    bench.cluster.create("shop");
    for (mode, more, shares) in [
        ("transaction", "", true),
        ("transaction", "ignore_startup_parameters = extra_float_digits,options", true),
        ("statement", "ignore_startup_parameters = options", true),
        ("session", "ignore_startup_parameters = extra_float_digits,options", false),
    ] {
        let (_pooler, port) = pooler(&bench, &program, mode, more);
        let text = format!("postgres://postgres@127.0.0.1:{port}/shop?sslmode=disable");
        let settings = Settings::parse(&text, &Surroundings::default()).unwrap();
        match (connect(&settings, "test").await, shares) {
            (Err(error @ Error::Pooler { .. }), true) => {
                assert!(error.to_string().contains("address of the server behind it"), "{error}");
            }
            (Ok(mut session), false) => {
                drop(Rows::begin(&mut session, "copy (select 1) to stdout").await.unwrap());
                assert!(matches!(session.wire, Some(None)), "its socket does not lead to the server");
            }
            (other, _) => panic!("{mode} {more}: {other:?}"),
        }
    }
}
