//! A fix written down as a person needs it: a systemd override, a compose file, PowerShell, a
//! command line, a request.
//!
//! Text only; which of them to show, and how, is the app's business. The order is that in which
//! they are likely to fit.

use crate::advise::diagnose::finding::{Fix, FixTarget};
use crate::observe::logs::Engine;

/// Where a text is to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `systemctl edit`.
    Systemd,
    /// A line under `environment:` of a compose file.
    Compose,
    /// `docker run`.
    DockerRun,
    /// Windows PowerShell.
    PowerShell,
    /// macOS.
    Launchctl,
    /// A shell from which the server is started.
    Shell,
    /// The command line of llama-server and its kin.
    CommandLine,
    /// A Modelfile.
    Modelfile,
    /// The body of a request to Ollama.
    Request,
    /// A command on the machine, or words.
    System,
}

impl Form {
    /// How it is introduced.
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd (Linux service)",
            Self::Compose => "docker compose",
            Self::DockerRun => "docker run",
            Self::PowerShell => "Windows (PowerShell)",
            Self::Launchctl => "macOS",
            Self::Shell => "shell",
            Self::CommandLine => "command line",
            Self::Modelfile => "Modelfile",
            Self::Request => "request",
            Self::System => "system",
        }
    }
}

/// All texts for a fix; `os` is `linux`, `windows` or `macos` where it is known.
pub fn forms(fix: &Fix, engine: Engine, os: Option<&str>) -> Vec<(Form, String)> {
    match fix.target {
        FixTarget::Env => environment(fix, engine, os),
        FixTarget::Option => vec![
            (Form::Request, format!("\"options\": {{ \"{}\": {} }}", fix.name, json(&fix.value))),
            (Form::Modelfile, format!("PARAMETER {} {}", fix.name, fix.value)),
        ]
        .into_iter()
        .filter(|_| !fix.value.is_empty())
        .collect(),
        FixTarget::Modelfile => {
            vec![(Form::Modelfile, format!("PARAMETER {} {}", fix.name, fix.value))]
        }
        FixTarget::Flag => {
            vec![(Form::CommandLine, format!("{} {}", fix.name, fix.value).trim_end().into())]
        }
        FixTarget::System => vec![(Form::System, fix.value.clone())],
    }
}

fn environment(fix: &Fix, engine: Engine, os: Option<&str>) -> Vec<(Form, String)> {
    let (name, value) = (fix.name.as_str(), fix.value.as_str());
    let unset = value.is_empty();
    let service = engine == Engine::Ollama;
    let systemd = if unset {
        format!(
            "sudo systemctl edit ollama    # remove the line with {name}\nsudo systemctl restart \
                ollama"
        )
    } else {
        format!(
            "sudo systemctl edit ollama\n[Service]\nEnvironment=\"{name}={value}\"\nsudo \
                systemctl restart ollama"
        )
    };
    let compose = if unset {
        format!("# remove {name} from environment:, then: docker compose up -d")
    } else {
        format!("environment:\n  - {name}={value}")
    };
    let power_shell = if unset {
        format!(
            "[Environment]::SetEnvironmentVariable('{name}', $null, 'User')    # then restart \
                Ollama"
        )
    } else {
        format!("setx {name} \"{value}\"    # then quit Ollama in the tray and start it again")
    };
    let launchctl = if unset {
        format!("launchctl unsetenv {name}    # then restart Ollama")
    } else {
        format!("launchctl setenv {name} \"{value}\"    # then restart Ollama")
    };
    let shell = if unset { format!("unset {name}") } else { format!("export {name}={value}") };
    let docker = format!("docker run -e {name}={value} ...");
    let mut all = Vec::new();
    if os.is_none_or(|os| os == "linux") && service {
        all.push((Form::Systemd, systemd));
    }
    if os.is_none_or(|os| os == "linux") {
        all.push((Form::Compose, compose));
        if !unset {
            all.push((Form::DockerRun, docker));
        }
    }
    if os.is_none_or(|os| os == "windows") {
        all.push((Form::PowerShell, power_shell));
    }
    if os.is_none_or(|os| os == "macos") {
        all.push((Form::Launchctl, launchctl));
    }
    if os != Some("windows") {
        all.push((Form::Shell, shell));
    }
    all
}

/// A value as JSON: numbers and switches bare, everything else quoted.
fn json(value: &str) -> String {
    let bare = value.parse::<f64>().is_ok() || value == "true" || value == "false";
    if bare { value.to_string() } else { format!("\"{}\"", value.replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fix: &Fix, os: Option<&str>, form: Form) -> Option<String> {
        forms(fix, Engine::Ollama, os).into_iter().find(|(f, _)| *f == form).map(|(_, t)| t)
    }

    #[test]
    fn a_variable_is_written_for_the_system_at_hand() {
        let fix = Fix::env("OLLAMA_NUM_PARALLEL", "1");
        let systemd = form(&fix, Some("linux"), Form::Systemd);
        assert!(systemd.is_some_and(|t| t.contains("Environment=\"OLLAMA_NUM_PARALLEL=1\"")));
        assert_eq!(form(&fix, Some("linux"), Form::PowerShell), None);
        assert!(
            form(&fix, Some("windows"), Form::PowerShell).is_some_and(|t| t.starts_with("setx"))
        );
        assert_eq!(form(&fix, Some("windows"), Form::Systemd), None);
        assert!(
            form(&fix, None, Form::Systemd).is_some()
                && form(&fix, None, Form::PowerShell).is_some()
        );
        let gone = Fix::env("OLLAMA_LLM_LIBRARY", "");
        assert_eq!(
            form(&gone, Some("macos"), Form::Shell).as_deref(),
            Some("unset OLLAMA_LLM_LIBRARY")
        );
    }

    #[test]
    fn an_option_is_written_as_request_and_as_modelfile() {
        let fix = Fix::option("num_ctx", "16384");
        assert_eq!(
            form(&fix, None, Form::Request).as_deref(),
            Some("\"options\": { \"num_ctx\": 16384 }")
        );
        assert_eq!(form(&fix, None, Form::Modelfile).as_deref(), Some("PARAMETER num_ctx 16384"));
        let text = Fix::option("stop", "END");
        assert_eq!(
            form(&text, None, Form::Request).as_deref(),
            Some("\"options\": { \"stop\": \"END\" }")
        );
        let flag = Fix::flag("--no-kv-offload", "");
        assert_eq!(form(&flag, None, Form::CommandLine).as_deref(), Some("--no-kv-offload"));
    }
}
