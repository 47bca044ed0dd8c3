// SPDX-License-Identifier: GPL-2.0

//! Grace periods: a bare one, some time after the one before, and how many there have been.

use kernel::{
    bindings,
    ffi::c_ulong,
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

#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
extern "C" {
    // Not in the kernel crate's bindings, because what declares it is for RCU's own tests.
    fn srcu_batches_completed(srcu: *mut bindings::srcu_struct) -> c_ulong;
}

/// The bits of a sequence number below the count (`RCU_SEQ_CTR_SHIFT`).
const SEQUENCE_SHIFT: u32 = 2;

/// How many grace periods a domain has had.
pub(crate) fn completed(srcu: &Srcu) -> u64 {
    // CAST: `Srcu` is transparent over `srcu_struct`.
    let srcu = core::ptr::from_ref(srcu).cast_mut().cast();
    // SAFETY: It is initialised.
    let sequence = unsafe { srcu_batches_completed(srcu) };
    // CAST: Both have 64 bits.
    sequence as u64 >> SEQUENCE_SHIFT
}

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
