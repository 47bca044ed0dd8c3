// SPDX-License-Identifier: GPL-2.0

//! A device context: an address space, mirrored on demand.
//!
//! This is what a driver of real hardware would do the same way, but for [`Context::pages`].

use crate::{
    device::Device,
    page_table::{
        Operation,
        PageTable,
        Reservation, //
    },
    uapi, //
};
use kernel::{
    mm::{
        MmWithUser,
        MmWithUserAsync, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::msecs_to_jiffies,
    transmute::AsBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use odp::{
    hmm::{
        Access,
        Page,
        Pages, //
    },
    Config,
    FaultError,
    Hold,
    MayBlock,
    Mirror,
    Section,
    Shared,
    Span,
    Until, //
};

/// How long HMM goes on while invalidations of the range get in between, before we look at signals.
const ATTEMPT_MS: u32 = 1000;

/// How much is mirrored at once around a fault where nothing is mirrored yet.
const WINDOW: usize = 64 << 10;

/// How many pages may be listed at once, and how many of them with the table locked.
const MAX_LISTED: u64 = 65536;
const LISTED_AT_ONCE: usize = 256;

/// A page that was found for the device, and when that was.
pub(crate) struct Found {
    addr: usize,
    page: Page,
    section: Section,
}

/// One process's address space, as the device mirrors it.
pub(crate) struct Context {
    pub(crate) mirror: Mirror<Device>,
    shared: Arc<Shared<Device>>,
    auto: Atomic<bool>,
}

/// The first byte of the page that `addr` is in.
fn page_of(addr: usize) -> usize {
    addr & !(PAGE_SIZE - 1)
}

impl Context {
    pub(crate) fn new(
        mm: &MmWithUser,
        config: Config,
        device: Device,
        p: &mut MayBlock<'_>,
    ) -> Result<Self> {
        let shared = Arc::pin_init(
            Shared::new(
                device,
                new_mutex!(PageTable::new(), "odp_mirror::PageTable"),
            ),
            GFP_KERNEL,
        )?;
        Ok(Self {
            mirror: Mirror::new(mm, config, p)?,
            shared,
            auto: Atomic::new(false),
        })
    }

    pub(crate) fn device(&self) -> &Device {
        self.shared.data()
    }

    /// Chooses whether a fault where nothing is mirrored makes a range there.
    pub(crate) fn mirror_on_fault(&self, auto: bool) {
        self.auto.store(auto, Relaxed);
    }

    pub(crate) fn insert(&self, span: Span, p: &mut MayBlock<'_>) -> Result<Hold<Device>> {
        Ok(self.mirror.insert(span, self.shared.clone(), p)?)
    }

    /// Holds the range at `addr`.
    pub(crate) fn hold(&self, addr: usize, p: &mut MayBlock<'_>) -> Result<Hold<Device>> {
        self.mirror.get(addr, p).ok_or(ENOENT)
    }

    /// The device accesses memory, with the page that it has, or else after a fault, if there may
    /// be one. `faults` is how often it had to be tried.
    pub(crate) fn access(
        &self,
        addr: usize,
        operation: Operation,
        may_fault: bool,
        faults: &mut u64,
        p: &mut MayBlock<'_>,
    ) -> Result<u64> {
        while let Some(range) = self.mirror.lookup(addr, p) {
            // If it has been retired since, there may be another one.
            if let Ok(done) = range.access(|table| table.perform(addr, operation)) {
                match done? {
                    Some(value) => return Ok(value),
                    None => break,
                }
            }
        }
        if !may_fault {
            return Err(ENODATA);
        }
        self.fault(addr, operation, faults, p)
    }

    /// The device has no page at `addr`, or not for this. Gets it, and has the device go on.
    /// `attempts` is how often it had to be tried: again where the page itself was invalidated
    /// meanwhile, or its range replaced or retired, and so for as long as somebody does that.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` if it has to be tried again, and a signal is pending; and those of
    /// [`Mirror::insert`] and [`Hold::fault`].
    pub(crate) fn fault(
        &self,
        addr: usize,
        operation: Operation,
        attempts: &mut u64,
        p: &mut MayBlock<'_>,
    ) -> Result<u64> {
        // Whether there is a range here because of this.
        let mut fresh = false;
        *attempts = 0;
        loop {
            if *attempts > 0 && current!().signal_pending() {
                return Err(ERESTARTSYS);
            }
            // OVERFLOW: Each takes longer than a nanosecond.
            *attempts += 1;
            let hold = match self.mirror.get(addr, p) {
                Some(hold) => hold,
                None => match self.insert_around(addr, p) {
                    Ok(hold) => {
                        fresh = true;
                        hold
                    }
                    // Somebody else was faster.
                    Err(error) if error == EEXIST => continue,
                    Err(error) => return Err(error),
                },
            };
            let found = match self.find(&hold, addr, operation.access(), p) {
                Ok(found) => found,
                Err(FaultError::Gone) => continue,
                Err(FaultError::Failed(error)) if error == EBUSY => continue,
                Err(FaultError::Failed(error)) => {
                    if fresh {
                        // The mapping may have gone before the range was there to hear of it.
                        hold.retire();
                    }
                    return Err(error);
                }
            };
            // A device would find out for itself that it has a page now.
            match self.install(&hold, found, |table| table.perform(addr, operation)) {
                Ok(done) => return done?.ok_or(EFAULT),
                Err(error) if error == EAGAIN || error == ESTALE => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the page at `addr`, which `hold` covers, in a section that begins here.
    pub(crate) fn find(
        &self,
        hold: &Hold<Device>,
        addr: usize,
        access: Access,
        p: &mut MayBlock<'_>,
    ) -> Result<Found, FaultError> {
        let addr = page_of(addr);
        let span = Span::new(addr, PAGE_SIZE).map_err(|error| FaultError::Failed(error.into()))?;
        let mut pages = Pages::new(1, GFP_KERNEL).map_err(FaultError::Failed)?;
        let timeout = msecs_to_jiffies(ATTEMPT_MS);
        let section = hold.fault(&mut pages, span, access, timeout, p)?;
        let page = pages.get(addr).ok_or(FaultError::Failed(EFAULT))?;
        Ok(Found {
            addr,
            page,
            section,
        })
    }

    /// Gives the device a page that was found in the range that `hold` is of, unless something has
    /// come between, and does `then` before that can change.
    pub(crate) fn install<R>(
        &self,
        hold: &Hold<Device>,
        found: Found,
        then: impl FnOnce(&mut PageTable) -> R,
    ) -> Result<R> {
        let Found {
            addr,
            page,
            section,
        } = found;
        // Whatever needs memory comes before the commit.
        let memory = Reservation::new(GFP_KERNEL_ACCOUNT).inspect_err(|_| hold.abandon(section))?;
        Ok(hold.commit(section, |table| {
            // SAFETY: This is the commit of the section that the page was found in, at this
            // address.
            unsafe { table.install(addr, page, memory) };
            then(table)
        })?)
    }

    /// The address space, unless it is gone.
    fn user(&self) -> Result<ARef<MmWithUserAsync>> {
        let mm = self.mirror.mm().mmget_not_zero().ok_or(ESRCH)?;
        // If this turns out to be the last user, exit_mmap() must not run here: it calls us.
        Ok(MmWithUser::into_mmput_async(mm))
    }

    /// Mirrors what is around `addr`, or if that is not possible, just its page.
    fn insert_around(&self, addr: usize, p: &mut MayBlock<'_>) -> Result<Hold<Device>> {
        // Nothing keeps the address space while there is something to wait for.
        drop(self.user()?);
        if !self.auto.load(Relaxed) {
            return Err(ENOENT);
        }
        // Whoever makes ranges pays for those that are on their way out.
        self.mirror.drain(p);
        // Where there is no memory there is nothing to mirror; a device must not be able to have
        // ranges made wherever it likes.
        let mm = self.user()?;
        mm.mmap_read_lock().vma_lookup(addr).ok_or(EFAULT)?;
        drop(mm);

        let around = Span::new(addr & !(WINDOW - 1), WINDOW)?;
        let hold = match self.insert(around, p) {
            Err(error) if error == EEXIST => self.insert(self.gap(addr, around, p)?, p)?,
            other => other?,
        };
        if !self.device().punches() {
            // Whatever goes takes all of the range along, where there is anything.
            return Ok(hold);
        }
        // The window need not be mapped as a whole, and since we looked all of it may have gone.
        match hold.punch_unmapped(p) {
            // It is retired already.
            Err(error) if error != ESTALE => Err(error),
            _ => Ok(hold),
        }
    }

    /// Has a range become `wanted`.
    ///
    /// # Errors
    ///
    /// Those of [`Hold::grow`], `EINVAL` if the device does not punch, and `EINTR` if the task is
    /// killed.
    pub(crate) fn grow(&self, hold: Hold<Device>, wanted: Span, p: &mut MayBlock<'_>) -> Result {
        if !self.device().punches() {
            // What is added would have to go where it is not mapped, and the rest with it.
            return Err(EINVAL);
        }
        hold.grow(wanted, p)?.accepted()?;
        drop(hold);
        self.mirror.flush(Until::Removed, p)?;
        // Nobody tells of what of that was not mapped before.
        let mut ranges = self.mirror.walk(wanted);
        while let Some(range) = ranges.get_next(p) {
            match range.punch_unmapped(p) {
                Err(error) if error != ESTALE => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// What is around `addr` in `window` and not mirrored, as far as can be seen: at least its
    /// page.
    fn gap(&self, addr: usize, window: Span, p: &mut MayBlock<'_>) -> Result<Span> {
        let page = page_of(addr);
        let (mut first, mut behind) = (window.start(), window.end());
        let mut ranges = self.mirror.walk(window);
        while let Some(range) = ranges.next(p) {
            let range = range.span();
            if range.start() > page {
                behind = range.start();
                break;
            }
            // If the page has got one meanwhile, the insertion says so.
            first = range.end().min(page);
        }
        Ok(Span::from_bounds(first, behind)?)
    }

    /// What the device can do at `addr` without a fault.
    pub(crate) fn probe(&self, addr: usize, p: &mut MayBlock<'_>) -> uapi::Probe {
        let page = page_of(addr);
        let mut probe = uapi::Probe {
            // CAST: `usize` has at most 64 bits, here and below.
            addr: addr as u64,
            flags: 0,
            start: 0,
            len: 0,
        };
        while let Some(range) = self.mirror.lookup(page, p) {
            // If it has been retired since, there may be another one.
            let Ok(entry) = range.access(|table| table.get(page)) else {
                continue;
            };
            let span = range.span();
            (probe.start, probe.len) = (span.start() as u64, span.size() as u64);
            probe.flags = uapi::MIRRORED;
            if let Some(entry) = entry {
                probe.flags |= uapi::PRESENT;
                if entry.writable() {
                    probe.flags |= uapi::WRITABLE;
                }
            }
            break;
        }
        probe
    }

    /// Writes to user space what pages the device has, and says how many that is.
    ///
    /// It does not ask what range a page is in, so that it shows what should not be there, too.
    pub(crate) fn pages(&self, list: &uapi::Pages) -> Result<u64> {
        if list.count > MAX_LISTED {
            return Err(EINVAL);
        }
        let room = usize::try_from(list.count)?;
        let size = room.checked_mul(size_of::<uapi::Page>()).ok_or(EINVAL)?;
        let to = UserPtr::from_addr(usize::try_from(list.pages)?);
        let mut to = UserSlice::new(to, size).writer();
        let end = usize::try_from(list.end)?;

        let mut some = KVec::with_capacity(room.min(LISTED_AT_ONCE), GFP_KERNEL)?;
        let mut next = Some(usize::try_from(list.start)?);
        let mut listed = 0;
        while let Some(start) = next {
            // OVERFLOW: No more than there is room for are listed.
            let at_once = LISTED_AT_ONCE.min(room - listed);
            some.clear();
            // Neither is there memory to be had nor user space to be accessed with the table
            // locked.
            self.shared.inspect(|table| {
                let entries = table.from(start).take_while(|(addr, _)| *addr < end);
                for (addr, page) in entries.take(at_once) {
                    let page = uapi::Page {
                        addr: addr as u64,
                        pfn: page.pfn() as u64,
                        flags: if page.writable() { uapi::WRITABLE } else { 0 },
                    };
                    // There is room for it.
                    let _ = some.push_within_capacity(page);
                }
            });
            to.write_slice(some.as_slice().as_bytes())?;
            // OVERFLOW: As above.
            listed += some.len();
            next = some
                .last()
                .and_then(|page| usize::try_from(page.addr).ok()?.checked_add(PAGE_SIZE));
        }
        // CAST: It is no more than `list.count`.
        Ok(listed as u64)
    }
}
