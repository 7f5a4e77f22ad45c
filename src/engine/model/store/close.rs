//! Names that a person may have meant.

/// How similar two names must be, from 0 to 1, to be worth mentioning.
const SIMILAR: f64 = 0.75;

/// The most names that a message mentions.
const MENTIONED: usize = 5;

/// Those of `names` that look like `wanted`, the most similar first. A name that contains the
/// wanted one or is contained in it counts as similar: `llama3.2` is meant for `llama3.2-3b`.
pub(super) fn close_names<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut ranked: Vec<(f64, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let contains =
                !wanted.is_empty() && (lower.contains(&wanted) || wanted.contains(&lower));
            let score = strsim::jaro_winkler(&wanted, &lower) + f64::from(u8::from(contains));
            (score >= SIMILAR).then_some((score, name))
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.into_iter().take(MENTIONED).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_name_comes_first() {
        let names = ["qwen2.5-0.5b", "llama3.2-3b", "llama3.2-1b", "phi4"];
        assert_eq!(close_names("lama3.2-1b", names)[0], "llama3.2-1b");
        assert_eq!(close_names("llama3.2", names), ["llama3.2-1b", "llama3.2-3b"]);
        assert_eq!(close_names("PHI-4", names), ["phi4"]);
        assert!(close_names("zzz", names).is_empty());
    }
}
