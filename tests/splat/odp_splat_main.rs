// SPDX-License-Identifier: GPL-2.0

//! Mistakes that lockdep has to report: a call that waits, made from where it must not be.
//!
//! Lockdep is off after its first report, so each of them wants a boot of its own. The calls are
//! about a second mirror, of an address space in which nothing happens: about their own they
//! would not only be reported but hang.

#![crate_name = "odp_splat"]

use kernel::{
    bindings,
    current,
    mm::MmWithUser,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};
use odp::{
    Config,
    Event,
    Handled,
    Invalidation,
    MayBlock,
    Mirror,
    Mirrored,
    MirroredOps,
    Shared,
    Span,
    Until,
    WorkerContext, //
};

module! {
    type: OdpSplatModule,
    name: "odp_splat",
    authors: ["The odp authors"],
    description: "Mistakes that lockdep has to report",
    license: "GPL",
    imports_ns: ["EXPORTED_FOR_KUNIT_TESTING"],
    params: {
        mistake: u8 {
            default: 0,
            description: "1: in invalidate(), 2: in that for RELEASE, 3: in released(), 4: none",
        },
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    InInvalidate,
    InRelease,
    InReleased,
    /// The same calls, from where they may be made: nothing is reported.
    None,
}

/// A mirror in which nothing happens.
struct Idle(Arc<Mirror<Blunder>>);

impl Idle {
    fn block(&self) {
        let _ = MayBlock::enter(|p| self.0.flush(Until::Removed, p));
    }
}

/// A driver that waits where it must not.
struct Blunder {
    idle: Option<Idle>,
    mistake: Mistake,
}

impl Blunder {
    fn commit(&self, here: Mistake) {
        if let (true, Some(idle)) = (self.mistake == here, &self.idle) {
            idle.block();
        }
    }
}

impl Mirrored for Blunder {
    const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Blunder);
    type Table = ();
    type Lock = Mutex<()>;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
        match inv.event() {
            Event::Release => self.commit(Mistake::InRelease),
            _ => self.commit(Mistake::InInvalidate),
        }
        match inv.begin() {
            Ok(zap) => zap.done(),
            Err(handled) => handled,
        }
    }

    fn zap(&self, _table: &mut (), _dead: Span) {}

    fn released(&self, _span: Span, _ctx: &WorkerContext<'_>) {
        self.commit(Mistake::InReleased);
    }
}

/// Makes an address space that no task has.
fn address_space() -> Result<ARef<MmWithUser>> {
    // SAFETY: Has no requirements.
    let mm = unsafe { bindings::mm_alloc() };
    let mm = core::ptr::NonNull::new(mm).ok_or(ENOMEM)?;
    // SAFETY: A new address space has one user, whose reference is ours.
    Ok(unsafe { ARef::from_raw(mm.cast()) })
}

struct OdpSplatModule;

impl kernel::Module for OdpSplatModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mistake = match module_parameters::mistake.value() {
            1 => Mistake::InInvalidate,
            2 => Mistake::InRelease,
            3 => Mistake::InReleased,
            4 => Mistake::None,
            _ => return Err(EINVAL),
        };
        MayBlock::enter(|p| {
            let quiet = address_space()?;
            let idle = Arc::new(Mirror::new(&quiet, Config::default(), p)?, GFP_KERNEL)?;
            let blunder = Blunder {
                idle: Some(Idle(idle.clone())),
                mistake,
            };
            let shared = Arc::pin_init(Shared::new(blunder, new_mutex!(())), GFP_KERNEL)?;

            if mistake != Mistake::InInvalidate {
                // The whole life of a range, its callback for RELEASE included.
                let own = address_space()?;
                let mirror = Mirror::new(&own, Config::default(), p)?;
                drop(mirror.insert(Span::new(PAGE_SIZE, PAGE_SIZE)?, shared, p)?);
                drop(own);
                mirror.shutdown(p);
                Idle(idle).block();
                return Ok(());
            }

            // There has to be something to unmap.
            let task = current!();
            let mirror = Mirror::new(task.mm().ok_or(ESRCH)?, Config::default(), p)?;
            // SAFETY: The task has an address space, and no file is passed.
            let addr = unsafe {
                bindings::vm_mmap(core::ptr::null_mut(), 0, PAGE_SIZE, PROT_READ, MAP, 0)
            };
            drop(mirror.insert(Span::new(addr, PAGE_SIZE)?, shared, p)?);
            // SAFETY: The task has an address space, and the kernel has no use for what it maps
            // there.
            unsafe { bindings::vm_munmap(addr, PAGE_SIZE) };
            Ok::<_, Error>(())
        })?;
        Ok(Self)
    }
}

// Of the interface to user space, asm-generic/mman-common.h, which has no bindings.
const PROT_READ: usize = 0x1;
const MAP: usize = 0x22;
