use crate::{Error, Session, fuse, identifier, literal};

/// How long sessions may take to end before the switch gives up and opens the databases again.
const ENDING_SECONDS_MAX: u32 = 20;

/// A switch that the server runs by itself, in one message: close the databases, end their
/// sessions, then do everything in one transaction, or open them again.
///
/// It takes one round trip however far away the server is, and a client that dies meanwhile does
/// not stop it. What can stop it is the end of its own session or server between the two
/// transactions, which leaves databases closed and nothing else changed.
#[derive(Debug, Default)]
pub(super) struct Script {
    closes: Vec<Closing>,
    /// What goes into the one transaction.
    steps: Vec<String>,
}

/// A database to close first.
#[derive(Debug)]
struct Closing {
    name: String,
    /// What it must still be when it is switched.
    oid: i64,
    /// Whether it is to be open again where the switch fails.
    reopens: bool,
}

impl Script {
    pub(super) fn close(&mut self, database: &str, oid: i64, reopens: bool) {
        self.closes.push(Closing { name: database.to_owned(), oid, reopens });
    }

    pub(super) fn step(&mut self, statement: String) {
        self.steps.push(statement);
    }

    pub(super) fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Runs it. `what` says what it is for.
    pub(super) async fn run(&self, session: &mut Session, what: &str) -> Result<(), Error> {
        fuse::pass(what, &session.database)?;
        let sql = self.render(fuse::pass_many(self.places()));
        session.execute(what, &sql).await?;
        fuse::pass(what, &session.database)
    }

    fn places(&self) -> u64 {
        (self.closes.len() + self.steps.len() + 3) as u64
    }

    fn render(&self, dies_at: Option<u64>) -> String {
        let mut place = 0;
        let mut die = || {
            place += 1;
            if dies_at == Some(place - 1) { DIE } else { "" }
        };
        let mut text = String::from("declare\n  backstay_error text;\n  backstay_code text;\n");
        text += &format!(
            "  backstay_end timestamptz := pg_catalog.clock_timestamp() + '{ENDING_SECONDS_MAX} s'::pg_catalog.interval;\n"
        );
        text += "begin\n";
        for closing in &self.closes {
            text += die();
            text += &format!("  alter database {} allow_connections false;\n", identifier(&closing.name));
        }
        text += die();
        text += "  commit;\n  begin\n";
        text += &self.end_sessions();
        text += die();
        for step in &self.steps {
            text += &format!("    {step};\n");
            text += die();
        }
        text += "  exception when query_canceled or others then\n";
        text +=
            "    get stacked diagnostics backstay_error = message_text, backstay_code = returned_sqlstate;\n  end;\n";
        text += "  if backstay_error is not null then\n";
        for closing in self.closes.iter().filter(|closing| closing.reopens) {
            text += &format!("    alter database {} allow_connections true;\n", identifier(&closing.name));
        }
        text +=
            "    commit;\n    raise exception using message = backstay_error, errcode = backstay_code;\n  end if;\n";
        text += die();
        text += "end";
        format!("do {}", body(&text))
    }

    /// Ends every session of the closed databases and checks that they are still the ones that were meant.
    fn end_sessions(&self) -> String {
        let oids: Vec<_> = self.closes.iter().map(|closing| closing.oid.to_string()).collect();
        let oids = oids.join(", ");
        let meant: Vec<_> =
            self.closes.iter().map(|closing| format!("({}, {})", literal(&closing.name), closing.oid)).collect();
        let sessions = format!(
            "from pg_catalog.pg_stat_activity a where a.datid in ({oids}) and a.usesysid is not null \
             and a.pid <> pg_catalog.pg_backend_pid()"
        );
        if meant.is_empty() {
            return String::new();
        }
        format!(
            "    perform pg_catalog.set_config('lock_timeout', '{ENDING_SECONDS_MAX}s', true);
    loop
      perform pg_catalog.pg_terminate_backend(a.pid) {sessions};
      perform pg_catalog.pg_stat_clear_snapshot();
      exit when not exists (select {sessions});
      if pg_catalog.clock_timestamp() > backstay_end then
        raise exception 'sessions do not end within {ENDING_SECONDS_MAX} seconds';
      end if;
      perform pg_catalog.pg_sleep(0.002);
    end loop;
    if exists (select from (values {meant}) meant(name, oid)
               left join pg_catalog.pg_database d on d.datname = meant.name and d.oid::int8 = meant.oid
               where d.oid is null) then
      raise exception 'a database was replaced meanwhile';
    end if;\n",
            meant = meant.join(", "),
        )
    }
}

/// The end of the server's session as if its process had been killed.
const DIE: &str =
    "  perform pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());\n  perform pg_catalog.pg_sleep(60);\n";

/// A body in dollar quotes that it cannot end by itself.
fn body(text: &str) -> String {
    let mut tag = "$backstay$".to_owned();
    let mut attempt = 0;
    while text.contains(&tag) {
        attempt += 1;
        tag = format!("$backstay{attempt}$");
    }
    format!("{tag}\n{text}\n{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_the_body() {
        let mut script = Script::default();
        script.step(format!("alter database {} rename to x", identifier("a$backstay$b")));
        let sql = script.render(None);
        assert!(sql.starts_with("do $backstay1$") && sql.ends_with("$backstay1$"), "{sql}");
    }
}
