// SPDX-License-Identifier: GPL-2.0

//! Percentiles of samples, and how much a ratio of medians can be trusted.
//!
//! Where there are several boots, the boot is the unit. What is made of medians is made of those of
//! one boot, because arms are only compared within a boot; of several boots, it is the median. The
//! interval resamples the boots, and then the samples within each.

use serde::{Deserialize, Serialize};

/// With fewer samples, the samples themselves say all that there is to say: they have no interval.
/// Nor is there one of fewer boots, if there is more than one.
pub const FEWEST: usize = 6;

/// The samples of each boot.
pub type Boots = [Vec<u64>];

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
    /// Summarises samples, whatever boot they are of; there is nothing to say of none.
    pub fn of(boots: &Boots) -> Option<Self> {
        let mut sorted = boots.concat();
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
    /// If there are [`FEWEST`] samples of each of the two, and one boot or as many.
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
    pub fn of_ratio(samples: &Boots, baseline: &Boots, rng: &mut fastrand::Rng) -> Option<Self> {
        Self::of(samples, baseline, rng, ratio)
    }

    /// How much more the median of `samples` is than that of `baseline`, for each of `per`.
    pub fn of_difference(
        samples: &Boots,
        baseline: &Boots,
        per: f64,
        rng: &mut fastrand::Rng,
    ) -> Option<Self> {
        Self::of(samples, baseline, rng, |above, below| {
            Some((above as f64 - below as f64) / per)
        })
    }

    fn of(
        samples: &Boots,
        baseline: &Boots,
        rng: &mut fastrand::Rng,
        make: impl Fn(u64, u64) -> Option<f64>,
    ) -> Option<Self> {
        let both = samples.iter().zip(baseline);
        let boots: Vec<_> = both
            .filter(|(above, below)| !above.is_empty() && !below.is_empty())
            .map(|(above, below)| (&above[..], &below[..]))
            .collect();
        let mut values = Vec::with_capacity(boots.len());
        for (above, below) in &boots {
            values.push(make(
                median(&mut above.to_vec())?,
                median(&mut below.to_vec())?,
            )?);
        }
        let value = middle(&mut values)?;
        let above: usize = boots.iter().map(|(above, _)| above.len()).sum();
        let below: usize = boots.iter().map(|(_, below)| below.len()).sum();
        let is_enough = above.min(below) >= FEWEST && (boots.len() == 1 || boots.len() >= FEWEST);
        let interval = match is_enough {
            true => Some(Interval::of(&boots, rng, make)?),
            false => None,
        };
        Some(Self { value, interval })
    }
}

impl Interval {
    fn of(
        boots: &[(&[u64], &[u64])],
        rng: &mut fastrand::Rng,
        make: impl Fn(u64, u64) -> Option<f64>,
    ) -> Option<Self> {
        let again = |samples: &[u64], rng: &mut fastrand::Rng| {
            let mut drawn: Vec<_> = (0..samples.len())
                .map(|_| samples[rng.usize(..samples.len())])
                .collect();
            median(&mut drawn)
        };
        let mut values = Vec::with_capacity(RESAMPLES);
        let mut of_boots = vec![0.0; boots.len()];
        for _ in 0..RESAMPLES {
            for value in &mut of_boots {
                let (above, below) = boots[rng.usize(..boots.len())];
                *value = make(again(above, rng)?, again(below, rng)?)?;
            }
            values.push(middle(&mut of_boots)?);
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

/// The median of what was made of each boot: the mean of the two in the middle, if there are two.
fn middle(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

fn ratio(above: u64, below: u64) -> Option<f64> {
    (below != 0).then(|| above as f64 / below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(samples: impl IntoIterator<Item = u64>) -> Option<Summary> {
        Summary::of(&[samples.into_iter().collect()])
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
        assert_eq!(Estimate::of_ratio(&[vec![]], &[vec![1]], &mut rng), None);
        assert_eq!(Estimate::of_ratio(&[vec![1]], &[vec![]], &mut rng), None);
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
            let estimate = Estimate::of_ratio(&[vec![3; above]], &[vec![2; below]], &mut rng);
            let expected = Estimate {
                value: 1.5,
                interval: None,
            };
            assert_eq!(estimate, Some(expected));
        }
        let estimate = Estimate::of_ratio(&[vec![3; 6]], &[vec![2; 6]], &mut rng);
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
        let estimate = Estimate::of_ratio(&[vec![3; 10]], &[vec![2; 20]], &mut rng);
        assert_eq!(estimate, certain(1.5));
    }

    #[test]
    fn a_difference_is_of_medians_and_may_be_negative() {
        let mut rng = fastrand::Rng::with_seed(1);
        let difference = |above, below, rng: &mut _| {
            Estimate::of_difference(&[vec![above; 10]], &[vec![below; 7]], 4.0, rng)
        };
        assert_eq!(difference(100, 60, &mut rng), certain(10.0));
        assert_eq!(difference(60, 100, &mut rng), certain(-10.0));
        assert_eq!(difference(60, 60, &mut rng), certain(0.0));
        assert_eq!(
            Estimate::of_difference(&[vec![]], &[vec![1]], 1.0, &mut rng),
            None
        );
    }

    #[test]
    fn nothing_is_compared_with_zero() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(Estimate::of_ratio(&[vec![3]], &[vec![0]], &mut rng), None);
    }

    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        let mut rng = fastrand::Rng::with_seed(3);
        // Two uniform distributions with medians of 1500 and 1000.
        let mut hits = 0;
        for _ in 0..200 {
            let above: Vec<u64> = (0..60).map(|_| rng.u64(1000..=2000)).collect();
            let below: Vec<u64> = (0..60).map(|_| rng.u64(500..=1500)).collect();
            let ratio = Estimate::of_ratio(&[above], &[below], &mut rng).unwrap();
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
            Estimate::of_ratio(&[samples.clone()], &[baseline.clone()], &mut once),
            Estimate::of_ratio(&[samples], &[baseline], &mut again)
        );
    }

    #[test]
    fn arms_are_compared_within_a_boot() {
        let mut rng = fastrand::Rng::with_seed(1);
        // One boot is ten times as slow as the others, for both arms.
        let boots = |value: u64| {
            let slow = |boot| if boot == 3 { 10 * value } else { value };
            (0..7).map(|boot| vec![slow(boot); 4]).collect::<Vec<_>>()
        };
        let ratio = Estimate::of_ratio(&boots(30), &boots(20), &mut rng);
        assert_eq!(ratio, certain(1.5));
        // An arm that has no sample in a boot is not compared there.
        let mut gap = boots(20);
        gap[3].clear();
        assert_eq!(Estimate::of_ratio(&boots(30), &gap, &mut rng), certain(1.5));
    }

    #[test]
    fn two_to_five_boots_have_no_interval() {
        let mut rng = fastrand::Rng::with_seed(1);
        for boots in 1..=10 {
            let of = |value| vec![vec![value; 20]; boots];
            let ratio = Estimate::of_ratio(&of(3), &of(2), &mut rng).unwrap();
            assert_eq!(ratio.value, 1.5);
            assert_eq!(ratio.interval.is_some(), boots == 1 || boots >= FEWEST);
        }
    }

    /// However many rounds there are in a boot, they do not say how boots differ.
    #[test]
    fn the_interval_is_as_wide_as_boots_are_apart() {
        let mut rng = fastrand::Rng::with_seed(1);
        let above: Vec<_> = (0..10).map(|boot| vec![100 + 10 * boot; 1000]).collect();
        let below = vec![vec![100; 1000]; 10];
        let ratio = Estimate::of_ratio(&above, &below, &mut rng).unwrap();
        assert!((ratio.value - 1.45).abs() < 1e-9);
        let Interval { low, high } = ratio.interval.unwrap();
        assert!(high - low > 0.2, "{low} to {high}");
    }

    #[test]
    fn the_middle_of_two_is_between_them() {
        assert_eq!(middle(&mut []), None);
        assert_eq!(middle(&mut [4.0]), Some(4.0));
        assert_eq!(middle(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(middle(&mut [9.0, 1.0, 4.0]), Some(4.0));
    }
}
