// SPDX-License-Identifier: GPL-2.0

//! What exists once, from the loading of the module to its unloading.

use super::{
    latency::Latency,
    process::Processes, //
};
use core::ptr;
use kernel::{
    debugfs::{
        Dir,
        File, //
    },
    fmt,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    uaccess::UserSliceReader, //
};

/// The queues that workers run on, and the directory their counters are in.
#[pin_data]
pub(crate) struct Library {
    #[pin]
    processes: Processes,
    /// Before the directory that it is in, which is not that of the counters: whoever reads all of
    /// those reads numbers with names.
    #[pin]
    latency: File<Latency>,
    _latency_dir: Dir,
    debugfs: Dir,
}

/// The library while the module is loaded.
static LIBRARY: Atomic<*mut Library> = Atomic::new(ptr::null_mut());

impl Library {
    /// Sets it up.
    pub(crate) fn init() -> Result<Handle> {
        let latency_dir = Dir::new(c"odp_latency");
        let library = KBox::pin_init(
            pin_init!(Self {
                processes <- Processes::new(),
                latency <- latency_dir.read_write_callback_file(
                    c"histogram",
                    Latency::new(),
                    &|latency: &Latency, f: &mut fmt::Formatter<'_>| latency.write(f),
                    &|latency: &Latency, reader: &mut UserSliceReader| latency.read(reader),
                ),
                _latency_dir: latency_dir.clone(),
                debugfs: Dir::new(c"odp"),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: It is not moved before it is dropped, as `Handle` does.
        let library = unsafe { Pin::into_inner_unchecked(library) };
        LIBRARY.store(KBox::into_raw(library), Release);
        Ok(Handle(()))
    }

    pub(crate) fn get() -> &'static Self {
        // SAFETY: Everybody who gets here does so from this module, whose `init` has set the
        // pointer before it published anything, or from one that uses its symbols. In both cases
        // the module cannot be unloaded meanwhile; only that ends the life of what the pointer
        // points to.
        unsafe { &*LIBRARY.load(Acquire) }
    }

    pub(crate) fn processes(&self) -> &Processes {
        &self.processes
    }

    pub(crate) fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(crate) fn debugfs(&self) -> &Dir {
        &self.debugfs
    }
}

/// Tears the library down when it is dropped: the module has this.
pub(crate) struct Handle(());

impl Drop for Handle {
    fn drop(&mut self) {
        let library = LIBRARY.xchg(ptr::null_mut(), Relaxed);
        // SAFETY: It was set by `init`, which made the only handle. The module is being unloaded,
        // so that nobody uses it; workers hold a module of a user, which holds this one.
        drop(unsafe { KBox::from_raw(library) });
    }
}
