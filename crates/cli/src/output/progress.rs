use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use backstay_model::{Event, Listener};
use chrono::Utc;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{amounts, screen};
use crate::arguments::Everywhere;

const HEARTBEAT: Duration = Duration::from_secs(10);
const BARS_MAX: usize = 6;
const WIDE: usize = 124;

/// Shows what happens: bars on a terminal, a heartbeat elsewhere, one JSON object a line with `--events`,
/// and nothing with `--quiet`.
pub struct Progress {
    way: Way,
    verbose: bool,
    state: Mutex<State>,
}

enum Way {
    Nothing,
    Events,
    Lines,
    Bars(MultiProgress),
}

#[derive(Default)]
struct State {
    step: Option<(String, Instant)>,
    bars: BTreeMap<String, ProgressBar>,
    moved: BTreeMap<String, (u64, Option<u64>)>,
    total: Option<Total>,
    said: Option<Instant>,
}

/// What the pieces of a step come to, where that is known before them.
struct Total {
    bytes: u64,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(everywhere: &Everywhere) -> Arc<Self> {
        let way = if everywhere.events {
            Way::Events
        } else if everywhere.quiet {
            Way::Nothing
        } else if screen::is_screen(&io::stderr()) && !everywhere.json {
            Way::Bars(MultiProgress::new())
        } else {
            Way::Lines
        };
        let progress = Arc::new(Self { way, verbose: everywhere.verbose, state: Mutex::default() });
        if matches!(progress.way, Way::Lines) {
            beat(Arc::downgrade(&progress));
        }
        progress
    }

    fn line(&self, text: &str) {
        match &self.way {
            Way::Nothing | Way::Events => {}
            Way::Lines => {
                let _ = writeln!(io::stderr().lock(), "{text}");
            }
            Way::Bars(bars) => {
                let _ = bars.println(text);
            }
        }
    }

    fn began(&self, state: &mut State, subject: &str, expected: Option<u64>) {
        state.moved.insert(subject.to_owned(), (0, expected));
        let Way::Bars(bars) = &self.way else { return };
        if state.bars.len() >= BARS_MAX {
            return;
        }
        let bar = styled(expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new), expected.is_some());
        let bar = bar.with_message(subject.to_owned());
        let bar = match state.total.as_ref().and_then(|total| total.bar.as_ref()) {
            Some(total) => bars.insert_before(total, bar),
            None => bars.add(bar),
        };
        state.bars.insert(subject.to_owned(), bar);
    }

    /// One bar below the others, for all of them together.
    fn known(&self, state: &mut State, subject: &str, bytes: u64, rows: Option<u64>) {
        let earlier = state.total.take();
        let bytes = bytes + earlier.as_ref().map_or(0, |total| total.bytes);
        let began = earlier.as_ref().map_or_else(Instant::now, |total| total.began);
        let mut bar = earlier.and_then(|total| total.bar);
        if let Way::Bars(bars) = &self.way {
            let bar = bar.get_or_insert_with(|| bars.add(styled(ProgressBar::new(bytes), true)));
            bar.set_length(bytes);
            let rows = rows.map(|rows| format!(", {}", amounts::counted(rows, "row", "rows"))).unwrap_or_default();
            bar.set_message(format!("all of {subject}{rows}"));
        }
        state.total = Some(Total { bytes, began, bar });
    }

    fn beat(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((step, began)) = &state.step else { return };
        let since = state.said.unwrap_or(*began);
        if since.elapsed() < HEARTBEAT {
            return;
        }
        let (moved, mut expected) = state.moved.values().fold((0, Some(0)), |(moved, expected), (bytes, total)| {
            (moved + bytes, expected.zip(*total).map(|(sum, total)| sum + total))
        });
        if let Some(total) = &state.total {
            expected = Some(total.bytes.max(moved));
        }
        let amount = match (moved, expected) {
            (0, _) => String::new(),
            (_, Some(total)) if total >= moved => format!(", {} of {}", amounts::bytes(moved), amounts::bytes(total)),
            _ => format!(", {}", amounts::bytes(moved)),
        };
        let left = state.total.as_ref().and_then(|total| time_left(total.began.elapsed(), moved, total.bytes));
        let left = left.map(|left| format!(", about {} left", amounts::time(left))).unwrap_or_default();
        let text = format!("… {step}, {}{amount}{left}", amounts::time(began.elapsed()));
        state.said = Some(Instant::now());
        drop(state);
        self.line(&text);
    }
}

/// Before it is drawn for the first time. Nothing wraps: the shorter ones are 79 columns wide.
fn styled(bar: ProgressBar, size_is_known: bool) -> ProgressBar {
    let wide = screen::columns(&io::stderr()).is_some_and(|columns| columns >= WIDE);
    let template = match (size_is_known, wide) {
        (true, true) => "  {msg:50!} {bar:24} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12} {eta:>4}",
        (true, false) => "  {msg:25!} {bar:8} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12} {eta:>4}",
        (false, true) => "  {msg:50!} {spinner} {bytes:>10} {bytes_per_sec:>12}",
        (false, false) => "  {msg:25!} {spinner} {bytes:>10} {bytes_per_sec:>12}",
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Nothing is said before a twentieth is done: it would be a guess.
fn time_left(spent: Duration, moved: u64, bytes: u64) -> Option<Duration> {
    let done = moved as f64 / bytes.max(1) as f64;
    (0.05..1.0).contains(&done).then(|| spent.mul_f64((1.0 - done) / done))
}

/// Without a terminal a line every ten seconds says that it goes on.
fn beat(progress: Weak<Progress>) {
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            let Some(progress) = progress.upgrade() else { return };
            progress.beat();
        }
    });
}

impl Listener for Progress {
    fn hear(&self, event: Event) {
        if matches!(self.way, Way::Events) {
            if let Ok(serde_json::Value::Object(mut object)) = serde_json::to_value(&event) {
                object.insert("at".to_owned(), Utc::now().to_rfc3339().into());
                let _ = writeln!(io::stderr().lock(), "{}", serde_json::Value::Object(object));
            }
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepBegan { step } => {
                if self.verbose || matches!(self.way, Way::Bars(_)) {
                    self.line(&format!("  {step}"));
                }
                state.moved.clear();
                if let Some(bar) = state.total.take().and_then(|total| total.bar) {
                    bar.finish_and_clear();
                }
                state.step = Some((step, Instant::now()));
                state.said = None;
            }
            Event::StepEnded { step, remark } => {
                let took = state.step.take().map(|(_, began)| format!(" in {}", amounts::time(began.elapsed())));
                if self.verbose {
                    let remark = remark.map(|text| format!(", {text}"));
                    self.line(&format!("  {step}: done{}{}", took.unwrap_or_default(), remark.unwrap_or_default()));
                }
            }
            Event::TotalKnown { subject, bytes, rows, .. } => self.known(&mut state, &subject, bytes, rows),
            Event::TransferBegan { subject, bytes_expected, .. } => self.began(&mut state, &subject, bytes_expected),
            Event::TransferMoved { subject, bytes, .. } => {
                if let Some(bar) = state.bars.get(&subject) {
                    bar.inc(bytes);
                }
                if let Some(bar) = state.total.as_ref().and_then(|total| total.bar.as_ref()) {
                    bar.inc(bytes);
                }
                if let Some((moved, _)) = state.moved.get_mut(&subject) {
                    *moved += bytes;
                }
            }
            Event::TransferEnded { subject, .. } => {
                if let Some(bar) = state.bars.remove(&subject) {
                    bar.finish_and_clear();
                }
            }
            Event::Waiting { on } => self.line(&format!("waiting: {on}")),
            Event::Warning { text } => self.line(&format!("warning: {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_what_the_rest_takes_at_the_pace_so_far_and_no_guess() {
        let spent = Duration::from_secs(30);
        assert_eq!(time_left(spent, 25, 100), Some(Duration::from_secs(90)));
        assert_eq!(time_left(spent, 4, 100), None);
        assert_eq!(time_left(spent, 100, 100), None);
        assert_eq!(time_left(spent, 0, 0), None);
    }
}
