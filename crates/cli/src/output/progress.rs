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
    said: Option<Instant>,
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
        let bar = bars.add(expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
        // Nothing wraps: the shorter one is 79 columns wide.
        let wide = screen::columns(&io::stderr()).is_some_and(|columns| columns >= WIDE);
        let template = match (expected.is_some(), wide) {
            (true, true) => "  {msg:50!} {bar:24} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12} {eta:>4}",
            (true, false) => "  {msg:25!} {bar:8} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12} {eta:>4}",
            (false, true) => "  {msg:50!} {spinner} {bytes:>10} {bytes_per_sec:>12}",
            (false, false) => "  {msg:25!} {spinner} {bytes:>10} {bytes_per_sec:>12}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(subject.to_owned());
        state.bars.insert(subject.to_owned(), bar);
    }

    fn beat(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((step, began)) = &state.step else { return };
        let since = state.said.unwrap_or(*began);
        if since.elapsed() < HEARTBEAT {
            return;
        }
        let (moved, expected) = state.moved.values().fold((0, Some(0)), |(moved, expected), (bytes, total)| {
            (moved + bytes, expected.zip(*total).map(|(sum, total)| sum + total))
        });
        let amount = match (moved, expected) {
            (0, _) => String::new(),
            (_, Some(total)) if total >= moved => format!(", {} of {}", amounts::bytes(moved), amounts::bytes(total)),
            _ => format!(", {}", amounts::bytes(moved)),
        };
        let text = format!("… {step}, {}{amount}", amounts::time(began.elapsed()));
        state.said = Some(Instant::now());
        drop(state);
        self.line(&text);
    }
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
                state.step = Some((step, Instant::now()));
                state.said = None;
            }
            Event::StepEnded { step, remark } => {
                let took = state.step.take().map(|(_, began)| amounts::time(began.elapsed())).unwrap_or_default();
                if self.verbose {
                    self.line(&format!(
                        "  {step}: done in {took}{}",
                        remark.map(|text| format!(", {text}")).unwrap_or_default()
                    ));
                }
            }
            Event::TransferBegan { subject, bytes_expected, .. } => self.began(&mut state, &subject, bytes_expected),
            Event::TransferMoved { subject, bytes, .. } => {
                if let Some(bar) = state.bars.get(&subject) {
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
