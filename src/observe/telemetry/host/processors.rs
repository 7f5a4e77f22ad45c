//! `/proc/stat`: what every logical processor did, in ticks of a hundredth of a second.

use std::ops::{AddAssign, Sub};

/// Ticks per second, the same on all architectures that we build for.
pub const TICKS_PER_S: u64 = 100;

/// Ticks of a processor, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// All of them.
    pub all: u64,
    /// Those with work.
    pub busy: u64,
    /// Those in which the hypervisor ran something else.
    pub stolen: u64,
}

impl Sub for Ticks {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            busy: self.busy.saturating_sub(before.busy),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }
}

impl AddAssign for Ticks {
    fn add_assign(&mut self, more: Self) {
        self.all += more.all;
        self.busy += more.busy;
        self.stolen += more.stolen;
    }
}

impl Ticks {
    /// Busy and stolen shares of the time; `None` when no time passed.
    pub fn shares(self) -> Option<(f64, f64)> {
        let of_all = |ticks: u64| ticks as f64 / self.all as f64;
        (self.all > 0).then(|| (of_all(self.busy), of_all(self.stolen)))
    }
}

/// Each processor's ticks: `cpu0 user nice system idle iowait irq softirq steal …`.
pub fn cores(stat: &str) -> Vec<(u16, Ticks)> {
    stat.lines().filter_map(core).collect()
}

fn core(line: &str) -> Option<(u16, Ticks)> {
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.strip_prefix("cpu")?.parse().ok()?;
    // What guests used is in user and nice already.
    let ticks: Vec<u64> = words.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, stolen] = ticks[..] else {
        return None;
    };
    let busy = user + nice + system + irq + softirq;
    Some((number, Ticks { all: busy + idle + iowait + stolen, busy, stolen }))
}

/// The sum over some processors; `None` if there is none of them.
pub fn sum(stat: &str, allowed: &[u16]) -> Option<Ticks> {
    let mut sum = Ticks::default();
    for (number, ticks) in cores(stat) {
        if allowed.contains(&number) {
            sum += ticks;
        }
    }
    (sum.all > 0).then_some(sum)
}

/// A list as the kernel writes it: `0-3,8`.
pub fn list(text: &str) -> Option<Vec<u16>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// The processors that a process may use, from its `status`.
pub fn allowed(status: &str) -> Option<Vec<u16>> {
    list(status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?)
}

/// The processors' clocks in Hz, in the order of `/proc/cpuinfo`; not all architectures tell.
pub fn clocks_hz(cpuinfo: &str) -> Vec<(u16, f64)> {
    let mut clocks = Vec::new();
    let mut number = None;
    for line in cpuinfo.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.trim() {
            "processor" => number = value.trim().parse().ok(),
            "cpu MHz" => {
                let clock = number.zip(value.trim().parse::<f64>().ok());
                clocks.extend(clock.map(|(n, mhz)| (n, mhz * 1e6)));
            }
            _ => {}
        }
    }
    clocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  900 0 0 0 0 0 0 0 0 0\n\
                        cpu0 100 10 20 300 5 1 2 7 50 0\n\
                        cpu1 200 0 0 100 0 0 0 0 0 0\n\
                        cpu2 9 9 9 9 9 9 9 9 9 9\nintr 5\n";

    #[test]
    fn only_allowed_processors_count() {
        let ticks = sum(STAT, &[0, 1]).unwrap();
        assert_eq!((ticks.busy, ticks.stolen, ticks.all), (333, 7, 745));
        assert_eq!(sum(STAT, &[7]), None);
        assert_eq!(sum("cpu0 1 2\n", &[0]), None);
        assert_eq!(cores(STAT).len(), 3);
        let later = Ticks { all: 845, busy: 383, stolen: 17 };
        assert_eq!((later - ticks).shares(), Some((0.5, 0.1)));
        assert_eq!((ticks - later).shares(), None);
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(allowed("Name:\tx\nCpus_allowed_list:\t0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(allowed("Cpus_allowed_list:\tx\n"), None);
        assert_eq!(list("\n"), Some(vec![]));
        assert_eq!(list("0-70000"), None);
    }

    #[test]
    fn clocks_follow_their_processor() {
        let text = "processor\t: 0\ncpu MHz\t\t: 2596.140\n\nprocessor\t: 3\ncpu MHz\t\t: 800.0\n";
        assert_eq!(clocks_hz(text), [(0, 2596.14e6), (3, 800.0e6)]);
        assert!(clocks_hz("processor : 0\nBogoMIPS : 50\n").is_empty());
    }
}
