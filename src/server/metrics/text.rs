//! Prometheus' text format, version 0.0.4: families of samples, a line each.

use std::fmt::{Display, Write};

use crate::histogram::Histogram;

/// The kind of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of durations.
    Histogram,
}

/// The text of a scrape.
#[derive(Debug, Default)]
pub struct Text {
    text: String,
    name: &'static str,
}

impl Text {
    /// Begins a family. The help must not have line ends and backslashes.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Appends a sample of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// Appends a family with one sample.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help);
        self.sample(&[], value);
    }

    /// Appends a family with one histogram.
    pub fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        self.family(name, Kind::Histogram, help);
        for (bound, count) in histogram.buckets() {
            self.line("_bucket", &[("le", &bound.to_string())], count);
        }
        self.line("_bucket", &[("le", "+Inf")], histogram.count());
        self.line("_sum", &[], histogram.sum());
        self.line("_count", &[], histogram.count());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.extend([self.name, suffix]);
        for (at, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            _ = write!(self.text, "{}{label}=\"{escaped}\"", if at == 0 { '{' } else { ',' });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        _ = writeln!(self.text, "{end} {value}");
    }

    /// Returns the text.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "Some.");
        text.sample(&[("x", "a\"b\\c\nd"), ("y", "é")], 3);
        text.gauge("b_seconds", "More.", 0.5);
        let expected = "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"a\\\"b\\\\c\\nd\",y=\"é\"} 3\n\
                        # HELP b_seconds More.\n# TYPE b_seconds gauge\nb_seconds 0.5\n";
        assert_eq!(text.finish(), expected);
    }
}
