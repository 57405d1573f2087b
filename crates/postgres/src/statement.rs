//! The way by which statements that change something reach a server.

use crate::{Error, Session, fuse};

/// Sends one statement that changes something; `action` says what it is for.
pub(crate) async fn change(session: &mut Session, action: &str, sql: &str) -> Result<(), Error> {
    fuse::pass(action, &session.database)?;
    session.execute(action, sql).await?;
    fuse::pass(action, &session.database)
}
