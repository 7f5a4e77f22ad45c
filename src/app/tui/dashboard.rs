//! The loop: takes events four times a second, inputs at once, and draws when the picture changed.
//!
//! It runs on the caller's thread and shares nothing with an engine but the buffer of events.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::event::{self, Event as Input};

use crate::base::clock::now_ns;
use crate::base::event::Event;
use crate::observe::session::Session;
use crate::observe::telemetry::thread_cpu_ns;

use super::choice::ThemeChoice;
use super::feed::{Feed, Taken};
use super::state::{Overlay, State};
use super::terminal::Screen;
use super::update::{Effect, update};
use super::view::view;

/// Time between two looks at the events.
const TICK_NS: u64 = 250_000_000;

/// How long events are taken in one go, when there are more than fit: keys are answered in between.
const TAKING_NS: u64 = 100_000_000;

/// Time over which the dashboard's own cost is measured.
const COST_NS: u64 = 2_000_000_000;

/// What a dashboard needs besides events.
pub(in crate::app) struct Options<'a> {
    /// What is watched, in words.
    pub title: String,
    /// Colours.
    pub theme: ThemeChoice,
    /// Set when the program is asked to end.
    pub stop: &'a AtomicBool,
    /// Writes down what was observed; says where, or why not.
    pub export: Box<Export<'a>>,
}

/// Writes down what was observed.
pub(in crate::app) type Export<'a> = dyn FnMut(&Session) -> Result<String, String> + 'a;

/// Why a dashboard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum End {
    /// The person wanted it to.
    Quit,
    /// The program was asked to.
    Stopped,
}

/// Shows what a feed gives until somebody quits. The terminal is as it was when this returns.
pub(in crate::app) fn run(feed: &mut dyn Feed, options: Options<'_>) -> io::Result<End> {
    let mut screen = Screen::take()?;
    let stop = options.stop;
    let mut dashboard = Dashboard::new(feed, options, &|name| std::env::var(name).ok());
    let mut drawn = 0;
    let mut next_ns = now_ns();
    loop {
        if now_ns() >= next_ns {
            dashboard.tick(&mut now_ns);
            next_ns = now_ns() + if dashboard.is_behind { 0 } else { TICK_NS };
        }
        if dashboard.state.changes() != drawn {
            screen.mouse(!matches!(dashboard.state.overlay, Some(Overlay::Copied(_))))?;
            screen.draw(|frame| view(&mut dashboard.state, frame))?;
            drawn = dashboard.state.changes();
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(End::Stopped);
        }
        let wait = Duration::from_nanos(next_ns.saturating_sub(now_ns()));
        if !event::poll(wait)? {
            continue;
        }
        // Everything that was typed or turned since, before it is drawn once.
        while event::poll(Duration::ZERO)? {
            match dashboard.input(&event::read()?) {
                Some(Effect::Quit) => return Ok(End::Quit),
                Some(Effect::Copy(text)) => screen.copy(&text)?,
                Some(Effect::Suspend) => {
                    screen.suspend()?;
                    dashboard.state.changed();
                }
                _ => {}
            }
        }
    }
}

/// A dashboard without its terminal.
pub(super) struct Dashboard<'a> {
    feed: &'a mut dyn Feed,
    options: Options<'a>,
    pub(super) state: State,
    events: Vec<Event>,
    /// Whether there were more events than could be taken in one go.
    is_behind: bool,
    cost: Cost,
}

impl<'a> Dashboard<'a> {
    /// Nothing taken yet.
    pub(super) fn new(
        feed: &'a mut dyn Feed,
        options: Options<'a>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let theme = options.theme.theme(variable);
        let state = State::new(options.title.clone(), theme, feed.state());
        let (events, cost) = (Vec::new(), Cost::default());
        Self { feed, options, state, events, is_behind: false, cost }
    }

    /// Takes what came; `clock` tells the time.
    pub(super) fn tick(&mut self, clock: &mut dyn FnMut() -> u64) {
        let begin_ns = clock();
        loop {
            let now_ns = clock();
            let taken = self.feed.take(now_ns, &mut self.events);
            self.state.take(taken, &self.events);
            self.is_behind = taken != Taken::Next;
            if !self.is_behind || now_ns > begin_ns + TAKING_NS {
                break;
            }
        }
        self.state.fed(self.feed.state(), self.feed.lost());
        // On the way to another place only the way is shown.
        if !self.is_behind {
            self.state.conclude();
        }
        if let Some(cost) = self.cost.share(clock()) {
            self.state.measured(cost);
        }
    }

    /// Takes an input, and does what can be done without a terminal.
    pub(super) fn input(&mut self, input: &Input) -> Option<Effect> {
        match update(&mut self.state, input)? {
            Effect::Play(command) => {
                self.feed.play(command);
                self.state.fed(self.feed.state(), self.feed.lost());
                None
            }
            Effect::Export => {
                let told = (self.options.export)(self.state.shown());
                self.state.notice = Some(match told {
                    Ok(told) => told,
                    Err(why) => format!("not exported: {why}"),
                });
                None
            }
            effect => Some(effect),
        }
    }
}

/// Measures what this thread uses of one processor.
#[derive(Default)]
struct Cost {
    last: Option<(u64, u64)>,
}

impl Cost {
    /// The share since the last answer; none before some time has passed.
    fn share(&mut self, now_ns: u64) -> Option<f64> {
        let cpu_ns = thread_cpu_ns()?;
        let (then_ns, before_ns) = *self.last.get_or_insert((now_ns, cpu_ns));
        let passed_ns = now_ns.saturating_sub(then_ns);
        if passed_ns < COST_NS {
            return None;
        }
        self.last = Some((now_ns, cpu_ns));
        Some(cpu_ns.saturating_sub(before_ns) as f64 / passed_ns as f64)
    }
}
