//! Makes the seed corpus and the dictionary of the log parser: every sample of every pattern,
//! samples spliced in envelopes, and the logs of the folders that are given.
//!
//! Usage: `seeds-logs CORPUS DICTIONARY [FOLDER WITH LOGS]...`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use gpuwhy::observe::logs::Catalogue;

/// What stands around the samples, in turns.
const ENVELOPES: [&str; 10] = [
    "",
    "Mar 04 09:10:11 box ollama[4711]: ",
    "ollama-1  | ",
    "2025-03-04T08:10:11.123456789Z stderr F ",
    "2025-03-04T08:10:11.123456789Z stderr P ",
    "[40001] 0.00.800.123 I ",
    "> ",
    "⠹ ",
    "3月 04 09:10:11 box ollama[4711]: message repeated 2 times: [ ",
    "\u{1b}[90m",
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [corpus, dictionary, folders @ ..] = args.as_slice() else {
        eprintln!("usage: seeds-logs CORPUS DICTIONARY [FOLDER]...");
        return ExitCode::FAILURE;
    };
    match write_all(Path::new(corpus), Path::new(dictionary), folders) {
        Ok(count) => {
            println!("{count} seeds in {corpus}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(corpus: &Path, dictionary: &Path, folders: &[String]) -> std::io::Result<usize> {
    fs::create_dir_all(corpus)?;
    let (mut seeds, mut words) = (Vec::new(), BTreeSet::new());
    let samples: Vec<&str> = Catalogue::builtin().samples().collect();
    for (i, some) in samples.chunks(12).enumerate() {
        let envelope = ENVELOPES[i % ENVELOPES.len()];
        let text: String = some.iter().map(|line| format!("{envelope}{line}\n")).collect();
        seeds.push(text.into_bytes());
    }
    for sample in &samples {
        words.extend(sample.split(' ').filter(|w| (3..=24).contains(&w.len())));
    }
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                let bytes = fs::read(path)?;
                seeds.extend(bytes.chunks(6000).map(<[u8]>::to_vec));
            }
        }
    }
    for (i, seed) in seeds.iter().enumerate() {
        fs::write(corpus.join(format!("seed{i:04}")), seed)?;
    }
    let escaped = |word: &&str| -> String {
        word.bytes().map(|b| format!("\\x{b:02x}")).collect()
    };
    let lines: String = words.iter().map(|word| format!("\"{}\"\n", escaped(word))).collect();
    fs::write(dictionary, lines)?;
    Ok(seeds.len())
}
