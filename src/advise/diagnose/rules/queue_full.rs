//! `queue-full`: the queue of the server is full.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::{Counter, Subject};
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "requests are refused because too many are waiting",
    doc: Doc {
        detects: "The server refuses requests with status 503 because its queue is full, or requests wait \
            at a watched server because all of its slots are busy.",
        costs: "Clients fail or retry, while the GPU is busy with those before them.",
        evidence: "\"server busy, please try again. maximum pending requests exceeded\", or \
            access lines with status 503. Of a watched server: all slots busy and requests waiting in two \
            samples in a row.",
        fix: "More requests at a time where memory allows (OLLAMA_NUM_PARALLEL, `-np`), fewer \
            from the client, or a longer queue (OLLAMA_MAX_QUEUE), which only makes them wait.",
        example: "server busy, please try again.  maximum pending requests exceeded",
    },
    follows_from: &[],
    check,
};

const ID: &str = "queue-full";

fn check(facts: &Facts) -> Verdict {
    let busy = facts.notice("queue-full");
    let refused = facts.log.requests.kept().find(|r| r.status == Some(503));
    let Some(line) = busy.map(|n| n.first).or(refused.map(|r| r.line)) else {
        return facts.live.and_then(waiting).into();
    };
    let confidence = if busy.is_some() { 0.9 } else { 0.6 };
    let slots = facts.setting_number("OLLAMA_NUM_PARALLEL").unwrap_or(1);
    let queue = facts.setting_number("OLLAMA_MAX_QUEUE").unwrap_or(512);
    Finding::problem(
        ID,
        Impact::Failure,
        confidence,
        "requests are refused: more are waiting than the queue holds",
    )
    .because(format!(
        "{slots} request(s) are computed at a time and up to {queue} wait. More than that are \
            refused with status 503. They wait for the GPU, they do not load it more."
    ))
    .seen(Evidence::line(line))
    .fix(fix_env(facts.version(), "OLLAMA_NUM_PARALLEL", (slots * 2).to_string()).why(
        "several requests share one pass over the weights, so the sum of tokens per second rises; \
            the cache grows with it",
        "fewer requests wait",
    ))
    .fix(
        Fix::system(
            "limit the clients",
            "send at most as many requests at a time as there are slots",
        )
        .why("a longer queue only makes all of them wait longer", "no status 503"),
    )
    .into()
}

/// Requests that wait at a watched server, in two samples in a row.
fn waiting(session: &Session) -> Option<Finding> {
    let server = Subject::Server;
    let latest = |counter| -> Option<[f64; 2]> {
        let mut points = session.counters.get(server, counter)?.points().rev();
        Some([points.next()?.value, points.next()?.value])
    };
    let queued = latest(Counter::RequestsQueued)?;
    let busy = latest(Counter::SlotsBusy)?;
    let told = session.value(server, Counter::SlotsTotal);
    let slots = told.or_else(|| Some(session.server.as_ref()?.slots? as f64)).unwrap_or(busy[0]);
    if queued.iter().any(|q| *q < 1.0) || busy.iter().any(|b| *b < slots) || slots < 1.0 {
        return None;
    }
    let share = (queued[0] / (queued[0] + slots)).min(0.9);
    let title = format!("all {slots:.0} slots are busy and {:.0} request(s) wait", queued[0]);
    let at = |counter, text: String| Evidence::at(Place::Counter(server, counter), text);
    Some(
        Finding::problem(ID, Impact::Slower(share), 0.8, title)
            .because(format!(
                "The server works on {slots:.0} request(s) at a time. The others wait for their turn, and \
                 that is most of the time until their first token; each of them is not computed slower."
            ))
            .seen(at(Counter::RequestsQueued, format!("{:.0} waiting", queued[0])))
            .seen(at(Counter::SlotsBusy, format!("{:.0} of {slots:.0} busy", busy[0])))
            .fix(Fix::flag("-np", format!("{:.0}", slots * 2.0)).why(
                "several requests share one pass over the weights, so the sum of tokens per second rises; \
                 the KV cache is shared or grows with it (OLLAMA_NUM_PARALLEL for Ollama)",
                "fewer requests wait",
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    fn look(scene: &mut Scene, busy: f64, queued: f64) -> Verdict {
        scene.tick().sample(Subject::Server, Counter::SlotsTotal, 4.0);
        scene.sample(Subject::Server, Counter::SlotsBusy, busy);
        scene.sample(Subject::Server, Counter::RequestsQueued, queued);
        check(&scene.facts())
    }

    #[test]
    fn requests_that_wait_for_a_slot_are_found_at_the_second_sample() {
        let mut scene = Scene::new();
        assert_eq!(look(&mut scene, 4.0, 3.0), Verdict::Clear);
        let found = look(&mut scene, 4.0, 2.0).finding().cloned().unwrap();
        assert_eq!(found.title, "all 4 slots are busy and 2 request(s) wait");
        assert_eq!(look(&mut scene, 4.0, 0.0), Verdict::Clear);
    }

    #[test]
    fn a_free_slot_takes_them_in_a_moment() {
        let mut scene = Scene::new();
        look(&mut scene, 3.0, 1.0);
        assert_eq!(look(&mut scene, 3.0, 1.0), Verdict::Clear);
    }
}
