//! HTML report of the plan, for example for the operator of a link: the verdict first, then the budget of the link, live, forward
//! error correction, classes and titles, forecasts and simulation. One self-contained file with inline SVG charts, readable in
//! print and in dark mode.

use std::fmt::Write as _;

use carousel::time::WallTime;
use carousel::xml::escape;

use crate::config::Config;
use crate::forecast::Feasibility;
use crate::options::Code;
use crate::plan::{Class, ObjectPlan, Plan};
use crate::simulate::{Outcome, Report};
use crate::units::{VERSION, grouped, human_bps, human_bytes, human_seconds};

/// Maximum rows of the table of titles; the rest is summarised.
const TITLE_ROWS: usize = 40;
/// Rows of the table of objects.
const OBJECT_ROWS: usize = 10;
const WIDTH: f64 = 900.0;
const LABEL_WIDTH: f64 = 260.0;
const ROW_HEIGHT: f64 = 22.0;
const CHART_HEIGHT: f64 = 180.0;
const CLASSES: [Class; 4] = [Class::Signalling, Class::High, Class::Medium, Class::Low];

const STYLE: &str = ":root{color-scheme:light dark;--a:#3b7dd8;--b:#2f9e77;--c:#c9862b;--d:#8a63c9;--e:#7b8794;--f:#4aa3b5;--no:#c5432b;--yes:#2b8a57}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}h1{margin-bottom:.2rem}h2{margin-top:2.2rem}\
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #8884}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td.u{word-break:break-all}\
.verdict{border-left:.5rem solid var(--yes);padding:.6rem 1rem;background:#8881;font-size:1.1rem}.verdict.no{border-color:var(--no)}\
svg{max-width:100%;height:auto;font:13px system-ui,sans-serif}text{fill:currentColor}.axis{stroke:currentColor;stroke-opacity:.4}\
.grid{stroke:currentColor;stroke-opacity:.12}.line{fill:none;stroke:var(--a);stroke-width:1.5}.meta{color:#777;margin-top:0}\
@media print{body{max-width:none;margin:0}h2{break-after:avoid}table,svg{break-inside:avoid}}";

/// Renders the page. `date`: when it was made.
pub fn page(
    config: &Config,
    date: WallTime,
    plan: Option<&Plan>,
    asked: &Feasibility,
    simulated: Option<&Report>,
) -> String {
    let title = format!("Carousel plan: {}", config.nip.network_name);
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style><h1>{0}</h1>\n<p class=meta>{1}, {2}; headend {VERSION}</p>\n",
        escape(&title),
        written(date),
        config.file.as_ref().map_or_else(|| "no file".to_owned(), |it| escape(&it.display().to_string())),
    );
    verdict(&mut out, plan, asked);
    if let Some(plan) = plan {
        budget(&mut out, config, plan);
        live(&mut out, config, plan);
        protection(&mut out, config);
        classes(&mut out, plan);
        titles(&mut out, config, plan);
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

/// A date as a reader of the report writes it: `30 November 2026, 14:05 UTC`.
fn written(date: WallTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let text = date.to_xml();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    let mut fields = day.rsplitn(3, '-');
    let (day, month, year) = (fields.next(), fields.next(), fields.next());
    let month = month.and_then(|it| it.parse::<usize>().ok()).and_then(|it| MONTHS.get(it.checked_sub(1)?));
    let day = day.unwrap_or_default().trim_start_matches('0');
    format!(
        "{day} {} {}, {} UTC",
        month.copied().unwrap_or_default(),
        year.unwrap_or_default(),
        time.get(..5).unwrap_or_default()
    )
}

/// The verdict on feasibility, and the decisive figures.
fn verdict(out: &mut String, plan: Option<&Plan>, asked: &Feasibility) {
    let refusal = plan.and_then(Plan::refusal).or_else(|| asked.refusal());
    match &refusal {
        Some(refusal) => {
            let _ = writeln!(out, "<p class=\"verdict no\"><b>Not feasible.</b> {}.</p>", escape(refusal));
        }
        None => {
            let cycle = plan.map_or_else(String::new, |plan| {
                if plan.scheduled() == 0 {
                    return format!(" No cycle: {}.", plan.unscheduled());
                }
                let promised = plan.promised_cycle_s.map_or_else(String::new, |promised| {
                    format!(", {} is promised", human_seconds(promised))
                });
                format!(" Every object comes round within {}{promised}.", human_seconds(plan.cycle_s))
            });
            let _ = writeln!(out, "<p class=verdict><b>Feasible.</b>{}</p>", escape(&cycle));
        }
    }
    if let Some(plan) = plan {
        let wait = format!(
            "{} (no schedule could be below {})",
            human_seconds(plan.mean_wait_s),
            human_seconds(plan.bound_s)
        );
        let mut rows = vec![
            ("Objects", grouped(plan.objects.len())),
            ("Bytes", human_bytes(plan.objects.iter().map(|it| it.length).sum())),
        ];
        if plan.scheduled() > 0 {
            rows.push(("Mean wait for an object", wait));
            rows.push(("Shortest cycle that can be promised", human_seconds(plan.least_cycle_s)));
        }
        out.push_str("<table>");
        for (name, value) in rows {
            let _ = write!(out, "<tr><td>{name}<td>{}", escape(&value));
        }
        out.push_str("</table>\n");
    }
}

/// Parts of the link in one bar.
fn budget(out: &mut String, config: &Config, plan: &Plan) {
    let share_of = |class: Class| -> f64 {
        plan.objects.iter().filter(|it| it.class == class.as_str()).map(|it| it.share).sum()
    };
    let mut parts =
        vec![("signalling", plan.signalling_share, "--e"), ("live, reserved", plan.live_share, "--c")];
    if plan.firmware_share > 0.0 {
        parts.push(("firmware", plan.firmware_share, "--f"));
    }
    for (class, colour) in [(Class::High, "--a"), (Class::Medium, "--b"), (Class::Low, "--d")] {
        parts.push((class.as_str(), share_of(class), colour));
    }
    let whole: f64 = parts.iter().map(|it| it.1).sum::<f64>().max(1.0);
    let carrier = config.link.dvb_s2.as_ref().map_or_else(String::new, |it| {
        format!(" DVB-S2, {} {}, {} ksym/s.", it.modulation, it.fec, it.symbol_rate_ksps)
    });
    let framing = match &config.multiplex {
        Some(_) => format!(
            " {} of {} are left after sections, packets and tables.",
            human_bps(plan.rate_bps as f64),
            human_bps(config.link.rate_bps as f64)
        ),
        None => String::new(),
    };
    let _ = write!(
        out,
        "<h2>Budget of the link</h2>\n<p>{}.{}{}</p>\n<svg role=img aria-label=\"Parts of the link\" viewBox=\"0 0 {WIDTH} 46\">",
        escape(&human_bps(plan.rate_bps as f64)),
        escape(&carrier),
        escape(&framing)
    );
    let mut x = 0.0;
    for (name, share, colour) in &parts {
        let width = share / whole * WIDTH;
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=0 width=\"{width:.1}\" height=46 style=\"fill:var({colour})\"><title>{name} {:.1} %</title></rect>",
            share * 100.0
        );
        x += width;
    }
    out.push_str("</svg>\n<table><tr><th>part<th class=n>share<th class=n>rate</tr>");
    let free = (1.0 - parts.iter().map(|it| it.1).sum::<f64>()).max(0.0);
    for (name, share, colour) in parts.iter().copied().chain([("free", free, "--none")]) {
        if share > 0.000_05 {
            let _ = write!(
                out,
                "<tr><td><span style=\"color:var({colour},transparent)\">■</span> {name}<td class=n>{:.1} %<td class=n>{}",
                share * 100.0,
                human_bps(share * plan.rate_bps as f64)
            );
        }
    }
    out.push_str("</table>\n");
}

fn live(out: &mut String, config: &Config, plan: &Plan) {
    let sources: Vec<_> = config.sources.iter().filter(|it| it.reserved_bps.is_some()).collect();
    if sources.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<h2>Live</h2>\n<p>{:.1} % of the link is reserved: media of these sources go out at once, once, within their rate.</p>\n\
         <table><tr><th>source<th>base URL<th class=n>reserve</tr>",
        plan.live_share * 100.0
    );
    for source in sources {
        let _ = write!(
            out,
            "<tr><td>{}<td class=u>{}<td class=n>{}",
            escape(&source.name),
            escape(&source.base),
            human_bps(source.reserved_bps.unwrap_or(0) as f64)
        );
    }
    out.push_str("</table>\n");
}

fn protection(out: &mut String, config: &Config) {
    out.push_str("<h2>Forward error correction</h2>\n");
    let classes = [("high", &config.fec.high), ("medium", &config.fec.medium), ("low", &config.fec.low)];
    if classes.iter().all(|(_, fec)| fec.is_none()) {
        out.push_str("<p>None: receivers repair losses from the origin, or wait for the next pass.</p>\n");
        return;
    }
    out.push_str("<table><tr><th>class<th>code<th class=n>repair symbols<th class=n>source block</tr>");
    for (class, fec) in classes {
        let _ = match fec {
            Some(fec) => {
                let code = match fec.code {
                    Code::NoCode => "none",
                    Code::Raptorq => "RaptorQ (RFC 6330)",
                    Code::Raptor => "Raptor (RFC 5053)",
                    Code::ReedSolomon => "Reed–Solomon (RFC 5510)",
                };
                let block = human_bytes(u64::from(fec.block_bytes));
                write!(
                    out,
                    "<tr><td>{class}<td>{code}<td class=n>{} %<td class=n>{block}",
                    fec.overhead_percent
                )
            }
            None => write!(out, "<tr><td>{class}<td>none<td class=n><td class=n>"),
        };
    }
    out.push_str("</table>\n");
}

/// Objects, bytes, periods and waits by class.
fn classes(out: &mut String, plan: &Plan) {
    out.push_str(
        "<h2>Classes</h2>\n<table><tr><th>class<th class=n>objects<th class=n>bytes<th class=n>share\
         <th class=n>comes round within<th class=n>median wait<th class=n>95 of 100 wait less than</tr>",
    );
    let mut bars = Vec::new();
    for class in CLASSES {
        let of: Vec<&ObjectPlan> = plan.objects.iter().filter(|it| it.class == class.as_str()).collect();
        if of.is_empty() {
            continue;
        }
        let longest = |get: fn(&ObjectPlan) -> f64| of.iter().map(|it| get(it)).fold(0.0, f64::max);
        let (p50, p95) = (longest(|it| it.acquisition_s.p50), longest(|it| it.acquisition_s.p95));
        let _ = write!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{:.1} %<td class=n>{}<td class=n>{}<td class=n>{}",
            class.as_str(),
            grouped(of.len()),
            human_bytes(of.iter().map(|it| it.length).sum()),
            of.iter().map(|it| it.share).sum::<f64>() * 100.0,
            human_seconds(longest(|it| it.period_s)),
            human_seconds(p50),
            human_seconds(p95)
        );
        bars.push(Bar {
            label: format!("{}: half of the receivers", class.as_str()),
            value: p50,
            is_over: false,
        });
        bars.push(Bar { label: format!("{}: 95 of 100", class.as_str()), value: p95, is_over: false });
    }
    out.push_str("</table>\n");
    chart(out, "Time from tuning in to having the slowest object of a class", &bars);
}

/// Figures of one `[[source]]`.
struct Title<'a> {
    name: &'a str,
    class: &'static str,
    objects: usize,
    bytes: u64,
    share: f64,
    period_s: f64,
    p95_s: f64,
}

fn titles(out: &mut String, config: &Config, plan: &Plan) {
    let mut all: Vec<Title<'_>> = Vec::new();
    for source in &config.sources {
        let of = || plan.objects.iter().filter(|it| it.uri.starts_with(&source.base));
        all.push(Title {
            name: &source.name,
            class: source.class.as_str(),
            objects: of().count(),
            bytes: of().map(|it| it.length).sum(),
            share: of().map(|it| it.share).sum(),
            period_s: of().map(|it| it.period_s).fold(0.0, f64::max),
            p95_s: of().map(|it| it.acquisition_s.p95).fold(0.0, f64::max),
        });
    }
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    out.push_str(
        "<h2>Titles</h2>\n<table><tr><th>title<th>class<th class=n>objects<th class=n>bytes<th class=n>share\
         <th class=n>comes round within<th class=n>95 of 100 wait less than</tr>",
    );
    for title in all.iter().take(TITLE_ROWS) {
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{:.1} %<td class=n>{}<td class=n>{}",
            escape(title.name),
            title.class,
            grouped(title.objects),
            human_bytes(title.bytes),
            title.share * 100.0,
            human_seconds(title.period_s),
            human_seconds(title.p95_s)
        );
    }
    out.push_str("</table>\n");
    if all.len() > TITLE_ROWS {
        let rest = &all[TITLE_ROWS..];
        let share: f64 = rest.iter().map(|it| it.share).sum();
        let _ =
            writeln!(out, "<p>… and {} titles more with {:.1} % of the link.</p>", rest.len(), share * 100.0);
    }
}

fn objects(out: &mut String, plan: &Plan) {
    let mut by_share: Vec<_> = plan.objects.iter().collect();
    by_share.sort_by(|a, b| b.share.total_cmp(&a.share));
    out.push_str(
        "<h2>Objects that take most of the link</h2>\n<table><tr><th>object<th class=n>bytes<th class=n>share\
         <th class=n>comes round within</tr>",
    );
    for object in by_share.iter().take(OBJECT_ROWS) {
        let _ = write!(
            out,
            "<tr><td class=u>{}<td class=n>{}<td class=n>{:.2} %<td class=n>{}",
            escape(&object.uri),
            human_bytes(object.length),
            object.share * 100.0,
            human_seconds(object.period_s)
        );
    }
    out.push_str("</table>\n");
    if by_share.len() > OBJECT_ROWS {
        let more = grouped(by_share.len() - OBJECT_ROWS);
        let _ =
            writeln!(out, "<p>… and {more} objects more; <code>headend plan --json</code> lists all.</p>");
    }
}

fn forecasts(out: &mut String, asked: &Feasibility) {
    let bars = asked.forecasts.iter().filter(|it| it.bytes > 0).flat_map(|it| {
        let promised = it.promised_cycle_s as f64;
        let promise = Bar { label: format!("{}: promised", it.name), value: promised, is_over: false };
        let asks =
            Bar { label: format!("{}: one pass takes", it.name), value: it.cycle_s, is_over: !it.is_kept };
        [promise, asks].into_iter().filter(|it| it.value > 0.0)
    });
    chart(out, "Forecasts: what is promised, and what the link carries", &bars.collect::<Vec<_>>());
    let _ = writeln!(out, "<pre>{}</pre>", escape(&asked.to_text()));
}

fn simulation(out: &mut String, report: &Report) {
    let bars = [("with FEC", &report.with_fec), ("without", &report.without_fec)].map(|(name, it)| {
        let times = it.acquisition_s;
        [(50.0, times.p50), (95.0, times.p95), (99.0, times.p99), (99.9, times.p999)].map(
            |(part, seconds)| Bar {
                label: match seconds {
                    Some(_) => format!("{part} %, {name}"),
                    None => format!("{part} %, {name}: not in this time"),
                },
                value: seconds.unwrap_or(report.duration_s as f64),
                is_over: seconds.is_none(),
            },
        )
    });
    let bars: Vec<Bar> = bars.into_iter().flatten().collect();
    chart(out, "Simulation: time from coming on to having an object", &bars);
    // The same scale for both, for comparison.
    let most = [&report.with_fec, &report.without_fec]
        .iter()
        .flat_map(|it| &it.origin_load_bps)
        .copied()
        .fold(0.0, f64::max);
    for (name, outcome) in [("with FEC", &report.with_fec), ("without FEC", &report.without_fec)] {
        curve(out, &format!("Load on the origin, {name}"), outcome, report.duration_s, most);
    }
    let _ = writeln!(out, "<pre>{}</pre>", escape(&report.to_text()));
}

/// About four round steps up to `most`.
fn ticks(most: f64) -> Vec<f64> {
    if most <= 0.0 || !most.is_finite() {
        return vec![0.0];
    }
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|it| *it >= rough).unwrap_or(rough);
    (0..=(most / step).ceil() as usize).map(|at| at as f64 * step).collect()
}

/// About four steps up to `most` seconds, round in the unit in which they are shown.
fn time_ticks(most: f64) -> Vec<f64> {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 3600.0;
    const DAY: f64 = 86_400.0;
    if most <= MINUTE || !most.is_finite() {
        return ticks(most);
    }
    let steps = [10.0, 15.0, 30.0].into_iter();
    let steps = steps.chain([1.0, 2.0, 5.0, 10.0, 15.0, 30.0].map(|it| it * MINUTE));
    let mut steps = steps.chain([1.0, 2.0, 3.0, 6.0, 12.0].map(|it| it * HOUR));
    let rough = most / 4.0;
    let Some(step) = steps.find(|it| *it >= rough) else {
        return ticks(most / DAY).into_iter().map(|it| it * DAY).collect();
    };
    (0..=(most / step).ceil() as usize).map(|at| at as f64 * step).collect()
}

/// A tick of a time axis, without digits that say nothing.
fn tick_label(seconds: f64) -> String {
    let is_whole = |unit: f64| (seconds / unit - (seconds / unit).round()).abs() < 1e-9;
    match seconds {
        _ if seconds < 120.0 && is_whole(1.0) && (seconds < 60.0 || !is_whole(60.0)) => {
            format!("{seconds:.0} s")
        }
        _ if (60.0..3600.0).contains(&seconds) && is_whole(60.0) => format!("{:.0} min", seconds / 60.0),
        _ if (3600.0..86_400.0).contains(&seconds) && is_whole(3600.0) => {
            format!("{:.0} h", seconds / 3600.0)
        }
        _ if seconds >= 86_400.0 && is_whole(86_400.0) => format!("{:.0} d", seconds / 86_400.0),
        _ => human_seconds(seconds),
    }
}

/// Curve of load over time, with `most` as the top of the scale.
fn curve(out: &mut String, title: &str, outcome: &Outcome, duration_s: u64, most: f64) {
    let load = &outcome.origin_load_bps;
    let _ = writeln!(out, "<h2>{}</h2>", escape(title));
    if load.iter().all(|it| *it <= 0.0) {
        out.push_str("<p>Nothing is asked for.</p>\n");
        return;
    }
    let scale = ticks(most);
    let top = scale.last().copied().unwrap_or(most).max(f64::MIN_POSITIVE);
    let (left, width) = (90.0, WIDTH - 100.0);
    let y = |value: f64| CHART_HEIGHT - value / top * (CHART_HEIGHT - 10.0);
    let _ = write!(
        out,
        "<svg role=img aria-label=\"{}\" viewBox=\"0 0 {WIDTH} {}\">",
        escape(title),
        CHART_HEIGHT + 24.0
    );
    for value in &scale {
        let at = y(*value);
        let _ = write!(
            out,
            "<line class=grid x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=end>{}</text>",
            left + width,
            left - 6.0,
            at + 4.0,
            human_bps(*value)
        );
    }
    for part in 0..=4 {
        let (x, anchor) = (
            left + width * f64::from(part) / 4.0,
            ["start", "middle", "middle", "middle", "end"][part as usize],
        );
        let at = tick_label(duration_s as f64 * f64::from(part) / 4.0);
        let _ =
            write!(out, "<text x=\"{x:.1}\" y=\"{}\" text-anchor={anchor}>{at}</text>", CHART_HEIGHT + 18.0);
    }
    let points = load.iter().enumerate().map(|(at, bps)| {
        let x = left + at as f64 / load.len().max(2).saturating_sub(1) as f64 * width;
        format!("{x:.1},{:.1}", y(*bps))
    });
    let _ = writeln!(
        out,
        "<line class=axis x1=\"{left}\" x2=\"{left}\" y1=\"0\" y2=\"{CHART_HEIGHT}\"/><polyline class=line points=\"{}\"/></svg>",
        points.collect::<Vec<_>>().join(" ")
    );
}

/// One bar: label, value in seconds, whether it is too long.
struct Bar {
    label: String,
    value: f64,
    is_over: bool,
}

/// Bars of seconds on one scale, with an axis.
fn chart(out: &mut String, title: &str, bars: &[Bar]) {
    if bars.is_empty() {
        return;
    }
    let most = bars.iter().map(|bar| bar.value).filter(|it| it.is_finite()).fold(0.0, f64::max);
    let scale = time_ticks(most);
    let top = scale.last().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
    let (width, height) = (WIDTH - LABEL_WIDTH - 120.0, bars.len() as f64 * ROW_HEIGHT);
    let _ = write!(
        out,
        "<h2>{0}</h2>\n<svg role=img aria-label=\"{0}\" viewBox=\"0 0 {WIDTH} {1}\">",
        escape(title),
        height + 24.0
    );
    for value in &scale {
        let x = LABEL_WIDTH + value / top * width;
        let _ = write!(
            out,
            "<line class=grid x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=middle>{}</text>",
            height + 18.0,
            tick_label(*value)
        );
    }
    for (row, bar) in bars.iter().enumerate() {
        let (y, length) = (row as f64 * ROW_HEIGHT, (bar.value.min(top) / top * width).max(1.0));
        let colour = if bar.is_over { "--no" } else { "--a" };
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=end>{}</text><rect x=\"{LABEL_WIDTH}\" y=\"{:.1}\" width=\"{length:.1}\" \
             height=\"{}\" style=\"fill:var({colour})\"/><text x=\"{:.1}\" y=\"{1:.1}\">{}</text>",
            LABEL_WIDTH - 8.0,
            y + 15.0,
            escape(&bar.label),
            y + 3.0,
            ROW_HEIGHT - 6.0,
            LABEL_WIDTH + length + 6.0,
            human_seconds(bar.value),
        );
    }
    out.push_str("</svg>\n");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::forecast::feasibility;
    use crate::plan::{DeductedRates, Planned, plan};

    const DATE: WallTime = WallTime::from_unix_ms(1_800_000_000_000);

    fn config(extra: &str) -> Config {
        let text = format!(
            "link.rate_bps = '1 Mbit/s'\nnip.network_name = 'Net <1>'\n{extra}\n[[source]]\npath = 'x'\nbase = 'https://h/film/'\nname = 'The <film>'\nclass = 'high'\n\
             [[source]]\npath = 'y'\nbase = 'https://h/live/'\nname = 'One'\nreserved_bps = '200 kbit/s'\n"
        );
        Config::parse(&text, Path::new("/")).unwrap_or_else(|why| panic!("{why:?}"))
    }

    fn report(objects: &[Planned], cycle_s: Option<f64>) -> String {
        let config = config("[fec.high]\ncode = 'raptorq'\noverhead_percent = 10\n");
        let taken = DeductedRates { live_bps: 200_000, cycle_s, ..DeductedRates::default() };
        let plan = plan(objects, 1_000_000, &taken);
        page(&config, DATE, Some(&plan), &feasibility(&[], 1_000_000, None), None)
    }

    fn object(name: &str, bytes: u64) -> Planned {
        Planned::new(format!("https://h/film/{name}"), bytes, bytes + bytes / 20, Class::High)
    }

    #[test]
    fn names_from_outside_stay_text_and_the_page_asks_nobody_for_anything() {
        let page = report(&[object("<script>alert(\"1\")</script>", 1000)], None);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(page.contains("Net &lt;1&gt;") && page.contains("The &lt;film&gt;"));
        assert!(page.contains("<svg") && !page.contains("src=") && !page.contains("href="));
    }

    #[test]
    fn the_verdict_comes_first_and_every_part_of_the_report_is_there() {
        let page = report(&[object("1.m4s", 1_000_000), object("2.m4s", 2_000_000)], Some(3600.0));
        let parts = [
            "Feasible.",
            "Budget of the link",
            "live, reserved",
            "Live",
            "RaptorQ",
            "Classes",
            "Titles",
            "15 January 2027, 08:00 UTC",
        ];
        for part in parts {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.find("Feasible.").unwrap() < page.find("Budget of the link").unwrap());
        let page = report(&[object("1.m4s", 100_000_000)], Some(60.0));
        assert!(page.contains("Not feasible.") && page.contains("cannot be kept"));
    }

    #[test]
    fn many_titles_and_objects_are_summed_up() {
        let objects: Vec<Planned> = (0..100).map(|at| object(&format!("{at}.m4s"), 1000 + at)).collect();
        let page = report(&objects, None);
        assert!(page.contains("… and 90 objects more"), "objects");
        assert!(page.matches("<rect").count() < 40, "a bar for each object is not a report");
    }

    #[test]
    fn scales_have_round_steps() {
        assert_eq!(ticks(100.0), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(7.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(0.0), [0.0]);
        assert!(ticks(f64::INFINITY).len() == 1);
        let labels = |most| time_ticks(most).into_iter().map(tick_label).collect::<Vec<_>>();
        assert_eq!(labels(11.06), ["0 s", "5 s", "10 s", "15 s"]);
        assert_eq!(labels(0.7), ["0 s", "0.20 s", "0.40 s", "0.60 s", "0.80 s"]);
        assert_eq!(labels(200.0), ["0 s", "1 min", "2 min", "3 min", "4 min"]);
        assert_eq!(labels(16_440.0), ["0 s", "2 h", "4 h", "6 h"]);
        assert_eq!(labels(400_000.0), ["0 s", "2 d", "4 d", "6 d"]);
        assert_eq!(tick_label(90.0), "90 s");
    }
}
