//! Reading audit logs: one JSON object a line, complete or it is a failure.

use serde_json::Value;
use std::path::Path;

/// All records of a log.
///
/// # Panics
/// When a whole line is no JSON object.
pub fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // the last line may be being written just now
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let records = whole.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"));
        assert!(record.is_object(), "no object: {line}");
        record
    });
    records.collect()
}
