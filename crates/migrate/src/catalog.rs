use sqlx::postgres::PgConnection;

/// Whether some constraint or trigger of this database may wait for COMMIT.
pub(crate) async fn has_deferrable(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    crate::target::query_scalar(
        "select exists (select from pg_catalog.pg_constraint where condeferrable)
             or exists (select from pg_catalog.pg_trigger where tgdeferrable and not tgisinternal)",
    )
    .fetch_one(connection)
    .await
}

/// The server's major version.
pub(crate) async fn major(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    crate::target::query_scalar("select pg_catalog.current_setting('server_version_num')::int / 10000")
        .fetch_one(connection)
        .await
}
