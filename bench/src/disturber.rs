// SPDX-License-Identifier: GPL-2.0

//! A thread that has other memory of the process invalidated again and again.
//!
//! It calls madvise(MADV_DONTNEED) for a page that a notifier of the module watches, whose callback
//! sleeps for as long as the phase shall last, as one does that waits for a device. From the end of
//! one call to the beginning of the next is the gap.

use crate::{
    device::{self, Addresses, Device},
    plan::Point,
};
use std::{
    io::{self, Error},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        Arc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const PAGE: usize = 4096;
/// Gaps from here on are slept through; shorter ones are too short to be woken up in time.
const SLEEP_FROM: u64 = 150;

struct Shared {
    stop: AtomicBool,
    phases: AtomicU64,
}

pub struct Disturber {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

impl Disturber {
    /// Starts it, and returns when it is at it.
    pub fn start(device: &Device, point: &Point) -> io::Result<Self> {
        let bait = Addresses::reserve(PAGE)?;
        bait.map(PAGE)?;
        device.disturb(bait.start(), PAGE, point.phase.into())?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            phases: AtomicU64::new(0),
        });
        let thread = {
            let shared = shared.clone();
            let gap = u64::from(point.gap);
            thread::spawn(move || -> io::Result<()> {
                while !shared.stop.load(Relaxed) {
                    bait.drop_pages(PAGE)?;
                    shared.phases.fetch_add(1, Relaxed);
                    wait(gap);
                }
                bait.release()
            })
        };
        let this = Self { shared, thread };
        while this.phases() < 2 && !this.thread.is_finished() {
            thread::yield_now();
        }
        Ok(this)
    }

    /// How many phases have ended.
    pub fn phases(&self) -> u64 {
        self.shared.phases.load(Relaxed)
    }

    /// Ends it.
    pub fn stop(self, device: &Device) -> io::Result<()> {
        self.shared.stop.store(true, Relaxed);
        self.thread
            .join()
            .map_err(|_| Error::other("the disturber has died"))??;
        device.disturb(0, 0, 0)
    }
}

fn wait(microseconds: u64) {
    if microseconds >= SLEEP_FROM {
        thread::sleep(Duration::from_micros(microseconds));
    } else {
        let end = device::now() + microseconds * 1000;
        while device::now() < end {
            std::hint::spin_loop();
        }
    }
}
