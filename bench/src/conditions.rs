// SPDX-License-Identifier: GPL-2.0

//! What a measurement depends on, besides what is measured.

use crate::{plan::Measure, stats::Summary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where and how it was measured.
#[derive(Debug, Deserialize, Serialize)]
pub struct Conditions {
    pub date: String,
    pub kernel_release: String,
    pub kernel_config: String,
    pub accelerator: String,
    pub clocksource: String,
    pub cpus: usize,
    pub cpu_model: String,
    /// Whether a nanosecond of the guest is an instruction.
    pub icount: bool,
    pub seed: u64,
    /// At most; fewer where the time was short.
    pub warm_up_rounds: usize,
    /// What alone was measured; all that there is, if nothing.
    pub only: Vec<Measure>,
    /// What each arm does.
    pub arms: BTreeMap<String, String>,
    /// Arms that this kernel cannot have.
    pub absent: Vec<String>,
    pub resamples: usize,
    pub clock_overhead: Summary,
}
