//! The watchdog of the soak sees a task that is never woken again, and says what every part of the process does.

use std::process::Command;

#[test]
fn a_life_that_hangs_is_told_with_its_place_and_the_native_stacks() {
    let output = Command::new(env!("CARGO_BIN_EXE_leakfree-soak"))
        .args(["--hang", "--patience", "10", "--seconds", "600", "--lives", "3", "--workers", "2"])
        .output()
        .expect("the soak starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{said}");
    assert!(said.contains("life 0 hangs: no step after its 1th"), "{said}");
    // Our own snapshot: who, and where it was spawned.
    assert!(said.contains("life 0") && said.contains("soak/src/main.rs:"), "{said}");
    // Native stacks: the workers by gdb or, without it, by the kernel; what cannot be had is said.
    assert!(said.contains("--- native stacks"), "{said}");
    assert!(said.contains("leakfree-0") || said.contains("SKIPPED"), "{said}");
}

#[test]
fn a_short_soak_leaves_nothing_behind() {
    let output = Command::new(env!("CARGO_BIN_EXE_leakfree-soak"))
        .args(["--seconds", "2", "--drift-max", "1000"])
        .output()
        .expect("the soak starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for kind in ["bursts", "trees", "pipes", "foreign", "blocking"] {
        assert!(said.contains(kind), "{said}");
    }
}
