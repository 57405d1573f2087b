//! A recorded database built to be worked upon: for rehearsals, never to go live.

use backstay_part::{Recorded, Token};
use backstay_run::Context;

use crate::session::connect;
use crate::stage::Purpose;
use crate::swap::{Switch, connect_outside};
use crate::{Error, ServerFacts, ServerPart, Settings, identifier, stage};

impl ServerPart {
    /// Builds the recorded databases and opens the one with this label. What the returned token stands
    /// for is removed with `abandon`, like anything that was staged.
    pub async fn copy_of(
        &self,
        context: &Context,
        recorded: &Recorded,
        label: &str,
    ) -> Result<(Settings, Token), Error> {
        let facts: ServerFacts = recorded.facts().map_err(|source| Error::Facts { source })?;
        let place = facts.databases.iter().position(|database| database.label == label);
        let token = stage::stage(self, context, recorded, Purpose::Use).await?;
        let switch = Switch::read(&token)?;
        let copied = place.and_then(|place| switch.databases.get(place)).zip(self.database(label));
        let Some((trio, database)) = copied else {
            return Err(Error::Malformed {
                subject: format!("the snapshot's {label}"),
                why: "it is not recorded".to_owned(),
            });
        };
        let mut session = connect_outside(self, &switch.names(), "copy").await?;
        let open = format!("alter database {} allow_connections true", identifier(&trio.staged));
        session.execute("open the copy", &open).await?;
        session.close().await;
        let settings = database.settings.with_database(&trio.staged);
        connect(&settings, "copy").await?.close().await;
        Ok((settings, token))
    }
}
