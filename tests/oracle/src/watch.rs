// SPDX-License-Identifier: GPL-2.0

//! Watches whether the threads get on, and says who does not.

use crate::op::Op;
use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What a thread is doing, and since when.
struct Doing {
    number: u64,
    what: &'static str,
    since: Instant,
}

pub struct Watch {
    threads: Vec<Mutex<Doing>>,
    over: Mutex<bool>,
    ended: Condvar,
}

impl Watch {
    pub fn new(threads: usize) -> Self {
        let idle = || {
            Mutex::new(Doing {
                number: 0,
                what: "start",
                since: Instant::now(),
            })
        };
        Self {
            threads: (0..threads).map(|_| idle()).collect(),
            over: Mutex::new(false),
            ended: Condvar::new(),
        }
    }

    pub fn begin(&self, thread: usize, number: u64, op: &Op) {
        self.phase(thread, number, op.name());
    }

    pub fn phase(&self, thread: usize, number: u64, what: &'static str) {
        *self.threads[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Doing {
            number,
            what,
            since: Instant::now(),
        };
    }

    /// Who does what, if somebody has been at it for longer than `patience`.
    pub fn stuck(&self, patience: Duration) -> Option<Vec<String>> {
        let mut late = false;
        let lines = self.threads.iter().enumerate().map(|(thread, doing)| {
            let doing = doing.lock().unwrap_or_else(PoisonError::into_inner);
            let took = doing.since.elapsed();
            late |= doing.what != DONE && took > patience;
            format!(
                "thread {thread}: in operation {}, {}, for {} ms",
                doing.number,
                doing.what,
                took.as_millis()
            )
        });
        let lines = lines.collect();
        late.then_some(lines)
    }

    /// How many operations have been begun.
    pub fn ops(&self) -> u64 {
        let number =
            |doing: &Mutex<Doing>| doing.lock().unwrap_or_else(PoisonError::into_inner).number;
        self.threads.iter().map(number).sum()
    }

    pub fn done(&self, thread: usize, number: u64) {
        self.phase(thread, number, DONE);
    }

    pub fn end(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }

    /// Waits for the end; false if there is none within `time`.
    pub fn wait(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.wait_timeout_while(over, time, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

const DONE: &str = "done";
