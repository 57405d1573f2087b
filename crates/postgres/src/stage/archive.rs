use std::collections::HashSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use backstay_model::Root;
use backstay_part::Recorded;
use bytes::Bytes;
use futures_util::try_join;
use tempfile::NamedTempFile;
use tokio::sync::OnceCell;

use super::entries::{self, Entry, listed};
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
    fn has(self, entry: &Entry) -> bool {
        let (rights, event_triggers) = (entry.is_one_of(&RIGHTS), entry.is_one_of(&EVENT_TRIGGERS));
        match self {
            Self::Rights => rights,
            Self::EventTriggers => event_triggers,
            Self::BeforeRows => !entry.after_rows && !rights && !event_triggers,
            Self::AfterRows => entry.after_rows && !rights && !event_triggers,
        }
    }
}

/// The recorded schema archive in a file that nobody else can read.
pub(crate) struct Archive {
    file: NamedTempFile,
    /// The major of the pg_dump that wrote it.
    written_by: u32,
    /// What pg_restore lists of it.
    entries: OnceCell<Vec<Entry>>,
    /// The numbers of entries that were restored ahead of their stretch.
    ahead: Mutex<HashSet<String>>,
}

/// What one run of pg_restore is told beside the list.
struct How {
    argument: Option<&'static str>,
    jobs: usize,
    options: String,
}

/// The database that an archive is restored into.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub part: &'a ServerPart,
    pub settings: &'a Settings,
    pub major: u32,
}

/// What the server may use for each of the indexes it builds.
#[derive(Clone, Copy)]
pub(super) struct Means {
    /// In KiB, as this unit is called there.
    pub memory_kib: i64,
    /// Processes beside the session's own.
    pub helpers: i64,
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
        Ok(Self { file, written_by, entries: OnceCell::new(), ahead: Mutex::default() })
    }

    /// The same, listed already.
    pub(super) async fn fetch_for(
        target: Target<'_>,
        recorded: &Recorded,
        facts: &DatabaseFacts,
        server: &ServerFacts,
    ) -> Result<Self, Error> {
        let archive = Self::fetch(recorded, facts, server).await?;
        archive.all_for(target).await?;
        Ok(archive)
    }

    /// One stretch of it as SQL for psql; nothing where the database has nothing of it.
    pub(crate) async fn sql(&self, tools: &dyn Tools, stretch: Stretch) -> Result<Option<std::fs::File>, Error> {
        let list = self.entries(tools, self.written_by, stretch).await?;
        if list.is_empty() {
            return Ok(None);
        }
        let spool = |source| Error::Spool { source };
        let text = NamedTempFile::new().map_err(spool)?;
        let call = ToolCall {
            tool: Tool::PgRestore,
            major: self.written_by,
            settings: None,
            arguments: vec!["--no-subscriptions".to_owned(), "--file=-".to_owned()],
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

    /// Restores one stretch of it, but for what was restored ahead. Any error fails: there is none to be overlooked.
    pub(crate) async fn restore(&self, target: Target<'_>, stretch: Stretch) -> Result<(), Error> {
        let list = self.entries(target.part.tools().as_ref(), self.major(target), stretch).await?;
        if list.is_empty() {
            return Ok(());
        }
        let jobs = if stretch == Stretch::AfterRows { target.part.options().workers.max(1) } else { 1 };
        self.restore_listed(target, &list, How { argument: None, jobs, options: OPTIONS.to_owned() }).await
    }

    /// Restores these entries ahead of their stretch: all of them, or none.
    pub(super) async fn restore_ahead(
        &self,
        target: Target<'_>,
        entries: &[&Entry],
        means: Means,
    ) -> Result<(), Error> {
        let argument = Some("--single-transaction");
        let Means { memory_kib, helpers } = means;
        let options =
            format!("{OPTIONS} -c maintenance_work_mem={memory_kib}kB -c max_parallel_maintenance_workers={helpers}");
        let list = listed(entries.iter().copied());
        self.restore_listed(target, &list, How { argument, jobs: 1, options }).await?;
        let numbers = entries.iter().map(|entry| entry.number.clone());
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).extend(numbers);
        Ok(())
    }

    async fn restore_listed(&self, target: Target<'_>, list: &str, how: How) -> Result<(), Error> {
        let database = target.settings.database().replace('\\', "\\\\").replace('\'', "\\'");
        let mut arguments = vec![
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            "--no-subscriptions".to_owned(),
            format!("--dbname=dbname='{database}'"),
        ];
        arguments.extend(how.argument.map(str::to_owned));
        let call = ToolCall {
            tool: Tool::PgRestore,
            major: self.major(target),
            settings: Some(target.settings),
            arguments,
            options: how.options,
            jobs: how.jobs,
            list: Some(list),
            input: Some(self.file.path()),
            output: None,
        };
        fuse::pass("restore the schema", target.settings.database())?;
        target.part.tools().run(call).await?;
        fuse::pass("restore the schema", target.settings.database())
    }

    /// The pg_restore that can read it and knows the server.
    fn major(&self, target: Target<'_>) -> u32 {
        target.major.max(self.written_by)
    }

    /// The numbers of the entries that belong to a stretch, as pg_restore wants them listed.
    async fn entries(&self, tools: &dyn Tools, major: u32, stretch: Stretch) -> Result<String, Error> {
        let entries = self.all(tools, major).await?;
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(listed(entries.iter().filter(|entry| stretch.has(entry) && !ahead.contains(&entry.number))))
    }

    pub(super) async fn all_for(&self, target: Target<'_>) -> Result<&[Entry], Error> {
        self.all(target.part.tools().as_ref(), self.major(target)).await
    }

    async fn all(&self, tools: &dyn Tools, major: u32) -> Result<&[Entry], Error> {
        Ok(self.entries.get_or_try_init(|| self.list(tools, major)).await?)
    }

    async fn list(&self, tools: &dyn Tools, major: u32) -> Result<Vec<Entry>, Error> {
        // Only a verbose list tells what depends on what, and only another one what is in a section.
        let all = self.list_by(tools, major, "--verbose");
        let after_rows = self.list_by(tools, major, "--section=post-data");
        let (all, after_rows) = try_join!(all, after_rows)?;
        Ok(entries::parse_both(&all, &after_rows))
    }

    async fn list_by(&self, tools: &dyn Tools, major: u32, argument: &str) -> Result<String, Error> {
        let text = NamedTempFile::new().map_err(|source| Error::Spool { source })?;
        let call = ToolCall {
            tool: Tool::PgRestore,
            major,
            settings: None,
            arguments: vec!["--list".to_owned(), argument.to_owned()],
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
        let entries = entries::parse_both(list, "; only these\n12; 1259 16404 TABLE app EVENT TRIGGER owner\n");
        let of = |stretch: Stretch| listed(entries.iter().filter(|entry| stretch.has(entry)));
        assert_eq!((of(Stretch::Rights), of(Stretch::EventTriggers)), ("8;\n9;\n".into(), "10;\n11;\n".into()));
        assert_eq!((of(Stretch::BeforeRows), of(Stretch::AfterRows)), ("7;\n".into(), "12;\n".into()));
    }
}
