use std::time::Duration;

use chrono::{DateTime, Local, Utc};

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// `1.4 GiB`.
pub fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut whole = count;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{whole} B") } else { format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit]) }
}

/// `1,204,000`.
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 tables`, `1 table`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 days`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long ago, in words and in one unit: `20 s ago`, `3 min ago`, `5 h ago`, `4 days ago`.
pub fn ago(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let Ok(age) = (now - moment).to_std() else { return "in the future".to_owned() };
    let seconds = age.as_secs();
    match seconds {
        0..=59 => format!("{seconds} s ago"),
        60..=5_399 => format!("{} min ago", seconds / 60),
        5_400..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Local time, for the eyes beside an id that is UTC.
pub fn local(moment: DateTime<Utc>) -> String {
    moment.with_timezone(&Local).format("%Y-%m-%d %H:%M %z").to_string()
}

/// The same in a narrow column; the id beside it has the year.
pub fn local_day(moment: DateTime<Utc>) -> String {
    moment.with_timezone(&Local).format("%m-%d %H:%M %z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
        assert_eq!(number(1_204_000), "1,204,000");
        assert_eq!(number(999), "999");
        assert_eq!(counted(1, "row", "rows"), "1 row");
        assert_eq!(time(Duration::from_millis(420)), "0.4 s");
        assert_eq!(time(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(time(Duration::from_secs(86_400 * 4)), "4 days");
        let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(400);
        for (seconds, words) in [(59, "59 s ago"), (61, "1 min ago"), (5_400, "1 h ago"), (200_000, "2 days ago")] {
            assert_eq!(ago(now - chrono::TimeDelta::seconds(seconds), now), words);
        }
        assert_eq!(ago(now, now - chrono::TimeDelta::days(1)), "in the future");
    }
}
