//! Every misuse of the attribute macros gives one clear message, at the place that is wrong. After a wanted change:
//! `TRYBUILD=overwrite cargo test -p leakfree-macros --test ui`, and read what changed.

#[path = "ui/support/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod fake;

#[test]
fn misuse_gives_a_clear_error() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}

#[leakfree::test(crate = fake, workers = 1, grace = "0s")]
async fn a_test_may_return_a_result() -> Result<(), std::num::ParseIntError> {
    let number: u8 = "7".parse()?;
    assert_eq!(number, 7);
    Ok(())
}

#[leakfree::test(crate = crate::fake)]
#[should_panic(expected = "parse")]
async fn a_test_keeps_its_attributes() {
    "seven".parse::<u8>().expect("parse");
}

#[leakfree::test(crate = fake, seed = 7, schedules = 3, paused)]
async fn a_test_may_be_a_simulation() {}
