//! The forms of a check: text, Markdown, and what CI systems and benchmark trackers read.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::advise::measure::Metric;
use crate::advise::regress::{Effect, MetricVerdict, TestVerdict, Verdict};
use crate::app::report::Style;
use crate::app::report::text::wrap;

use super::document::CheckReport;
use super::sections::{headline, number, sections, sides};

/// For a terminal.
pub fn check_text(report: &CheckReport, style: Style) -> String {
    let mut out = format!("{}\n", style.bold(&headline(report)));
    for (label, text) in sides(report) {
        let _ = writeln!(out, "  {label:10}{}", wrap(&text, &" ".repeat(12)));
    }
    for section in sections(report) {
        out.push_str(&section.text(style));
    }
    out
}

/// For the comment of a pull request, or a job's summary.
pub fn check_markdown(report: &CheckReport) -> String {
    let mut out = format!("### gpuwhy check {}\n\n", headline(report));
    for (label, text) in sides(report) {
        let _ = writeln!(out, "- {label}: {}", escaped(&text));
    }
    for mut section in sections(report) {
        section.title = escaped(&section.title);
        section.notes = section.notes.iter().map(|note| escaped(note)).collect();
        out.push_str(&section.markdown("####"));
    }
    out
}

/// Text that Markdown shall show as it is.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('*', "\\*").replace('_', "\\_").replace('<', "&lt;")
}

/// Every metric with its test.
fn metrics(report: &CheckReport) -> impl Iterator<Item = (&TestVerdict, &MetricVerdict)> {
    let tests = report.timing.iter().flat_map(|t| &t.tests);
    tests.flat_map(|t| t.metrics.iter().map(move |m| (t, m)))
}

/// One sentence about a metric.
fn sentence(m: &MetricVerdict) -> String {
    let mut text = m.verdict.name().to_string();
    if let (Some(before), Some(after)) = (m.baseline_median, m.candidate_median) {
        let unit = m.metric.unit();
        let _ = write!(text, ": {} to {} {unit}", number(before), number(after));
    }
    if let Some(ratio) = m.ratio {
        let _ = write!(text, " ({:+.1} %)", 100.0 * (ratio - 1.0));
    }
    for reason in &m.reasons {
        let _ = write!(text, "; {reason}");
    }
    text
}

/// One sentence about the structure of a test; `None` where nothing holds the gate.
fn structure_sentence(report: &CheckReport, test: &str) -> Option<String> {
    let changes = report.structure.iter().filter(|c| c.test == test && c.effect != Effect::Better);
    let told: Vec<String> = changes
        .map(|c| {
            let value = |v: &Option<Value>| v.as_ref().map_or("none".to_string(), Value::to_string);
            format!("{}: {} to {}", c.fact, value(&c.baseline), value(&c.candidate))
        })
        .collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

/// The tests of a report, those without timings too.
fn tests(report: &CheckReport) -> Vec<&str> {
    let timed = report.timing.iter().flat_map(|t| t.tests.iter().map(|t| t.test.as_str()));
    let mut all: Vec<&str> = timed.collect();
    for change in &report.structure {
        if !all.contains(&change.test.as_str()) {
            all.push(&change.test);
        }
    }
    all
}

/// JUnit XML: a case for the structure and for each metric of each test. What is inconclusive is
/// skipped, with its reasons.
pub fn junit(report: &CheckReport) -> String {
    let mut cases = String::new();
    let (mut count, mut failures, mut skipped) = (0, 0, 0);
    let mut case = |class: &str, name: &str, inner: &str| {
        count += 1;
        let (class, name) = (xml(&format!("gpuwhy.{}.{class}", report.workload)), xml(name));
        let _ = if inner.is_empty() {
            writeln!(cases, "    <testcase classname=\"{class}\" name=\"{name}\"/>")
        } else {
            writeln!(
                cases,
                "    <testcase classname=\"{class}\" name=\"{name}\">{inner}</testcase>"
            )
        };
    };
    for test in tests(report) {
        let inner = structure_sentence(report, test).map(|told| {
            failures += 1;
            format!("<failure message=\"the structure changed\">{}</failure>", xml(&told))
        });
        case(test, "structure", &inner.unwrap_or_default());
    }
    for (test, m) in metrics(report) {
        let told = xml(&sentence(m));
        let inner = match m.verdict {
            Verdict::Regressed => {
                failures += 1;
                format!("<failure message=\"{told}\"/>")
            }
            Verdict::Inconclusive => {
                skipped += 1;
                format!("<skipped message=\"{told}\"/>")
            }
            Verdict::Improved | Verdict::Unchanged => String::new(),
        };
        case(&test.test, m.metric.name(), &inner);
    }
    let seconds = report.timing.as_ref().map_or(0.0, |t| t.seconds);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"gpuwhy check \
         {}\" tests=\"{count}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" \
         time=\"{seconds:.3}\">\n{cases}  </testsuite>\n</testsuites>\n",
        xml(&report.workload)
    )
}

/// Text inside XML; what XML cannot hold at all becomes a space.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Commands for the log of a GitHub workflow, which become annotations.
pub fn github(report: &CheckReport) -> String {
    let mut out = String::new();
    let mut say = |level: &str, title: &str, text: &str| {
        let _ = writeln!(out, "::{level} title={}::{}", property(title), data(text));
    };
    for test in tests(report) {
        if let Some(told) = structure_sentence(report, test) {
            say("error", &format!("{test}: the structure changed"), &told);
        }
    }
    for (test, m) in metrics(report) {
        let level = match m.verdict {
            Verdict::Regressed => "error",
            Verdict::Inconclusive => "warning",
            Verdict::Improved => "notice",
            Verdict::Unchanged => continue,
        };
        say(level, &format!("{}: {}", test.test, m.metric.name()), &sentence(m));
    }
    for test in &report.attribution {
        for phase in test.phases.iter().filter(|p| p.clear) {
            if let Some(part) = phase.parts.first() {
                let share = 100.0 * part.share.unwrap_or(0.0);
                let text =
                    format!("{share:.0} % of the extra time of {} is {}", phase.phase, part.what);
                say("notice", &format!("{}: where the time went", test.test), &text);
            }
        }
    }
    let level = match report.verdict {
        Verdict::Regressed => "error",
        Verdict::Inconclusive => "warning",
        Verdict::Improved | Verdict::Unchanged => "notice",
    };
    say(level, "gpuwhy check", &headline(report));
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Go's benchmark format, which benchstat compares: the samples of one side.
pub fn benchstat(report: &CheckReport, of_baseline: bool) -> String {
    let mut out = String::new();
    let side = if of_baseline { &report.baseline } else { &report.candidate };
    for (key, value) in [
        ("engine", format!("{} {}", side.facts.engine, side.facts.engine_version)),
        ("model", side.facts.model.clone()),
        ("cpu", side.facts.machine.get("cpu").cloned().unwrap_or_default()),
        ("workload", report.workload.clone()),
    ] {
        if !value.trim().is_empty() {
            let _ = writeln!(out, "{key}: {}", value.trim());
        }
    }
    let used = |m: &Metric| report.samples.values().any(|t| t.contains_key(m));
    for metric in Metric::ALL.into_iter().filter(used) {
        let better = if metric.higher_is_better() { "higher" } else { "lower" };
        let _ = writeln!(out, "Unit {} better={better}", go_unit(metric));
    }
    for (test, metrics) in &report.samples {
        // A line is one sample of all metrics, as long as there are any.
        let values = |s: &super::SampleSeries| {
            if of_baseline { s.baseline.clone() } else { s.candidate.clone() }
        };
        let series: Vec<(Metric, Vec<f64>)> =
            metrics.iter().map(|(m, s)| (*m, values(s))).collect();
        let longest = series.iter().map(|(_, s)| s.len()).max().unwrap_or(0);
        for i in 0..longest {
            let name = test.replace(char::is_whitespace, "_");
            let _ = write!(out, "BenchmarkGpuwhy/{name} 1");
            for (metric, values) in &series {
                if let Some(value) = values.get(i) {
                    let _ = write!(out, " {value} {}", go_unit(*metric));
                }
            }
            out.push('\n');
        }
    }
    out
}

/// A unit of its own for each metric, so that benchstat has a table for each.
fn go_unit(metric: Metric) -> String {
    metric.id().replace("_per_s", "/s")
}

/// The JSON of github-action-benchmark: its tool `customBiggerIsBetter` takes the metrics of which more
/// is better, `customSmallerIsBetter` the others.
pub fn github_benchmark(report: &CheckReport, bigger: bool) -> Value {
    let wanted = metrics(report).filter(|(_, m)| m.metric.higher_is_better() == bigger);
    let entries = wanted.filter_map(|(test, m)| {
        let value = m.candidate_median?;
        let range = report
            .samples
            .get(&test.test)
            .and_then(|t| t.get(&m.metric))
            .map(|s| format!("± {}", number(crate::base::stats::std_dev(&s.candidate))));
        Some(json!({
            "name": format!("{} {}", test.test, m.metric.name()),
            "unit": m.metric.unit(),
            "value": value,
            "range": range.unwrap_or_default(),
            "extra": format!("{} samples; {}", m.candidate_samples, m.verdict.name()),
        }))
    });
    Value::Array(entries.collect())
}

/// Bencher's metric format: by test and measure, the median and the range of the samples.
pub fn bencher(report: &CheckReport) -> Value {
    let mut tests = Map::new();
    for (test, m) in metrics(report) {
        let Some(value) = m.candidate_median else { continue };
        let samples = report.samples.get(&test.test).and_then(|t| t.get(&m.metric));
        let of = |p: f64| samples.map(|s| crate::base::stats::quantile(&s.candidate, p));
        let measure = json!({ "value": value, "lower_value": of(0.0), "upper_value": of(1.0) });
        let entry = tests.entry(test.test.clone()).or_insert_with(|| json!({}));
        entry[m.metric.id().replace('_', "-")] = measure;
    }
    Value::Object(tests)
}
