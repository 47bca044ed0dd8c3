// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the library, in an address space of the test's own.
//!
//! What user space alone can make happen (madvise, fork, process_mrelease, ...) is tested from
//! there, in `tests/user/`. What must be reported by lockdep has a module of its own, in
//! `tests/splat/`, because lockdep is off after a report.

#![crate_name = "odp_kunit"]

mod address_space;
mod c_driver;
mod check;
mod end;
mod eventually;
mod fault;
mod fixture;
mod flush;
mod frozen;
mod grow;
mod insert;
mod limits;
mod managed;
mod merge;
mod notifier;
mod own_events;
mod probe;
mod race;
mod range_index;
mod range_tree;
mod reader;
mod retire;
mod swap;
mod tally;
mod thread;
mod user_lock;
mod walk;
mod watcher;

use kernel::prelude::*;

module! {
    type: OdpKunitModule,
    name: "odp_kunit",
    authors: ["The odp authors"],
    description: "KUnit tests of the odp library",
    license: "GPL",
    imports_ns: ["EXPORTED_FOR_KUNIT_TESTING"],
}

struct OdpKunitModule {
    _threads: thread::Threads,
}

impl kernel::Module for OdpKunitModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _threads: thread::Threads::init()?,
        })
    }
}
