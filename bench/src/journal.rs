// SPDX-License-Identifier: GPL-2.0

//! What has been measured so far, a line for each repetition: a run that was interrupted can go on,
//! and there are tables of what it has come to.
//!
//! The first line says what the run is; a journal of another run is not continued. What the library
//! has counted is the last line of a run that came to its end.

use crate::{
    conditions::Conditions,
    plan::{self, Cell},
    subject::Answer,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Error, Write},
    path::Path,
};

/// What makes two runs the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Run {
    pub kernel_release: String,
    pub kernel_config: String,
    pub accelerator: String,
    pub cpus: usize,
    pub icount: bool,
    pub seed: u64,
    pub cells: Vec<Cell>,
}

/// The first line.
#[derive(Debug, Deserialize, Serialize)]
pub struct Head {
    pub run: Run,
    pub conditions: Conditions,
}

/// Any other line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Line {
    /// One repetition of a row.
    Repetition {
        row: usize,
        round: usize,
        answer: Answer,
    },
    Counters {
        counters: Counters,
    },
}

/// What the library has counted.
pub type Counters = BTreeMap<String, u64>;

/// By row and round.
type Answers = BTreeMap<(usize, usize), Answer>;

/// What there is in a journal.
#[derive(Debug)]
pub struct Recorded {
    pub head: Head,
    answers: Answers,
    pub counters: Counters,
}

impl Recorded {
    /// Whether the other one is of the same rows on the same kind of machine: of another boot, then.
    pub fn is_like(&self, other: &Self) -> bool {
        let run = self.head.run.clone();
        let seed = other.head.run.seed;
        Run { seed, ..run } == other.head.run
    }

    /// The samples of each row, by what they are of, in the order of the rounds.
    pub fn samples(&self) -> BTreeMap<(usize, String), Vec<u64>> {
        let mut samples = BTreeMap::<_, Vec<u64>>::new();
        for (&(row, _), answer) in &self.answers {
            for (what, values) in answer {
                let key = (row, what.clone());
                samples.entry(key).or_default().extend(values);
            }
        }
        samples
    }

    /// How many rounds came to their end.
    pub fn rounds(&self) -> usize {
        let rows = || self.head.run.cells.iter().enumerate();
        let is_done = |&round: &usize| {
            rows().all(|(row, cell)| {
                !plan::is_due(cell, round) || self.answers.contains_key(&(row, round))
            })
        };
        // A round in which nothing is due is none.
        let last = self.answers.keys().map(|&(_, round)| round + 1).max();
        (0..last.unwrap_or(0)).take_while(is_done).count()
    }
}

/// Reads a journal, up to where it was cut off, if it was.
pub fn read(file: impl BufRead) -> io::Result<Recorded> {
    let mut lines = file.lines();
    let head = lines.next().transpose()?.unwrap_or_default();
    let mut recorded = Recorded {
        head: serde_json::from_str(&head)?,
        answers: BTreeMap::new(),
        counters: BTreeMap::new(),
    };
    for line in lines {
        // The last one may have been cut off.
        match serde_json::from_str(&line?) {
            Ok(Line::Repetition { row, round, answer }) => {
                recorded.answers.insert((row, round), answer);
            }
            Ok(Line::Counters { counters }) => recorded.counters = counters,
            Err(_) => break,
        }
    }
    Ok(recorded)
}

/// The journal of a run.
pub struct Journal<W: Write> {
    file: W,
    head: Head,
    done: Answers,
}

impl<W: Write> Journal<W> {
    /// Begins a journal in `file`, with what there is in `before` if that is of the same run but
    /// for the seed, which is taken over.
    pub fn begin(mut file: W, mut head: Head, before: Option<impl BufRead>) -> io::Result<Self> {
        let mut done = BTreeMap::new();
        if let Some(Ok(before)) = before.map(read) {
            let seed = before.head.run.seed;
            let run = head.run.clone();
            if (Run { seed, ..run }) == before.head.run {
                head.run.seed = seed;
                head.conditions.seed = seed;
                done = before.answers;
            }
        }
        writeln!(file, "{}", serde_json::to_string(&head)?)?;
        for (&(row, round), answer) in &done {
            let answer = answer.clone();
            write_line(&mut file, &Line::Repetition { row, round, answer })?;
        }
        Ok(Self { file, head, done })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What is known of a repetition.
    pub fn get(&self, row: usize, round: usize) -> Option<&Answer> {
        self.done.get(&(row, round))
    }

    /// How many repetitions are known.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Notes a repetition.
    pub fn note(&mut self, row: usize, round: usize, answer: Answer) -> io::Result<()> {
        self.done.insert((row, round), answer.clone());
        write_line(&mut self.file, &Line::Repetition { row, round, answer })
    }

    /// Notes what the library has counted, at the end of the run.
    pub fn note_counters(&mut self, counters: Counters) -> io::Result<()> {
        write_line(&mut self.file, &Line::Counters { counters })
    }
}

fn write_line(file: &mut impl Write, line: &Line) -> io::Result<()> {
    let mut line = serde_json::to_string(line)?;
    line.push('\n');
    // In one go, so that an interruption leaves no more than one line unfinished.
    file.write_all(line.as_bytes())
}

/// Opens a journal that may not be there.
pub fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Extent};

    fn head(seed: u64) -> Head {
        let run = Run {
            kernel_release: "7.3.4".into(),
            kernel_config: "plain".into(),
            accelerator: "tcg".into(),
            cpus: 2,
            icount: false,
            seed,
            cells: plan::cells(Extent::Short, false, |_| true),
        };
        let conditions = Conditions {
            seed,
            ..Conditions::of_tests()
        };
        Head { run, conditions }
    }

    fn answer(value: u64) -> Answer {
        Answer::from([("munmap".to_string(), vec![value])])
    }

    const NOTHING: Option<&[u8]> = None;

    fn interrupted() -> Vec<u8> {
        let mut file = Vec::new();
        let mut journal = Journal::begin(&mut file, head(7), NOTHING).unwrap();
        journal.note(0, 0, answer(1)).unwrap();
        journal.note(1, 0, answer(2)).unwrap();
        file
    }

    #[test]
    fn a_run_goes_on_where_it_was_interrupted() {
        let before = interrupted();
        let mut after = Vec::new();
        let mut journal = Journal::begin(&mut after, head(8), Some(&*before)).unwrap();
        assert_eq!(journal.head().run.seed, 7);
        assert_eq!(journal.get(1, 0), Some(&answer(2)));
        assert_eq!(journal.get(2, 0), None);
        journal.note(2, 0, answer(3)).unwrap();
        assert_eq!(journal.len(), 3);

        let mut last = Vec::new();
        let journal = Journal::begin(&mut last, head(9), Some(&*after)).unwrap();
        assert_eq!(journal.len(), 3);
        assert_eq!(last, after);
    }

    #[test]
    fn a_line_that_was_cut_off_is_measured_again() {
        let mut before = interrupted();
        before.truncate(before.len() - 5);
        assert_eq!(
            read(&*before).unwrap().samples()[&(0, "munmap".into())],
            [1]
        );
        let mut after = Vec::new();
        let journal = Journal::begin(&mut after, head(7), Some(&*before)).unwrap();
        assert_eq!(journal.len(), 1);
        assert!(after.ends_with(b"\n"));
    }

    #[test]
    fn another_run_is_not_continued() {
        let before = interrupted();
        let mut other = head(8);
        other.run.accelerator = "kvm".into();
        let mut after = Vec::new();
        let journal = Journal::begin(&mut after, other, Some(&*before)).unwrap();
        assert_eq!(journal.len(), 0);
        assert_eq!(journal.head().run.seed, 8);
        for nonsense in [&b""[..], b"\n", b"{}\n", b"\xff\xfe"] {
            let mut after = Vec::new();
            let journal = Journal::begin(&mut after, head(8), Some(nonsense)).unwrap();
            assert_eq!(journal.len(), 0);
        }
    }

    #[test]
    fn what_was_recorded_is_read() {
        let rows = head(1).run.cells.len();
        let mut file = Vec::new();
        let mut journal = Journal::begin(&mut file, head(1), NOTHING).unwrap();
        for row in 0..rows {
            journal.note(row, 0, answer(row as u64)).unwrap();
        }
        journal.note(0, 1, answer(100)).unwrap();
        let counters = Counters::from([("queued".to_string(), 3)]);
        journal.note_counters(counters.clone()).unwrap();
        let recorded = read(&*file).unwrap();
        // The second round was not ended.
        assert_eq!(recorded.rounds(), 1);
        assert_eq!(recorded.samples()[&(0, "munmap".into())], [0, 100]);
        assert_eq!(recorded.counters, counters);
        assert_eq!(read(&*interrupted()).unwrap().rounds(), 0);
    }
}
