use backstay_model::{Outcome, RunId, SnapshotId};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::exit::Exit;

/// What a command ended with: printed once, as text or as one JSON object.
#[derive(Debug)]
pub struct Report {
    pub exit: Exit,
    pub outcome: Outcome,
    pub changed: bool,
    pub run: Option<RunId>,
    pub snapshot: Option<SnapshotId>,
    /// For standard output.
    pub text: String,
    /// The command's own fields of the JSON object.
    pub fields: Map<String, Value>,
    pub error: Option<Failure>,
}

/// What failed, on what, whether anything changed, and what to do next.
#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    /// What failed, and each cause on a line of its own.
    pub what: Vec<String>,
    pub state: State,
    pub hints: Vec<String>,
    pub run: Option<RunId>,
}

/// Whether anything changed, in words and for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    NothingChanged,
    TakenBack,
    /// What stands now, for a person.
    Changed(String),
}

impl Report {
    /// A command that only looked.
    pub fn seen(text: impl Into<String>) -> Self {
        Self {
            exit: Exit::Done,
            outcome: Outcome::Done,
            changed: false,
            run: None,
            snapshot: None,
            text: text.into(),
            fields: Map::new(),
            error: None,
        }
    }

    /// A command that changed something and read it back.
    pub fn changed(text: impl Into<String>) -> Self {
        Self { changed: true, ..Self::seen(text) }
    }

    #[must_use]
    pub fn ending(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same result, ending with this failure: what was found is said, and it is not a success.
    #[must_use]
    pub fn failing(mut self, failure: Failure) -> Self {
        self.exit = failure.exit;
        self.outcome = failure.outcome();
        if failure.state == State::TakenBack {
            self.changed = false;
        }
        self.error = Some(failure);
        self
    }

    #[must_use]
    pub fn of_run(mut self, run: &RunId) -> Self {
        self.run = Some(run.clone());
        self
    }

    #[must_use]
    pub fn of_snapshot(mut self, snapshot: &SnapshotId) -> Self {
        self.snapshot = Some(snapshot.clone());
        self
    }

    /// One more field of the JSON object.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Serialize) -> Self {
        self.fields.insert(name.to_owned(), serde_json::to_value(value).unwrap_or(Value::Null));
        self
    }

    /// The object `--json` prints: the same first fields for every command.
    pub fn json(&self, command: &str) -> Value {
        let mut object = Map::new();
        object.insert("command".to_owned(), json!(command));
        object.insert("outcome".to_owned(), json!(self.outcome));
        object.insert("exit".to_owned(), json!(self.exit.code()));
        object.insert("changed".to_owned(), json!(self.changed));
        object.insert("run".to_owned(), json!(self.run));
        let snapshot = self.snapshot.as_ref().map(|id| json!({"id": id}));
        object.insert("snapshot".to_owned(), snapshot.unwrap_or(Value::Null));
        let error = self.error.as_ref().map(|error| json!({"what": error.what.join(": "), "hint": error.hints.join("; "), "state": error.state.words()}));
        object.insert("error".to_owned(), error.unwrap_or(Value::Null));
        for (name, value) in &self.fields {
            object.insert(name.clone(), value.clone());
        }
        Value::Object(object)
    }
}

impl State {
    pub fn words(&self) -> String {
        match self {
            Self::NothingChanged => "nothing was changed".to_owned(),
            Self::TakenBack => "everything was taken back".to_owned(),
            Self::Changed(words) => words.clone(),
        }
    }
}

impl Failure {
    /// A failure that changed nothing.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: vec![what.into()], state: State::NothingChanged, hints: Vec::new(), run: None }
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Exit::Refused, what)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub fn of_run(mut self, run: &RunId) -> Self {
        self.run = Some(run.clone());
        self
    }

    pub fn outcome(&self) -> Outcome {
        match self.exit {
            Exit::Usage | Exit::Environment | Exit::Refused | Exit::Held => Outcome::Refused,
            Exit::TakenBack => Outcome::TakenBack,
            Exit::Stuck => Outcome::Stuck,
            _ => Outcome::Failed,
        }
    }
}

impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        Self {
            exit: failure.exit,
            outcome: failure.outcome(),
            changed: matches!(failure.state, State::Changed(_)),
            run: failure.run.clone(),
            snapshot: None,
            text: String::new(),
            fields: Map::new(),
            error: Some(failure),
        }
    }
}
