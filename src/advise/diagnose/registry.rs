//! The list of all rules. A rule that is not here does not exist.

use super::rule::Rule;

/// All rules, in the order of the taxonomy.
pub static RULES: &[&Rule] = &[];
