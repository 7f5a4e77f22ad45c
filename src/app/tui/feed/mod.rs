//! Where events come from: a session that goes on, or a recording that is played.
//!
//! A feed knows no clock of its own; it is told what time it is. Invariant: the events that a recording
//! has given at a position are always the same, in whichever way the position was reached.

mod live;
mod replay;

use crate::base::event::Event;

pub(in crate::app) use live::Live;
pub(in crate::app) use replay::Replay;

/// What somebody watches.
pub(in crate::app) trait Feed {
    /// Puts the events since the last call into `into`, which is emptied; `now_ns` is the time of the
    /// dashboard's clock.
    fn take(&mut self, now_ns: u64, into: &mut Vec<Event>) -> Taken;

    /// Where it stands.
    fn state(&self) -> FeedState;

    /// Events that were lost before they came here.
    fn lost(&self) -> u64 {
        0
    }

    /// Changes how it is played; what does not play does not care.
    fn play(&mut self, _command: Play) {}
}

/// What [`Feed::take`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Taken {
    /// What comes next, perhaps nothing.
    Next,
    /// There is more at once: it is to be asked again before anything is shown.
    More,
    /// As `More`, and the session begins anew with it.
    Anew,
}

/// Where a feed stands.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::app) enum FeedState {
    /// It goes on.
    Live,
    /// It went on, and has ended.
    Ended,
    /// It is a recording.
    Replay(Position),
}

/// Where a recording stands.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::app) struct Position {
    /// Time since its beginning.
    pub at_ns: u64,
    /// How long it is.
    pub length_ns: u64,
    /// How many times faster than it was.
    pub speed: f64,
    /// Whether it stands still.
    pub is_paused: bool,
    /// What is wrong with it: that it breaks off, or cannot be read.
    pub trouble: Option<String>,
}

/// What can be done with a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::app) enum Play {
    /// Stops, or goes on.
    Toggle,
    /// Goes so many nanoseconds forward, or back.
    Seek(i64),
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
}
