//! A baseline file may be anything; what was understood is understood again when it is written.

#![no_main]

use leakfree::report::baseline::Baseline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Baseline::parse(text) {
        Ok(baseline) => {
            let written = baseline.to_text();
            let read = Baseline::parse(&written);
            assert_eq!(read.as_ref(), Ok(&baseline), "{written:?}");
            assert_eq!(read.map(|read| read.to_text()), Ok(written), "written the same twice");
        }
        Err(error) => assert!(error.starts_with("line "), "{error}"),
    }
});
