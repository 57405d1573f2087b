use crate::{Error, Session, fuse, identifier, literal};

/// How long sessions may take to end before the switch gives up and opens the databases again.
const ENDING_SECONDS_MAX: u32 = 20;
/// A session with nothing to do for so many seconds is ended while its database is open.
const IDLE: &str = "0.1";
/// The seconds after each such session, and of all these pauses together.
const PAUSE: &str = "0.003";
const PAUSES_MAX: &str = "1.0";

/// A switch that the server runs by itself, in one message: end idle sessions one by one, close the
/// databases, end the other sessions, then do everything in one transaction, or open them again.
///
/// A hundred processes that end at once keep everybody else from the processors for longer than all
/// the rest takes. Whoever is idle does not notice before it asks again, and is then let in. When the
/// doors close few are inside.
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
        let mut text = String::from(VARIABLES);
        text += "begin\n";
        text += &self.end_idle_sessions();
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

    /// Ends sessions that have nothing to do one by one, while their clients are still let in again.
    fn end_idle_sessions(&self) -> String {
        if self.closes.is_empty() {
            return String::new();
        }
        format!(
            "  for backstay_session, backstay_pause in
    select a.pid, least({PAUSE}, {PAUSES_MAX} / pg_catalog.count(*) over ()) {}
       and a.state = 'idle' and a.state_change < pg_catalog.clock_timestamp() - '{IDLE} s'::pg_catalog.interval
  loop
    perform pg_catalog.pg_terminate_backend(backstay_session);
    perform pg_catalog.pg_sleep(backstay_pause);
  end loop;\n",
            self.sessions()
        )
    }

    /// Ends every session of the closed databases, and checks that they are still the ones that were meant.
    ///
    /// Whoever was connecting when they closed may have been let in, and is no session yet: it is waited for.
    fn end_sessions(&self) -> String {
        if self.closes.is_empty() {
            return String::new();
        }
        let (oids, sessions) = (self.oids(), self.sessions());
        let meant: Vec<_> =
            self.closes.iter().map(|closing| format!("({}, {})", literal(&closing.name), closing.oid)).collect();
        let connecting = format!(
            "from pg_catalog.pg_locks l where l.locktype = 'object' and l.mode = 'RowExclusiveLock' \
             and l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass and l.objid in ({oids})"
        );
        format!(
            "    perform pg_catalog.set_config('lock_timeout', '{ENDING_SECONDS_MAX}s', true);
    backstay_end := pg_catalog.clock_timestamp() + '{ENDING_SECONDS_MAX} s'::pg_catalog.interval;
    select pg_catalog.array_agg(l.pid) into backstay_guests {connecting};
    loop
      backstay_wait := exists (select {connecting} and l.pid = any (backstay_guests));
      perform pg_catalog.pg_stat_clear_snapshot();
      perform pg_catalog.pg_terminate_backend(a.pid) {sessions};
      exit when not found and not backstay_wait;
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

    fn oids(&self) -> String {
        self.closes.iter().map(|closing| closing.oid.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The sessions of the databases that are closed.
    fn sessions(&self) -> String {
        format!(
            "from pg_catalog.pg_stat_activity a where a.datid in ({}) and a.usesysid is not null \
             and a.pid <> pg_catalog.pg_backend_pid()",
            self.oids()
        )
    }
}

const VARIABLES: &str = "declare
  backstay_error text;
  backstay_code text;
  backstay_session int4;
  backstay_pause float8;
  backstay_guests int4[];
  backstay_wait bool;
  backstay_end timestamptz;
";

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
