//! The plot of reconnections as a picture.

#[allow(dead_code)] // the lesson compares with the whole plot
#[path = "../../../lessons/13-replacing/plot.rs"]
mod plot;

use std::fmt::Write;

pub use self::plot::Plot;

/// Draws a plot as SVG, with lines at the share of 100 ms and at `bound` times that.
pub fn svg(plot: &Plot, share: f64, bound: f64) -> String {
    let (left, top, height, step) = (56.0, 44.0, 220.0, 9.0);
    let seconds = plot.counts.len().div_ceil(10);
    let width = seconds as f64 * 10.0 * step;
    let highest = (share * bound).max(plot.most() as f64);
    let y = |count: f64| top + height - count / highest * height;
    let (bottom, right) = (top + height, left + width);
    let followers: usize = plot.counts.iter().sum();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#556\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"20\" font-size=\"14\" fill=\"#223\">{followers} followers come back: \
         reconnections in each 100 ms after SIGTERM</text>\n",
        right + 130.0,
        bottom + 44.0,
    );
    for (bucket, count) in plot.counts.iter().enumerate() {
        let (x, y) = (left + bucket as f64 * step, y(*count as f64));
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"{y:.1}\" width=\"{}\" height=\"{:.1}\" fill=\"#2b6a92\"/>",
            step - 2.0,
            bottom - y
        );
    }
    for (count, name) in [(share, "its share"), (share * bound, &*format!("{bound} times its share"))] {
        let y = y(count);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ad3a2e\" stroke-dasharray=\"4 3\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\">{name}</text>\n<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{count:.0}</text>",
            right + 6.0,
            y + 4.0,
            left - 6.0,
            y + 4.0
        );
    }
    let _ = writeln!(svg, "<path d=\"M{left} {top}V{bottom}H{right}\" stroke=\"#556\" fill=\"none\"/>");
    for second in 0..=seconds {
        let x = left + second as f64 * 10.0 * step;
        let _ = writeln!(
            svg,
            "<path d=\"M{x} {bottom}v5\" stroke=\"#556\"/><text x=\"{x}\" y=\"{:.0}\" text-anchor=\"middle\">{second} s</text>",
            bottom + 20.0
        );
    }
    svg + "</svg>\n"
}
