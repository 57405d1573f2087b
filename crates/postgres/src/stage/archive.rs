use std::io::Write;

use backstay_model::Root;
use backstay_part::Recorded;
use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::OnceCell;

use crate::{DatabaseFacts, Error, ServerFacts, ServerPart, Settings, Tool, ToolCall, Tools, fuse};

/// Pinned for `pg_restore`, so that no setting of a role or database ends or changes its work; its commits reach the disk
/// together, as those of every session that fills a copy.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
                       -c idle_session_timeout=0 -c default_transaction_read_only=off -c synchronous_commit=off";

const RIGHTS: [&str; 2] = ["ACL ", "DEFAULT ACL "];
const EVENT_TRIGGERS: [&str; 3] = ["EVENT TRIGGER ", "COMMENT - EVENT TRIGGER ", "SECURITY LABEL - EVENT TRIGGER "];

/// The stretches an archive is restored in. Rights come after the rows, for an owner may have taken its
/// own away; event triggers come after everything, for they may forbid it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stretch {
    BeforeRows,
    AfterRows,
    Rights,
    EventTriggers,
}

impl Stretch {
    /// What tells two stretches apart that no list does.
    fn section(self) -> Option<String> {
        match self {
            Self::BeforeRows => Some("--section=pre-data".to_owned()),
            Self::AfterRows => Some("--section=post-data".to_owned()),
            Self::Rights | Self::EventTriggers => None,
        }
    }
}

/// The recorded schema archive in a file that nobody else can read.
pub(crate) struct Archive {
    file: NamedTempFile,
    /// The major of the pg_dump that wrote it.
    written_by: u32,
    /// What pg_restore lists of it.
    entries: OnceCell<String>,
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
        let written_by = digits.and_then(|digits| digits.parse().ok()).unwrap_or_default();
        Ok(Self { file, written_by, entries: OnceCell::new() })
    }

    /// One stretch of it as SQL for psql; nothing where the database has nothing of it.
    pub(crate) async fn sql(&self, tools: &dyn Tools, stretch: Stretch) -> Result<Option<std::fs::File>, Error> {
        let list = self.entries(tools, self.written_by, stretch).await?;
        if list.is_empty() {
            return Ok(None);
        }
        let spool = |source| Error::Spool { source };
        let text = NamedTempFile::new().map_err(spool)?;
        let mut arguments = vec!["--no-subscriptions".to_owned(), "--file=-".to_owned()];
        arguments.extend(stretch.section());
        let call = ToolCall {
            tool: Tool::PgRestore,
            major: self.written_by,
            settings: None,
            arguments,
            options: String::new(),
            jobs: 1,
            list: Some(&list),
            input: Some(self.file.path()),
            output: Some(text.path()),
        };
        tools.run(call).await?;
        // Its name goes; it lies there for as long as it is open.
        text.reopen().map(Some).map_err(spool)
    }

    /// Restores one stretch of it. Any error fails: there is none to be overlooked.
    pub(crate) async fn restore(
        &self,
        part: &ServerPart,
        settings: &Settings,
        major: u32,
        stretch: Stretch,
    ) -> Result<(), Error> {
        let major = major.max(self.written_by);
        let list = self.entries(part.tools().as_ref(), major, stretch).await?;
        if list.is_empty() {
            return Ok(());
        }
        let database = settings.database().replace('\\', "\\\\").replace('\'', "\\'");
        let mut arguments = vec![
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            "--no-subscriptions".to_owned(),
            format!("--dbname=dbname='{database}'"),
        ];
        arguments.extend(stretch.section());
        let call = ToolCall {
            tool: Tool::PgRestore,
            major,
            settings: Some(settings),
            arguments,
            options: OPTIONS.to_owned(),
            jobs: if stretch == Stretch::AfterRows { part.options().workers.max(1) } else { 1 },
            list: Some(&list),
            input: Some(self.file.path()),
            output: None,
        };
        fuse::pass("restore the schema", settings.database())?;
        part.tools().run(call).await?;
        fuse::pass("restore the schema", settings.database())
    }

    /// The numbers of the entries that belong to a stretch, as pg_restore wants them listed.
    async fn entries(&self, tools: &dyn Tools, major: u32, stretch: Stretch) -> Result<String, Error> {
        Ok(entries_of(self.entries.get_or_try_init(|| self.list(tools, major)).await?, stretch))
    }

    async fn list(&self, tools: &dyn Tools, major: u32) -> Result<String, Error> {
        let text = NamedTempFile::new().map_err(|source| Error::Spool { source })?;
        let call = ToolCall {
            tool: Tool::PgRestore,
            major,
            settings: None,
            arguments: vec!["--list".to_owned()],
            options: String::new(),
            jobs: 1,
            list: None,
            input: Some(self.file.path()),
            output: Some(text.path()),
        };
        tools.run(call).await?;
        let text = std::fs::read(text.path()).map_err(|source| Error::Spool { source })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Of lines such as `4567; 1259 16404 TABLE app orders shop`, the numbers of those in this stretch, as pg_restore
/// wants them listed.
fn entries_of(list: &str, stretch: Stretch) -> String {
    let entries = list.lines().filter_map(|line| {
        let (number, rest) = line.split_once(';').filter(|(number, _)| !number.is_empty())?;
        let kind = rest.trim_start().splitn(3, ' ').nth(2)?;
        let begins = |kinds: &[&str]| kinds.iter().any(|one| kind.starts_with(one));
        let belongs = match stretch {
            Stretch::Rights => begins(&RIGHTS),
            Stretch::EventTriggers => begins(&EVENT_TRIGGERS),
            // The two are told apart by their sections.
            Stretch::BeforeRows | Stretch::AfterRows => !begins(&RIGHTS) && !begins(&EVENT_TRIGGERS),
        };
        belongs.then(|| format!("{number};\n"))
    });
    entries.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_wait_for_the_rows_and_event_triggers_for_everything() {
        let list = ";\n; Archive created at 2024-01-01\n;     Format: CUSTOM\n;\n\n\
                    7; 2615 16385 SCHEMA - ACL odd owner\n8; 0 0 ACL - SCHEMA app owner\n\
                    9; 826 16800 DEFAULT ACL app DEFAULT PRIVILEGES FOR TABLES owner\n\
                    10; 3466 17000 EVENT TRIGGER - watch owner\n11; 0 0 COMMENT - EVENT TRIGGER watch owner\n\
                    12; 1259 16404 TABLE app EVENT TRIGGER owner\n";
        let of = |stretch| entries_of(list, stretch);
        assert_eq!((of(Stretch::Rights), of(Stretch::EventTriggers)), ("8;\n9;\n".into(), "10;\n11;\n".into()));
        assert_eq!((of(Stretch::BeforeRows), of(Stretch::AfterRows)), ("7;\n12;\n".into(), "7;\n12;\n".into()));
    }
}
