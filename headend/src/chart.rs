//! The plan as a page: charts in inline SVG, nothing from the network, readable on paper and in the dark.

use std::fmt::Write as _;

use crate::forecast::Feasibility;
use crate::plan::Plan;
use crate::simulate::{Outcome, Report};
use crate::units::{human_bps, human_seconds};

/// Bars of a chart at most; the rest is summed up in words.
const MAX_BARS: usize = 40;
const BAR_HEIGHT: usize = 18;
const LABEL_WIDTH: usize = 330;
const BAR_WIDTH: usize = 480;

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;\
padding:0 1rem}td,th{padding:.2rem 1.2rem .2rem 0;text-align:left}td+td,th+th{text-align:right;\
font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto;font:12px system-ui,sans-serif}text{fill:currentColor}\
.line{fill:none;stroke:#3b7dd8;stroke-width:1.5}.bar{fill:#3b7dd8}.over{fill:#d2543c}.no{font-weight:600;color:#d2543c}";

/// One bar: label, value, what is written behind it, whether it is too long.
struct Bar {
    label: String,
    value: f64,
    text: String,
    is_over: bool,
}

/// The page.
pub fn page(plan: Option<&Plan>, asked: &Feasibility, simulated: Option<&Report>) -> String {
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Carousel plan</title><style>{STYLE}</style><h1>Carousel plan</h1>\n<p>Link: {:.2} Mbit/s</p>\n",
        asked.rate_bps as f64 / 1e6
    );
    if let Some(plan) = plan {
        objects(&mut out, plan);
    }
    if !asked.forecasts.is_empty() {
        forecasts(&mut out, asked);
    }
    if let Some(report) = simulated {
        simulation(&mut out, report);
    }
    out.push_str("</html>\n");
    out
}

fn simulation(out: &mut String, report: &Report) {
    let bar = |name: &str, seconds: Option<f64>, duration_s: u64| Bar {
        label: name.to_owned(),
        value: seconds.unwrap_or(duration_s as f64),
        text: seconds.map_or_else(|| "not in the simulated time".to_owned(), human_seconds),
        is_over: seconds.is_none(),
    };
    let bars = [("with FEC", &report.with_fec), ("without", &report.without_fec)].map(|(name, it)| {
        let times = it.acquisition_s;
        [(50.0, times.p50), (95.0, times.p95), (99.0, times.p99), (99.9, times.p999)]
            .map(|(part, seconds)| bar(&format!("{part} %, {name}"), seconds, report.duration_s))
    });
    chart(
        out,
        "Simulated: time from coming on to having an object",
        &bars.into_iter().flatten().collect::<Vec<_>>(),
    );
    let lines = [("with FEC", &report.with_fec), ("without FEC", &report.without_fec)];
    for (name, outcome) in lines {
        curve(out, &format!("Load on the origin, {name}"), outcome, report.duration_s);
    }
    let _ = writeln!(out, "<pre>{}</pre>", escape(&report.to_text()));
}

/// Load over time, each with a scale of its own: they differ by powers of ten.
fn curve(out: &mut String, title: &str, outcome: &Outcome, duration_s: u64) {
    const HEIGHT: f64 = 120.0;
    const WIDTH: f64 = 900.0;
    let load = &outcome.origin_load_bps;
    let most = load.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        let _ = writeln!(out, "<h2>{}</h2><p>Nothing is asked for.</p>", escape(title));
        return;
    }
    let points = load.iter().enumerate().map(|(at, bps)| {
        let x = at as f64 / load.len().max(2).saturating_sub(1) as f64 * WIDTH;
        format!("{x:.1},{:.1}", HEIGHT - bps / most * (HEIGHT - 4.0))
    });
    let _ = write!(
        out,
        "<h2>{0}</h2>\n<svg role=img aria-label=\"{0}\" viewBox=\"0 0 {WIDTH} {1}\" width={WIDTH}>\
         <polyline class=line points=\"{2}\"/><text x=4 y=14>{3}</text><text x=0 y={1}>0</text>\
         <text x={WIDTH} y={1} text-anchor=end>{4}</text></svg>\n",
        escape(title),
        HEIGHT + 16.0,
        points.collect::<Vec<_>>().join(" "),
        escape(&human_bps(most)),
        escape(&human_seconds(duration_s as f64)),
    );
}

fn objects(out: &mut String, plan: &Plan) {
    let _ = writeln!(
        out,
        "<table><tr><td>Signalling<td>{:.1} % of the link<tr><td>Every object at least once in<td>{}\
         <tr><td>Mean wait<td>{}<tr><td>The least that any schedule could reach<td>{}</table>",
        plan.signalling_share * 100.0,
        human_seconds(plan.cycle_s),
        human_seconds(plan.mean_wait_s),
        human_seconds(plan.bound_s)
    );
    let mut by_share: Vec<_> = plan.objects.iter().collect();
    by_share.sort_by(|a, b| b.share.total_cmp(&a.share));
    let name = |uri: &str| {
        let count = uri.chars().count();
        if count <= 48 {
            uri.to_owned()
        } else {
            format!("…{}", uri.chars().skip(count - 47).collect::<String>())
        }
    };
    let bars = by_share.iter().take(MAX_BARS).map(|object| Bar {
        label: name(&object.uri),
        value: object.share,
        text: format!("{:.2} %, every {}", object.share * 100.0, human_seconds(object.period_s)),
        is_over: false,
    });
    chart(out, "Share of the link", &bars.collect::<Vec<_>>());
    if by_share.len() > MAX_BARS {
        let _ = writeln!(out, "<p>… and {} objects more.</p>", by_share.len() - MAX_BARS);
    }
    let mut waits: Vec<f64> = plan.objects.iter().map(|object| object.acquisition_s.p95).collect();
    waits.sort_by(f64::total_cmp);
    let at =
        |percent: usize| waits.get((waits.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0.0);
    let bars = [10, 25, 50, 75, 90, 100].map(|percent| Bar {
        label: format!("{percent} % of the objects"),
        value: at(percent),
        text: human_seconds(at(percent)),
        is_over: false,
    });
    chart(out, "Time until 95 of 100 receivers have an object", &bars);
}

fn forecasts(out: &mut String, asked: &Feasibility) {
    let bars = asked.forecasts.iter().filter(|it| it.bytes > 0).flat_map(|it| {
        let promise = Bar {
            label: format!("{}: promised", it.name),
            value: it.promised_cycle_s as f64,
            text: human_seconds(it.promised_cycle_s as f64),
            is_over: false,
        };
        let asks = Bar {
            label: format!("{}: one pass takes", it.name),
            value: it.cycle_s,
            text: human_seconds(it.cycle_s),
            is_over: !it.is_kept,
        };
        [promise, asks]
    });
    chart(out, "What is promised, and what the link carries", &bars.collect::<Vec<_>>());
    if let Some(refusal) = asked.refusal() {
        let _ = writeln!(out, "<p class=no>{}</p>", escape(&refusal));
    }
    let _ = writeln!(out, "<pre>{}</pre>", escape(&asked.to_text()));
}

fn chart(out: &mut String, title: &str, bars: &[Bar]) {
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let (width, height) = (LABEL_WIDTH + BAR_WIDTH + 190, bars.len() * BAR_HEIGHT + 4);
    let _ = write!(
        out,
        "<h2>{}</h2>\n<svg role=img aria-label=\"{0}\" viewBox=\"0 0 {width} {height}\" width={width}>",
        escape(title)
    );
    for (row, bar) in bars.iter().enumerate() {
        let (top, length) = (row * BAR_HEIGHT, (bar.value / most * BAR_WIDTH as f64).max(1.0));
        let class = if bar.is_over { "over" } else { "bar" };
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=end>{}</text><rect class={class} x=\"{LABEL_WIDTH}\" y=\"{}\" \
             width=\"{length:.1}\" height=\"{}\"/><text x=\"{:.1}\" y=\"{1}\">{}</text>",
            LABEL_WIDTH - 8,
            top + 13,
            escape(&bar.label),
            top + 2,
            BAR_HEIGHT - 4,
            LABEL_WIDTH as f64 + length + 6.0,
            escape(&bar.text),
        );
    }
    out.push_str("</svg>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::feasibility;
    use crate::plan::{Class, Planned, Taken, plan};

    #[test]
    fn names_from_outside_stay_text_and_the_page_asks_nobody_for_anything() {
        let name = "https://h/<script>alert(\"1\")</script>".to_owned();
        let object = Planned::new(name, 1000, 1100, Class::Medium);
        let page = page(
            Some(&plan(&[object], 1_000_000, &Taken::default())),
            &feasibility(&[], 1_000_000, None),
            None,
        );
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(page.contains("<svg") && !page.contains("src=") && !page.contains("href="));
    }
}
