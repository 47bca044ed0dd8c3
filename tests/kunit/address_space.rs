// SPDX-License-Identifier: GPL-2.0

//! The address space of a test.

#[cfg(CONFIG_DEVICE_PRIVATE)]
use core::{
    ffi::c_void,
    ptr::NonNull, //
};
#[cfg(CONFIG_DEVICE_PRIVATE)]
use kernel::ffi::{
    c_int,
    c_ulong, //
};
use kernel::{
    bindings,
    current,
    mm::{
        Mm,
        MmWithUser, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use odp::{
    MayBlock,
    Span, //
};

use crate::{
    tally::Tally,
    thread::{
        give_way,
        Thread, //
    }, //
};

// SAFETY: The prototypes are those of exclusive.h.
#[cfg(CONFIG_DEVICE_PRIVATE)]
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    fn odp_kunit_migrate(mm: *mut bindings::mm_struct, addr: c_ulong, owner: *mut c_void) -> c_int;
    fn odp_kunit_make_exclusive(
        mm: *mut bindings::mm_struct,
        addr: c_ulong,
        owner: *mut c_void,
    ) -> c_int;
}

// Of the interface to user space, asm-generic/mman-common.h, which has no bindings.
const PROT_READ: usize = 0x1;
const PROT_WRITE: usize = 0x2;
const MAP_PRIVATE: usize = 0x02;
const MAP_ANONYMOUS: usize = 0x20;
const MAP_FIXED_NOREPLACE: usize = 0x10_0000;

/// The address space of a test's thread, empty at first.
///
/// It ends when this is dropped, and not with the thread: KUnit does not wait for all of a thread's
/// exit, so that the address space would be taken down beside whatever comes next.
///
/// # Invariants
///
/// The current task is a kernel thread that uses `mm`, with a reference to it as a user that is
/// ours.
pub(crate) struct AddressSpace {
    mm: ARef<Mm>,
    _not_send: NotThreadSafe,
}

impl AddressSpace {
    pub(crate) fn attach() -> Result<Self> {
        if current!().mm().is_some() {
            return Err(EBUSY);
        }
        // SAFETY: The thread is that of a test, and has no address space.
        kernel::error::to_result(unsafe { bindings::kunit_attach_mm() })?;
        let task = current!();
        let mm: &Mm = task.mm().ok_or(ESRCH)?;
        // INVARIANT: The thread uses what was made just now, and has the reference that came with
        // it, which nobody else gives up.
        Ok(Self {
            mm: ARef::from(mm),
            _not_send: NotThreadSafe,
        })
    }

    pub(crate) fn user(&self) -> Result<ARef<MmWithUser>> {
        self.mm.mmget_not_zero().ok_or(ESRCH)
    }

    /// Maps `pages` pages of anonymous memory somewhere.
    pub(crate) fn map(&self, pages: usize) -> Result<Span> {
        let size = pages.checked_mul(PAGE_SIZE).ok_or(EOVERFLOW)?;
        self.mmap(0, size, 0)
    }

    /// Maps anonymous memory at `span`, where nothing is mapped.
    pub(crate) fn map_at(&self, span: Span) -> Result {
        let mapped = self.mmap(span.start(), span.size(), MAP_FIXED_NOREPLACE)?;
        if mapped == span {
            Ok(())
        } else {
            Err(EEXIST)
        }
    }

    fn mmap(&self, addr: usize, size: usize, flags: usize) -> Result<Span> {
        // SAFETY: The thread has an address space, and no file is passed.
        let addr = unsafe {
            bindings::vm_mmap(
                core::ptr::null_mut(),
                addr,
                size,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | flags,
                0,
            )
        };
        Ok(Span::new(addr, size)?)
    }

    /// Unmaps `span` in the calling thread, whose address space this must be.
    pub(crate) fn unmap(span: Span) -> Result {
        // SAFETY: The thread has an address space.
        kernel::error::to_result(unsafe { bindings::vm_munmap(span.start(), span.size()) })
    }

    /// Makes a page exclusive to a device of `owner`'s, until a CPU accesses it
    /// (`make_device_exclusive()`).
    #[cfg(CONFIG_DEVICE_PRIVATE)]
    pub(crate) fn make_exclusive<O>(&self, addr: usize, owner: NonNull<O>) -> Result {
        // SAFETY: By the type invariants `mm` has users. The owner is compared, never followed.
        kernel::error::to_result(unsafe {
            odp_kunit_make_exclusive(self.mm.as_raw(), addr, owner.as_ptr().cast())
        })
    }

    /// Begins to migrate a page as `owner`, and leaves it where it is.
    #[cfg(CONFIG_DEVICE_PRIVATE)]
    pub(crate) fn migrate<O>(&self, addr: usize, owner: NonNull<O>) -> Result {
        // SAFETY: By the type invariants `mm` has users. The owner is compared, never followed.
        kernel::error::to_result(unsafe {
            odp_kunit_migrate(self.mm.as_raw(), addr, owner.as_ptr().cast())
        })
    }

    /// Reads a byte; faults the page in, the zero page if it was never written.
    pub(crate) fn read(addr: usize) -> Result<u8> {
        UserSlice::new(UserPtr::from_addr(addr), 1).reader().read()
    }

    /// Writes a byte.
    pub(crate) fn write(addr: usize, byte: u8) -> Result {
        UserSlice::new(UserPtr::from_addr(addr), 1)
            .writer()
            .write(&byte)
    }

    /// Runs `f` in another thread with this address space.
    pub(crate) fn thread(&self, f: impl FnOnce() + Send + 'static) -> Result<Thread> {
        self.with(|_| f())
    }

    /// Runs `f` in another thread with this address space, again and again until it is stopped.
    pub(crate) fn repeat(
        &self,
        mut f: impl FnMut(&mut MayBlock<'_>) + Send + 'static,
    ) -> Result<Thread> {
        self.with(move |stop| {
            MayBlock::enter(|p| {
                while stop.get() == 0 {
                    f(p);
                    // Who stops it may need the CPU for that.
                    give_way();
                }
            })
        })
    }

    fn with(&self, f: impl FnOnce(&Tally) + Send + 'static) -> Result<Thread> {
        let mm = self.user()?;
        Thread::with(move |stop| {
            // SAFETY: A kernel thread, without an address space, and `mm` is kept until it has none
            // again.
            unsafe { bindings::kthread_use_mm(mm.as_raw()) };
            f(stop);
            // SAFETY: The call above had this thread use it, and nothing else has since.
            unsafe { bindings::kthread_unuse_mm(mm.as_raw()) };
            drop(mm);
        })
    }

    /// Ends the address space, as the exit of a process does.
    pub(crate) fn exit(self) {
        drop(self);
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let mm = self.mm.as_raw();
        // SAFETY: By the type invariants this task uses it.
        unsafe { bindings::kthread_unuse_mm(mm) };
        // SAFETY: By the type invariants the reference is ours, and this is the end of it.
        unsafe { bindings::mmput(mm) };
    }
}

#[kunit_tests(odp_address_space)]
mod tests {
    use super::*;
    use crate::{
        check::check_eq,
        fixture::setup,
        frozen::Frozen,
        reader::Reader, //
    };

    /// A test that returns in the middle, as one does that fails.
    fn fail(p: &mut MayBlock<'_>) -> Result<ARef<Mm>> {
        let s = setup(None, p)?;
        let span = s.space.map(1)?;
        drop(s.mirror.insert(span, s.shared.clone(), p)?);
        let mirror = s.mirror.clone();
        let _looker = s
            .space
            .repeat(move |p| drop(mirror.lookup(span.start(), p)))?;
        let _reader = Reader::begin(&s.space, &s.mirror, span.start())?;
        let _frozen = Frozen::begin(&s.space, p)?;
        s.mirror.retire_all();
        Ok(s.space.mm.clone())
    }

    #[test]
    fn nothing_outlives_a_test_that_fails() -> Result {
        MayBlock::enter(|p| {
            let mm = fail(p)?;
            check_eq!(mm.mmget_not_zero().is_none(), true);
            check_eq!(current!().mm().is_none(), true);
            Ok(())
        })
    }
}
