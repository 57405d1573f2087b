use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDateTime, SubsecRound, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const MOMENT: &str = "%Y%m%d_%H%M%S";
const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not {wanted}")]
pub struct InvalidName {
    pub text: String,
    pub wanted: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as it stands in paths, tables and messages.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { text: text.to_owned(), wanted: $wanted })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_id!(
    /// A snapshot's id: the UTC second it was reserved in, `20251022_153000`.
    SnapshotId, "a snapshot id such as 20251022_153000", is_moment
);
text_id!(
    /// A run's id: when it began and four hexadecimal digits, `20251022_153000_4f2a`. It fits into
    /// the name of a database.
    RunId, "a run id such as 20251022_153000_4f2a", is_run
);
text_id!(
    /// The name of an environment, such as `production`.
    Environment, "a name of lower-case letters, digits, `-` and `_`, of at most 63 bytes", is_name
);
text_id!(
    /// The name of a project.
    Project, "a name of lower-case letters, digits, `-` and `_`, of at most 63 bytes", is_name
);
text_id!(
    /// The name of a part within a release, such as `database` or `files`.
    PartName, "a name of lower-case letters, digits, `-` and `_`, of at most 63 bytes", is_name
);

impl SnapshotId {
    /// The id of a snapshot reserved at `moment`.
    pub fn at(moment: DateTime<Utc>) -> Self {
        Self(moment.format(MOMENT).to_string())
    }

    /// The id one second later: what a writer takes when the clock does not lead past the newest.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self::at(self.moment() + Duration::seconds(1))
    }

    /// The moment the id names.
    pub fn moment(&self) -> DateTime<Utc> {
        moment_of(&self.0).unwrap_or_default()
    }
}

impl RunId {
    /// A new id for a run that begins at `moment`; `salt` keeps runs of the same second apart.
    pub fn new(moment: DateTime<Utc>, salt: u16) -> Self {
        Self(format!("{}_{salt:04x}", moment.format(MOMENT)))
    }

    /// The moment the run began.
    pub fn moment(&self) -> DateTime<Utc> {
        self.0.get(..15).and_then(moment_of).unwrap_or_default()
    }
}

impl Environment {
    /// The environment of a project that names none.
    pub fn unnamed() -> Self {
        Self("default".to_owned())
    }
}

/// The name of an immutable object: a keyed digest of its plaintext.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId([u8; 32]);

impl ObjectId {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ObjectId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut bytes = [0; 32];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(InvalidName { text: text.to_owned(), wanted: "an object id of 64 hexadecimal digits" }),
        }
    }
}

impl TryFrom<String> for ObjectId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> String {
        hex::encode(id.0)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

fn moment_of(text: &str) -> Option<DateTime<Utc>> {
    let moment = NaiveDateTime::parse_from_str(text, MOMENT).ok()?.and_utc();
    Some(moment.trunc_subsecs(0))
}

fn is_moment(text: &str) -> bool {
    // Reading back and comparing refuses what the parser tolerates, such as missing zeros.
    text.len() == 15 && moment_of(text).is_some_and(|moment| moment.format(MOMENT).to_string() == text)
}

fn is_run(text: &str) -> bool {
    let Some((moment, salt)) = text.rsplit_once('_') else { return false };
    is_moment(moment) && salt.len() == 4 && salt.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(plain) && !text.starts_with(['-', '_'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_read_back_as_written() {
        for text in ["20251022_153000", "20240229_235959"] {
            assert_eq!(text.parse::<SnapshotId>().unwrap().moment().format(MOMENT).to_string(), text);
        }
        let run = RunId::new("20251022_153000".parse::<SnapshotId>().unwrap().moment(), 0x4f2a);
        assert_eq!(run.as_str(), "20251022_153000_4f2a");
        assert_eq!(run.as_str().parse::<RunId>().unwrap(), run);
        assert_eq!(run.moment(), "20251022_153000".parse::<SnapshotId>().unwrap().moment());
    }

    #[test]
    fn what_only_looks_like_an_id_is_refused() {
        for text in [
            "",
            "20251322_153000",
            "20250229_000000",
            "2025102_153000",
            "20251022_15300x",
            "../20251022_1",
            "+2025102_153000",
        ] {
            assert!(text.parse::<SnapshotId>().is_err(), "{text}");
        }
        for text in ["20251022_153000", "20251022_153000_4F2A", "20251022_153000_4f2", "x_4f2a"] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
        for text in ["", "Production", "a/b", "..", "-a", "a b"] {
            assert!(text.parse::<Environment>().is_err(), "{text}");
        }
        assert!("AB".repeat(32).parse::<ObjectId>().is_err());
    }

    #[test]
    fn the_successor_is_greater_across_every_boundary() {
        let id: SnapshotId = "20241231_235959".parse().unwrap();
        assert_eq!(id.successor().as_str(), "20250101_000000");
        assert!(id.successor() > id);
    }

    proptest! {
        #[test]
        fn the_order_of_ids_is_the_order_of_moments(a in 0i64..4_000_000_000, b in 0i64..4_000_000_000) {
            let at = |seconds| SnapshotId::at(DateTime::from_timestamp(seconds, 0).unwrap());
            prop_assert_eq!(at(a).cmp(&at(b)), a.cmp(&b));
        }

        #[test]
        fn object_ids_survive_text(bytes: [u8; 32]) {
            let id = ObjectId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
        }
    }
}
