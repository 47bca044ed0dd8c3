// SPDX-License-Identifier: GPL-2.0

//! What callbacks take, and what they are made of, on the real CPU: the arms of the benchmark in a
//! kernel that is a process, and stamps around core mm's calls inside of it.
//!
//! It measures when that kernel boots, prints each sample, and halts.

#![crate_name = "odp_native"]
#![allow(
    dead_code,
    reason = "the files of bench/module have more than is needed of them here"
)]

mod arm;
mod arms;
mod callback;
mod child;
mod clock;
mod engine;
mod gpusvm;
mod grace;
#[cfg(CONFIG_MMU_INTERVAL_IN_CALLBACK)]
mod in_callback;
#[cfg(not(CONFIG_MMU_INTERVAL_IN_CALLBACK))]
#[path = "in_callback_absent.rs"]
mod in_callback;
mod mmap_write;
mod none;
mod notify;
mod numbers;
mod operations;
mod pending;
mod queue;
mod rcu;
mod refcount;
mod references;
mod region;
mod retire;
mod rw_sem;
mod samples;
mod slots;
mod space;
mod spent;
mod srcu_each;
mod tree;
mod uapi;
mod user_lock;
mod whole;
mod wq_mutex;
mod wq_rcu;
mod xarray;

use self::{
    clock::Caches,
    samples::{
        Cache,
        Samples, //
    }, //
};
use kernel::prelude::*;
use odp::MayBlock;

module! {
    type: NativeModule,
    name: "odp_native",
    authors: ["The odp authors"],
    description: "Benchmark of the deferred removal of mmu interval notifiers, natively",
    license: "GPL",
    params: {
        rounds: u32 {
            default: 3,
            description: "How often everything is measured",
        },
        near: u32 {
            default: 16,
            description: "MiB to walk through, which the cache of a CPU does not have room for",
        },
        far: u32 {
            default: 0,
            description: "MiB to walk through, which no cache has room for; none to leave it out",
        },
        wake_first: bool {
            default: false,
            description: "Arms that remove in the callback release after waiters are woken",
        },
    },
}

struct NativeModule;

impl kernel::Module for NativeModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}

/// Called by native.c, once, when the kernel has a console. May sleep.
#[no_mangle]
extern "C" fn odp_native_run() {
    match MayBlock::enter(measure) {
        // Who reads this waits for that line.
        Ok(()) => pr_info!("end\n"),
        Err(error) => pr_err!("failed: {error:?}\n"),
    }
}

fn measure(p: &mut MayBlock<'_>) -> Result {
    let caches = Caches::new(
        module_parameters::near.value(),
        module_parameters::far.value(),
    )?;
    pr_info!("khz {}\n", clock::khz());
    let queue = queue::Handle::new()?;
    let mut samples = Samples::new();
    let mut callbacks = callback::Callbacks::new(p)?;
    let mut engine = engine::Engine::new(p)?;
    let rounds = module_parameters::rounds.value();
    for round in 1..=rounds {
        // Who waits for the end sees that it moves.
        pr_info!("round {round} of {rounds}\n");
        for cache in Cache::ALL {
            if caches.size(cache).is_none() {
                continue;
            }
            callbacks.measure(&caches, cache, &mut samples, p)?;
            operations::measure(&caches, cache, &mut samples)?;
            numbers::measure(&caches, cache, &mut samples)?;
            engine.measure(&caches, cache, &mut samples, p)?;
        }
    }
    drop(engine);
    drop(callbacks);
    drop(queue);
    samples.print();
    Ok(())
}
