// SPDX-License-Identifier: GPL-2.0

//! Is a device that is right found to be right, and each that is wrong found to be wrong?

use crate::{
    device::{Device, Policy},
    fake::{Fake, Flaw},
    mismatch::{Kind, Mismatch},
    model::Model,
    tally::Tally,
    trial::Trial,
};
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// Tests run at once, so each has arenas of its own.
fn trial(policy: Policy, seed: u64, threads: usize, ops: u64) -> Trial {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    Trial {
        policy,
        seed,
        threads,
        ops,
        until: None,
        first: NEXT.fetch_add(threads, Relaxed),
    }
}

fn run(flaw: Flaw, trial: Trial) -> (Tally, Vec<Mismatch>) {
    trial.run(&Fake::new(trial.policy, flaw), &trial.watch())
}

/// A flaw is found as what it is, by each of some seeds.
fn finds(flaw: Flaw, kinds: &[Kind]) {
    for seed in 0..3 {
        for policy in [Policy::Retire, Policy::Punch] {
            let (_, wrong) = run(flaw, trial(policy, seed, 1, 20_000));
            let first = wrong.first().expect("it finds it");
            assert!(kinds.contains(&first.kind), "{flaw:?}: {first}");
        }
    }
}

#[test]
fn a_device_without_flaw_passes() {
    for policy in [Policy::Retire, Policy::Punch] {
        for threads in [1, 3] {
            let (tally, wrong) = run(Flaw::None, trial(policy, 5, threads, 20_000));
            println!("{policy:?}, {threads}: {tally}");
            assert!(wrong.is_empty(), "{}", wrong[0]);
            // Each kind of thing has happened.
            assert!(tally.refused > 0 && tally.cached > 0 && tally.gone > 0 && tally.forks > 0);
            // What is beside what was unmapped stays, or goes with it.
            assert!(tally.beside > 0);
            let all = if policy == Policy::Punch {
                tally.beside
            } else {
                0
            };
            assert_eq!(tally.kept, all);
        }
    }
}

#[test]
fn one_seed_repeats_exactly() {
    let run = || run(Flaw::None, trial(Policy::Retire, 11, 1, 5_000));
    assert_eq!(run().0, run().0);
}

#[test]
fn finds_a_page_that_outlives_its_mapping() {
    finds(Flaw::StaleAfterUnmap, &[Kind::Reaches]);
}

#[test]
fn finds_a_page_that_comes_back_with_the_next_mapping() {
    finds(Flaw::StaleAfterRemap, &[Kind::Reaches, Kind::Value]);
}

#[test]
fn finds_a_page_that_outlives_its_content() {
    finds(Flaw::StaleAfterClear, &[Kind::Reaches]);
}

#[test]
fn finds_a_page_that_was_forgotten_to_be_forgotten() {
    finds(
        Flaw::OnePageShort,
        &[Kind::Reaches, Kind::Permission, Kind::Value],
    );
}

#[test]
fn finds_a_store_that_is_lost() {
    finds(
        Flaw::LostStore,
        &[Kind::Value, Kind::Cpu, Kind::Permission, Kind::Child],
    );
}

#[test]
fn finds_a_store_that_goes_elsewhere() {
    finds(Flaw::WrongWord, &[Kind::Value, Kind::Cpu, Kind::Child]);
}

#[test]
fn finds_a_store_to_what_became_read_only() {
    finds(Flaw::IgnoresProtect, &[Kind::Permission]);
}

#[test]
fn finds_an_access_that_is_refused_wrongly() {
    finds(Flaw::RefusesAccess, &[Kind::Permission, Kind::Reaches]);
}

#[test]
fn finds_an_access_that_is_granted_wrongly() {
    finds(Flaw::GrantsAccess, &[Kind::Permission]);
}

#[test]
fn finds_a_mirror_that_is_of_no_use() {
    finds(Flaw::AlwaysFaults, &[Kind::Share]);
}

#[test]
fn finds_a_punch_that_takes_everything() {
    let (_, wrong) = run(Flaw::ForgetsTooMuch, trial(Policy::Punch, 3, 1, 20_000));
    assert_eq!(wrong[0].kind, Kind::Share, "{}", wrong[0]);
}

#[test]
fn finds_ranges_that_stay() {
    finds(Flaw::KeepsRanges, &[Kind::Ranges]);
}

#[test]
fn finds_ranges_without_reason() {
    // Where unmapping punches, there may be a reason for each.
    for seed in 0..3 {
        let (_, wrong) = run(Flaw::ManyRanges, trial(Policy::Retire, seed, 1, 20_000));
        assert_eq!(wrong[0].kind, Kind::Ranges, "{}", wrong[0]);
    }
}

#[test]
fn finds_pages_listed_wrongly() {
    finds(Flaw::ListsWrongly, &[Kind::Listed]);
}

#[test]
fn says_what_hangs() {
    let trial: &'static _ = Box::leak(Box::new(trial(Policy::Retire, 1, 1, 20_000)));
    let watch: &'static _ = Box::leak(Box::new(trial.watch()));
    // It never ends, so nobody joins it.
    std::thread::spawn(|| trial.run(&Fake::new(Policy::Retire, Flaw::Hangs), watch));
    let lines = loop {
        assert!(!watch.wait(Duration::from_millis(10)));
        if let Some(lines) = watch.stuck(Duration::from_millis(500)) {
            break lines;
        }
    };
    assert!(lines[0].starts_with("thread 0: in operation "), "{lines:?}");
}

#[test]
fn a_mismatch_says_what_was_before() {
    let (_, wrong) = run(Flaw::StaleAfterUnmap, trial(Policy::Retire, 2, 1, 20_000));
    let text = wrong[0].to_string();
    println!("{text}");
    assert!(text.contains("thread 0, operation ") && text.contains("expected ENODATA, got "));
    let last = wrong[0].history.last().expect("a history");
    assert!(last.starts_with(&format!("{}: ", wrong[0].number)));
    assert!(wrong[0].history.len() <= 20);
}

#[test]
fn the_model_needs_no_device() {
    // What no device was used for has no ranges.
    let mut model = Model::new(Policy::Retire);
    model.map(0..4, crate::model::Access::Store);
    assert_eq!(model.most_ranges(), 0);
    let fake = Fake::new(Policy::Retire, Flaw::None);
    assert_eq!(fake.ranges().expect("a number"), 0);
}

#[test]
fn a_range_may_grow_to_where_nothing_was_accessed() {
    for (policy, grown, torn) in [(Policy::Punch, 2, 1 + 14), (Policy::Retire, 1, 1)] {
        let mut model = Model::new(policy);
        model.map(0..32, crate::model::Access::Store);
        model.touch(0);
        assert_eq!(model.most_ranges(), 1);
        // Where ranges retire they do not grow.
        model.grow(&(0..32));
        assert_eq!(model.most_ranges(), grown);
        model.unmap(20..22);
        assert_eq!(model.most_ranges(), torn);
    }
}
