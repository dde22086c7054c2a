//! Offers of firmware updates in the carousel.
//!
//! One document names all bundles that are on offer: the hardware that each is for, its version, length and digest, the session
//! that carries it, the maintenance window and the share of receivers. It is signed as such ([`crate::trust::Kind::Firmware`])
//! and repeated. A receiver joins the session of a bundle only if the bundle concerns it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::command::{MAX_GROUPS, is_word};
use crate::digest::Digest;
use crate::limits;
use crate::trust::{BLANK, NAMESPACE, Stream};
use crate::xml::{self, Element, XmlError};

/// Name of the document on the air.
pub const URI: &str = "urn:skycache:firmware";
/// Its MIME type.
pub const CONTENT_TYPE: &str = "application/vnd.skycache.firmware+xml";
/// MIME type of a bundle.
pub const BUNDLE_TYPE: &str = "application/vnd.rauc.bundle";
/// Service that the document and the sessions of bundles are signed for.
pub const SERVICE: &str = "firmware";
/// The rollout share that means all receivers: shares are in hundredths of a percent.
pub const EVERYBODY: u16 = 10_000;
/// Longest time over which receivers disperse their repair from an origin.
pub const LONGEST_DISPERSAL_S: u64 = 30 * 86_400;
/// Seconds of a day.
const DAY_S: u32 = 86_400;
/// Namespace of its elements.
const FIRMWARE_NAMESPACE: &str = "urn:skycache:firmware:2026";
/// Longest URL of a bundle.
const URL_BYTES: usize = 2048;
/// Prefix of the hashed bytes for the rollout share, so that no other use of an identity has the same hash.
const ROLLOUT_CONTEXT: &[u8] = b"skycache rollout 1\0";

limits! {
    /// Bundles of one document.
    pub const MAX_OFFERS: usize = 64, "bundles" {
        why: "A fleet has a few kinds of hardware, each with one or two versions on offer.",
        full: "A document with more is refused as a whole; `headend firmware` offers no more.",
        free: "When an offer ends, or is withdrawn.",
        test: "what_is_no_list_of_offers_is_refused",
    }

    /// Length of one bundle.
    pub const MAX_BUNDLE_BYTES: u64 = 4 << 30, "bytes" {
        why: "A root file system has 110 MB; vendors' images have up to 2 GB.",
        full: "A document that offers a longer one is refused as a whole.",
        free: "Holds for one bundle.",
        test: "what_is_no_list_of_offers_is_refused",
    }
}

/// Part of each day, in UTC, in which receivers install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Minute of the day with which it begins.
    pub begin_min: u16,
    /// Minute of the day with which it ends, on the next day if it is not after `begin_min`. The same minute means the
    /// entire day.
    pub end_min: u16,
}

impl Window {
    /// Reads a window such as `02:00-05:00`; the same time twice means the entire day.
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let number = |text: &str| {
                let is_plain = text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit());
                is_plain.then(|| text.parse::<u16>().ok()).flatten()
            };
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let (begin, end) = text.split_once('-')?;
        Some(Self { begin_min: minute(begin)?, end_min: minute(end)? })
    }

    /// Whether it is open all the time.
    pub const fn is_whole_day(self) -> bool {
        self.begin_min == self.end_min
    }

    /// Whether it is open at `date`, in seconds since 1970.
    pub fn is_open(self, date: u64) -> bool {
        let minute = (date % u64::from(DAY_S) / 60) as u16;
        if self.begin_min < self.end_min {
            (self.begin_min..self.end_min).contains(&minute)
        } else {
            minute >= self.begin_min || minute < self.end_min
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { begin_min, end_min } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", begin_min / 60, begin_min % 60, end_min / 60, end_min % 60)
    }
}

/// A bundle on offer. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Hardware, as RAUC's `compatible`.
    pub compatible: String,
    /// Version of its image.
    pub version: String,
    /// Name of the bundle on the air, and its URL at an origin.
    pub url: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// It may be older than the running version.
    pub allow_downgrade: bool,
    /// Share of receivers that install it, in hundredths of a percent.
    pub share: u16,
    /// Receivers that belong to one of these groups; none: all.
    pub groups: Vec<String>,
    /// Window of the installation; `None`: at any time.
    pub window: Option<Window>,
    /// Session that carries it; `None`: only an origin has it.
    pub session: Option<(SocketAddr, u64)>,
    /// Address that the session comes from; `None`: any.
    pub source: Option<IpAddr>,
    /// Time for which missing bytes are left to the carousel.
    pub repair_after_s: u64,
    /// Seconds after that within which each receiver chooses a random moment to request the bundle from the origin.
    pub repair_within_s: u64,
    /// End of its validity.
    pub until: u64,
}

impl Offer {
    /// Whether it is for a receiver of these groups.
    pub fn is_for(&self, groups: &[String]) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|it| groups.contains(it))
    }

    /// Whether the receiver of this identity is in the rollout share. A receiver that is in a share is in every greater one.
    pub fn includes(&self, identity: &[u8]) -> bool {
        place(identity, &self.sha256) % u64::from(EVERYBODY) < u64::from(self.share)
    }

    /// The receiver's part of the dispersal: its moment after `repair_after_s`, in seconds.
    pub fn repair_delay_s(&self, identity: &[u8]) -> u64 {
        // Not the number that decides the share, by which receivers of a small share would all be early.
        let number = place(identity, &self.sha256) / u64::from(EVERYBODY);
        self.repair_after_s + number % self.repair_within_s.max(1)
    }
}

/// Number of a receiver for the rollout of a bundle: in another order for each bundle.
fn place(identity: &[u8], sha256: &Digest) -> u64 {
    let mut hasher = Digest::hasher();
    hasher.update(ROLLOUT_CONTEXT);
    hasher.update(&sha256.0);
    hasher.update(identity);
    let digest = hasher.finish();
    digest.0[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The stream of the document in trust.
pub fn stream() -> Stream {
    Stream { service: SERVICE.to_owned(), name: SERVICE.to_owned(), tsi: 0 }
}

/// The document, to be sealed.
pub fn to_xml(offers: &[Offer]) -> String {
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Firmware xmlns=\"{FIRMWARE_NAMESPACE}\" xmlns:sky=\"{NAMESPACE}\"{BLANK}>\n"
    );
    for it in offers {
        let _ = write!(
            out,
            "<Bundle compatible=\"{}\" version=\"{}\" length=\"{}\" sha256=\"{}\" share=\"{}\" repairAfterS=\"{}\" repairWithinS=\"{}\" until=\"{}\"",
            it.compatible,
            it.version,
            it.length,
            it.sha256.to_hex(),
            it.share,
            it.repair_after_s,
            it.repair_within_s,
            it.until
        );
        if it.allow_downgrade {
            out.push_str(" downgrade=\"true\"");
        }
        if let Some(window) = it.window {
            let _ = write!(out, " window=\"{window}\"");
        }
        if let Some((address, tsi)) = it.session {
            let _ = write!(out, " session=\"{address}\" tsi=\"{tsi}\"");
        }
        if let Some(source) = it.source {
            let _ = write!(out, " source=\"{source}\"");
        }
        if !it.groups.is_empty() {
            let _ = write!(out, " groups=\"{}\"", it.groups.join(" "));
        }
        let _ = writeln!(out, ">{}</Bundle>", xml::escape(&it.url));
    }
    out.push_str("</Firmware>\n");
    out
}

/// Reads the document.
///
/// # Errors
/// If the document is malformed.
pub fn read(document: &[u8]) -> Result<Vec<Offer>, XmlError> {
    let root = xml::parse(document)?;
    if root.name != "Firmware" {
        return Err(XmlError::Missing { what: "Firmware", within: root.name });
    }
    let mut offers = Vec::new();
    for element in root.all("Bundle") {
        if offers.len() >= MAX_OFFERS {
            return Err(XmlError::TooLarge("MAX_OFFERS"));
        }
        offers.push(offer(element)?);
    }
    Ok(offers)
}

/// Whether a text is a version that names of images may contain: letters, digits, `.`, `-`, `~` and `^`.
pub fn is_version(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'~' | b'^');
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Whether a text is the URL of a bundle.
pub fn is_url(text: &str) -> bool {
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    is_web && text.len() <= URL_BYTES && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

fn offer(element: &Element) -> Result<Offer, XmlError> {
    let bad = |what, value: &str| XmlError::BadValue { what, value: value.to_owned() };
    let text = |what: &'static str| element.attribute(what).unwrap_or_default();
    let number = |what: &'static str| text(what).parse::<u64>().map_err(|_| bad(what, text(what)));
    let fit = |what: &'static str, is_fit: bool| if is_fit { Ok(()) } else { Err(bad(what, text(what))) };
    fit("compatible", is_word(text("compatible")))?;
    fit("version", is_version(text("version")))?;
    let length = number("length")?;
    fit("length", (1..=MAX_BUNDLE_BYTES).contains(&length))?;
    let sha256 = Digest::from_hex(text("sha256")).ok_or_else(|| bad("sha256", text("sha256")))?;
    let share = u16::try_from(number("share")?).ok().filter(|it| *it <= EVERYBODY);
    let share = share.ok_or_else(|| bad("share", text("share")))?;
    let window = match element.attribute("window") {
        Some(window) => Some(Window::parse(window).ok_or_else(|| bad("window", window))?),
        None => None,
    };
    let session = match element.attribute("session") {
        Some(address) => {
            let parsed: SocketAddr = address.parse().map_err(|_| bad("session", address))?;
            fit("session", parsed.port() != 0 && parsed.ip().is_multicast())?;
            Some((parsed, number("tsi")?))
        }
        None => None,
    };
    let source = match element.attribute("source") {
        Some(source) => Some(source.parse().map_err(|_| bad("source", source))?),
        None => None,
    };
    let groups: Vec<String> = text("groups").split_whitespace().map(str::to_owned).collect();
    if groups.len() > MAX_GROUPS {
        return Err(XmlError::TooLarge("MAX_GROUPS"));
    }
    fit("groups", groups.iter().all(|it| is_word(it)))?;
    let url = element.text.trim();
    if !is_url(url) {
        return Err(bad("url", url));
    }
    Ok(Offer {
        compatible: text("compatible").to_owned(),
        version: text("version").to_owned(),
        url: url.to_owned(),
        length,
        sha256,
        allow_downgrade: text("downgrade") == "true",
        share,
        groups,
        window,
        session,
        source,
        repair_after_s: number("repairAfterS")?.min(LONGEST_DISPERSAL_S),
        repair_within_s: number("repairWithinS")?.min(LONGEST_DISPERSAL_S),
        until: number("until")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Instant, WallTime};
    use crate::trust::tests::{ROOT, sealer};
    use crate::trust::{Allowance, Edition, Judged, Kind, Mode, Policy, Trust, TrustDrop};

    fn bundle() -> Offer {
        Offer {
            compatible: "skycache-x86_64".to_owned(),
            version: "1.5~rc1".to_owned(),
            url: "https://cdn.example.com/firmware/a.raucb?x=1&y=2".to_owned(),
            length: 150_000_000,
            sha256: Digest::of(b"bundle"),
            allow_downgrade: true,
            share: 100,
            groups: vec!["north".to_owned(), "lab-2".to_owned()],
            window: Window::parse("23:30-05:00"),
            session: Some(("239.192.49.2:49003".parse().unwrap(), 100)),
            source: Some("10.0.0.7".parse().unwrap()),
            repair_after_s: 259_200,
            repair_within_s: 86_400,
            until: 10_000,
        }
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let plain = Offer {
            allow_downgrade: false,
            groups: Vec::new(),
            window: None,
            session: None,
            source: None,
            share: EVERYBODY,
            ..bundle()
        };
        let both = [bundle(), plain];
        assert_eq!(read(to_xml(&both).as_bytes()), Ok(both.to_vec()));
        assert_eq!(read(to_xml(&[]).as_bytes()), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_list_of_offers_is_refused() {
        let good = to_xml(&[bundle()]);
        assert!(read(good.as_bytes()).is_ok());
        let sha256 = bundle().sha256.to_hex();
        let long = format!("length=\"{}\"", MAX_BUNDLE_BYTES + 1);
        for (from, to) in [
            ("Firmware ", "Software "),
            ("skycache-x86_64", "../x"),
            ("1.5~rc1", "1.5_b+3"),
            ("length=\"150000000\"", long.as_str()),
            ("length=\"150000000\"", "length=\"0\""),
            (sha256.as_str(), &sha256[2..]),
            ("share=\"100\"", "share=\"10001\""),
            ("share=\"100\"", "share=\"-1\""),
            ("23:30-05:00", "23:30-24:00"),
            ("23:30-05:00", "23:30"),
            ("239.192.49.2:49003", "10.0.0.1:49003"),
            ("239.192.49.2:49003", "239.192.49.2:0"),
            ("tsi=\"100\"", "tsi=\"x\""),
            ("10.0.0.7", "10.0.0"),
            ("north", "no/rth"),
            ("https://", "file://"),
            ("until=\"10000\"", "until=\"soon\""),
        ] {
            assert!(read(good.replace(from, to).as_bytes()).is_err(), "{from} {to}");
        }
        let many = vec![bundle(); MAX_OFFERS + 1];
        assert!(read(to_xml(&many[1..]).as_bytes()).is_ok());
        assert!(read(to_xml(&many).as_bytes()).is_err());
        let groups: Vec<String> = (0..=MAX_GROUPS).map(|it| format!("group-{it}")).collect();
        let most = Offer { groups: groups[1..].to_vec(), ..bundle() };
        assert_eq!(read(to_xml(std::slice::from_ref(&most)).as_bytes()), Ok(vec![most]));
        assert_eq!(
            read(to_xml(&[Offer { groups, ..bundle() }]).as_bytes()),
            Err(XmlError::TooLarge("MAX_GROUPS"))
        );
        let longest = Offer { length: MAX_BUNDLE_BYTES, ..bundle() };
        assert!(read(to_xml(&[longest]).as_bytes()).is_ok());
    }

    #[test]
    fn windows_may_span_midnight_and_be_the_whole_day() {
        let at = |text: &str, hours: u64, minutes: u64| {
            Window::parse(text).unwrap().is_open(20_000 * 86_400 + hours * 3600 + minutes * 60 + 59)
        };
        assert!(at("02:00-05:00", 2, 0) && at("02:00-05:00", 4, 59));
        assert!(!at("02:00-05:00", 1, 59) && !at("02:00-05:00", 5, 0));
        assert!(at("23:30-05:00", 23, 30) && at("23:30-05:00", 0, 0) && at("23:30-05:00", 4, 59));
        assert!(!at("23:30-05:00", 23, 29) && !at("23:30-05:00", 5, 0));
        assert!(at("00:00-00:00", 0, 0) && at("04:00-04:00", 3, 59));
        let is_whole_day = |text: &str| Window::parse(text).unwrap().is_whole_day();
        assert!(is_whole_day("04:00-04:00") && !is_whole_day("04:00-03:59"));
    }

    /// Of 20,000 receivers, the parts that are in a share; each share contains the smaller ones; another bundle begins with
    /// other receivers.
    #[test]
    fn shares_are_of_their_size_and_monotone() {
        let mut counts = [0_u32; 4];
        let (mut first, mut both) = (0, 0);
        for number in 0..20_000_u32 {
            let identity = Digest::of(&number.to_be_bytes()).0;
            let of = |share, sha256| Offer { share, sha256, ..bundle() }.includes(&identity);
            let sha256 = bundle().sha256;
            let is_in = [0, 100, 1000, EVERYBODY].map(|share| of(share, sha256));
            assert!(is_in.windows(2).all(|pair| pair[0] <= pair[1]));
            counts.iter_mut().zip(is_in).for_each(|(count, is_in)| *count += u32::from(is_in));
            let next = of(1000, Digest::of(b"another"));
            first += u32::from(next);
            both += u32::from(next && is_in[2]);
        }
        assert!(counts[0] == 0 && counts[3] == 20_000, "{counts:?}");
        assert!((150..250).contains(&counts[1]) && (1850..2150).contains(&counts[2]), "{counts:?}");
        assert!((1850..2150).contains(&first) && (140..260).contains(&both), "{first} {both}");
    }

    #[test]
    fn receivers_are_dispersed_whatever_their_share() {
        let offer = Offer { share: 100, ..bundle() };
        let identities = (0..20_000_u32).map(|number| Digest::of(&number.to_be_bytes()).0);
        let inside: Vec<[u8; 32]> = identities.filter(|it| offer.includes(it)).collect();
        let mean = inside.iter().map(|it| offer.repair_delay_s(it)).sum::<u64>() / inside.len() as u64;
        let expected = 259_200 + 43_200;
        assert!(mean.abs_diff(expected) < 6000, "{mean}");
        assert_eq!(Offer { repair_within_s: 0, ..offer }.repair_delay_s(&inside[0]), 259_200);
    }

    #[test]
    fn a_command_is_no_offer_and_older_documents_do_not_come_back() {
        let trust = Trust::new(Policy { keys: vec![ROOT.public()], ..Policy::default() });
        let sealer = sealer(2, (0, 1));
        let edition = |version| Edition { version, issued: 1000, until: 10_000, ..Edition::default() };
        let text = to_xml(&[bundle()]);
        let judge = |bytes: &str| {
            let judged = Judged {
                kind: Kind::Firmware,
                bytes: bytes.as_bytes(),
                tsi: None,
                mode: Mode::Require,
                allowance: Allowance::Caller,
            };
            trust.judge(Instant::default(), Some(WallTime::from_unix_ms(2_000_000)), &judged).map(|_| ())
        };
        let sealed = |kind, version| sealer.seal_xml(kind, &stream(), &edition(version), &text);
        assert_eq!(judge(&sealed(Kind::Firmware, 5)), Ok(()));
        assert_eq!(judge(&sealed(Kind::Firmware, 4)), Err(TrustDrop::Replayed));
        assert_eq!(judge(&sealed(Kind::Command, 6)), Err(TrustDrop::BadSignature));
        let forged = sealed(Kind::Firmware, 7).replace("share=\"100\"", "share=\"10000\"");
        assert_eq!(judge(&forged), Err(TrustDrop::BadSignature));
    }
}
