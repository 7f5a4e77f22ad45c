//! A recording that is played: paused, slower, faster, from another place.
//!
//! It is read from the file as it goes, so that its length costs no memory. Going back reads it again
//! from the beginning, which is the only way to have the same sums as when it was live.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use crate::base::event::Event;
use crate::observe::record::{RecordError, Recording};

use super::{Feed, FeedState, Play, Position, Taken};

/// Events that are given at once at most, so that a long way is seen to go on.
const EVENTS_MAX: usize = 1 << 16;

/// The slowest and the fastest that it plays.
const SPEEDS: (f64, f64) = (0.25, 16.0);

/// A recording that is played.
pub(in crate::app) struct Replay<R: Read + Seek = BufReader<File>> {
    recording: Recording<R>,
    /// When it began and ended, on its own clock.
    begin_ns: u64,
    end_ns: u64,
    /// What was read and is not yet due.
    next: Option<Event>,
    /// The position, since its beginning.
    at_ns: f64,
    speed: f64,
    is_paused: bool,
    /// What the dashboard's clock said last.
    seen_ns: Option<u64>,
    /// Whether it must be read from the beginning.
    is_anew: bool,
    trouble: Option<String>,
}

impl Replay {
    /// Opens a file and plays it from its beginning.
    pub(in crate::app) fn open(path: &Path) -> Result<Self, RecordError> {
        Self::new(Recording::open(path)?)
    }
}

impl<R: Read + Seek> Replay<R> {
    /// Plays a recording from its beginning.
    pub(in crate::app) fn new(mut recording: Recording<R>) -> Result<Self, RecordError> {
        let begin_ns = recording.about().started_ns;
        // To the end and back: only heads of frames are read for that.
        recording.seek(u64::MAX)?;
        let end_ns = recording.last_ns().max(begin_ns);
        recording.seek(0)?;
        Ok(Self {
            recording,
            begin_ns,
            end_ns,
            next: None,
            at_ns: 0.0,
            speed: 1.0,
            is_paused: false,
            seen_ns: None,
            is_anew: false,
            trouble: None,
        })
    }

    /// What it is of.
    pub(in crate::app) fn title(&self) -> &str {
        &self.recording.about().title
    }

    fn length_ns(&self) -> u64 {
        self.end_ns - self.begin_ns
    }

    /// Goes on by the time that has passed.
    fn advance(&mut self, now_ns: u64) {
        let passed = self.seen_ns.map_or(0, |seen| now_ns.saturating_sub(seen));
        self.seen_ns = Some(now_ns);
        if !self.is_paused {
            self.at_ns += passed as f64 * self.speed;
        }
        let length = self.length_ns() as f64;
        if self.at_ns >= length {
            self.at_ns = length;
            self.is_paused = true;
        }
    }

    fn seek(&mut self, to_ns: f64) {
        let to_ns = to_ns.clamp(0.0, self.length_ns() as f64);
        self.is_anew |= to_ns < self.at_ns;
        self.at_ns = to_ns;
    }

    /// Reads up to the position.
    fn read(&mut self, into: &mut Vec<Event>) -> bool {
        let until_ns = self.begin_ns + self.at_ns as u64;
        let is_at_end = self.at_ns as u64 >= self.length_ns();
        while into.len() < EVENTS_MAX {
            let Some(event) = self.next.take().or_else(|| self.recording.next()) else {
                self.look_for_cut();
                return false;
            };
            if !is_at_end && event.at_ns().is_some_and(|at| at > until_ns) {
                self.next = Some(event);
                return false;
            }
            into.push(event);
        }
        true
    }

    fn look_for_cut(&mut self) {
        if let Some(cut) = self.recording.cut() {
            let left = cut.bytes_left;
            self.trouble = Some(format!("the recording breaks off here: {left} bytes are left"));
        }
    }
}

impl<R: Read + Seek> Feed for Replay<R> {
    fn take(&mut self, now_ns: u64, into: &mut Vec<Event>) -> Taken {
        into.clear();
        self.advance(now_ns);
        if std::mem::take(&mut self.is_anew) {
            self.next = None;
            self.trouble = None;
            if let Err(error) = self.recording.seek(0) {
                self.trouble = Some(format!("the recording can no longer be read: {error}"));
            }
            // Its events come with the next call, which finds nothing to begin anew.
            return Taken::Anew;
        }
        if self.read(into) { Taken::More } else { Taken::Next }
    }

    fn state(&self) -> FeedState {
        FeedState::Replay(Position {
            at_ns: self.at_ns as u64,
            length_ns: self.length_ns(),
            speed: self.speed,
            is_paused: self.is_paused,
            trouble: self.trouble.clone(),
        })
    }

    fn play(&mut self, command: Play) {
        let length = self.length_ns() as f64;
        match command {
            // At the end, going on means from the beginning.
            Play::Toggle if self.is_paused && self.at_ns >= length => {
                self.seek(0.0);
                self.is_paused = false;
            }
            Play::Toggle => self.is_paused = !self.is_paused,
            Play::Seek(ns) => self.seek(self.at_ns + ns as f64),
            Play::Home => {
                self.seek(0.0);
                self.is_paused = false;
            }
            Play::End => self.seek(length),
            Play::Faster => self.speed = (self.speed * 2.0).min(SPEEDS.1),
            Play::Slower => self.speed = (self.speed / 2.0).max(SPEEDS.0),
        }
    }
}
