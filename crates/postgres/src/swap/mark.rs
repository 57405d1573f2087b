use backstay_model::RunId;
use serde::{Deserialize, Serialize};

const OPENS: &str = "[backstay ";
const CLOSES: char = ']';
/// How many earlier marks a mark remembers: enough to take a switch back and then ask for the one before.
const DEPTH_MAX: u32 = 3;

/// What Backstay writes into a database's comment, behind the user's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub run: RunId,
    pub state: State,
    /// The name that applications use.
    pub of: String,
    /// What the database is to be again when it becomes live.
    #[serde(default)]
    pub opening: Opening,
    /// How it was called before the run renamed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_from: Option<String>,
    /// Where the run keeps what this one replaced. Nothing where nothing was live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    /// The mark it had before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Box<Mark>>,
    /// It was live for a while and may hold rows written then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_live: bool,
    /// The server's count of row changes when it was proven: later changes show as a difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<i64>,
    /// It is kept for whoever restores the same capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
}

/// What makes a proven copy a warm one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warm {
    /// The digest of the facts that it was proven equal to.
    pub facts: String,
    /// A run has taken it up, and it is not to be dropped under its hands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Being filled.
    Building,
    /// Filled, not yet compared with its facts.
    Staged,
    /// Equal to its facts, and closed to connections since.
    Proven,
    Live,
    /// Live, and what it replaced was let go.
    Settled,
    Kept,
    /// Let go of, and to be dropped.
    Condemned,
}

/// What is taken from a database while it is kept, and given back when it is live again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// The connection limit.
    pub limit: i32,
    /// The oids of the roles whose right to connect was revoked; 0 is everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<i64>,
    /// The database's own setting of `default_transaction_read_only`, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
}

impl Default for Opening {
    fn default() -> Self {
        Self { limit: -1, connect: Vec::new(), read_only: None }
    }
}

impl Mark {
    pub(crate) fn new(run: &RunId, state: State, of: &str) -> Self {
        Self {
            run: run.clone(),
            state,
            of: of.to_owned(),
            opening: Opening::default(),
            came_from: None,
            replaced: None,
            earlier: None,
            was_live: false,
            writes: None,
            warm: None,
        }
    }

    pub(crate) fn is(&self, run: &RunId, state: State) -> bool {
        self.run == *run && self.state == state
    }

    /// Forgets marks too old to be asked for, so that a comment stays small however often a
    /// database goes to and fro.
    #[must_use]
    fn cut(mut self, depth: u32) -> Self {
        self.earlier = match self.earlier.take() {
            Some(earlier) if depth > 1 => Some(Box::new(earlier.cut(depth - 1))),
            _ => None,
        };
        self
    }
}

/// The comment of a database: the user's words, then the mark.
pub(crate) fn with_mark(words: Option<&str>, mark: Option<&Mark>) -> Option<String> {
    let Some(mark) = mark else { return words.map(str::to_owned) };
    let json = serde_json::to_string(&mark.clone().cut(DEPTH_MAX)).unwrap_or_default();
    let marked = format!("{OPENS}{json}{CLOSES}");
    Some(match words {
        Some(words) => format!("{words}\n{marked}"),
        None => marked,
    })
}

/// The user's words of a comment.
pub(crate) fn words_of(comment: Option<&str>) -> Option<String> {
    split(comment).0
}

/// The user's words and the mark of a comment. What only looks like a mark belongs to the user.
pub(crate) fn split(comment: Option<&str>) -> (Option<String>, Option<Mark>) {
    let Some(comment) = comment else { return (None, None) };
    // The words may hold the opening too, so every place it stands at is tried.
    for (place, _) in comment.match_indices(OPENS) {
        let json = comment.get(place + OPENS.len()..).and_then(|rest| rest.trim_end().strip_suffix(CLOSES));
        if let Some(mark) = json.and_then(|json| serde_json::from_str(json).ok()) {
            let words = comment.get(..place).unwrap_or_default();
            let words = words.strip_suffix('\n').unwrap_or(words);
            return ((place > 0).then(|| words.to_owned()), Some(mark));
        }
    }
    (Some(comment.to_owned()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark::new(&"20251022_153000_4f2a".parse().unwrap(), State::Proven, "shop \"x\"]")
    }

    #[test]
    fn the_users_words_survive_the_mark() {
        for words in [None, Some(""), Some("The shop's\ndata\n"), Some("[backstay is good]"), Some("[backstay {}")] {
            let comment = with_mark(words, Some(&mark()));
            assert_eq!(split(comment.as_deref()), (words.map(str::to_owned), Some(mark())), "{words:?}");
            assert_eq!(split(with_mark(words, None).as_deref()), (words.map(str::to_owned), None));
        }
    }

    #[test]
    fn marks_do_not_grow_without_end() {
        let mut mark = mark();
        for _ in 0..50 {
            mark = Mark { earlier: Some(Box::new(mark)), ..self::mark() };
            mark = split(with_mark(None, Some(&mark)).as_deref()).1.unwrap();
        }
        assert!(with_mark(None, Some(&mark)).unwrap().len() < 1000);
    }
}
