//! What people see on a terminal of 80 and of 200 columns, compared with what is checked in under `screens/`. Where it
//! should look otherwise: run this with BACKSTAY_BLESS=1, look at the difference, and check it in.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use backstay_testkit::{PrivateCluster, left_out};

use crate::ground::Ground;
use crate::tidy::root;

const WIDTHS: [usize; 2] = [80, 200];
/// What stands further in than this goes on with a cell of the line before.
const DEEP: usize = 10;
/// What follows a number that is not the same on every machine.
const UNITS: &[&str] = &["s", "s,", "s)", "min", "h", "ms", "B", "KiB", "MiB", "bytes", "bytes,"];

fn golden(name: &str) -> PathBuf {
    root().join("tests/journeys/screens").join(name)
}

/// Runs a line of a shell on a terminal of its own and returns what stood on it. `backstay` is the real one.
fn on_a_terminal(ground: &Ground<'_>, columns: usize, line: &str) -> String {
    typed_on_a_terminal(ground, columns, line, "")
}

/// The same, with somebody who types, and whose typing is not seen.
fn typed_on_a_terminal(ground: &Ground<'_>, columns: usize, line: &str, typed: &str) -> String {
    let backstay = ground.backstay.command(&[]);
    let program = backstay.get_program().to_string_lossy().into_owned();
    let mut terminal = Command::new("script");
    let setup = format!("unset COLUMNS; stty -echo cols {columns} rows 50; backstay() {{ '{program}' \"$@\"; }}");
    terminal.args(["-qec", &format!("{setup}; {line}"), "/dev/null"]).current_dir(ground.path("")).env_clear();
    terminal.envs(backstay.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.env("SHELL", "/bin/sh").env("TERM", "xterm").env("NO_COLOR", "1");
    ground.write("typed", typed);
    terminal.stdin(fs::File::open(ground.path("typed")).expect("what is typed is read"));
    let output = terminal.output().expect("script runs");
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

/// Takes out what is another every time: places, moments, ids, sizes. Spaces between columns become two.
fn masked(ground: &Ground<'_>, text: &str) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = text
        .replace(&ground.backstay.state().display().to_string(), "/state")
        .replace(&ground.path("").display().to_string(), "/srv/shop/")
        .replace(&format!(":{}", ground.cluster.port()), ":5432")
        .replace(&format!(" on {},", host.trim()), " on host,");
    text.lines().map(masked_line).collect::<Vec<_>>().join("\n") + "\n"
}

fn masked_line(line: &str) -> String {
    // How far in the rest of a cell stands depends on the columns before it.
    let spaces = line.len() - line.trim_start().len();
    let indent = " ".repeat(if spaces > DEEP { DEEP } else { spaces });
    let mut columns: Vec<String> = Vec::new();
    for column in line.trim().split("  ").filter(|column| !column.trim().is_empty()) {
        let mut words: Vec<String> = column.trim().split(' ').map(str::to_owned).collect();
        for place in 0..words.len() {
            let measured = words.get(place + 1).is_some_and(|unit| UNITS.contains(&unit.as_str()));
            if place > 0 && words[place - 1] == "owner" {
                words[place] = words[place].replace(|letter: char| letter.is_ascii_digit(), "0");
                while words[place].contains("00") {
                    words[place] = words[place].replace("00", "0");
                }
            } else if words[place].starts_with(|letter: char| letter.is_ascii_digit() || letter == '(') && measured {
                words[place] = words[place].replace(|letter: char| letter.is_ascii_digit(), "9");
                while ["99", "9.9", "9,9"].iter().any(|more| words[place].contains(more)) {
                    words[place] = words[place].replace("99", "9").replace("9.9", "9").replace("9,9", "9");
                }
                let unit = words[place + 1].clone();
                words[place + 1] = unit.replace("min", "s").replace("KiB", "MiB").replace("ms", "s");
            } else if is_moment(&words[place]) {
                words[place] = words[place].replace(|letter: char| letter.is_ascii_hexdigit(), "0");
            }
        }
        columns.push(words.join(" ").replace("9 s 9 s", "9 s"));
    }
    format!("{indent}{}", columns.join("  "))
}

/// An id, a date, or a time of day.
fn is_moment(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let only = word.chars().all(|letter| letter.is_ascii_hexdigit() || "_:-,.".contains(letter));
    only && digits >= 4 && word.contains(['_', ':', '-'])
}

fn compare(name: &str, seen: &str) {
    let file = golden(name);
    if std::env::var_os("BACKSTAY_BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder of screens")).expect("a folder of screens");
        fs::write(&file, seen).expect("a screen is written");
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    assert!(wanted == seen, "{name} is not as checked in.\n--- wanted\n{wanted}\n--- seen\n{seen}");
}

#[test]
fn help_errors_lists_and_plans_look_as_they_should_on_any_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        return left_out("what people see", "no program `script` here (package bsdutils)");
    }
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    ground.write("migrations/20250101090000_points.up.sql", "create table store.points_of (customer_id bigint);");
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    let help = on_a_terminal(&ground, 80, "backstay --help");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.len() > 20, "{commands:?}");
    let mut helps = vec![String::new()];
    helps.extend(
        commands.iter().filter(|command| !command.is_empty() && **command != "help").map(|name| format!("{name} ")),
    );
    helps.extend(["status ", "plan ", "run ", "down "].map(|name| format!("migrate {name}")));
    let mut all = String::new();
    for command in helps {
        let shown = on_a_terminal(&ground, 80, &format!("backstay {command}--help"));
        all.push_str(&format!("$ backstay {command}--help\n{shown}\n"));
        let longest = shown.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(longest <= 80, "the help of {command} is {longest} columns wide");
        assert!(shown.contains("Usage: backstay"), "{shown}");
    }
    compare("help.txt", &all);

    let empty = screens(&ground, &["backstay", "backstay list", "backstay restore latest --yes"]);
    let first = ground.snapshot();
    let _ = ground.backstay.run(&["snapshot", "--label", "release=1.1", "--pin"]).ended(0);
    ground.bad_release();
    let lines = [
        "backstay",
        "backstay list",
        "backstay show latest",
        "backstay history",
        "backstay prune --dry-run",
        "backstay snapshoot",
        "backstay snapshot --prov",
        "backstay show latst",
        "backstay show 20200101_000000",
        "backstay restore latest --only volumes",
        "backstay restore latest </dev/null --non-interactive",
        "backstay check --env nowhere",
        "backstay undo --yes",
        "backstay migrate status",
    ];
    let full = screens(&ground, &lines);
    // These only have to fit: what they say differs with the server and with the machine.
    let plan = format!("backstay restore {first} --plan");
    screens(&ground, &["backstay migrate plan", "backstay doctor", "backstay diff latest", &plan]);
    // Where these fold on 80 columns depends on the numbers in them.
    let picked = typed_on_a_terminal(&ground, 200, "backstay restore --plan", "2\n");
    let differs = on_a_terminal(&ground, 200, "backstay diff latest");
    compare("plans.txt", &masked(&ground, &format!("{}\n{differs}", picked.trim_start_matches("2\n"))));
    compare("colours.txt", &in_colour(&ground, &["backstay snapshoot", "backstay undo --yes", "backstay list"]));
    for (place, columns) in WIDTHS.iter().enumerate() {
        compare(&format!("{columns}.txt"), &format!("{}{}", empty[place], full[place]));
    }
}

/// What stands there where nobody asked for no colours, with each sequence to be read. Without them it says the same.
fn in_colour(ground: &Ground<'_>, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let plain = on_a_terminal(ground, 80, &format!("{line} --quiet"));
        let coloured = on_a_terminal(ground, 80, &format!("unset NO_COLOR; {line} --quiet"));
        let mut parts = coloured.split('\u{1b}');
        let first = parts.next().unwrap_or_default().to_owned();
        let stripped =
            first + &parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect::<String>();
        assert_eq!(masked(ground, &stripped), masked(ground, &plain), "{line}");
        text.push_str(&masked(ground, &format!("$ {line}\n{}\n", coloured.replace('\u{1b}', "ESC"))));
    }
    text
}

/// Each line's answer at each width: first what goes to standard output, then the rest.
fn screens(ground: &Ground<'_>, lines: &[&str]) -> Vec<String> {
    WIDTHS
        .iter()
        .map(|columns| {
            let mut text = String::new();
            for line in lines {
                let result = on_a_terminal(ground, *columns, &format!("{line} 2>/dev/null"));
                let errors = on_a_terminal(ground, *columns, &format!("{line} --quiet 2>&1 >/dev/null"));
                for shown in result.lines().chain(errors.lines()) {
                    let width = shown.chars().count();
                    assert!(width <= *columns, "{line}: {width} columns of {columns}: {shown}");
                }
                text.push_str(&masked(ground, &format!("$ {line}\n{result}{errors}\n")));
            }
            text
        })
        .collect()
}
