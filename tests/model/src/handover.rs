// SPDX-License-Identifier: GPL-2.0

//! What is handed over with few locks, or none: flags that say who looks next, sleepers, the last
//! hold, states, and what is noted together with a step of one. In every order with a few
//! preemptions, and with every reordering of memory accesses that the C11 model allows, which is
//! more than the kernel's does.
//!
//! The state machine is the module's own. The lists and the work queue are written down here by
//! hand, after src/odp/engine/worker/ and engine/request.rs: what decides who is woken up, and
//! nothing else. A spinlock is a mutex, a list is a number. `queue_work()` does nothing while a
//! work item is pending, and that is over before its function begins.

use crate::state::{
    Effect,
    State, //
    Step,
};
use loom::{
    cell::UnsafeCell,
    sync::{
        atomic::{
            AtomicU32,
            Ordering, //
        },
        Condvar,
        Mutex, //
    },
    thread, //
};
use std::sync::Arc;

/// One way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    No,
    /// The flag that says that somebody looks is cleared after the look, with the lock released in
    /// between.
    ClearsLate,
    /// Who ends a batch does not look whether there is another.
    LaneForgets,
    /// A lane that finds nothing more to remove ends without counting what it has removed.
    EndsUnsettled,
    /// The work item is queued before what it is to find.
    WakesBefore,
    /// Who sleeps does not say so before he looks.
    SleepsSilently,
    /// Those who sleep are woken up before the state has changed.
    NotifiesEarly,
    /// Who is going to wait is counted after he has seen to it that the alarm is not set.
    CountsLate,
    /// Who is going to wait is counted, and the alarm stays as it is.
    CountsOnly,
    /// A state is read, and written by a step of its own.
    InTwoSteps,
    /// A state is read and written without order.
    Relaxed,
    /// What is asked for is noted with the lock, but after the event.
    NotesLate,
    /// The same, with the event, but without the lock.
    NotesUnlocked,
    /// What was installed is zapped before the range is marked.
    ZapsEarly,
    /// The zap does not take the user lock.
    ZapsUnlocked,
}

/// Names the mutant that a test is about to be run with, in a process of its own.
const WRONG: &str = "ODP_WRONG";

/// How often a thread may be interrupted where it could go on: mistakes show with less.
const PREEMPTIONS: usize = 6;

fn every_order(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(f);
}

/// Tries every order: the right one passes, and each of the others does not.
///
/// A mutant is tried in a process of its own, because what loom finds ends some tests with an
/// abort.
fn compare(test: &str, mutants: &[Wrong], f: fn(Wrong)) {
    if let Ok(name) = std::env::var(WRONG) {
        let wrong = mutants.iter().find(|wrong| format!("{wrong:?}") == name);
        let wrong = *wrong.expect("it is one of the test's");
        return every_order(move || f(wrong));
    }
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    every_order({
        let orders = orders.clone();
        move || {
            orders.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            f(Wrong::No);
        }
    });
    println!("{test}: {orders:?} orders, {} mutants", mutants.len());

    let this = std::env::current_exe().expect("a test has a file");
    for wrong in mutants {
        let output = std::process::Command::new(&this)
            .args(["--exact", &format!("handover::{test}")])
            .env(WRONG, format!("{wrong:?}"))
            .output()
            .expect("it can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success(),
            "{test}: {wrong:?} is not found out"
        );
        assert!(text.contains("running 1 test"), "{test}: {wrong:?}: {text}");
    }
}

/// `struct work_struct` with a kworker of its own.
struct Work {
    pending: Mutex<(bool, bool)>,
    wake: Condvar,
}

impl Work {
    fn new() -> Self {
        Self {
            pending: Mutex::new((false, false)),
            wake: Condvar::new(),
        }
    }

    /// `queue_work()`
    fn queue(&self) {
        self.pending.lock().unwrap().0 = true;
        self.wake.notify_all();
    }

    /// Nobody is going to queue it any more.
    fn close(&self) {
        self.pending.lock().unwrap().1 = true;
        self.wake.notify_all();
    }

    /// The kworker: runs `f` for as long as it is queued.
    fn serve(&self, mut f: impl FnMut()) {
        loop {
            let mut pending = self.pending.lock().unwrap();
            while *pending == (false, false) {
                pending = self.wake.wait(pending).unwrap();
            }
            if !pending.0 {
                return;
            }
            pending.0 = false;
            drop(pending);
            f();
        }
    }
}

/// `struct Lists`, of which a list is the number of those that are on it.
#[derive(Default)]
struct Lists {
    pending: u32,
    removing: u32,
    ready: u32,
    in_flight: u32,
    removed: u32,
    released: u32,
    batching: bool,
    releasing: bool,
    waiters: u32,
}

impl Lists {
    fn should_batch(&mut self) -> bool {
        let should = !self.batching && self.in_flight == 0 && self.pending > 0;
        self.batching |= should;
        should
    }
}

/// The worker, with a batch of two on its way that two lanes remove.
struct Worker {
    wrong: Wrong,
    lists: Mutex<Lists>,
    batch: Work,
    lane: Work,
}

impl Worker {
    /// `Worker::retire`
    fn retire(&self) {
        let kick = {
            let mut lists = self.lists.lock().unwrap();
            lists.pending += 1;
            lists.should_batch()
        };
        if kick {
            self.batch.queue();
        }
    }

    /// `Worker::take_batch`
    fn take_batch(&self) -> u32 {
        let mut lists = self.lists.lock().unwrap();
        if lists.in_flight > 0 || lists.pending == 0 {
            if self.wrong == Wrong::ClearsLate {
                drop(lists);
                lists = self.lists.lock().unwrap();
            }
            lists.batching = false;
            return 0;
        }
        lists.in_flight = lists.pending;
        std::mem::take(&mut lists.pending)
    }

    /// `Worker::lane`
    fn lane(&self) {
        let (mut gone, mut share) = (0, 1);
        loop {
            let mut lists = self.lists.lock().unwrap();
            if self.wrong == Wrong::EndsUnsettled && lists.removing == 0 {
                return;
            }
            lists.removed += gone;
            lists.in_flight -= gone;
            gone = share.min(lists.removing);
            lists.removing -= gone;
            if gone == 0 {
                return;
            }
            share *= 2;
        }
    }

    /// The work function of a batch.
    fn run_batch(&self) {
        loop {
            let batch = self.take_batch();
            if batch == 0 {
                return;
            }
            self.lists.lock().unwrap().removing += batch;
            if batch > 1 {
                self.lane.queue();
            }
            self.lane();
        }
    }

    /// The work function of a lane.
    fn run_lane(&self) {
        self.lane();
        if self.wrong == Wrong::LaneForgets {
            return;
        }
        let kick = self.lists.lock().unwrap().should_batch();
        if kick {
            self.batch.queue();
        }
    }
}

/// What is queued while a batch is on its way is removed, too: by whoever ends that.
#[test]
fn batches() {
    compare(
        "batches",
        &[Wrong::ClearsLate, Wrong::LaneForgets, Wrong::EndsUnsettled],
        |wrong| {
            let worker = Arc::new(Worker {
                wrong,
                lists: Mutex::new(Lists {
                    removing: 2,
                    in_flight: 2,
                    batching: true,
                    ..Lists::default()
                }),
                batch: Work::new(),
                lane: Work::new(),
            });
            let batch = thread::spawn({
                let worker = worker.clone();
                move || {
                    // It is in the middle of its function.
                    worker.lane();
                    worker.run_batch();
                    worker.batch.serve(|| worker.run_batch());
                }
            });
            let lane = thread::spawn({
                let worker = worker.clone();
                move || worker.run_lane()
            });
            worker.retire();
            lane.join().unwrap();
            worker.batch.close();
            batch.join().unwrap();
            assert_eq!(worker.lists.lock().unwrap().removed, 3);
        },
    );
}

/// What becomes ready to be released is released, by a work item that may be about to end.
///
/// `change` has the same flag, and looks at it in the same way.
#[test]
fn releases() {
    compare(
        "releases",
        &[Wrong::ClearsLate, Wrong::WakesBefore],
        |wrong| {
            let shared = Arc::new((Mutex::new(Lists::default()), Work::new()));
            let release_later = move |shared: &(Mutex<Lists>, Work)| {
                if wrong == Wrong::WakesBefore {
                    shared.1.queue();
                }
                let kick = {
                    let mut lists = shared.0.lock().unwrap();
                    lists.ready += 1;
                    !std::mem::replace(&mut lists.releasing, true)
                };
                if kick && wrong != Wrong::WakesBefore {
                    shared.1.queue();
                }
            };
            let run = move |shared: &(Mutex<Lists>, Work)| loop {
                let mut lists = shared.0.lock().unwrap();
                if lists.ready == 0 {
                    if wrong == Wrong::ClearsLate {
                        drop(lists);
                        lists = shared.0.lock().unwrap();
                    }
                    lists.releasing = false;
                    return;
                }
                lists.ready -= 1;
                lists.released += 1;
            };
            let worker = thread::spawn({
                let shared = shared.clone();
                move || shared.1.serve(|| run(&shared))
            });
            let holder = thread::spawn({
                let shared = shared.clone();
                move || release_later(&shared)
            });
            release_later(&shared);
            holder.join().unwrap();
            shared.1.close();
            worker.join().unwrap();
            assert_eq!(shared.0.lock().unwrap().released, 2);
        },
    );
}

/// `struct Request`
struct Request {
    wrong: Wrong,
    lock: Mutex<()>,
    word: AtomicU32,
}

impl Request {
    fn new(state: State, wrong: Wrong) -> Self {
        Self {
            wrong,
            lock: Mutex::new(()),
            word: AtomicU32::new(state.pack()),
        }
    }

    /// `Request::state`
    fn state(&self) -> State {
        State::unpack(self.word.load(match self.wrong {
            Wrong::Relaxed => Ordering::Relaxed,
            _ => Ordering::Acquire,
        }))
    }

    /// `Request::apply`, and `Request::retire`, which begins with a guess.
    fn apply(&self, event: Step) -> Effect {
        let mut word = match event {
            Step::Retire => State::live().pack(),
            _ => self.word.load(Ordering::Relaxed),
        };
        if self.wrong == Wrong::InTwoSteps {
            word = self.word.load(Ordering::Relaxed);
        }
        loop {
            let (state, effect) = State::unpack(word).step(event);
            if self.wrong == Wrong::InTwoSteps {
                self.word.store(state.pack(), Ordering::Release);
                return effect;
            }
            let order = match self.wrong {
                Wrong::Relaxed => Ordering::Relaxed,
                _ => Ordering::AcqRel,
            };
            let new = state.pack();
            match (self.word).compare_exchange(word, new, order, Ordering::Relaxed) {
                Ok(_) => return effect,
                Err(other) => word = other,
            }
        }
    }

    /// `Request::apply_with`
    fn apply_with<R>(&self, event: Step, f: impl FnOnce(Effect) -> R) -> R {
        let lock = self.lock.lock().unwrap();
        let effect = self.apply(event);
        match self.wrong {
            Wrong::NotesLate => {
                drop(lock);
                let _lock = self.lock.lock().unwrap();
                f(effect)
            }
            Wrong::NotesUnlocked => {
                drop(lock);
                f(effect)
            }
            _ => f(effect),
        }
    }
}

fn after(state: State, events: &[Step]) -> State {
    events
        .iter()
        .fold(state, |state, event| state.step(*event).0)
}

/// Who waits for a removal is woken up by it, and sees what was done before it.
#[test]
fn removals() {
    let mutants = [Wrong::SleepsSilently, Wrong::NotifiesEarly, Wrong::Relaxed];
    compare("removals", &mutants, |wrong| {
        let taken = after(
            State::building(1),
            &[Step::Publish, Step::Retire, Step::Take],
        );
        struct Shared {
            request: Request,
            lists: Mutex<Lists>,
            progress: Condvar,
            /// What a callback of the driver's writes.
            object: UnsafeCell<u32>,
        }
        // SAFETY: That it is not accessed by two at a time is what is tested.
        unsafe impl Sync for Shared {}

        let shared = Arc::new(Shared {
            request: Request::new(taken, wrong),
            lists: Mutex::new(Lists::default()),
            progress: Condvar::new(),
            object: UnsafeCell::new(0),
        });
        let worker = thread::spawn({
            let shared = shared.clone();
            move || {
                // SAFETY: As above.
                shared.object.with_mut(|object| unsafe { *object = 1 });
                let progress_made = || {
                    let lists = shared.lists.lock().unwrap();
                    if lists.waiters > 0 {
                        shared.progress.notify_all();
                    }
                };
                if wrong == Wrong::NotifiesEarly {
                    progress_made();
                }
                assert_eq!(shared.request.apply(Step::Remove), Effect::None);
                if wrong != Wrong::NotifiesEarly {
                    progress_made();
                }
            }
        });
        {
            let mut lists = shared.lists.lock().unwrap();
            if wrong != Wrong::SleepsSilently {
                lists.waiters += 1;
            }
            while !shared.request.state().is_removed() {
                lists = shared.progress.wait(lists).unwrap();
            }
        }
        // SAFETY: As above.
        shared
            .object
            .with(|object| assert_eq!(unsafe { *object }, 1));
        worker.join().unwrap();
    });
}

/// A worker with an alarm, which goes off so late in this model that it never does.
struct Lazy {
    lists: Mutex<Lists>,
    progress: Condvar,
    batch: Work,
    alarm: Mutex<bool>,
}

impl Lazy {
    fn new(lists: Lists) -> Arc<Self> {
        Arc::new(Self {
            lists: Mutex::new(lists),
            progress: Condvar::new(),
            batch: Work::new(),
            alarm: Mutex::new(false),
        })
    }

    /// `Worker::retire` and `Worker::wake`
    fn retire(&self) {
        let mut lists = self.lists.lock().unwrap();
        lists.pending += 1;
        if lists.should_batch() {
            if lists.waiters > 0 {
                self.batch.queue();
            } else {
                *self.alarm.lock().unwrap() = true;
            }
        }
    }

    /// `Worker::go_on`, of what comes of a change.
    fn go_on(&self) {
        let kick = {
            let mut lists = self.lists.lock().unwrap();
            lists.pending += 1;
            lists.should_batch()
        };
        if kick {
            self.batch.queue();
        }
    }

    /// The work function of a batch, which one task removes.
    fn run_batch(&self) {
        loop {
            let mut lists = self.lists.lock().unwrap();
            if lists.pending == 0 {
                lists.batching = false;
                return;
            }
            lists.removed += std::mem::take(&mut lists.pending);
            if lists.waiters > 0 {
                self.progress.notify_all();
            }
        }
    }

    /// `Worker::hurry`
    fn hurry(&self) {
        if std::mem::take(&mut *self.alarm.lock().unwrap()) {
            self.batch.queue();
        }
    }

    /// `Worker::wait`, for so many removals.
    fn wait(&self, removals: u32, wrong: Wrong) {
        if wrong == Wrong::CountsLate {
            self.hurry();
        }
        self.lists.lock().unwrap().waiters += 1;
        if wrong != Wrong::CountsLate && wrong != Wrong::CountsOnly {
            self.hurry();
        }
        let mut lists = self.lists.lock().unwrap();
        while lists.removed < removals {
            lists = self.progress.wait(lists).unwrap();
        }
        lists.waiters -= 1;
    }
}

/// Who waits does not wait for the alarm, whoever sets it: a request that comes at the same time,
/// while a change of which something more is to be removed is on its way.
#[test]
fn alarms() {
    compare("alarms", &[Wrong::CountsLate, Wrong::CountsOnly], |wrong| {
        let worker = Lazy::new(Lists::default());
        let callback = thread::spawn({
            let worker = worker.clone();
            move || worker.retire()
        });
        let kworker = thread::spawn({
            let worker = worker.clone();
            move || {
                worker.go_on();
                worker.batch.serve(|| worker.run_batch());
            }
        });
        worker.wait(1, wrong);
        callback.join().unwrap();
        worker.hurry();
        worker.batch.close();
        kworker.join().unwrap();
    });
}

/// A removal and the ends of two holds: one of the three releases, after the others are through.
#[test]
fn last_hold() {
    compare("last_hold", &[Wrong::InTwoSteps, Wrong::Relaxed], |wrong| {
        let taken = after(
            State::building(2),
            &[Step::Publish, Step::Retire, Step::Take],
        );
        struct Shared {
            request: Request,
            released: AtomicU32,
            object: UnsafeCell<u32>,
        }
        // SAFETY: That it is not written while others read it is what is tested.
        unsafe impl Sync for Shared {}

        let shared = Arc::new(Shared {
            request: Request::new(taken, wrong),
            released: AtomicU32::new(0),
            object: UnsafeCell::new(0),
        });
        let end = |shared: &Shared, event| {
            // SAFETY: As above.
            shared
                .object
                .with(|object| assert_eq!(unsafe { *object }, 0));
            if shared.request.apply(event) == Effect::Release {
                // SAFETY: As above.
                shared.object.with_mut(|object| unsafe { *object = 1 });
                shared.released.fetch_add(1, Ordering::Relaxed);
            }
        };
        let holders: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || end(&shared, Step::Put))
            })
            .collect();
        end(&shared, Step::Remove);
        holders
            .into_iter()
            .for_each(|holder| holder.join().unwrap());
        assert_eq!(shared.released.load(Ordering::Relaxed), 1);
    });
}

/// A commit tests the state with the user lock alone; what it installs does not outlive the zap.
#[test]
fn commits() {
    let mutants = [Wrong::ZapsEarly, Wrong::ZapsUnlocked];
    compare("commits", &mutants, |wrong| {
        let taken = after(State::live(), &[Step::Change, Step::Take]);
        let shared = Arc::new((
            Request::new(taken, wrong),
            Mutex::new(()),
            AtomicU32::new(0),
        ));
        let reader = thread::spawn({
            let shared = shared.clone();
            move || {
                let _user_lock = shared.1.lock().unwrap();
                if shared.0.state().is_live() {
                    shared.2.store(1, Ordering::Relaxed);
                }
            }
        });
        let zap = || {
            let user_lock = (wrong != Wrong::ZapsUnlocked).then(|| shared.1.lock().unwrap());
            shared.2.store(0, Ordering::Relaxed);
            drop(user_lock);
        };
        if wrong == Wrong::ZapsEarly {
            zap();
        }
        assert_eq!(shared.0.apply(Step::Replace), Effect::HandOver);
        if wrong != Wrong::ZapsEarly {
            zap();
        }
        reader.join().unwrap();
        assert_eq!(shared.2.load(Ordering::Relaxed), 0);
    });
}

/// Retire, change, and the end of a change: the request is queued exactly as often as somebody is
/// to see to it, and ends retired.
#[test]
fn requests() {
    compare("requests", &[Wrong::InTwoSteps], |wrong| {
        let taken = after(State::live(), &[Step::Change, Step::Take]);
        let shared = Arc::new((Request::new(taken, wrong), AtomicU32::new(0)));
        let apply = |shared: &(Request, AtomicU32), event| {
            let effect = shared.0.apply(event);
            if effect == Effect::Queue {
                shared.1.fetch_add(1, Ordering::Relaxed);
            }
            effect
        };
        let others: Vec<_> = [Step::Retire, Step::Change]
            .into_iter()
            .map(|event| {
                let shared = shared.clone();
                thread::spawn(move || apply(&shared, event))
            })
            .collect();
        apply(&shared, Step::Unclaim);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(shared.1.load(Ordering::Relaxed), 1);
        assert!(!shared.0.state().is_live());
        assert_eq!(shared.0.apply(Step::Take), Effect::None);
    });
}

/// What is asked of a range that others take the place of is handed over, or refused; whoever
/// retires it at the same time.
#[test]
fn wishes() {
    let mutants = [Wrong::NotesLate, Wrong::NotesUnlocked, Wrong::InTwoSteps];
    compare("wishes", &mutants, |wrong| {
        struct Shared {
            request: Request,
            /// How much has been asked for.
            trim: UnsafeCell<u32>,
        }
        // SAFETY: That it is not accessed by two at a time is what is tested.
        unsafe impl Sync for Shared {}

        let taken = after(State::live(), &[Step::Change, Step::Take]);
        let shared = Arc::new(Shared {
            request: Request::new(taken, wrong),
            trim: UnsafeCell::new(0),
        });
        let asks = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.request.apply_with(Step::Change, |effect| {
                    let accepted = effect == Effect::Deferred;
                    assert!(accepted || effect == Effect::NotLive);
                    if accepted {
                        // SAFETY: As above.
                        shared.trim.with_mut(|trim| unsafe { *trim += 1 });
                    }
                    u32::from(accepted)
                })
            }
        });
        let retires = thread::spawn({
            let shared = shared.clone();
            move || shared.request.apply(Step::Retire)
        });
        let (effect, handed) = shared.request.apply_with(Step::Replace, |effect| {
            // SAFETY: As above.
            let take = |trim: *mut u32| unsafe { trim.replace(0) };
            (effect, shared.trim.with_mut(take))
        });
        assert_eq!(handed, asks.join().unwrap());
        match retires.join().unwrap() {
            Effect::Deferred => assert_eq!(effect, Effect::HandOverRetire),
            retired => assert_eq!((effect, retired), (Effect::HandOver, Effect::NotLive)),
        }
    });
}
