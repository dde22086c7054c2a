//! `headend check`: findings that would prevent transmission or reception, each with its fix. Sends nothing.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use carousel::config::finding::{Finding, Report, Severity};
use carousel::time::WallTime;

use crate::config::Config;
use crate::net::{interface_index, no_route};
use crate::plan::Plan;
use crate::releases::Release;
use crate::sink::UdpSink;
use crate::units::{grouped, human_bps, human_seconds};

/// Lower bound of a correct system clock: 2024-01-01.
const CLOCK_FROM_MS: i64 = 1_704_067_200_000;

/// Makes all checks. `destinations`: of packets; `planned`: the plan, or why it cannot be made; `wall`: the system clock.
pub fn examine(
    config: &Config,
    destinations: &[SocketAddr],
    planned: Result<&Plan, &str>,
    wall: WallTime,
) -> Report {
    let mut found = vec![clock(wall), ttl(config, destinations)];
    let interface = interface(config);
    // Without the interface no socket can be opened; report that only once.
    let is_missing = interface.iter().any(|it| it.severity == Severity::Error);
    found.extend(interface);
    if !is_missing {
        found.push(sockets(config, destinations));
    }
    found.extend(listeners(config));
    found.extend(token(config));
    found.extend(signing(config, wall));
    found.extend(firmware(config, wall));
    found.extend(once_each(destinations.iter().filter_map(|destination| route(config, *destination))));
    found.push(match planned {
        Ok(plan) => the_plan(config, plan),
        Err(why) => Finding::of_message(Severity::Error, "sources", why),
    });
    Report::new(found)
}

/// Warning for a transmission whose clock is wrong.
pub(crate) fn clock_warning(wall: WallTime) -> Option<String> {
    let finding = clock(wall);
    let is_wrong = finding.severity != Severity::Fine;
    is_wrong.then(|| format!("the clock is wrong: {}; {}", finding.what, finding.fix))
}

fn clock(wall: WallTime) -> Finding {
    if wall.unix_ms() < CLOCK_FROM_MS {
        let fix = "set it by NTP: FDT Instances expire by it, and object identifiers are made from it";
        return Finding::new(Severity::Error, "clock", "it is before 2024", fix);
    }
    Finding::fine("clock", "plausible")
}

fn ttl(config: &Config, destinations: &[SocketAddr]) -> Finding {
    let is_local = destinations.iter().all(|it| it.ip().is_loopback()) || config.output.interface == "lo";
    let about = "ttl";
    match config.output.ttl {
        0 => Finding::new(
            Severity::Error,
            about,
            "0: no packet leaves this machine",
            "[output] ttl = 8, or the number of routers on the way",
        ),
        1 if !is_local => Finding::new(
            Severity::Warning,
            about,
            "1: packets end at the first router",
            "[output] ttl = 8 where a router or modem stands between here and the uplink",
        ),
        ttl => Finding::fine(about, format!("{ttl} routers at most")),
    }
}

/// Checks the interface for multicast: present, up, fast enough.
fn interface(config: &Config) -> Vec<Finding> {
    let name = &config.output.interface;
    if name.is_empty() || name.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    let about = format!("interface {name}");
    if let Err(why) = interface_index(name) {
        return vec![Finding::of_message(Severity::Error, about, &why)];
    }
    let read = |file: &str| fs::read_to_string(format!("/sys/class/net/{name}/{file}")).unwrap_or_default();
    let flags = u32::from_str_radix(read("flags").trim().trim_start_matches("0x"), 16).unwrap_or(0);
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    if !has(libc::IFF_UP) {
        return vec![Finding::new(Severity::Error, about, "it is down", format!("`ip link set {name} up`"))];
    }
    if !has(libc::IFF_MULTICAST) && !has(libc::IFF_LOOPBACK) {
        let fix = format!("`ip link set {name} multicast on`");
        return vec![Finding::new(Severity::Error, about, "multicast is off", fix)];
    }
    if read("carrier").trim() == "0" {
        let fix = "look at the cable, or at what is at its other end";
        return vec![Finding::new(Severity::Error, about, "no carrier", fix)];
    }
    let mbps: u64 = read("speed").trim().parse().unwrap_or(0);
    if mbps > 0 && config.link.rate_bps > mbps * 1_000_000 {
        let what = format!(
            "it carries {mbps} Mbit/s, and [link] rate_bps is {}",
            human_bps(config.link.rate_bps as f64)
        );
        let fix = "lower [link] rate_bps to what the uplink takes, or use a faster interface";
        return vec![Finding::new(Severity::Error, about, what, fix)];
    }
    vec![Finding::fine(about, "up, multicast")]
}

/// Finding about the signer; errors of the keys are reported with the sources, which are not read without it.
fn signing(config: &Config, wall: WallTime) -> Option<Finding> {
    const SOON_DAYS: i64 = 14;
    let sealer = crate::signing::sealer(config, wall).ok()??;
    let what = crate::signing::describe(&sealer);
    let soon = wall.plus_ms(SOON_DAYS * 86_400_000).unix_seconds();
    Some(if sealer.certificate().until < soon {
        let fix = format!("`headend keygen{} --rotate` makes the next online key", config.keys_flag());
        Finding::new(Severity::Warning, "signing", what, &fix)
    } else {
        Finding::fine("signing", what)
    })
}

/// Checks that bundles on offer are unchanged.
fn firmware(config: &Config, wall: WallTime) -> Vec<Finding> {
    let (releases, problems) = crate::releases::read(config, wall.unix_seconds());
    let of_release = |it: &Release| {
        let about = format!("firmware {}", it.id());
        match crate::releases::fault(it) {
            None => Finding::fine(about, "its file is what was offered"),
            Some(fault) => Finding::new(Severity::Error, about, fault.what, &fault.fix),
        }
    };
    let problems = problems.iter().map(|why| Finding::new(Severity::Warning, "firmware", why, ""));
    releases.iter().map(of_release).chain(problems).collect()
}

/// Checks that this user may open sockets with the options of `[output]`.
fn sockets(config: &Config, destinations: &[SocketAddr]) -> Finding {
    match UdpSink::open(&config.output, destinations) {
        Ok(_) => Finding::fine("sockets", "can be opened with ttl, dscp and interface of [output]"),
        Err(why) => Finding::of_message(Severity::Error, "sockets", &why),
    }
}

/// Checks that the ports of `[metrics]` and `[ingest]` are free, or used by the `send` of this configuration.
fn listeners(config: &Config) -> Vec<Finding> {
    let ports = [
        ("metrics.listen", config.metrics.as_ref().map(|it| it.listen)),
        ("ingest.listen", config.ingest.as_ref().map(|it| it.listen)),
    ];
    let ports: Vec<_> = ports.into_iter().filter_map(|(key, address)| Some((key, address?))).collect();
    if let [(one, a), (other, b)] = ports[..]
        && a == b
    {
        let what = format!("{one} has the same address");
        return vec![Finding::new(
            Severity::Error,
            format!("{other} {b}"),
            what,
            "give one of them another port",
        )];
    }
    let is_sent = config.file.as_ref().is_some_and(|file| crate::status::ask(file).is_ok());
    let tried = |(key, address): (&str, SocketAddr)| {
        let about = format!("{key} {address}");
        match TcpListener::bind(address) {
            Ok(_) => Finding::fine(about, "free"),
            Err(err) if err.kind() == ErrorKind::AddrInUse && is_sent => {
                Finding::fine(about, "the running `headend send` of this configuration has it")
            }
            Err(err) if err.kind() == ErrorKind::AddrInUse => {
                let fix = format!(
                    "give another port, or end the program that has it: `ss -ltnp 'sport = {}'`",
                    address.port()
                );
                Finding::new(Severity::Error, about, "another program listens there", fix)
            }
            Err(err) if err.kind() == ErrorKind::AddrNotAvailable => Finding::new(
                Severity::Error,
                about,
                "this machine has no such address",
                "name one that `ip address` shows",
            ),
            Err(err) if err.kind() == ErrorKind::PermissionDenied => {
                let fix = "give a port from 1024, which needs no right";
                Finding::new(Severity::Error, about, "this user may not listen there", fix)
            }
            Err(err) => {
                Finding::new(Severity::Error, about, carousel::config::plain(&err), "give another address")
            }
        }
    };
    ports.into_iter().map(tried).collect()
}

/// Checks that the token of packagers can be read.
fn token(config: &Config) -> Option<Finding> {
    let file = config.ingest.as_ref()?.token_file.as_ref()?;
    Some(match crate::ingest::read_token(file) {
        Ok(_) => Finding::fine("token", "ingest.token_file can be read"),
        Err(why) => Finding::of_message(Severity::Error, "token", &why),
    })
}

/// Checks the route to a destination. A group needs none if the interface is configured.
fn route(config: &Config, destination: SocketAddr) -> Option<Finding> {
    if destination.ip().is_multicast() && !config.output.interface.is_empty() {
        return None;
    }
    let any: IpAddr = if destination.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let tried = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(destination)?;
        socket.local_addr()
    });
    let about = format!("route to {destination}");
    Some(match tried {
        Ok(own) if destination.ip().is_multicast() => Finding::fine(about, format!("from {}", own.ip())),
        Ok(own) => {
            let what =
                format!("from {}, to one host: {} is not a multicast group", own.ip(), destination.ip());
            Finding::new(
                Severity::Warning,
                about,
                what,
                "give a group, such as one of 239.0.0.0/8, if several boxes are to receive",
            )
        }
        Err(err) if matches!(err.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) => {
            Finding::new(Severity::Error, about, "there is none", no_route(destination))
        }
        Err(err) => {
            let what = carousel::config::without_numbers(&err);
            Finding::new(Severity::Error, about, what, no_route(destination))
        }
    })
}

/// Errors of several destinations that have one cause and one fix are one finding.
fn once_each(found: impl Iterator<Item = Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for it in found {
        let is_same = |of: &&mut Finding| {
            (of.severity, it.severity, &of.what, &of.fix)
                == (Severity::Error, Severity::Error, &it.what, &it.fix)
        };
        match all.iter_mut().find(is_same) {
            Some(first) => {
                first.about.push_str(", ");
                first.about.push_str(it.about.trim_start_matches("route to "));
            }
            None => all.push(it),
        }
    }
    all
}

/// Compares the link's rate with the plan.
fn the_plan(config: &Config, plan: &Plan) -> Finding {
    if let Some(refusal) = plan.refusal() {
        let fix = format!("`headend plan{}` shows what would work", config.flag());
        return Finding::new(Severity::Error, "link", refusal, &fix);
    }
    let firmware = match plan.firmware_share {
        0.0 => String::new(),
        share => format!("firmware {:.1} %, ", share * 100.0),
    };
    let live = match plan.live_share {
        0.0 => String::new(),
        share => format!("live {:.0} %, ", share * 100.0),
    };
    let media = match plan.scheduled() {
        0 => plan.unscheduled().to_owned(),
        1 => format!("1 object of media comes round within {}", human_seconds(plan.cycle_s)),
        count => {
            let cycle = human_seconds(plan.cycle_s);
            format!("each of {} objects of media comes round within {cycle}", grouped(count))
        }
    };
    let what = format!(
        "{}: {media}; {live}{firmware}signalling {:.1} %",
        human_bps(plan.rate_bps as f64),
        plan.signalling_share * 100.0
    );
    Finding::fine("link", what)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::{Class, DeductedRates, Planned, plan};

    const NOW: WallTime = WallTime::from_unix_ms(CLOCK_FROM_MS);

    #[test]
    fn destinations_with_one_fault_are_one_finding() {
        let of =
            |to: &str, severity, what: &str| Finding::new(severity, format!("route to {to}"), what, "fix");
        let found = [
            of("224.0.0.9:1", Severity::Error, "none"),
            of("10.0.0.1:1", Severity::Warning, "none"),
            of("224.0.0.9:2", Severity::Error, "none"),
            of("10.0.0.2:1", Severity::Warning, "none"),
            of("224.0.0.9:3", Severity::Error, "another"),
        ];
        let abouts: Vec<String> = once_each(found.into_iter()).into_iter().map(|it| it.about).collect();
        assert_eq!(
            abouts,
            [
                "route to 224.0.0.9:1, 224.0.0.9:2",
                "route to 10.0.0.1:1",
                "route to 10.0.0.2:1",
                "route to 224.0.0.9:3"
            ]
        );
    }

    fn findings(output: &str, rate_bps: u64) -> Vec<Finding> {
        let text = format!(
            "link.rate_bps = {rate_bps}\n[output]\n{output}\n[[source]]\npath = \"x\"\nbase = \"http://h/\"\n"
        );
        let config = Config::parse(&text, Path::new("/")).unwrap();
        let object = Planned::new("http://h/a".to_owned(), 1_000_000, 1_100_000, Class::Medium);
        let taken = DeductedRates { cycle_s: Some(60.0), ..DeductedRates::default() };
        let plan = plan(&[object], rate_bps, &taken);
        examine(&config, &["239.1.2.3:5000".parse().unwrap()], Ok(&plan), NOW).0
    }

    fn severity(findings: &[Finding], about: &str) -> Severity {
        let finding = findings.iter().find(|it| it.about.starts_with(about));
        finding.unwrap_or_else(|| panic!("{about}: {findings:?}")).severity
    }

    #[test]
    fn each_mistake_has_a_finding_and_what_is_right_has_none_that_is_bad() {
        let good = findings("interface = \"lo\"\nttl = 4", 8_000_000);
        assert!(good.iter().all(|it| it.severity == Severity::Fine), "{good:?}");
        for (output, rate_bps, about) in [
            ("interface = \"nonesuch9\"", 8_000_000, "interface nonesuch9"),
            // TEST-NET-3 is on no machine.
            ("interface = \"203.0.113.9\"", 8_000_000, "sockets"),
            ("source = \"203.0.113.9\"", 8_000_000, "sockets"),
            ("interface = \"lo\"\nttl = 0", 8_000_000, "ttl"),
            ("interface = \"lo\"", 10_000, "link"),
        ] {
            let found = findings(output, rate_bps);
            assert_eq!(severity(&found, about), Severity::Error, "{output}");
            let finding = found.iter().find(|it| it.about.starts_with(about)).unwrap();
            assert!(!finding.fix.is_empty() && !finding.fix.contains("run as a user"), "{finding}");
            let errors = found.iter().filter(|it| it.severity == Severity::Error);
            assert_eq!(errors.count(), 1, "one mistake, one error: {found:?}");
        }
        assert_eq!(
            severity(&findings("interface = \"127.0.0.1\"\nttl = 1", 8_000_000), "ttl"),
            Severity::Warning
        );
    }

    #[test]
    fn a_clock_in_1970_is_an_error_and_a_transmission_warns_of_it() {
        let wrong = WallTime::from_unix_ms(86_400_000);
        assert_eq!(clock(wrong).severity, Severity::Error);
        let warning = clock_warning(wrong).unwrap();
        assert!(warning.contains("before 2024; set it by NTP"), "{warning}");
        assert_eq!(clock_warning(NOW), None);
    }

    #[test]
    fn live_sources_alone_have_no_cycle() {
        let text = "link.rate_bps = 8_000_000\n[[source]]\npath = \"x\"\nbase = \"http://h/\"\n";
        let config = Config::parse(text, Path::new("/")).unwrap();
        let manifest = Planned {
            max_period_s: Some(2.0),
            ..Planned::new("http://h/a.m3u8".to_owned(), 100, 110, Class::Signalling)
        };
        let live = plan(
            std::slice::from_ref(&manifest),
            8_000_000,
            &DeductedRates { live_bps: 4_000_000, ..DeductedRates::default() },
        );
        let what = the_plan(&config, &live).what;
        assert!(
            what.contains("live media are sent once, the newest first") && what.contains("live 50 %"),
            "{what}"
        );
        let table = live.to_table();
        assert!(
            !what.contains("0.00 s") && !table.contains("0.00 s") && table.contains("cycle           none: "),
            "{table}"
        );
        let nothing = plan(std::slice::from_ref(&manifest), 8_000_000, &DeductedRates::default());
        assert!(the_plan(&config, &nothing).what.contains("there are no media yet"));
        let media =
            ["a", "b"].map(|it| Planned::new(format!("http://h/{it}"), 1_000_000, 1_100_000, Class::Medium));
        let both = plan(&[media.to_vec(), vec![manifest]].concat(), 8_000_000, &DeductedRates::default());
        let what = the_plan(&config, &both).what;
        assert!(
            what.contains("each of 2 objects of media comes round within") && !what.contains("live"),
            "{what}"
        );
    }

    #[test]
    fn ports_that_others_have_are_found() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let of = |tables: &str| {
            let uploads = tables.contains("[ingest]");
            let text = format!(
                "link.rate_bps = 1_000_000\n{tables}\n[[source]]\npath = \"x\"\nbase = \"http://h/\"\ningest = {uploads}\n"
            );
            listeners(&Config::parse(&text, Path::new("/")).unwrap())
        };
        let metrics = format!("[metrics]\nlisten = \"{address}\"");
        assert_eq!(of(&metrics)[0].severity, Severity::Error);
        let ingest = format!("[ingest]\nlisten = \"{address}\"");
        let found = of(&ingest);
        assert!(found[0].severity == Severity::Error && found[0].fix.contains("another port"), "{found:?}");
        let both = of(&format!("{metrics}\n{ingest}"));
        assert!(both.len() == 1 && both[0].what.contains("same address"), "{both:?}");
        drop(taken);
        assert_eq!(of(&metrics)[0].severity, Severity::Fine);
        assert!(of("").is_empty());
    }

    #[test]
    fn a_bundle_on_offer_whose_file_is_another_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = crate::releases::tests::config(folder.path());
        let of = |version: &str| {
            let mut release = crate::releases::tests::release(folder.path(), version, b"bundle");
            release.offer.until = NOW.unix_seconds() + 60;
            crate::releases::add(&config, release, NOW.unix_seconds()).unwrap()
        };
        let [first, _] = ["1.5", "1.6"].map(of);
        fs::write(&first.path, "another").unwrap();
        let found = firmware(&config, NOW);
        let severities: Vec<_> = found.iter().map(|it| it.severity).collect();
        assert_eq!(severities, [Severity::Error, Severity::Fine]);
        assert!(found[0].what.contains("7 bytes") && found[0].fix.contains("put the file back"), "{found:?}");
    }

    #[test]
    fn a_clock_before_its_time_is_an_error() {
        assert_eq!(clock(WallTime::from_unix_ms(CLOCK_FROM_MS - 1)).severity, Severity::Error);
        assert_eq!(clock(NOW).severity, Severity::Fine);
    }

    #[test]
    fn sources_that_cannot_be_read_are_named() {
        let text = "link.rate_bps = 1_000_000\n[[source]]\npath = \"x\"\nbase = \"http://h/\"\n";
        let config = Config::parse(text, Path::new("/")).unwrap();
        let report = examine(&config, &[], Err("/x: there is nothing"), NOW);
        assert!(
            !report.is_healthy() && report.to_string().contains("sources: /x: there is nothing"),
            "{report}"
        );
    }
}
