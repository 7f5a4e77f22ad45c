//! The text format in which Prometheus collects counters.
//!
//! Source: Prometheus' documentation, "Exposition formats", text format 0.0.4. Types and help texts are
//! left out. Invariant: no line is fatal; what cannot be read is counted, and both the number of series
//! and of labels are bounded.

/// More than any inference server has.
const SERIES_MAX: usize = 50_000;
const LABELS_MAX: usize = 64;

/// One line: a name, its labels and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Like `vllm:num_requests_running`.
    pub name: String,
    /// Name and value, in the order of the line.
    pub labels: Vec<(String, String)>,
    /// Finite or not: the format has `NaN` and `+Inf`.
    pub value: f64,
}

impl Series {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// All of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// In the order of the text.
    pub series: Vec<Series>,
    /// Lines that are neither empty, nor comments, nor of the format, or that were too many.
    pub unread: usize,
}

impl Exposition {
    /// Reads an answer.
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match series(line) {
                Some(series) if all.series.len() < SERIES_MAX => all.series.push(series),
                _ => all.unread += 1,
            }
        }
        all
    }

    /// All series of a name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Series> {
        self.series.iter().filter(move |s| s.name == name)
    }

    /// The sum over all series of a name, such as one for each engine; nothing where there is none or
    /// it is not finite.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self.named(name).map(|s| s.value).peekable();
        values.peek()?;
        Some(values.sum()).filter(|sum: &f64| sum.is_finite())
    }
}

fn series(line: &str) -> Option<Series> {
    let name_end = line.find(|c: char| !is_name(c))?;
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    // A time stamp may follow, and nothing else.
    let stamp_is_good = words.next().is_none_or(|stamp| stamp.parse::<i64>().is_ok());
    (stamp_is_good && words.next().is_none()).then(|| Series {
        name: name.to_string(),
        labels,
        value,
    })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Reads `a="x",b="y"}` and returns what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut all = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((all, after));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(is_name) || all.len() == LABELS_MAX {
            return None;
        }
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        all.push((name.to_string(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// Reads up to the closing quotation mark and returns what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_servers_are_read() {
        let text = "# HELP vllm:cache_config_info x\n# TYPE vllm:cache_config_info gauge\n\
            vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",sliding=\"a \\\"b\\\\\"} 1.0\n\
            llamacpp:requests_processing 2\n\
            http_bucket{le=\"+Inf\",} +Inf 1395066363000\n\
            vllm:running{engine=\"0\"} 3\nvllm:running{engine=\"1\"} 4\n";
        let all = Exposition::parse(text);
        assert_eq!((all.series.len(), all.unread), (5, 0));
        assert_eq!(all.series[0].label("block_size"), Some("16"));
        assert_eq!(all.series[0].label("sliding"), Some("a \"b\\"));
        assert_eq!(all.sum("llamacpp:requests_processing"), Some(2.0));
        assert_eq!(all.sum("vllm:running"), Some(7.0));
        assert_eq!(all.sum("http_bucket"), None);
        assert_eq!(all.sum("nothing"), None);
    }

    #[test]
    fn lines_that_are_none_are_counted() {
        let text = "<html>\n{a=\"b\"} 1\nx{a=b} 1\nx{a=\"b\" 1\nx\nx y\nx 1 2 3\n1x 2\nx{a=\"b\"c=\"d\"} 1\n";
        let all = Exposition::parse(text);
        assert_eq!((all.series.len(), all.unread), (0, 9));
    }

    proptest! {
        #[test]
        fn nothing_is_fatal(text in "[a{}=\",\\\\ 1\n#:.é]{0,80}") {
            let all = Exposition::parse(&text);
            prop_assert!(all.series.len() + all.unread <= text.lines().count());
        }
    }
}
