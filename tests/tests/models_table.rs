//! `docs/MODELS.md`: every invariant has a row, and every model that a row names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_invariant_has_a_row_and_every_model_exists() {
    let table = read("docs/MODELS.md");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    for invariant in 1..=34 {
        let row = rows.iter().find(|row| row.starts_with(&format!("| {invariant} |")));
        let row = row.unwrap_or_else(|| panic!("no row for invariant {invariant}"));
        assert!(row.contains("::") || row.contains("no model"), "{row}");
    }
    let mutants = read("loom-tests/mutants/table.py");
    let named: BTreeSet<&str> = table
        .split('`')
        .chain(mutants.split('"'))
        .filter(|word| word.contains("::") && !word.contains(' '))
        .collect();
    for model in named {
        let Some((file, name)) = model.split_once("::") else { continue };
        let is_name = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if !is_name(file) || !is_name(name) {
            continue;
        }
        let models = read(&format!("loom-tests/tests/{file}.rs"));
        assert!(models.contains(&format!("fn {name}()")), "{model} does not exist");
    }
}
