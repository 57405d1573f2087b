use std::time::Duration;

use bytes::BytesMut;

use crate::bench::Bench;
use crate::wire::Rows;
use crate::{Cause, Session, connect};

async fn rows(session: &mut Session, sql: &str) -> Result<Vec<u8>, Cause> {
    let mut rows = Rows::begin(session, sql).await?;
    let mut text = BytesMut::new();
    while rows.read(&mut text).await? {}
    Ok(text.to_vec())
}

fn is_read_without_sqlx(session: &Session) -> bool {
    matches!(session.wire, Some(Some(_)))
}

/// Reads by both ways, the one without sqlx first.
async fn by_both(session: &mut Session, sql: &str) -> [Result<Vec<u8>, String>; 2] {
    session.wire = None;
    let without = rows(session, sql).await.map_err(|cause| cause.to_string());
    assert!(is_read_without_sqlx(session));
    session.wire = Some(None);
    let with = rows(session, sql).await.map_err(|cause| cause.to_string());
    [without, with]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_the_same_with_and_without_sqlx() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql(
        "shop",
        "create table empty (id int); create table columnless (); insert into columnless default values;
         create table goods as select n as id, repeat(md5(n::text), n % 90) as body from generate_series(1, 40000) n;
         insert into goods values (-1, repeat('wide', 1000000)), (-2, e'\\t\\n\\\\.');
         create function loud() returns text language plpgsql as $$ begin raise warning 'heard'; return 'x'; end $$",
    );
    let mut session = connect(&bench.settings("postgres", "shop"), "test").await.unwrap();
    for (sql, bytes) in [
        ("copy public.empty to stdout", 0),
        ("copy public.columnless to stdout", 1),
        ("copy public.goods to stdout", 4_000_000),
        ("copy (select public.loud() from generate_series(1, 3)) to stdout", 6),
    ] {
        let [without, with] = by_both(&mut session, sql).await;
        let without = without.unwrap();
        assert!(without.len() >= bytes, "{sql}");
        assert!(without == with.unwrap(), "{sql}");
    }
    // An answer that sqlx was not waited for to read does not get among the rows.
    session.wire = None;
    assert_eq!(rows(&mut session, "copy (select 1) to stdout").await.unwrap(), b"1\n");
    let asked = session.execute("ask", "select pg_sleep(0.5)");
    tokio::time::timeout(Duration::from_millis(100), asked).await.unwrap_err();
    assert_eq!(rows(&mut session, "copy (select 2) to stdout").await.unwrap(), b"2\n");
    assert_eq!(session.rows::<(i32,)>("ask", "select 3").await.unwrap(), [(3,)]);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_said_in_its_words_and_the_session_goes_on() {
    let Some(bench) = Bench::start().await else { return };
    for (sql, why) in [
        ("copy (select 1000 / (50000 - n) from generate_series(1, 60000) n) to stdout", "division by zero (22012)"),
        ("copy (select 1000 / (1500000 - n) from generate_series(1, 1600000) n) to stdout", "division by zero (22012)"),
        ("copy (select nothing) to stdout", "column \"nothing\" does not exist (42703)"),
    ] {
        let mut session = connect(&bench.settings("postgres", "postgres"), "test").await.unwrap();
        assert_eq!(rows(&mut session, sql).await.unwrap_err().to_string(), why);
        assert_eq!(session.rows::<(i32,)>("ask", "select 3").await.unwrap(), [(3,)]);
        let [without, with] = by_both(&mut session, sql).await;
        assert_eq!(without.unwrap_err(), why);
        assert_eq!(with.unwrap_err(), why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_ended_among_its_rows_is_an_error() {
    let Some(bench) = Bench::start().await else { return };
    let mut session = connect(&bench.settings("postgres", "postgres"), "test").await.unwrap();
    let pid = session.pid;
    let slow = "copy (select repeat('x', 20000) || pg_sleep(0.02)::text from generate_series(1, 1000)) to stdout";
    let mut rows = Rows::begin(&mut session, slow).await.unwrap();
    assert!(matches!(rows, Rows::Wire(_)));
    let mut text = BytesMut::new();
    while text.is_empty() {
        assert!(rows.read(&mut text).await.unwrap());
    }
    bench.cluster.sql("postgres", &format!("select pg_terminate_backend({pid})"));
    let ended = loop {
        match rows.read(&mut text).await {
            Ok(more) => assert!(more, "as if these were all"),
            Err(cause) => break cause,
        }
    };
    assert_eq!(ended.sqlstate().as_deref(), Some("57P01"), "{ended}");
}
