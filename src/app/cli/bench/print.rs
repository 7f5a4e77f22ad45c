//! Prints records while they come: Markdown, CSV, JSON, JSON lines.

use clap::ValueEnum;

use crate::app::cli::failure::Failure;
use crate::app::cli::output;
use crate::app::report::count;
use crate::base::units::Bytes;
use crate::engine::tensor::DType;

use super::matrix::{Matrix, Test};
use super::record::{LimitRecord, Record};

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A Markdown table
    #[default]
    Md,
    /// One JSON array
    Json,
    /// One JSON document per line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
}

/// A column of the Markdown table.
struct Column {
    head: &'static str,
    width: usize,
    right: bool,
    text: fn(&Record) -> String,
}

fn left(head: &'static str, width: usize, text: fn(&Record) -> String) -> Column {
    Column { head, width, right: false, text }
}

fn right(head: &'static str, width: usize, text: fn(&Record) -> String) -> Column {
    Column { head, width, right: true, text }
}

/// Prints records in one form.
pub(super) struct Printer {
    form: Form,
    columns: Vec<Column>,
    n: usize,
}

impl Printer {
    /// A printer. Its table has a column for each option of `matrix` that has several values, or one
    /// that is not llama-bench's default.
    pub(super) fn new(form: Form, matrix: &Matrix, has_devices: bool) -> Self {
        let mut columns = vec![
            left("model", 30, |r| r.model_type.clone()),
            right("size", 10, |r| Bytes(r.model_size).to_string()),
            right("params", 10, |r| count(r.model_n_params)),
            left("backend", 11, |r| r.backends.clone()),
        ];
        if has_devices {
            columns.push(right("ngl", 3, |r| r.n_gpu_layers.to_string()));
        }
        columns.push(right("threads", 7, |r| r.n_threads.to_string()));
        if matrix.n_batch != [2048] {
            columns.push(right("n_batch", 7, |r| r.n_batch.to_string()));
        }
        if matrix.n_ubatch != [512] {
            columns.push(right("n_ubatch", 8, |r| r.n_ubatch.to_string()));
        }
        if matrix.type_k != [DType::F16] {
            columns.push(right("type_k", 6, |r| r.type_k.clone()));
        }
        if matrix.type_v != [DType::F16] {
            columns.push(right("type_v", 6, |r| r.type_v.clone()));
        }
        columns.push(right("test", 15, |r| {
            let Record { n_prompt, n_gen, n_depth, .. } = *r;
            Test { n_prompt, n_gen, n_depth }.name()
        }));
        columns.push(right("t/s", 20, |r| format!("{:.2} ± {:.2}", r.avg_ts, r.stddev_ts)));
        Self { form, columns, n: 0 }
    }

    /// With columns for the shares of the machine's limits.
    pub(super) fn with_limits(mut self) -> Self {
        self.columns.push(right("of read", 8, |r| percent(r, |l| l.read_share)));
        self.columns.push(right("of compute", 10, |r| percent(r, |l| l.compute_share)));
        self
    }

    /// What comes before the first record.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        match self.form {
            Form::Md => {
                let head = self.line(|c| c.head.to_string());
                let rule = self.line(|c| {
                    let dashes = "-".repeat(c.width - usize::from(c.right));
                    if c.right { format!("{dashes}:") } else { dashes }
                });
                output::stdout(format!("{head}{rule}").as_bytes())
            }
            Form::Json => output::stdout(b"[\n"),
            Form::Jsonl | Form::Csv => Ok(()),
        }
    }

    /// One record.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Failure> {
        let text = self.text(record)?;
        self.n += 1;
        output::stdout(text.as_bytes())
    }

    fn text(&self, record: &Record) -> Result<String, Failure> {
        let broken = |e| Failure::new(format!("cannot write the record as JSON: {e}"));
        Ok(match self.form {
            Form::Md => self.line(|c| (c.text)(record)),
            Form::Jsonl => serde_json::to_string(record).map_err(broken)? + "\n",
            Form::Json => {
                let json = serde_json::to_string_pretty(record).map_err(broken)?;
                let between = if self.n > 0 { ",\n" } else { "" };
                format!("{between}  {}", json.replace('\n', "\n  "))
            }
            Form::Csv => csv(record, self.n == 0),
        })
    }

    /// What comes after the last record.
    /// `notes` go below a table; the other forms have all of it in their records.
    pub(super) fn end(&self, notes: &str) -> Result<(), Failure> {
        match self.form {
            Form::Json => output::stdout(if self.n > 0 { b"\n]\n" } else { b"]\n" }),
            Form::Md => {
                let text = format!("\n{notes}build: gpuwhy {}\n", env!("CARGO_PKG_VERSION"));
                output::stdout(text.as_bytes())
            }
            Form::Jsonl | Form::Csv => Ok(()),
        }
    }

    fn line(&self, cell: impl Fn(&Column) -> String) -> String {
        let mut line = String::from("|");
        for column in &self.columns {
            let (text, width) = (cell(column), column.width);
            let cell =
                if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") };
            line.push(' ');
            line.push_str(&cell);
            line.push_str(" |");
        }
        line.push('\n');
        line
    }
}

/// A share of a limit, where limits were measured.
fn percent(record: &Record, share: fn(&LimitRecord) -> f64) -> String {
    record.limits.as_ref().map_or_else(String::new, |l| format!("{:.1} %", 100.0 * share(l)))
}

/// A line of CSV, every value quoted as llama-bench does; with a header before the first.
fn csv(record: &Record, first: bool) -> String {
    let fields = record.fields();
    let mut out = String::new();
    if first {
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        out = names.join(",") + "\n";
    }
    let quoted = fields.iter().map(|(_, v)| format!("\"{}\"", v.replace('"', "\"\"")));
    out + &quoted.collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        Matrix {
            n_prompt: vec![512],
            n_gen: vec![],
            pairs: vec![],
            n_depth: vec![0],
            gpu_layers: vec![],
            n_batch: vec![2048],
            n_ubatch: vec![64],
            n_threads: vec![0],
            type_k: vec![DType::F16],
            type_v: vec![DType::F16],
        }
    }

    fn record() -> Record {
        let mut record = Record {
            model_type: "llama 1.10B Q4_K_M".to_string(),
            model_size: 3 << 28,
            model_n_params: 1_100_000_000,
            backends: "CPU".to_string(),
            n_threads: 2,
            n_ubatch: 64,
            n_prompt: 512,
            n_depth: 1024,
            ..Record::default()
        };
        record.set_samples(vec![1_000_000_000, 1_100_000_000]);
        record
    }

    #[test]
    fn csv_quotes_every_value() {
        let record = Record { model_type: "a \"b\", c".to_string(), ..Record::default() };
        let text = csv(&record, true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("schema,build_commit,build_number,"));
        assert!(lines[1].contains("\"a \"\"b\"\", c\""));
    }

    #[test]
    fn the_table_is_llama_benchs() {
        let printer = Printer::new(Form::Md, &matrix(), false);
        let line = printer.text(&record()).unwrap();
        assert_eq!(
            line,
            "| llama 1.10B Q4_K_M             | 768.00 MiB |     1.10 B | CPU         |       2 \
             |       64 |   pp512 @ d1024 |       488.73 ± 32.91 |\n"
        );
        let head = printer.line(|c| c.head.to_string());
        assert_eq!(head.chars().count(), line.chars().count());
    }

    #[test]
    fn shares_have_columns_of_their_own() {
        let limits = LimitRecord { read_share: 0.756, compute_share: 0.5, ..Default::default() };
        let record = Record { limits: Some(limits), ..record() };
        let printer = Printer::new(Form::Md, &matrix(), false).with_limits();
        let line = printer.text(&record).unwrap();
        assert!(line.ends_with("|   75.6 % |     50.0 % |\n"), "{line}");
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["read_share"], 0.756);
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
        let plain = serde_json::to_value(self::record()).unwrap();
        assert!(plain.get("read_share").is_none() && plain.get("isa").is_none());
    }

    #[test]
    fn json_is_one_array() {
        let mut printer = Printer::new(Form::Json, &matrix(), false);
        let first = printer.text(&record()).unwrap();
        printer.n += 1;
        let text = format!("[\n{first}{}\n]\n", printer.text(&record()).unwrap());
        let records: Vec<Record> = serde_json::from_str(&text).unwrap();
        assert_eq!(records, [record(), record()]);
    }
}
