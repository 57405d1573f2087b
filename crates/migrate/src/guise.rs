//! A file may go on as another role, which need not have the right to write what we keep. What Backstay writes and
//! reads is written and read as the one who connected.

use sqlx::postgres::PgConnection;

use crate::target;

/// The statements that make the session look again as a file left it.
pub(crate) struct Guise(Vec<String>);

/// Makes the session the one who connected, and says what it was.
pub(crate) async fn lay_down(connection: &mut PgConnection) -> Result<Guise, sqlx::Error> {
    let session = "select pg_catalog.format('set session authorization %L', session_user)";
    let role = "select pg_catalog.format('set role %L', pg_catalog.current_setting('role'))";
    let ask = async |connection: &mut PgConnection, sql| target::query_scalar(sql).fetch_one(connection).await;
    let before: [String; 2] = [ask(connection, session).await?, ask(connection, role).await?];
    target::execute(connection, "reset session authorization; reset role").await?;
    let after: [String; 2] = [ask(connection, session).await?, ask(connection, role).await?];
    // Whose session it is comes first: setting that ends the role.
    Ok(Guise(if before == after { Vec::new() } else { before.into() }))
}

impl Guise {
    pub(crate) async fn put_on(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for statement in self.0 {
            target::execute(connection, &statement).await?;
        }
        Ok(())
    }
}
