//! The memory, the files and the time of the process, as proc(5) has them, under the names that all clients of
//! Prometheus use. Where there is no such file, the metric is left out.

use std::fs;

use super::text::{Kind, Text};

/// The number of clock ticks in a second (`USER_HZ`), which is the same on all machines of today.
const TICKS: f64 = 100.0;

/// Appends the metrics of the process.
pub fn add(text: &mut Text) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| number_after(&status, name).map(|number| number * 1024.0);
    gauge(text, "process_resident_memory_bytes", "Resident memory.", kilobytes("VmRSS:"));
    gauge(text, "process_virtual_memory_bytes", "Virtual memory.", kilobytes("VmSize:"));
    gauge(text, "process_open_fds", "Open file descriptors.", open_files());
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    gauge(text, "process_max_fds", "The limit of open file descriptors.", number_after(&limits, "Max open files"));
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let system = fs::read_to_string("/proc/stat").unwrap_or_default();
    let started = field(&stat, 22).zip(number_after(&system, "btime"));
    let started = started.map(|(ticks, booted)| booted + ticks / TICKS);
    gauge(text, "process_start_time_seconds", "The time of the start since 1970.", started);
    if let Some((user, kernel)) = field(&stat, 14).zip(field(&stat, 15)) {
        text.family("process_cpu_seconds_total", Kind::Counter, "Time on a core, of the process and for it.");
        text.sample(&[], (user + kernel) / TICKS);
    }
}

fn gauge(text: &mut Text, name: &'static str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        text.gauge(name, help, value);
    }
}

/// The number of open files. Since Linux 6.2 it is the size of the folder. Before that, the size is 0.
fn open_files() -> Option<f64> {
    let count = match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        count => count,
    };
    Some(count as f64)
}

/// The number in the line that begins like this.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A field of /proc/self/stat, counted from 1. The second one is a name between parentheses, and may have spaces.
fn field(stat: &str, number: usize) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "7 (a) b) R 4 5 6";
        assert_eq!([4, 5, 6].map(|number| field(stat, number)), [Some(4.0), Some(5.0), Some(6.0)]);
        assert_eq!((field(stat, 7), field("", 4)), (None, None));
        assert_eq!(number_after("a 1\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
    }
}
