//! `unknown-setting`: settings that do nothing.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::{Fault, SettingKind, judge_env, judge_option, knobs};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::LineId;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a setting has a name or value that this version does not take",
    doc: Doc {
        detects: "A variable, option or flag that this version does not know, or a value that it \
            cannot read.",
        costs: "The setting does nothing, and the default is used, usually without a message.",
        evidence: "\"invalid environment variable, using default\", \"invalid option provided\", \
            \"invalid argument\", and values in the printed settings that the version does not \
            take: OLLAMA_GPU_OVERHEAD is in bytes, HSA_OVERRIDE_GFX_VERSION is written x.y.z, \
            OLLAMA_KV_CACHE_TYPE is f16, q8_0 or q4_0. Names that were taken out are \
            removed-option.",
        fix: "The right name or value. `gpuwhy` names the nearest one that the version knows.",
        example: r#"level=WARN msg="invalid environment variable, using default" key=OLLAMA_GPU_OVERHEAD value=0.5 default=0"#,
    },
    follows_from: &["invalid-library-override", "ngl-param-misspelled", "setting-disables-gpu"],
    check,
};

const ID: &str = "unknown-setting";

fn check(facts: &Facts) -> Verdict {
    let version = facts.version();
    if let Some(notice) = facts.notice("invalid-env") {
        let field = |name: &str| notice.fields.get(name).map_or("", String::as_str);
        let (name, value) = (field("name"), field("value"));
        let takes = match judge_env(name, value, version) {
            Some(Fault::Unreadable(takes)) => format!("; it takes {takes}"),
            _ => String::new(),
        };
        let why = format!("{name}={value} cannot be read{takes}, so {} is used", field("default"));
        let fix = Fix::env(name, "").why("or a value that can be read", "the warning is gone");
        return found(notice.first, &why, 0.9).fix(fix).into();
    }
    if let Some(notice) = facts.notice("invalid-option") {
        let name = notice.fields.get("name").map_or("", String::as_str);
        match judge_option(name, "", version) {
            Some(Fault::Removed(_)) => {}
            _ => return unknown(notice.first, SettingKind::Option, name).into(),
        }
    }
    if let Some(notice) = facts.notice("unknown-argument") {
        let name = notice.fields.get("argument").map_or("", String::as_str);
        if knobs().knows_flag(name) != Some(false) {
            return unknown(notice.first, SettingKind::Flag, name).into();
        }
    }
    if let Some(finding) = misspelt(facts) {
        return finding.into();
    }
    let settings = facts.log.settings.iter().filter(|(_, s)| !s.value.is_empty());
    let wrong = settings.filter_map(|(name, s)| {
        let library = name == "OLLAMA_LLM_LIBRARY";
        match judge_env(name, &s.value, version) {
            Some(Fault::Unreadable(takes)) if !library => Some((name, s, takes)),
            _ => None,
        }
    });
    let Some((name, setting, takes)) = wrong.into_iter().next() else { return Verdict::Clear };
    let why = format!("{name}={} cannot be read; it takes {takes}", setting.value);
    let fix =
        Fix::env(name, "").why(format!("or a value that it takes: {takes}"), "it has an effect");
    found(setting.line, &why, 0.85).seen_if(source(facts, name)).fix(fix).into()
}

/// A variable that somebody set for the server and no version knows. A log prints known ones alone.
fn misspelt(facts: &Facts) -> Option<Finding> {
    let settings = facts.machine?.settings.keys();
    let unknown = settings.filter(|name| name.starts_with("OLLAMA_"));
    let (name, near) = unknown.into_iter().find_map(|name| {
        match judge_env(name, &facts.machine?.settings.get(name)?.value, facts.version()) {
            Some(Fault::Unknown(near)) => Some((name, near)),
            _ => None,
        }
    })?;
    let meant = near.as_ref().map(|n| format!("; {n} may be meant")).unwrap_or_default();
    let finding = found(LineId::default(), &format!("{name} is not known{meant}"), 0.85);
    let finding = finding.seen_if(source(facts, name));
    let fix = near.map(|near| {
        Fix::system("use the name", near).why("the name that servers know", "it has an effect")
    });
    Some(finding.fix_all(fix))
}

/// Where somebody set a variable, if the machine was looked at.
fn source(facts: &Facts, name: &str) -> Option<Evidence> {
    let setting = facts.machine?.settings.get(name)?;
    Some(Evidence::figure(format!("{name}={} in {}", setting.value, setting.from)))
}

fn unknown(line: LineId, kind: SettingKind, name: &str) -> Finding {
    let near = knobs().near(kind, name);
    let meant = near.map(|n| format!("; {n} may be meant")).unwrap_or_default();
    let found = found(line, &format!("{name} is not known{meant}"), 0.85);
    let why = ("the name that this version knows", "the message is gone");
    match (near, kind) {
        (Some(near), SettingKind::Flag) => found.fix(Fix::flag(near, "").why(why.0, why.1)),
        (Some(near), _) => {
            found.fix(Fix::system("use the name", near.to_string()).why(why.0, why.1))
        }
        (None, _) => found,
    }
}

fn found(line: LineId, why: &str, confidence: f64) -> Finding {
    // It explains slowness only through what the setting was meant to do, which is not known.
    Finding::problem(ID, Impact::Risk, confidence, format!("a setting has no effect: {why}"))
        .because(
            "The engine ignores what it does not know or cannot read and goes on with its \
                default, so what the setting was meant to change is unchanged.",
        )
        .seen(Evidence::line(line))
}
