use std::io::Write;

use backstay_model::Root;
use backstay_part::Recorded;
use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::{DatabaseFacts, Error, ServerFacts, ServerPart, Settings, Tool, ToolCall, fuse};

/// Pinned for `pg_restore`, so that no setting of a role or database ends or changes its work.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
                       -c default_transaction_read_only=off";

/// The recorded schema archive in a file that nobody else can read.
pub(crate) struct Archive {
    file: NamedTempFile,
    /// The major of the pg_dump that wrote it.
    written_by: u32,
}

impl Archive {
    pub(crate) async fn fetch(recorded: &Recorded, facts: &DatabaseFacts, server: &ServerFacts) -> Result<Self, Error> {
        let mut file = NamedTempFile::new().map_err(|source| Error::Spool { source })?;
        let mut reader = recorded.repository.read(stream(recorded, &facts.schema_stream)?);
        while let Some(piece) = next(&mut reader, &facts.schema_stream).await? {
            file.write_all(&piece).map_err(|source| Error::Spool { source })?;
        }
        file.flush().map_err(|source| Error::Spool { source })?;
        let digits = server.pg_dump.split(|character: char| !character.is_ascii_digit()).next();
        Ok(Self { file, written_by: digits.and_then(|digits| digits.parse().ok()).unwrap_or_default() })
    }

    /// Restores one section of it. Any error fails: there is none to be overlooked.
    pub(crate) async fn restore(
        &self,
        part: &ServerPart,
        settings: &Settings,
        major: u32,
        section: &str,
    ) -> Result<(), Error> {
        let database = settings.database().replace('\\', "\\\\").replace('\'', "\\'");
        let arguments = [
            format!("--section={section}"),
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            "--no-subscriptions".to_owned(),
            format!("--dbname=dbname='{database}'"),
        ];
        let call = ToolCall {
            tool: Tool::PgRestore,
            major: major.max(self.written_by),
            settings: Some(settings),
            arguments: arguments.into(),
            options: OPTIONS.to_owned(),
            jobs: if section == "post-data" { part.options().workers.max(1) } else { 1 },
            input: Some(self.file.path()),
            output: None,
        };
        fuse::pass("restore the schema", settings.database())?;
        part.tools().run(call).await?;
        fuse::pass("restore the schema", settings.database())
    }
}

/// The root of a stream that the facts name.
pub(crate) fn stream<'a>(recorded: &'a Recorded, name: &str) -> Result<&'a Root, Error> {
    recorded.contents.get(name).ok_or_else(|| Error::Malformed {
        subject: "the snapshot".to_owned(),
        why: format!("its facts name a stream {name} that it does not hold"),
    })
}

/// The next piece of a stream.
pub(crate) async fn next(
    reader: &mut backstay_repository::StreamReader,
    subject: &str,
) -> Result<Option<Bytes>, Error> {
    reader.next().await.map_err(|source| Error::Fetch { subject: subject.to_owned(), source })
}
