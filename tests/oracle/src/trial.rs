// SPDX-License-Identifier: GPL-2.0

//! One test: some threads, one device, and a verdict.

use crate::{
    arena::Arena,
    device::{Device, Policy},
    mismatch::{Kind, Mismatch},
    player::{call, Player},
    tally::Tally,
    verdict,
    watch::Watch,
};
use std::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        Barrier,
    },
    thread,
    time::Instant,
};

/// How much is to be done, and by whom.
#[derive(Clone, Copy)]
pub struct Trial {
    pub policy: Policy,
    pub seed: u64,
    pub threads: usize,
    /// How many operations there are, of all threads.
    pub ops: u64,
    /// When to stop in any case.
    pub until: Option<Instant>,
    /// The number of the first arena.
    pub first: usize,
}

impl Trial {
    /// For all threads, and, as one more that has nothing to do yet, what comes after them.
    pub fn watch(&self) -> Watch {
        let watch = Watch::new(self.threads + 1);
        watch.done(self.threads, 0);
        watch
    }

    /// Returns what was seen, and what was wrong.
    pub fn run(&self, device: &dyn Device, watch: &Watch) -> (Tally, Vec<Mismatch>) {
        let arenas: Vec<_> = (0..self.threads)
            .map(|thread| Arena::new(self.first + thread))
            .collect();
        let stop = AtomicBool::new(false);
        let ready = Barrier::new(self.threads);
        let play = |thread: usize| {
            let player = Player::new(thread, &arenas, device, watch, self);
            let mut player = call("pipe", player)?;
            ready.wait();
            let result = self.play(&mut player, &stop);
            watch.done(thread, player.tally.ops);
            if result.is_err() {
                stop.store(true, Relaxed);
            }
            result.map(|()| player)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let play = &play;
            let threads: Vec<_> = (0..self.threads)
                .map(|thread| scope.spawn(move || play(thread)))
                .collect();
            let fell = |_| Err(Mismatch::new(Kind::Call, None, "a thread panicked".into()));
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(fell);
            threads.into_iter().map(join).collect()
        });

        let (mut players, mut wrong) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(player) => players.push(player),
                Err(mismatch) => wrong.push(mismatch),
            }
        }
        let mut tally = Tally::default();
        for player in &players {
            tally += player.tally;
        }
        if wrong.is_empty() {
            wrong.extend(self.judge(&mut players, device, watch, &mut tally).err());
        }
        for arena in &arenas {
            let _ = arena.unmap(&(0..crate::model::PAGES));
        }
        watch.done(self.threads, 0);
        (tally, wrong)
    }

    fn play(&self, player: &mut Player<'_>, stop: &AtomicBool) -> Result<(), Mismatch> {
        let share = self.ops.div_ceil(self.threads as u64);
        player.start()?;
        while player.tally.ops < share
            && !stop.load(Relaxed)
            && self.until.is_none_or(|until| Instant::now() < until)
        {
            player.step()?;
        }
        Ok(())
    }

    fn judge(
        &self,
        players: &mut [Player<'_>],
        device: &dyn Device,
        watch: &Watch,
        tally: &mut Tally,
    ) -> Result<(), Mismatch> {
        watch.phase(self.threads, 0, "the verdict of the living");
        verdict::of_the_living(players, device, tally)?;
        watch.phase(self.threads, 0, "the verdict of the dead");
        verdict::of_the_dead(players, device)?;
        verdict::of_the_share(self.policy, tally)
    }
}
