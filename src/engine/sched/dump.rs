//! The split dump in the form of `GGML_SCHED_DEBUG=2`, with the cause column that ggml leaves blank.

use std::fmt::Write;

use crate::base::event::PlanFact;

/// Prints a plan as ggml's scheduler does: one `## SPLIT` line per split, one `node #` line per
/// node.
pub fn dump(plan: &PlanFact, devices: &[String]) -> String {
    let mut out = String::new();
    let mut number = 0;
    for (s, split) in plan.splits.iter().enumerate() {
        let device = &devices[split.device.0 as usize];
        let _ = write!(out, "## SPLIT #{s}: {device} # {} inputs:", split.inputs.len());
        for input in &split.inputs {
            let _ = write!(out, " [{} ({})]", input.tensor, size(input.bytes));
        }
        out.push('\n');
        for node in &split.nodes {
            let bytes = node.ne.iter().product::<usize>() as u64 * 4;
            let (op, name): (String, String) =
                (node.op.chars().take(10).collect(), node.name.chars().take(20).collect());
            let short: String = device.chars().take(5).collect();
            let _ = writeln!(
                out,
                "node #{number:3} ({op:>10}): {name:>20} ({:>5}) [{short:>5} {:>8}] {}",
                size(bytes),
                node.tag,
                node.cause
            );
            number += 1;
        }
    }
    out
}

/// Sizes as ggml prints them: whole K or M.
fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{}K", bytes >> 10) } else { format!("{}M", bytes >> 20) }
}
