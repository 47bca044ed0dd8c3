// SPDX-License-Identifier: GPL-2.0

//! Ways to get it wrong. The search must find out about each.

use super::world::Violation;

macro_rules! mutants {
    ($($mutant:ident: $violation:ident in $scenario:literal, $what:literal;)*) => {
        /// One mistake in an otherwise right protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Mutant {
            $(#[doc = $what] $mutant,)*
        }

        /// All of them: what is wrong, the scenario in which that is looked for, and what comes of
        /// it.
        pub(super) const MUTANTS: &[(Mutant, &str, &str, Violation)] = &[
            $((Mutant::$mutant, $what, $scenario, Violation::$violation),)*
        ];
    };
}

// P1 and the like are the pitfalls of DESIGN.md.
mutants! {
    RemovesFirst: Uncovered in "a hole, and the range is retired from outside",
        "The old range is removed before its pieces are inserted (P1).";
    NoReadBegin: Untold in "two holes, and a drain",
        "Pieces are put in the old range's place while their insertion is deferred.";
    ReplacesFirst: OutOfService in "the range is resized from two sides",
        "The old range is marked replaced before its pieces are in the index.";
    SwapsInSteps: OutOfService in "a hole, and a fault beside it",
        "Pieces are put in the index one after the other, and the old range leaves for the first.";
    NoCutZap: Uncovered in "the range is resized from two sides",
        "The parts of the old range that no piece covers are not zapped.";
    ZapsCutEarly: Uncovered in "the range is resized from two sides",
        "The parts of the old range that no piece covers are zapped before it is marked replaced.";
    ZapsCutUnlocked: Uncovered in "the range is resized from two sides",
        "The parts of the old range that no piece covers are zapped without the user lock.";
    IndexesRetired: NotSticky in "a hole, and the range is retired from outside",
        "Pieces take the place of a range that has been retired meanwhile.";
    NoHandOver: Untold in "two holes, and a drain",
        "What was asked of the old range meanwhile is not handed over to its pieces.";
    ForgetsRetire: Lost in "a hole, and the range is retired from outside",
        "Nobody looks whether the old range was retired before it was marked replaced.";
    ForgetsAgain: Lost in "two holes, and a drain",
        "A change that was asked for during another is not queued at its end.";
    JoinedQueues: QueuedTwice in "a hole, and the range is retired from outside",
        "A retire of a range that waits for a change queues it once more.";
    LooksOnce: Missed in "a hole, and a fault beside it",
        "A lookup that meets a range that others have taken the place of does not look again.";
    CommitIgnoresState: Uncovered in "a hole, and the range is retired from outside",
        "A commit tests the sequence, and not whether the range is live (P2).";
    CommitIgnoresRetry: Stale in "a hole, and pages that are cleared",
        "A commit tests whether the range is live, and not the sequence.";
    CommitWantsSequence: Starved in "pages on both sides of a fault that are cleared",
        "A commit tests the sequence, whatever it was that happened to the range.";
    FaultsAreNotMet: Stale in "pages that are cleared, and a fault on one",
        "An invalidation does not look which faults it meets.";
    NotesFaultsLate: Stale in "pages that are cleared, and a fault on one",
        "A fault is noted after the sequence has been read.";
    FaultsDoNotWait: Stale in "pages that are cleared, and a fault on one",
        "A fault that has been noted does not wait for the invalidations that are going on.";
    NoSequence: Stale in "a hole, and pages that are cleared",
        "A callback does not record its sequence.";
    NoZap: Uncovered in "a hole, and the range is retired from outside",
        "The worker does not zap what has been installed since the callback (P15).";
    ZapsUnlocked: Uncovered in "a hole, and the range is retired from outside",
        "The worker zaps without the user lock.";
    EarlyGracePeriod: UseAfterFree in "a hole, and the range is retired from outside",
        "The grace period begins before the range is unpublished (P3).";
    RemoveDoesNotWait: UseAfterFree in "the range is retired twice, and a drain",
        "A range is freed before callbacks that are going on have returned.";
    FinishDoesNotWait: UseAfterFree in "the range is retired twice, and a drain, in steps",
        "Of a removal in two steps, the second does not wait until the notifier has left the tree.";
    StartsFirst: Uncovered in "a hole, and the range is retired from outside, in steps",
        "Of a removal in two steps, the first comes before what has been installed is zapped.";
    StartsTwice: RemovedTwice in "a hole, and the range is retired from outside, in steps",
        "Of a removal in two steps, the first is done again for what has begun to leave.";
    ReleaseIgnoresHolds: UseAfterFree in "a hole, and the range is retired from outside",
        "A range is freed when it is removed, although it is held.";
    RemoveForgetsPieces: RemovedEarly in "a hole, and the range is removed",
        "`remove` of a range that is being replaced does not wait for the pieces, which are \
         retired with it.";
    CallbackRemoves: Stuck in "a hole, and the range is retired from outside",
        "A callback waits for the removal (P4).";
    TrustsTheHull: OutOfService in "two holes, and a fault between them",
        "The hull of two holes is given up, whatever is mapped between them.";
    ErasesOthers: OutOfService in "the range is retired, and another takes the place",
        "Whatever is in the index at an old range's addresses is erased, though it is a new one's \
         (P16).";
    InsertDoesNotZap: Uncovered in "the range is retired, and another takes all of the place",
        "An insertion does not zap what gives way to it.";
    MakesWayInPart: Uncovered in "the range is retired, and another takes the place",
        "An insertion zaps what gives way to it only where the two meet, though all of it leaves \
         the index.";
    MakesWayEarly: Uncovered in "the range is retired, and another takes the place",
        "An insertion zaps what is in its way before that has been retired, and not after.";
    MakesWayUnlocked: Uncovered in "a hole, and another range takes the place",
        "What gives way is zapped without the user lock.";
    PublishesPieces: Refused in "a hole, and a fault beside it",
        "Pieces are published like any range, instead of being kept from the worker until they \
         are let go of.";
    AbandonedReleased: ReleasedTwice in "a hole, memory runs out, and a retire",
        "The driver is told of the release of pieces that never were in service.";
    UnlocksEarly: InTheWay in "a hole, and another range takes the place",
        "The index is not locked until the old range is marked and its pieces know what was asked \
         of it.";
    PublishesDeferred: Untold in "an insertion while pages are cleared, and all that is inserted \
        is unmapped",
        "A range is published, and the mappings are looked at for it, while its insertion is \
         deferred.";
    LooksBeforeOnly: Untold in "an insertion while pages are cleared, and all that is inserted is \
        unmapped",
        "Whether a range that is inserted is mapped is looked at before the insertion, and not \
         after it.";
    PutsUserEarly: Untold in "an insertion while pages are cleared, and the end of the process",
        "The process may end while an insertion is deferred.";
    PunchForgetsPieces: Untold in "an insertion where a page was never mapped, and a hole beside \
        that",
        "Where others have taken the place of a range, nobody tells them what of it is not mapped.";
    GrowsOverOthers: OutOfService in "growth, and another where it is to grow",
        "A range that grows takes the place of whatever is there by then.";
    GrowthDoesNotZap: Uncovered in "growth to where another is that is retired",
        "A range that grows does not zap what gives way to it.";
    GrowthZapsInPart: Uncovered in "growth to where another is that is retired",
        "A range that grows zaps what gives way to it only where the two meet, though all of it \
         leaves the index.";
    GrowsIntoDying: OutOfService in "growth, and what is added is retired in a callback",
        "A range that grows is replaced although what was to be added has been retired.";
    GrowthIsNotLookedAt: Untold in "growth while pages are cleared, and what is added is unmapped",
        "Whether what has been added to a range is mapped is not looked at after that.";
    MergesUnclaimed: Refused in "two become one, and a fault",
        "A neighbour that a range is to become one with is not claimed before.";
    MergesWhatGoes: NotSticky in "two become one, and the second is retired from outside",
        "Nobody looks, when a range is about to become one with its neighbour, whether that has been \
         retired.";
    MergeClearsFirst: OutOfService in "two become one, and a fault",
        "The neighbour of a range is taken out of the index before the one is put in their place.";
    ForgetsNeighbour: Untold in "two become one while pages are cleared, and a hole in the second",
        "What was asked of a neighbour meanwhile is not handed over to the one.";
    ForgetsRetiredNeighbour: Lost in "two become one, and the second is retired from outside",
        "Nobody looks whether a neighbour was retired before it was marked replaced.";
    KeepsOfPart: OutOfService in "two become one, and the first was to keep what it has",
        "What a range was asked to keep of itself is remembered by the one that it becomes part of.";
    SettlesLate: Lost in "two that both ask become one, and a drain",
        "Of those that are to change together, one that has nothing to be one with is not let go of \
         before all have looked.";
    SettlesUnlocked: Lost in "two that both ask become one, and a drain",
        "A range that has found nothing to be one with is let go of when the index is not locked any \
         more.";
    ForgetsBusy: Lost in "three that all ask become one",
        "Neighbours that somebody has when a range becomes one with others are not looked at again.";
    PlansTwice: Lost in "three that all ask become one",
        "What is asked of a range between that it is taken and that it is planned for has it planned \
         for once more, with nothing to do; who finds it taken for that does not look again.";
    AlwaysAgain: Endless in "a hole that is mapped again, and a fault in it",
        "A range that is right as it is is queued again.";
}
