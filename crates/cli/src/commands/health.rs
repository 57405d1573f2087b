use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use backstay_health::{Row, Rule, Standing, Verdict, watch};
use backstay_part::Condition;

use crate::arguments::Health;
use crate::exit::Exit;
use crate::output::{amounts, table};
use crate::report::{Failure, Report};
use crate::secret_file::cannot;
use crate::surroundings::Surroundings;
use crate::wiring::{Containers, Project, probes};

/// Of every service that fails, so much of what it said last.
const LOG_LINES: u32 = 50;
/// What each failing service said last, by its name.
type Said = BTreeMap<String, Vec<String>>;

pub async fn run(surroundings: &Surroundings, arguments: Health) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let containers = Containers::reach(&project).await;
    let (mut probes, rule) = probes(&project, &containers).await?;
    if let Some(service) = &arguments.service {
        let names: BTreeSet<String> =
            probes.iter().flat_map(|probe| [Some(probe.name.clone()), probe.service.clone()]).flatten().collect();
        probes.retain(|probe| probe.service.as_ref() == Some(service) || probe.name == *service);
        if probes.is_empty() {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            return Err(
                Failure::usage(format!("no probe looks at `{service}`")).hint(format!("the probes look at: {names}"))
            );
        }
    }
    if probes.is_empty() {
        return Err(Failure::new(Exit::Environment, "there is nothing to look at")
            .hint("describe a probe in backstay.toml: [health.api] http = \"http://…/health\""));
    }
    let rule = if arguments.wait { Rule { timeout: Duration::from_secs(arguments.timeout), ..rule } } else { rule };
    let verdict =
        watch(&probes, &rule, &BTreeSet::new(), arguments.wait, &surroundings.clock, &surroundings.interrupt).await;
    let said = said_last(&containers, &verdict.rows).await;
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit(&verdict.rows, &said)).map_err(|error| cannot("write", path, &error))?;
    }
    Ok(report(&verdict, &said))
}

async fn said_last(containers: &Containers, rows: &[Row]) -> Said {
    let mut said = Said::new();
    let Containers::Reached(compose) = containers else { return said };
    let failing = rows.iter().filter(|row| row.standing != Standing::Healthy).filter_map(|row| row.service.as_ref());
    for service in failing.collect::<BTreeSet<_>>() {
        // Whoever cannot read logs has the verdict all the same.
        let lines = compose.last_lines(service, LOG_LINES).await.unwrap_or_default();
        if !lines.is_empty() {
            said.insert(service.clone(), lines);
        }
    }
    said
}

fn report(verdict: &Verdict, said: &Said) -> Report {
    let rows = verdict.rows.iter().map(|row| {
        let took = amounts::time(Duration::from_millis(row.milliseconds));
        vec![word(row.standing).to_owned(), row.probe.clone(), took, row.remark.clone()]
    });
    let mut text = table(&["", "probe", "took", "answer"], rows.collect());
    for (service, lines) in said {
        let _ = write!(text, "\n\n{service} said last:");
        text.extend(lines.iter().map(|line| format!("\n  {line}")));
    }
    let report = Report::seen(text).field("probes", &verdict.rows).field("logs", said);
    let what = match &verdict.condition {
        Condition::Healthy => return report.field("condition", "healthy"),
        Condition::Unhealthy { failures } => format!("unhealthy: {}", failures.join("; ")),
        Condition::Undecided { why } => format!("undecided: {why}"),
    };
    let word = if matches!(verdict.condition, Condition::Undecided { .. }) { "undecided" } else { "unhealthy" };
    let failure =
        Failure::new(Exit::Unhealthy, what).hint("`backstay restore before-deploy --plan` shows the way back");
    report.field("condition", word).failing(failure)
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Healthy => "ok",
        Standing::Unhealthy => "FAILS",
        Standing::Undecided => "unsure",
    }
}

/// What test runners and pipelines read.
fn junit(rows: &[Row], said: &Said) -> String {
    let failures = rows.iter().filter(|row| row.standing != Standing::Healthy).count();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuite name=\"backstay health\" tests=\"{}\" failures=\"{failures}\">", rows.len());
    for row in rows {
        let seconds = Duration::from_millis(row.milliseconds).as_secs_f64();
        let _ = write!(xml, "  <testcase name=\"{}\" time=\"{seconds:.3}\">", escaped(&row.probe));
        if row.standing != Standing::Healthy {
            let _ = write!(xml, "<failure message=\"{}\"/>", escaped(&row.remark));
            if let Some(lines) = row.service.as_ref().and_then(|service| said.get(service)) {
                let lines: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
                let _ = write!(xml, "<system-out>{}</system-out>", lines.join("\n"));
            }
        }
        xml.push_str("</testcase>\n");
    }
    xml.push_str("</testsuite>\n");
    xml
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    text.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_holds_every_probe_and_escapes_what_they_say() {
        let row = |probe: &str, standing, remark: &str| Row {
            probe: probe.to_owned(),
            service: Some("web".to_owned()),
            standing,
            remark: remark.to_owned(),
            milliseconds: 12,
            failed_before: false,
        };
        let xml = junit(
            &[row("api", Standing::Healthy, "status 200"), row("a<b", Standing::Unhealthy, "said \"no\" & left")],
            &Said::from([("web".to_owned(), vec!["one".to_owned(), "<two>".to_owned()])]),
        );
        assert!(xml.contains("tests=\"2\" failures=\"1\""));
        assert!(xml.contains(
            "<testcase name=\"a&lt;b\" time=\"0.012\"><failure message=\"said &quot;no&quot; &amp; left\"/>\
             <system-out>one\n&lt;two&gt;</system-out></testcase>"
        ));
    }
}
