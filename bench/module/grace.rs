// SPDX-License-Identifier: GPL-2.0

//! A bare grace period, some time after the one before.

use kernel::{
    prelude::*,
    sync::{
        srcu::new_srcu,
        Srcu, //
    },
    time::{
        delay::udelay,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// A domain that nobody reads in.
#[pin_data]
pub(crate) struct Grace {
    #[pin]
    srcu: Srcu,
}

impl Grace {
    /// Makes it.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            try_pin_init!(Self { srcu <- new_srcu!("odp_bench::Grace::srcu") }),
            GFP_KERNEL,
        )
    }

    /// Waits for one grace period and for `gap` microseconds, and returns how many nanoseconds the
    /// grace period after that takes.
    pub(crate) fn measure(&self, gap: u32, expedited: bool) -> u64 {
        self.synchronize(expedited);
        // Busy, as one that sleeps is woken up late.
        for _ in 0..gap {
            udelay(Delta::from_micros(1));
        }
        let begin = Instant::<Monotonic>::now();
        self.synchronize(expedited);
        // CAST: The clock does not go backwards.
        begin.elapsed().as_nanos() as u64
    }

    fn synchronize(&self, expedited: bool) {
        if expedited {
            self.srcu.synchronize_expedited();
        } else {
            self.srcu.synchronize();
        }
    }
}
