// SPDX-License-Identifier: GPL-2.0

//! Percentiles of samples, and how much a ratio of medians can be trusted.

use serde::{Deserialize, Serialize};

/// With fewer samples, the samples themselves say all that there is to say: they have no interval.
pub const FEWEST: usize = 6;

/// With fewer samples, the worst one or two would be what is called the p99.
pub const FEWEST_FOR_P99: usize = 200;

/// Percentiles of a set of samples: each is one of the samples.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    pub n: usize,
    pub p50: u64,
    pub p90: u64,
    /// If there are [`FEWEST_FOR_P99`] samples.
    pub p99: Option<u64>,
    pub max: u64,
}

impl Summary {
    /// Summarises samples; there is nothing to say of none.
    pub fn of(samples: &[u64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        Some(Self {
            n: sorted.len(),
            p50: percentile(&sorted, 50)?,
            p90: percentile(&sorted, 90)?,
            p99: percentile(&sorted, 99).filter(|_| sorted.len() >= FEWEST_FOR_P99),
            max: *sorted.last()?,
        })
    }
}

/// The smallest sample that at least `percent` of 100 samples do not exceed ("nearest rank").
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// Something that was made of medians.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    /// If there are [`FEWEST`] samples of each of the two.
    pub interval: Option<Interval>,
}

/// Where 95 % of the resampled values of an estimate lie.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// How often samples are resampled.
pub const RESAMPLES: usize = 1000;

impl Estimate {
    /// The median of `samples` over that of `baseline`, with a percentile bootstrap.
    pub fn of_ratio(samples: &[u64], baseline: &[u64], rng: &mut fastrand::Rng) -> Option<Self> {
        Self::of(samples, baseline, rng, ratio)
    }

    /// How much more the median of `samples` is than that of `baseline`, for each of `per`.
    pub fn of_difference(
        samples: &[u64],
        baseline: &[u64],
        per: f64,
        rng: &mut fastrand::Rng,
    ) -> Option<Self> {
        Self::of(samples, baseline, rng, |above, below| {
            Some((above as f64 - below as f64) / per)
        })
    }

    fn of(
        samples: &[u64],
        baseline: &[u64],
        rng: &mut fastrand::Rng,
        make: impl Fn(u64, u64) -> Option<f64>,
    ) -> Option<Self> {
        let value = make(
            median(&mut samples.to_vec())?,
            median(&mut baseline.to_vec())?,
        )?;
        let interval = match samples.len().min(baseline.len()) {
            FEWEST.. => Some(Interval::of(samples, baseline, rng, make)?),
            _ => None,
        };
        Some(Self { value, interval })
    }
}

impl Interval {
    fn of(
        samples: &[u64],
        baseline: &[u64],
        rng: &mut fastrand::Rng,
        make: impl Fn(u64, u64) -> Option<f64>,
    ) -> Option<Self> {
        let mut above = vec![0; samples.len()];
        let mut below = vec![0; baseline.len()];
        let mut values = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            above.fill_with(|| samples[rng.usize(..samples.len())]);
            below.fill_with(|| baseline[rng.usize(..baseline.len())]);
            values.push(make(median(&mut above)?, median(&mut below)?)?);
        }
        values.sort_unstable_by(f64::total_cmp);
        Some(Self {
            low: values[RESAMPLES * 25 / 1000],
            high: values[RESAMPLES * 975 / 1000 - 1],
        })
    }
}

/// The median that [`Summary::of`] gives, too; reorders `samples`.
pub fn median(samples: &mut [u64]) -> Option<u64> {
    let rank = samples.len().div_ceil(2).checked_sub(1)?;
    Some(*samples.select_nth_unstable(rank).1)
}

fn ratio(above: u64, below: u64) -> Option<f64> {
    (below != 0).then(|| above as f64 / below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(samples: impl IntoIterator<Item = u64>) -> Option<Summary> {
        Summary::of(&samples.into_iter().collect::<Vec<_>>())
    }

    /// Something of which the resampled values are all the same.
    fn certain(value: f64) -> Option<Estimate> {
        let interval = Some(Interval {
            low: value,
            high: value,
        });
        Some(Estimate { value, interval })
    }

    #[test]
    fn nothing_is_said_of_no_samples() {
        assert_eq!(summary([]), None);
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(Estimate::of_ratio(&[], &[1], &mut rng), None);
        assert_eq!(Estimate::of_ratio(&[1], &[], &mut rng), None);
    }

    #[test]
    fn percentiles_are_nearest_ranks_whatever_the_order() {
        let expected = Summary {
            n: 1,
            p50: 7,
            p90: 7,
            p99: None,
            max: 7,
        };
        assert_eq!(summary([7]), Some(expected));
        let expected = Summary {
            n: 200,
            p50: 100,
            p90: 180,
            p99: Some(198),
            max: 200,
        };
        assert_eq!(summary((1..=200).rev()), Some(expected));
        let expected = Summary {
            n: 201,
            p50: 101,
            p90: 181,
            p99: Some(199),
            max: 201,
        };
        assert_eq!(summary(1..=201), Some(expected));
        let expected = Summary {
            n: 4,
            p50: 2,
            p90: 4,
            p99: None,
            max: 4,
        };
        assert_eq!(summary([4, 3, 2, 1]), Some(expected));
    }

    #[test]
    fn fewer_than_200_samples_have_no_p99() {
        assert_eq!(summary(1..=199).and_then(|summary| summary.p99), None);
        assert_eq!(summary(1..=200).and_then(|summary| summary.p99), Some(198));
    }

    #[test]
    fn fewer_than_6_samples_have_no_interval() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (above, below) in [(5, 6), (6, 5), (1, 100)] {
            let estimate = Estimate::of_ratio(&vec![3; above], &vec![2; below], &mut rng);
            let expected = Estimate {
                value: 1.5,
                interval: None,
            };
            assert_eq!(estimate, Some(expected));
        }
        let estimate = Estimate::of_ratio(&[3; 6], &[2; 6], &mut rng);
        assert_eq!(estimate, certain(1.5));
    }

    #[test]
    fn the_two_medians_are_the_same() {
        for n in 1..20 {
            let mut samples: Vec<u64> = (0..n).map(|i| (i * 7) % n).collect();
            let expected = summary(samples.clone()).map(|summary| summary.p50);
            assert_eq!(median(&mut samples), expected);
        }
    }

    #[test]
    fn a_ratio_of_constants_is_certain() {
        let mut rng = fastrand::Rng::with_seed(1);
        let estimate = Estimate::of_ratio(&[3; 10], &[2; 20], &mut rng);
        assert_eq!(estimate, certain(1.5));
    }

    #[test]
    fn a_difference_is_of_medians_and_may_be_negative() {
        let mut rng = fastrand::Rng::with_seed(1);
        let difference = |above, below, rng: &mut _| {
            Estimate::of_difference(&[above; 10], &[below; 7], 4.0, rng)
        };
        assert_eq!(difference(100, 60, &mut rng), certain(10.0));
        assert_eq!(difference(60, 100, &mut rng), certain(-10.0));
        assert_eq!(difference(60, 60, &mut rng), certain(0.0));
        assert_eq!(Estimate::of_difference(&[], &[1], 1.0, &mut rng), None);
    }

    #[test]
    fn nothing_is_compared_with_zero() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(Estimate::of_ratio(&[3], &[0], &mut rng), None);
    }

    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        let mut rng = fastrand::Rng::with_seed(3);
        // Two uniform distributions with medians of 1500 and 1000.
        let mut hits = 0;
        for _ in 0..200 {
            let above: Vec<u64> = (0..60).map(|_| rng.u64(1000..=2000)).collect();
            let below: Vec<u64> = (0..60).map(|_| rng.u64(500..=1500)).collect();
            let ratio = Estimate::of_ratio(&above, &below, &mut rng).unwrap();
            let Interval { low, high } = ratio.interval.unwrap();
            assert!(low <= ratio.value && ratio.value <= high);
            hits += usize::from(low <= 1.5 && 1.5 <= high);
        }
        assert!((180..=200).contains(&hits), "{hits} of 200");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let samples: Vec<u64> = (1..50).map(|i| i * i).collect();
        let baseline: Vec<u64> = (1..50).collect();
        let mut once = fastrand::Rng::with_seed(9);
        let mut again = fastrand::Rng::with_seed(9);
        assert_eq!(
            Estimate::of_ratio(&samples, &baseline, &mut once),
            Estimate::of_ratio(&samples, &baseline, &mut again)
        );
    }
}
