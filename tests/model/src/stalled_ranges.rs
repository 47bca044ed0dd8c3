// SPDX-License-Identifier: GPL-2.0

//! Who looks whether there are ranges that could not be changed, while somebody else goes by them:
//! in every order, and with every reordering of memory accesses that the C11 model allows.
//!
//! The file is the module's own. Its mutants are in `tests/mutants/`.

use crate::stalled::Stalled;
use loom::{
    sync::Mutex,
    thread, //
};
use std::sync::Arc;

/// How often a thread may be interrupted where it could go on.
const PREEMPTIONS: usize = 4;

/// A mirror with one range that could not be changed.
struct Mirror {
    stalled: Stalled,
    index: Mutex<()>,
    /// Whether another try has been asked for, as the worker's queues say.
    asked: Mutex<bool>,
}

impl Mirror {
    fn new() -> Arc<Self> {
        let mirror = Arc::new(Self {
            stalled: Stalled::new(),
            index: Mutex::new(()),
            asked: Mutex::new(false),
        });
        // All atomics are accessed before other threads have them.
        assert!(!mirror.stalled.any());
        mirror.stalled.add(0);
        assert!(mirror.stalled.is_due(1));
        mirror
    }

    fn ask(&self) {
        *self.asked.lock().unwrap() = true;
    }

    /// `Space::retry_all`
    fn flush(&self) {
        self.stalled.pass(|| {
            let _index = self.index.lock().unwrap();
            self.stalled.take_all();
            self.ask();
        });
    }

    /// `Space::retry_some`, a round of which is one step.
    fn drain(&self) {
        let _index = self.index.lock().unwrap();
        assert!(self.stalled.step() != 0);
        self.ask();
        self.stalled.stop(None);
    }

    /// The first step of a round, which has not come by the range yet, and then a flush.
    fn step_and_flush(&self) {
        {
            let _index = self.index.lock().unwrap();
            let from = self.stalled.step();
            self.stalled.stop(Some(from + 1));
        }
        self.flush();
    }
}

/// Whoever finds nothing relies on it that another try has been asked for.
fn judge(other: fn(&Mirror)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        let mirror = Mirror::new();
        let thread = thread::spawn({
            let mirror = mirror.clone();
            move || other(&mirror)
        });
        // As a flush does before it goes by them itself.
        if !mirror.stalled.any() {
            assert!(*mirror.asked.lock().unwrap(), "nobody has asked");
        }
        thread.join().unwrap();
    });
}

#[test]
fn beside_a_flush() {
    judge(Mirror::flush);
}

#[test]
fn beside_a_drain() {
    judge(Mirror::drain);
}

#[test]
fn beside_a_step_and_a_flush() {
    judge(Mirror::step_and_flush);
}
