//! A session that goes on: events wait in a buffer until they are shown.

use std::sync::Arc;

use crate::base::event::Event;
use crate::base::sink::Buffer;

use super::{Feed, FeedState, Taken};

/// A session that goes on.
pub(in crate::app) struct Live {
    buffer: Arc<Buffer>,
    has_ended: Box<dyn Fn() -> bool>,
    state: FeedState,
}

impl Live {
    /// Shows what comes into `buffer`, until `has_ended` says that nothing more will.
    pub(in crate::app) fn new(buffer: Arc<Buffer>, has_ended: Box<dyn Fn() -> bool>) -> Self {
        Self { buffer, has_ended, state: FeedState::Live }
    }
}

impl Feed for Live {
    fn take(&mut self, _now_ns: u64, into: &mut Vec<Event>) -> Taken {
        // Asked before the buffer is emptied, so that the last events are not missed.
        let has_ended = self.state == FeedState::Live && (self.has_ended)();
        self.buffer.swap(into);
        if has_ended {
            self.state = FeedState::Ended;
        }
        Taken::Next
    }

    fn state(&self) -> FeedState {
        self.state.clone()
    }

    fn lost(&self) -> u64 {
        self.buffer.lost()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::base::event::Line;
    use crate::base::sink::Sink;

    #[test]
    fn the_last_events_are_shown_and_lost_ones_are_counted() {
        let buffer = Arc::new(Buffer::new(2));
        let over = Rc::new(Cell::new(false));
        let asked = Rc::clone(&over);
        let mut live = Live::new(Arc::clone(&buffer), Box::new(move || asked.get()));
        let line = |at_ns| Event::Line(Line { at_ns, text: String::new() });
        let mut events = vec![line(0)];
        assert_eq!(live.take(0, &mut events), Taken::Next);
        assert!(events.is_empty());
        (1..4).for_each(|at| buffer.record(line(at)));
        over.set(true);
        live.take(1, &mut events);
        assert_eq!(events, [line(1), line(2)]);
        assert_eq!((live.state(), live.lost()), (FeedState::Ended, 1));
    }
}
