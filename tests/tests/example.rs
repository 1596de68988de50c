//! The example's report, word for word; times, ids and the count of finished tasks are masked.

use std::process::Command;

/// Masks numbers that differ from run to run, and keeps source positions.
fn mask(report: &str) -> String {
    let mut out = String::new();
    for line in report.lines() {
        let mut words: Vec<String> = Vec::new();
        let mut before = "";
        for word in line.split(' ') {
            let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let number = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '.');
            let id = before == "task" || before == "call";
            let unit = matches!(before, "parked" | "lived" | "cancelled" | "(");
            let masked = number && (id || unit || word.starts_with('('));
            words.push(if masked { word.replace(bare, "#") } else { word.to_owned() });
            before = word;
        }
        out.push_str(words.join(" ").trim_end());
        out.push('\n');
    }
    // Durations and polls, by their units.
    for unit in [" ms", " s,", " s ", " polls", " poll"] {
        let mut done = String::new();
        for piece in out.split_inclusive(unit) {
            match piece.strip_suffix(unit) {
                Some(text) => {
                    let cut = text
                        .rfind(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
                        .map_or(0, |at| at + 1);
                    let number = &text[cut..];
                    done.push_str(&text[..cut]);
                    done.push_str(if number.is_empty() { "" } else { "#" });
                    done.push_str(unit);
                }
                None => done.push_str(piece),
            }
        }
        out = done;
    }
    out.replace("# s", "# ms")
        .replace("# polls", "# poll")
        .replace("coverage 6/7", "coverage #")
        .replace("coverage 5/7", "coverage #")
}

#[test]
fn the_report_names_every_planted_leak_and_nothing_else() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "leakfree-examples", "--example", "leaky", "--"])
            .args(args)
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let report = mask(&run(&[]));
    let expected = include_str!("example.expected.txt");
    assert_eq!(report, expected, "\n--- this run:\n{report}\n--- pinned:\n{expected}");

    let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).expect("JSON");
    assert_eq!(json["leaked"], 8);
    let verdicts: Vec<&str> =
        json["findings"].as_array().unwrap().iter().map(|f| f["verdict"].as_str().unwrap()).collect();
    assert_eq!(
        verdicts,
        [
            "proven_unwakeable",
            "proven_unwakeable",
            "held_open",
            "outlived",
            "outlived",
            "outlived",
            "outlived",
            "outlived",
            "unresponsive"
        ]
    );
}
