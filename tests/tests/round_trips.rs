//! What we write, read back by others: JSON by serde_json, pprof by a small reader of protocol buffers, baselines by our own parser; with
//! names that nobody would think of. And what we read may be anything.
//!
//! `LEAKFREE_ROUND_TRIPS=n` for n rounds (30), each of another seed.

use std::collections::BTreeMap;
use std::future::pending;

use leakfree::report::baseline::Baseline;
use leakfree::runtime::Handle;
use leakfree_tests::protobuf::{Field, fields, varint};
use leakfree_tests::{runtime, until};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Marsaglia's xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Up to twenty characters of every kind: quotes, controls, what takes two units in UTF-16.
    fn text(&mut self) -> String {
        const ODD: [char; 12] = [
            '"',
            '\\',
            '\n',
            '\r',
            '\t',
            '\0',
            '\u{7f}',
            '\u{2028}',
            '\u{feff}',
            '\u{fffd}',
            '\u{10ffff}',
            '🦀',
        ];
        let length = 1 + self.next() % 20;
        let mut text = String::new();
        while (text.chars().count() as u64) < length {
            let n = self.next();
            match n % 3 {
                0 => text.push(ODD[(n >> 8) as usize % ODD.len()]),
                1 => text.push((n >> 8) as u8 as char),
                _ => text.extend(char::from_u32((n >> 8) as u32 % 0x11_0000)),
            }
        }
        text
    }
}

fn all_bytes<'a>(fields: &[Field<'a>], number: u64) -> Vec<&'a [u8]> {
    let of = |field: &Field<'a>| match field {
        Field::Bytes(n, bytes) if *n == number => Some(*bytes),
        _ => None,
    };
    fields.iter().filter_map(of).collect()
}

fn number(fields: &[Field<'_>], number: u64) -> Option<u64> {
    fields.iter().find_map(|field| match field {
        Field::Number(n, value) if *n == number => Some(*value),
        _ => None,
    })
}

fn packed(mut bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        found.push(varint(&mut bytes));
    }
    found
}

#[test]
fn reports_with_any_names_are_read_back() {
    let rounds = std::env::var("LEAKFREE_ROUND_TRIPS").map_or(30, |n| n.parse().expect("a number"));
    for seed in 1..=rounds {
        let mut random = Random(0x1eaf_0000 + seed);
        let names: Vec<String> = (0..1 + random.next() % 20).map(|_| random.text()).collect();
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        let runtime = runtime(1);
        let report = runtime.block_on(async {
            for name in &names {
                leakfree::scope::current().task().name(name.as_str()).spawn(pending::<()>());
                *wanted.entry(name.as_str()).or_default() += 1;
            }
            until(|| Handle::current().unwakeable_total() == names.len() as u64).await;
            Handle::current().report()
        });

        let json: serde_json::Value = serde_json::from_str(&report.to_json())
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", report.to_json()));
        assert_eq!(json["leaked"], names.len() as u64, "seed {seed}");
        for finding in json["findings"].as_array().expect("an array") {
            let name = finding["name"].as_str().expect("each has a name");
            assert!(wanted.contains_key(name), "seed {seed}: {name:?} of {wanted:?}");
        }

        let pprof = report.to_pprof();
        let profile = fields(&pprof);
        let strings: Vec<&str> = all_bytes(&profile, 6)
            .into_iter()
            .map(|text| std::str::from_utf8(text).expect("UTF-8"))
            .collect();
        assert_eq!(strings[0], "");
        let (locations, functions) = (all_bytes(&profile, 4), all_bytes(&profile, 5));
        let ids: Vec<u64> =
            locations.iter().map(|location| number(&fields(location), 1).expect("an id")).collect();
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        for sample in all_bytes(&profile, 2) {
            let sample = fields(sample);
            let stack = packed(all_bytes(&sample, 1)[0]);
            assert!(!stack.is_empty() && stack.iter().all(|id| ids.contains(id)), "seed {seed}");
            let [tasks, _age] = packed(all_bytes(&sample, 2)[0])[..] else { panic!("two values") };
            for label in all_bytes(&sample, 3) {
                let label = fields(label);
                let text = |field| strings[number(&label, field).expect("a string") as usize];
                if text(1) == "name" {
                    *seen.entry(text(2)).or_default() += tasks;
                }
            }
        }
        assert_eq!(seen, wanted, "seed {seed}");
        for function in functions {
            let function = fields(function);
            assert!((number(&function, 2).expect("a name") as usize) < strings.len());
        }

        let mut baseline = Baseline::default();
        baseline.update("tests::one", &report);
        baseline.update("tests::other", &report);
        assert_eq!(Baseline::parse(&baseline.to_text()).as_ref(), Ok(&baseline), "seed {seed}");
        assert!(baseline.compare("tests::one", &report).is_empty());
        assert_eq!(runtime.shutdown().leaked(), names.len() as u64);
    }
}

#[test]
fn a_baseline_may_be_anything() {
    let mut random = Random(0xbad_5eed);
    let good = "# known\n\ntests::a 5143e68f4561959a 12x HELD OPEN spawned src/conn.rs:90:9\n";
    let (mut parsed, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut text: Vec<char> = good.chars().collect();
        for _ in 0..random.next() % 6 {
            let at = random.next() as usize % text.len();
            match random.next() % 3 {
                0 if text.len() > 1 => _ = text.remove(at),
                0 => {}
                1 => text.insert(at, random.text().chars().next().expect("one")),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        match Baseline::parse(&text) {
            // What was understood is understood again when it is written.
            Ok(baseline) => {
                assert_eq!(Baseline::parse(&baseline.to_text()), Ok(baseline), "{text:?}");
                parsed += 1;
            }
            Err(error) => {
                assert!(error.starts_with("line "), "{error}");
                refused += 1;
            }
        }
    }
    assert!(parsed > 1000 && refused > 1000, "{parsed} {refused}");
}
