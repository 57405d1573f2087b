use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A length of time as people write it: `500ms`, `30s`, `5m`, `12h`, `7d`, `2w`, or several of these
/// in a row, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Duration);

const SPAN_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
/// Longer than any of these can be meant, and short enough that sums cannot overflow.
const SPAN_MS_MAX: u64 = 100 * 366 * 86_400_000;

impl Span {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn from_days(days: u64) -> Self {
        Self(Duration::from_secs(days * 86_400))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "wants a length of time such as 30s, 5m, 12h or 7d";
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let (number, unit, after) = leading_amount(rest).ok_or(WANTED)?;
            let (_, factor) = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or(WANTED)?;
            total = number.checked_mul(*factor).and_then(|part| total.checked_add(part)).ok_or(WANTED)?;
            rest = after;
        }
        if text.is_empty() {
            return Err(WANTED);
        }
        if total > SPAN_MS_MAX {
            return Err("is longer than a hundred years");
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl TryFrom<String> for Span {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        // Weeks are left out: `30d` says more than `4w2d`.
        let fits = SPAN_UNITS.iter().take(5).rev().find(|(_, factor)| milliseconds.is_multiple_of(*factor));
        let (unit, factor) = if milliseconds == 0 { ("s", 1) } else { *fits.unwrap_or(&SPAN_UNITS[0]) };
        write!(f, "{}{unit}", milliseconds / factor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": "length of time",
            "description": "A length of time: `500ms`, `30s`, `5m`, `12h`, `7d`, `2w`, or several in a row, `1h30m`.",
            "pattern": "^([0-9]+(ms|s|m|h|d|w))+$",
        })
    }
}

/// A number of bytes as people write it: `64KiB`, `100MB`, `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl Size {
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "wants a number of bytes such as 64KiB, 100MB or 2GiB";
        let (number, unit, after) = leading_amount(text).ok_or(WANTED)?;
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(WANTED)?;
        if !after.is_empty() {
            return Err(WANTED);
        }
        number.checked_mul(*factor).map(Self).ok_or("is more bytes than a file can have")
    }
}

impl TryFrom<String> for Size {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZE_UNITS.iter().skip(5).rev().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = binary.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": "number of bytes",
            "description": "A number of bytes: `64KiB`, `100MB`, `2GiB`.",
            "pattern": "^[0-9]+(B|[kK]B|MB|GB|KiB|MiB|GiB|TiB)$",
        })
    }
}

/// The number a text begins with, the letters after it, and the rest.
fn leading_amount(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number = text[..digits].parse().ok()?;
    let unit = &text[digits..];
    let end = unit.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(unit.len());
    Some((number, &unit[..end], &unit[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_and_written_as_people_write_them() {
        for (text, seconds, again) in [
            ("7d", 604_800, "7d"),
            ("12h", 43_200, "12h"),
            ("1h30m", 5_400, "90m"),
            ("2w", 1_209_600, "14d"),
            ("0s", 0, "0s"),
            ("90s", 90, "90s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.duration(), Duration::from_secs(seconds), "{text}");
            assert_eq!(span.to_string(), again);
        }
        assert_eq!("250ms".parse::<Span>().unwrap().to_string(), "250ms");
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in ["", "7", "d", "7 d", "-1d", "7days", "1.5h", "99999999999999999999s", "9999999w", "7d x"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_as_people_write_them() {
        for (text, bytes, again) in [
            ("100MB", 100_000_000, "100000000B"),
            ("64KiB", 65_536, "64KiB"),
            ("2GiB", 2 << 30, "2GiB"),
            ("0B", 0, "0B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), again);
        }
        for text in ["", "12", "MB", "1.5GB", "1 GB", "99999999999TiB", "1GBx"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
