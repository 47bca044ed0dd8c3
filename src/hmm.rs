// SPDX-License-Identifier: GPL-2.0

//! A process's pages, found and faulted in through heterogeneous memory management.
//!
//! A device that works on a process's memory without pinning it asks for the pages with
//! [`Interval::fault`], which does what a fault of the process itself would do. What it finds goes
//! to an array of the caller's, [`Pages`], and is worth nothing until it has been installed as the
//! protocol of [`mmu_interval`](super::mmu_interval) says.
//!
//! # What keeps a page
//!
//! Nobody has a reference to it. A [`Page`] may be used between two moments, both of them with the
//! user lock held:
//!
//! - no invalidation of the page's address has come since [`Interval::fault`] was called, and the
//!   lock has not been released without the page being put where `invalidate` finds it. That
//!   [`Interval::read_retry`] says so of the sequence that was returned is enough, and so is a
//!   commit;
//! - an `invalidate` of its address has been called, and has the lock.
//!
//! The kernel changes the process's page table only after `invalidate` has returned, and frees,
//! writes back, moves or truncates the page only after that. So who holds the lock, and finds the
//! page where no `invalidate` has removed it, knows that the process still has it there. The
//! removal of the interval must be preceded, under the lock, by what an `invalidate` of all of it
//! would do.
//!
//! C header: [`include/linux/hmm.h`](srctree/include/linux/hmm.h)

#![cfg(CONFIG_HMM_MIRROR)]

use super::{
    may_block::MayBlock,
    mmu_interval::{
        Interval,
        Invalidate,
        Sequence, //
    },
    span::Span, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::Flags,
    bindings,
    error::to_result,
    ffi::c_ulong,
    mm::MmWithUser,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        atomic_load,
        atomic_store,
        Relaxed, //
    },
    time::Jiffies, //
};

mod shim {
    use kernel::{
        bindings,
        ffi::{
            c_int,
            c_ulong, //
        }, //
    };

    // SAFETY: The prototypes are those of helpers.h.
    #[allow(
        improper_ctypes,
        reason = "some structs of the bindings have no fields in some kernels"
    )]
    unsafe extern "C" {
        pub(super) fn odp_hmm_range_fault(
            notifier: *mut bindings::mmu_interval_notifier,
            start: c_ulong,
            end: c_ulong,
            entries: *mut c_ulong,
            request: c_ulong,
            timeout: c_ulong,
            sequence: *mut c_ulong,
        ) -> c_int;
        pub(super) fn odp_hmm_range_fault_with(
            range: *mut super::HmmRange,
            notifier: *mut bindings::mmu_interval_notifier,
            timeout: c_ulong,
            sequence: *mut c_ulong,
        ) -> c_int;
        pub(super) fn odp_hmm_range_bounds(
            range: *const super::HmmRange,
            start: *mut c_ulong,
            end: *mut c_ulong,
        );
        pub(super) fn odp_pfn_to_page(pfn: c_ulong) -> *mut bindings::page;
        pub(super) fn odp_page_is_secret(page: *mut bindings::page) -> bool;
        pub(super) fn odp_flush_dcache_page(page: *mut bindings::page);
    }
}

/// `enum hmm_pfn_flags`, of which there are no bindings; helpers.c asserts the values.
mod flags {
    use kernel::ffi::c_ulong;

    /// There is a page, and it may be read. As a request: there is to be one.
    pub(super) const VALID: c_ulong = 1 << (c_ulong::BITS - 1);
    /// It may be written. As a request: it is to be so.
    pub(super) const WRITE: c_ulong = 1 << (c_ulong::BITS - 2);
    /// There is nothing that a device could use.
    pub(super) const ERROR: c_ulong = 1 << (c_ulong::BITS - 3);
    /// Where the order is, which has five bits.
    pub(super) const ORDER_SHIFT: u32 = c_ulong::BITS - 11;
    /// The page frame number.
    pub(super) const PFN: c_ulong = (1 << ORDER_SHIFT) - 1;
}

/// `struct hmm_range`, of which there are no bindings.
#[repr(C)]
pub(super) struct HmmRange {
    _opaque: [u8; 0],
}

/// What the device is going to do with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads. Pages that the process may write to turn out to be writable where that takes
    /// nothing.
    Read,
    /// It writes, and may read.
    Write,
}

impl Access {
    fn request(self) -> c_ulong {
        match self {
            Access::Read => flags::VALID,
            Access::Write => flags::VALID | flags::WRITE,
        }
    }
}

/// Room for the pages that a fault finds.
///
/// It is the caller's own: faults take long and run in parallel, and what they find may be out of
/// date already.
///
/// # Invariants
///
/// If `found` is a span, it has no more pages than there are `entries`, and its entries, the first
/// ones, are what HMM wrote for it.
pub struct Pages {
    entries: KVVec<c_ulong>,
    found: Option<Span>,
}

impl Pages {
    /// Makes room for `pages` pages, with nothing in it.
    ///
    /// Context: as `flags` say; `GFP_KERNEL` reclaims, so not under the user lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(pages: usize, flags: Flags) -> Result<Self> {
        // INVARIANT: Nothing has been found.
        Ok(Self {
            entries: KVVec::from_elem(0, pages, flags)?,
            found: None,
        })
    }

    /// How many pages there is room for.
    pub fn room(&self) -> usize {
        self.entries.len()
    }

    /// The span that was found by the last fault, if it was successful.
    pub fn span(&self) -> Option<Span> {
        self.found
    }

    /// The page at `addr`, any address in it, if the last fault was successful and covers it.
    ///
    /// After a successful fault there is a page at every address of its span.
    pub fn get(&self, addr: usize) -> Option<Page> {
        let found = self.found.filter(|found| found.contains(addr))?;
        // OVERFLOW: The span contains the address.
        let index = (addr - found.start()) / PAGE_SIZE;
        Page::new(*self.entries.get(index)?)
    }
}

/// A page of a process's, as HMM found it.
///
/// It is a number and keeps nothing; see [the module](self).
///
/// # Invariants
///
/// HMM wrote `entry`, and says in it that there is a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    entry: c_ulong,
}

impl Page {
    fn new(entry: c_ulong) -> Option<Self> {
        // INVARIANT: That there is one has just been tested.
        (entry & (flags::VALID | flags::ERROR) == flags::VALID).then_some(Self { entry })
    }

    /// The page frame number.
    pub fn pfn(&self) -> usize {
        self.entry & flags::PFN
    }

    /// Whether the device may write to it.
    pub fn writable(&self) -> bool {
        self.entry & flags::WRITE != 0
    }

    /// How large the piece is that the process has mapped in one: two to the power of this, in
    /// pages (`hmm_pfn_to_map_order()`).
    ///
    /// The piece is aligned to its size in memory and in the address space, and may reach beyond
    /// what was asked for. What is beyond must not be installed: only invalidations of what was
    /// asked for count.
    pub fn order(&self) -> u32 {
        // CAST: It has five bits.
        ((self.entry >> flags::ORDER_SHIFT) & 0x1f) as u32
    }

    /// Reads the aligned word at `offset` bytes, at once and in the CPU's order of bytes.
    ///
    /// The process may be writing to it: what comes back has been there at some moment.
    ///
    /// Context: any in which the user lock can be held. Does not sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `offset` is not a multiple of 8 or not in the page, `EFAULT` if the kernel
    /// itself has no access to the page (`memfd_secret()`).
    ///
    /// # Safety
    ///
    /// The page was installed, by a commit, and no `invalidate` of its address has removed it; the
    /// user lock is held. See [the module](self).
    pub unsafe fn load(&self, offset: usize) -> Result<u64> {
        let read = |word| {
            // SAFETY: `map` passes a valid and aligned pointer. The kernel accesses memory that a
            // process has mapped at the same time as others only in ways that take this into
            // account.
            unsafe { atomic_load(word, Relaxed) }
        };
        // SAFETY: By the safety requirements the page is installed and the user lock held, which is
        // what `map` wants.
        unsafe { self.map(offset, read) }
    }

    /// Reads the byte at `offset`. As [`Page::load`].
    ///
    /// # Errors
    ///
    /// As for [`Page::load`]; any offset in the page will do.
    ///
    /// # Safety
    ///
    /// As for [`Page::load`].
    pub unsafe fn load_byte(&self, offset: usize) -> Result<u8> {
        // SAFETY: `map` passes a valid pointer, and the process may access the byte at the same
        // time because this access is atomic.
        let read = |byte: *mut i8| unsafe { atomic_load(byte, Relaxed) };
        // SAFETY: By the safety requirements the page is installed and the user lock held, which is
        // what `map` wants.
        let byte = unsafe { self.map(offset, read) }?;
        // CAST: The same bits; there are atomic bytes with a sign only.
        Ok(byte as u8)
    }

    /// Writes the aligned word at `offset` bytes, at once and in the CPU's order of bytes, and
    /// marks the page dirty.
    ///
    /// Context: any in which the user lock can be held. Does not sleep.
    ///
    /// # Errors
    ///
    /// As for [`Page::load`]; `EPERM` if the page is not writable.
    ///
    /// # Safety
    ///
    /// As for [`Page::load`].
    pub unsafe fn store(&self, offset: usize, value: u64) -> Result {
        // SAFETY: `change` passes a valid and aligned pointer, and the process may access the word
        // at the same time because this access is atomic.
        let write = |word| unsafe { atomic_store(word, value, Relaxed) };
        // SAFETY: By the safety requirements the page is installed and the user lock held, which is
        // what `change` wants.
        unsafe { self.change(offset, write) }
    }

    /// Writes the byte at `offset` and marks the page dirty. As [`Page::store`].
    ///
    /// # Errors
    ///
    /// As for [`Page::store`]; any offset in the page will do.
    ///
    /// # Safety
    ///
    /// As for [`Page::load`].
    pub unsafe fn store_byte(&self, offset: usize, value: u8) -> Result {
        // CAST: As in `load_byte`.
        let value = value as i8;
        // SAFETY: `change` passes a valid pointer, and the process may access the byte at the same
        // time because this access is atomic.
        let write = |byte: *mut i8| unsafe { atomic_store(byte, value, Relaxed) };
        // SAFETY: By the safety requirements the page is installed and the user lock held, which is
        // what `change` wants.
        unsafe { self.change(offset, write) }
    }

    /// Says that the page's content has changed (`set_page_dirty()`), by a store of a device.
    ///
    /// Without it the change is lost: the process's own page table does not know of the store, so
    /// the page would be taken for one whose content can be had again from where it came. To
    /// be called after the store, and in the callback that takes the page away at the latest.
    ///
    /// Context: any in which the user lock can be held. Does not sleep: the core calls it with page
    /// table locks held.
    ///
    /// # Safety
    ///
    /// As for [`Page::load`]. The lock stands for the page lock: truncation waits, like everybody
    /// who unmaps the page, for an `invalidate`.
    pub unsafe fn mark_dirty(&self) {
        // SAFETY: By the safety requirements the page is installed and the user lock held.
        let page = unsafe { self.page() };
        // SAFETY: By the safety requirements the process still has the page, and no `invalidate` of
        // its address has returned: until then it is neither freed nor truncated.
        unsafe { bindings::set_page_dirty(page) };
    }

    /// # Safety
    ///
    /// As for [`Page::load`].
    unsafe fn change<I>(&self, offset: usize, f: impl FnOnce(*mut I)) -> Result {
        if !self.writable() {
            return Err(EPERM);
        }
        // SAFETY: By the safety requirements the page is installed and the user lock held, as here
        // and below.
        unsafe { self.map(offset, f) }?;
        // SAFETY: By the safety requirements the page is installed and the user lock held.
        let page = unsafe { self.page() };
        // SAFETY: It is a valid page, which has been written to through the kernel's mapping.
        unsafe { shim::odp_flush_dcache_page(page) };
        // SAFETY: By the safety requirements the page is installed and the user lock held.
        unsafe { self.mark_dirty() };
        Ok(())
    }

    /// Calls `f` with a pointer to what is at `offset`, valid and aligned for an `I`.
    ///
    /// # Safety
    ///
    /// As for [`Page::load`].
    unsafe fn map<I, R>(&self, offset: usize, f: impl FnOnce(*mut I) -> R) -> Result<R> {
        // An aligned item that begins in a page ends in it, because all sizes are powers of two.
        const { assert!(size_of::<I>().is_power_of_two() && size_of::<I>() <= PAGE_SIZE) };
        if offset >= PAGE_SIZE || offset % size_of::<I>() != 0 {
            return Err(EINVAL);
        }
        // SAFETY: By the safety requirements the page is installed and the user lock held.
        let page = unsafe { self.page() };
        // SAFETY: By the safety requirements the process has the page, so its mapping is stable.
        if unsafe { shim::odp_page_is_secret(page) } {
            return Err(EFAULT);
        }
        // SAFETY: It is a valid page; it is unmapped below, by the same task and in order.
        let mapped = unsafe { bindings::kmap_local_page(page) };
        // `mapped` is aligned to a page, and the offset to the item's size.
        let result = f(mapped.cast::<u8>().wrapping_add(offset).cast());
        // SAFETY: It is what this task has mapped last, above; `f` can map nothing and leave it
        // mapped, because such mappings are taken back in order.
        unsafe { bindings::kunmap_local(mapped) };
        Ok(result)
    }

    /// # Safety
    ///
    /// As for [`Page::load`].
    unsafe fn page(&self) -> *mut bindings::page {
        // SAFETY: By the type invariants HMM found the page, so it has a `struct page`, which by
        // the safety requirements has not gone since.
        unsafe { shim::odp_pfn_to_page(self.pfn()) }
    }
}

impl<T: Invalidate> Interval<T> {
    /// Finds the process's pages in `span`, and faults in what is not there or may not yet be
    /// accessed so (`hmm_range_fault_unlocked_timeout()`).
    ///
    /// It does not matter whose task this is called in. The answer is a sequence for
    /// [`Interval::read_retry`], and what was found is in `pages`. Invalidations that come between
    /// are not an error; it begins again, for `timeout` jiffies, of which there is at least one.
    /// The timeout is no bound on the time that a fault or an invalidation takes.
    ///
    /// Device-private memory is migrated back to where the CPU can access it.
    ///
    /// Context: may sleep, for as long as user space likes if it handles the fault; takes
    /// `mmap_lock` for reading. Not under the user lock, nor any other lock a callback takes.
    ///
    /// # Errors
    ///
    /// In each case there is nothing in `pages`.
    ///
    /// - `EINVAL`: the span is not part of the interval, or there is no room for it in `pages`.
    /// - `ESRCH`: the address space is gone, or the interval is not inserted.
    /// - `EFAULT`: at some address there is nothing, or what may not even be read, or no memory
    ///   (I/O, say); or the process is being killed for want of memory.
    /// - `EPERM`: a write to what the process may only read.
    /// - `EBUSY`: invalidations kept coming.
    /// - `EINTR`: the calling task is being killed.
    /// - `ENOMEM`.
    pub fn fault(
        &self,
        pages: &mut Pages,
        span: Span,
        access: Access,
        timeout: Jiffies,
        p: &mut MayBlock<'_>,
    ) -> Result<Sequence> {
        p.for_invalidate();
        p.for_mmap_lock(self.mm());
        // INVARIANT: Whatever there was is about to be overwritten.
        pages.found = None;
        if !self.span().covers(&span) {
            return Err(EINVAL);
        }
        let entries = pages.entries.get_mut(..span.pages()).ok_or(EINVAL)?;
        if !self.is_inserted() {
            return Err(ESRCH);
        }
        let mm = self.mm().mmget_not_zero().ok_or(ESRCH)?;
        // If this turns out to be the last user, exit_mmap() must not run here.
        let _mm = MmWithUser::into_mmput_async(mm);

        // Some flags would be kept.
        entries.fill(0);
        let mut sequence = 0;
        // SAFETY: The notifier has been inserted, so it is initialised, into an address space that
        // has users; that it may be removed meanwhile does no harm. There is an entry for each
        // page.
        to_result(unsafe {
            shim::odp_hmm_range_fault(
                self.as_raw(),
                span.start(),
                span.end(),
                entries.as_mut_ptr(),
                access.request(),
                timeout.max(1),
                &mut sequence,
            )
        })?;
        // INVARIANT: It was successful, so all entries of the span have been written.
        pages.found = Some(span);
        Ok(self.sequence(sequence))
    }

    /// The addresses that `request` asks for, if they are a span.
    ///
    /// # Safety
    ///
    /// `request` is a valid `struct hmm_range`.
    pub(super) unsafe fn bounds_of(request: NonNull<HmmRange>) -> Result<Span> {
        let (mut start, mut end) = (0, 0);
        // SAFETY: By the safety requirements `request` is a valid `struct hmm_range`; the others
        // are references.
        unsafe { shim::odp_hmm_range_bounds(request.as_ptr(), &mut start, &mut end) };
        Ok(Span::from_bounds(start, end)?)
    }

    /// As [`Interval::fault`], for who has the entries and what else HMM wants in `request`, whose
    /// notifier becomes that of the interval. With a `timeout` of 0 it goes on for as long as it
    /// takes.
    ///
    /// # Errors
    ///
    /// As there; in each case what the entries say is of no use.
    ///
    /// # Safety
    ///
    /// `request` is a valid `struct hmm_range` with an entry for each of its pages, and the
    /// caller's own.
    pub(super) unsafe fn fault_for(
        &self,
        request: NonNull<HmmRange>,
        timeout: Jiffies,
        p: &mut MayBlock<'_>,
    ) -> Result<Sequence> {
        p.for_invalidate();
        p.for_mmap_lock(self.mm());
        // SAFETY: By the safety requirements `request` is a valid `struct hmm_range`.
        let span = unsafe { Self::bounds_of(request) }?;
        if !self.span().covers(&span) {
            return Err(EINVAL);
        }
        if !self.is_inserted() {
            return Err(ESRCH);
        }
        let mm = self.mm().mmget_not_zero().ok_or(ESRCH)?;
        // If this turns out to be the last user, exit_mmap() must not run here.
        let _mm = MmWithUser::into_mmput_async(mm);

        let mut sequence = 0;
        // SAFETY: The notifier has been inserted, so it is initialised, into an address space that
        // has users; that it may be removed meanwhile does no harm. By the safety requirements
        // `request` is valid, the caller's own, and has an entry for each page.
        to_result(unsafe {
            shim::odp_hmm_range_fault_with(request.as_ptr(), self.as_raw(), timeout, &mut sequence)
        })?;
        Ok(self.sequence(sequence))
    }
}
