//! Medians and per-repetition ratios.
//!
//! Repetitions of two peers are interleaved, so what disturbs the machine for a while disturbs both.
//! The ratio is therefore taken within each repetition, and the median of the ratios is reported: it
//! is steadier than the ratio of the medians.

/// A median with the extremes around it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The least value.
    pub min: f64,
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// The greatest value.
    pub max: f64,
}

/// The spread of `values`; `None` if there are none, or one is not a number.
pub fn spread(values: &[f64]) -> Option<Spread> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    Some(Spread { min: sorted[0], median, max: sorted[sorted.len() - 1] })
}

/// The spread of `ours[n] / theirs[n]`. A repetition that failed on either side is `None` there and
/// is left out, as is one whose divisor is zero.
pub fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Spread> {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?))
        .filter(|ratio| ratio.is_finite())
        .collect();
    spread(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], min: f64, median: f64, max: f64) {
        assert_eq!(spread(values), Some(Spread { min, median, max }));
    }

    #[test]
    fn medians() {
        check(&[3.0], 3.0, 3.0, 3.0);
        check(&[9.0, 1.0, 2.0], 1.0, 2.0, 9.0);
        check(&[4.0, 1.0, 2.0, 100.0], 1.0, 3.0, 100.0);
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        // The machine slowed down for both in the second repetition: the ratio stays.
        let ours = [Some(1.0), Some(10.0), Some(2.0)];
        let theirs = [Some(2.0), Some(20.0), Some(4.0)];
        assert_eq!(ratios(&ours, &theirs), Some(Spread { min: 0.5, median: 0.5, max: 0.5 }));
    }

    #[test]
    fn failed_repetitions_are_left_out_on_both_sides() {
        let ours = [Some(1.0), None, Some(3.0), Some(7.0)];
        let theirs = [Some(1.0), Some(1.0), None, Some(0.0)];
        assert_eq!(ratios(&ours, &theirs), Some(Spread { min: 1.0, median: 1.0, max: 1.0 }));
        assert_eq!(ratios(&[None], &[Some(1.0)]), None);
    }
}
