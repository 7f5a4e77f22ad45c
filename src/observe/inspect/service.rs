//! How Ollama is installed and set up: its program, its systemd unit, its running environment.

use std::collections::BTreeMap;

use crate::observe::telemetry::host::Roots;

use super::Inspection;

/// A setting of the server's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFrom {
    /// Its value.
    pub value: String,
    /// Where it was found: a file, or a process.
    pub from: String,
}

/// Where Ollama's program is installed.
const PROGRAMS: [&str; 4] =
    ["usr/local/bin/ollama", "usr/bin/ollama", "opt/ollama/bin/ollama", "bin/ollama"];

/// Where systemd looks for a unit, the first one that has it counts.
const UNITS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// Variables that decide what Ollama and its runners do; others of an environment are nobody's business.
fn is_meant(name: &str) -> bool {
    const PREFIXES: [&str; 9] =
        ["OLLAMA_", "CUDA_", "HIP_", "ROCR_", "HSA_", "GGML_", "LLAMA_", "GPU_", "NVIDIA_"];
    const NAMES: [&str; 3] = ["LD_LIBRARY_PATH", "HTTPS_PROXY", "HTTP_PROXY"];
    PREFIXES.iter().any(|p| name.starts_with(p)) || NAMES.contains(&name)
}

pub(super) fn inspect(roots: &Roots, servers: &[u32], machine: &mut Inspection) {
    let there: Vec<&str> = PROGRAMS.into_iter().filter(|p| roots.path(p).exists()).collect();
    match there.first() {
        Some(path) => machine.see("Ollama", "program", format!("/{path}")),
        None => machine.see("Ollama", "program", "not found in the usual places"),
    }
    let unit = unit_settings(roots, machine);
    let running = running_settings(roots, servers, machine);
    for (name, setting) in &unit {
        let now = running.as_ref().map(|r| r.get(name).map(|s| &s.value));
        if now.is_some_and(|now| now != Some(&setting.value)) {
            let value =
                format!("{} in {}, but not in the running server", setting.value, setting.from);
            let hint = "sudo systemctl daemon-reload && sudo systemctl restart ollama";
            machine.see_with("Ollama", name.clone(), value, hint);
        }
    }
    // What runs is what counts; the unit says what the next start brings.
    machine.settings = running.unwrap_or(unit);
    for (name, setting) in machine.settings.clone() {
        let value = format!("{} (from {})", setting.value, setting.from);
        machine.see("Ollama", name, value);
    }
}

fn unit_settings(roots: &Roots, machine: &mut Inspection) -> BTreeMap<String, SettingFrom> {
    let mut settings = BTreeMap::new();
    let folder = UNITS.iter().find(|u| roots.path(&format!("{u}/ollama.service")).exists());
    let Some(folder) = folder else { return settings };
    machine.see("Ollama", "service", format!("/{folder}/ollama.service"));
    let mut files = vec![format!("{folder}/ollama.service")];
    for unit in UNITS.iter().rev() {
        let drop_in = format!("{unit}/ollama.service.d");
        let Ok(entries) = std::fs::read_dir(roots.path(&drop_in)) else { continue };
        let mut names: Vec<String> =
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        files.extend(
            names
                .into_iter()
                .filter(|n| n.rsplit_once('.').is_some_and(|n| n.1 == "conf"))
                .map(|n| format!("{drop_in}/{n}")),
        );
    }
    for file in files {
        match roots.text(&file) {
            Ok(text) => read_unit(&text, &file, &mut settings),
            Err(error) => machine.see_with(
                "Ollama",
                format!("/{file}"),
                format!("cannot be read: {error}"),
                "run as a user who may, or look with `systemctl cat ollama`",
            ),
        }
    }
    settings.retain(|name, _| is_meant(name));
    settings
}

/// The variables of a unit or of a file that changes it. An empty `Environment=` takes back those before.
fn read_unit(text: &str, file: &str, settings: &mut BTreeMap<String, SettingFrom>) {
    for line in text.lines() {
        let Some(value) = line.trim().strip_prefix("Environment=") else { continue };
        if value.trim().is_empty() {
            settings.clear();
        }
        for word in words(value) {
            if let Some((name, value)) = word.split_once('=') {
                let from = format!("/{file}");
                settings.insert(name.to_string(), SettingFrom { value: value.to_string(), from });
            }
        }
    }
}

/// Words as systemd splits them: quotes hold what has spaces.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            (_, c) => word.push(c),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

fn running_settings(
    roots: &Roots,
    servers: &[u32],
    machine: &mut Inspection,
) -> Option<BTreeMap<String, SettingFrom>> {
    let pid = *servers.first()?;
    let text = match roots.text(&format!("proc/{pid}/environ")) {
        Ok(text) => text,
        Err(error) => {
            machine.see_with(
                "Ollama",
                "environment of the running server",
                format!("cannot be read: {error}"),
                "run as the server's user or as root: `sudo gpuwhy doctor`",
            );
            return None;
        }
    };
    let one = |entry: &str| {
        let (name, value) = entry.split_once('=')?;
        let from = format!("the running process {pid}");
        is_meant(name).then(|| (name.to_string(), SettingFrom { value: value.to_string(), from }))
    };
    Some(text.split('\0').filter_map(one).collect())
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn units_are_read_as_systemd_reads_them() {
        let mut settings = BTreeMap::new();
        read_unit("[Service]\nEnvironment=\"A=b c\" 'D=e'\nEnvironment=F=g\n", "x", &mut settings);
        let read = |s: &BTreeMap<String, SettingFrom>| -> Vec<String> {
            s.iter().map(|(n, s)| format!("{n}={}", s.value)).collect()
        };
        assert_eq!(read(&settings), ["A=b c", "D=e", "F=g"]);
        read_unit("Environment=\nEnvironment=H=\"\"\n", "y", &mut settings);
        assert_eq!(read(&settings), ["H="]);
    }
}
