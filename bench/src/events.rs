// SPDX-License-Identifier: GPL-2.0

//! What the machine has done since it was started, as the kernel counts it.
//!
//! Unlike times, these do not depend on how fast a CPU is emulated.

use std::{
    fs,
    io::{self, Error},
    ops::Sub,
};

/// Counts of all CPUs together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Events {
    /// How often a CPU has gone on with another task.
    pub switches: u64,
    /// How often one CPU has interrupted another: to have it look for tasks, call a function, or
    /// flush its TLB.
    pub interrupts: u64,
}

impl Events {
    pub fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let interrupts = fs::read_to_string("/proc/interrupts")?;
        Self::of(&stat, &interrupts).ok_or_else(|| Error::other("no events in /proc"))
    }

    fn of(stat: &str, interrupts: &str) -> Option<Self> {
        let switches = stat.lines().find_map(|line| line.strip_prefix("ctxt "))?;
        let between_cpus = interrupts.lines().filter_map(|line| {
            let (name, counts) = line.split_once(':')?;
            ["RES", "CAL", "TLB"]
                .contains(&name.trim())
                .then_some(counts)
        });
        // A count for each CPU, and then words.
        let counts = between_cpus.flat_map(str::split_whitespace);
        Some(Self {
            switches: switches.trim().parse().ok()?,
            interrupts: counts.filter_map(|word| word.parse::<u64>().ok()).sum(),
        })
    }
}

impl Sub for Events {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            switches: self.switches - before.switches,
            interrupts: self.interrupts - before.interrupts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  1 2 3\ncpu0 1 2 3\nintr 99 1 2\nctxt 1234\nbtime 5\n";
    const INTERRUPTS: &str = "           CPU0       CPU1
  8:         70         80   IO-APIC    8-edge      rtc0
NMI:         50         60   Non-maskable interrupts
LOC:        500        600   Local timer interrupts
RES:          1          2   Rescheduling interrupts
CAL:         10         20   Function call interrupts
TLB:        100        200   TLB shootdowns
";

    #[test]
    fn all_cpus_are_counted() {
        let events = Events::of(STAT, INTERRUPTS);
        let expected = Events {
            switches: 1234,
            interrupts: 333,
        };
        assert_eq!(events, Some(expected));
    }

    #[test]
    fn no_count_is_no_zero() {
        assert_eq!(Events::of("btime 5\n", INTERRUPTS), None);
    }
}
