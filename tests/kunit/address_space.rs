// SPDX-License-Identifier: GPL-2.0

//! The address space of a test.

use kernel::{
    bindings,
    current,
    mm::{
        Mm,
        MmWithUser, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
    workqueue, //
};
use odp::Span;

use crate::tally::Tally;

// Of the interface to user space, asm-generic/mman-common.h, which has no bindings.
const PROT_READ: usize = 0x1;
const PROT_WRITE: usize = 0x2;
const MAP_PRIVATE: usize = 0x02;
const MAP_ANONYMOUS: usize = 0x20;
const MAP_FIXED_NOREPLACE: usize = 0x10_0000;

/// The address space of a test's thread, empty at first.
///
/// KUnit frees it when the thread ends, if [`AddressSpace::exit`] has not.
pub(crate) struct AddressSpace {
    mm: ARef<Mm>,
}

impl AddressSpace {
    pub(crate) fn attach() -> Result<Self> {
        // SAFETY: The thread is that of a test, and this is its first address space.
        kernel::error::to_result(unsafe { bindings::kunit_attach_mm() })?;
        let task = current!();
        let mm: &Mm = task.mm().ok_or(ESRCH)?;
        Ok(Self { mm: ARef::from(mm) })
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

    /// Runs `f` in another thread with this address space; the tally says when it has ended.
    pub(crate) fn thread(&self, f: impl FnOnce() + Send + 'static) -> Result<Arc<Tally>> {
        let done = Tally::new("thread")?;
        let ended = done.clone();
        let mm = self.user()?;
        workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
            // SAFETY: A kernel thread, without an address space, and `mm` is kept until it has none again.
            unsafe { bindings::kthread_use_mm(mm.as_raw()) };
            f();
            // SAFETY: Used above.
            unsafe { bindings::kthread_unuse_mm(mm.as_raw()) };
            drop(mm);
            ended.inc();
        })?;
        Ok(done)
    }

    /// Ends the address space, as the exit of a process does.
    pub(crate) fn exit(self) {
        let mm = self.mm.as_raw();
        // SAFETY: `attach` made the thread use it, and nothing else has changed that.
        unsafe { bindings::kthread_unuse_mm(mm) };
        // SAFETY: This is the reference that `kunit_attach_mm` made; nobody else gives it up.
        unsafe { bindings::mmput(mm) };
    }
}
