//! The published JSON Schemas follow from the types; this test fails when they are stale.
//! `GPUWHY_UPDATE_SCHEMAS=1 cargo test schemas` writes them anew.

use std::path::Path;

use schemars::{Schema, schema_for};

use crate::advise::regress::Baseline;
use crate::app::report::check::CheckReport;
use crate::app::report::log::{AnyReport, LogDiff};

fn check(name: &str, schema: &Schema) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas").join(name);
    let expected = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("GPUWHY_UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == expected,
        "docs/schemas/{name} is stale; GPUWHY_UPDATE_SCHEMAS=1 cargo test schemas writes it anew"
    );
}

#[test]
fn published_schemas_are_those_of_the_types() {
    check("report-1.json", &schema_for!(AnyReport));
    check("logs-diff-1.json", &schema_for!(LogDiff));
    check("check-1.json", &schema_for!(CheckReport));
    check("baseline-1.json", &schema_for!(Baseline));
    check("bench-1.json", &schema_for!(super::bench::Record));
    check("model-1.json", &schema_for!(super::model::ModelInfo));
    check("models-1.json", &schema_for!(super::model::ModelList));
    check("selftest-1.json", &schema_for!(super::selftest::SelftestReport));
    check("perplexity-1.json", &schema_for!(super::perplexity::PerplexityReport));
}
