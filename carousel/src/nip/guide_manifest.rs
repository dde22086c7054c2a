//! NIPContentGuideManifest: files of a content guide on the air, with their times and tags.
//!
//! A service list's ScheduleInfoEndpoint points to it; its tags are those of the transport sessions (`@tags` of a
//! gateway configuration) that carry the guide's files. The text of the clause was not at hand; one broadcaster's
//! manifest was.

use std::time::Duration;

use super::files::{document, finish, root, text};
use crate::time::{WallTime, duration_from_xml, duration_to_xml};
use crate::xml::{Element, XmlError, value};

/// The manifest of a content guide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuideManifest {
    /// VersionUpdate, as sent: when it was changed.
    pub version_update: String,
    /// GuideSchedule.
    pub schedules: Vec<GuideSchedule>,
}

/// Files of the guide for one span of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuideSchedule {
    /// PublishedStartTime.
    pub start: WallTime,
    /// PublishedDuration.
    pub duration: Duration,
    /// Sessions of its files.
    pub sessions: Vec<GuideSession>,
}

/// Transport sessions that carry files of the guide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuideSession {
    /// TagRef: tags of the sessions.
    pub tags: Vec<String>,
    /// CarouselMaxDataSize: bytes of all files together at most; 0 if it is not said.
    pub max_bytes: u64,
}

impl GuideSchedule {
    /// Its end.
    pub fn end(&self) -> WallTime {
        self.start.plus_ms(i64::try_from(self.duration.as_millis()).unwrap_or(i64::MAX))
    }
}

impl GuideManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// If there is another root, no GuideSchedule, or a malformed time or size.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let root = root(bytes, "NIPContentGuideManifest")?;
        let schedules = root.all("GuideSchedule").map(GuideSchedule::read);
        let schedules: Vec<_> = schedules.collect::<Result<_, _>>()?;
        if schedules.is_empty() {
            return Err(XmlError::Missing { what: "GuideSchedule", within: root.name });
        }
        Ok(Self { version_update: text(&root, "VersionUpdate"), schedules })
    }

    /// Writes the document in the 2024 namespace.
    pub fn to_xml(&self) -> String {
        let root = document("NIPContentGuideManifest").text_child("VersionUpdate", &self.version_update);
        let schedules = self.schedules.iter().map(|schedule| {
            let sessions = schedule.sessions.iter().map(|session| {
                let mut out = Element::new(&root.namespace, "GuideSession");
                for tag in &session.tags {
                    out = out.text_child("TagRef", tag);
                }
                out.text_child("CarouselMaxDataSize", session.max_bytes.to_string())
            });
            Element::new(&root.namespace, "GuideSchedule")
                .text_child("PublishedStartTime", schedule.start.to_xml())
                .text_child("PublishedDuration", duration_to_xml(schedule.duration))
                .extend(sessions)
        });
        let schedules: Vec<Element> = schedules.collect();
        finish(&root.extend(schedules))
    }
}

impl GuideSchedule {
    fn read(element: &Element) -> Result<Self, XmlError> {
        let bad = |what: &'static str, text: &str| XmlError::BadValue {
            what,
            value: text.chars().take(80).collect(),
        };
        let (start, length) = (element.need("PublishedStartTime")?, element.need("PublishedDuration")?);
        let sessions = element.all("GuideSession").map(|session| {
            let tags = session.all("TagRef").map(|tag| tag.text.clone());
            let size = session.child_text("CarouselMaxDataSize");
            Ok(GuideSession {
                tags: tags.filter(|tag| !tag.is_empty()).collect(),
                max_bytes: size.map_or(Ok(0), |size| value("CarouselMaxDataSize", size))?,
            })
        });
        Ok(Self {
            start: WallTime::from_xml(start).ok_or_else(|| bad("PublishedStartTime", start))?,
            duration: duration_from_xml(length).ok_or_else(|| bad("PublishedDuration", length))?,
            sessions: sessions.collect::<Result<_, XmlError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_broadcasters_manifest() {
        let path = "ses-capture/cg-manifest.xml";
        let file = format!("{}/../../shared/schemas/nip/{path}", env!("CARGO_MANIFEST_DIR"));
        let Ok(bytes) = std::fs::read(file) else {
            eprintln!("SKIPPED: {path} is not here");
            return;
        };
        let manifest = GuideManifest::parse(&bytes).unwrap();
        let [schedule] = manifest.schedules.as_slice() else { panic!("{manifest:?}") };
        assert_eq!(schedule.start.to_xml(), "2025-02-11T11:37:03.000Z");
        assert_eq!(schedule.end().to_xml(), "2025-02-16T11:37:03.000Z");
        let [session] = schedule.sessions.as_slice() else { panic!("{schedule:?}") };
        let tags = [
            "http://dvb.gw/ses.com/dvbi/cg/CoreSet",
            "http://dvb.gw/ses.com/dvbi/cg/CoreSetRelatedMaterials",
        ];
        assert_eq!((session.tags.as_slice(), session.max_bytes), (&tags.map(str::to_owned)[..], 204_857_600));
        assert_eq!(GuideManifest::parse(manifest.to_xml().as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn what_is_no_manifest() {
        let schedule = |inside: &str| {
            let text = format!(
                "<n:NIPContentGuideManifest xmlns:n='urn:x'><n:GuideSchedule>{inside}</n:GuideSchedule>\
                 </n:NIPContentGuideManifest>"
            );
            GuideManifest::parse(text.as_bytes())
        };
        let start = "<n:PublishedStartTime>2026-01-01T00:00:00Z</n:PublishedStartTime>";
        let length = "<n:PublishedDuration>P1D</n:PublishedDuration>";
        let read = schedule(&format!("{start}{length}<n:GuideSession><n:TagRef/></n:GuideSession>")).unwrap();
        assert_eq!(read.schedules[0].sessions, [GuideSession::default()]);
        for bad in [
            "",
            start,
            length,
            &format!("{start}<n:PublishedDuration>-P1D</n:PublishedDuration>"),
            &format!("<n:PublishedStartTime>soon</n:PublishedStartTime>{length}"),
            &format!(
                "{start}{length}<n:GuideSession><n:CarouselMaxDataSize>-1</n:CarouselMaxDataSize></n:GuideSession>"
            ),
        ] {
            schedule(bad).unwrap_err();
        }
        GuideManifest::parse(b"<NIPContentGuideManifest/>").unwrap_err();
        GuideManifest::parse(b"<NetworkInformationFile><GuideSchedule/></NetworkInformationFile>")
            .unwrap_err();
        let endless = GuideSchedule { duration: Duration::MAX, ..GuideSchedule::default() };
        assert_eq!(endless.end().unix_ms(), i64::MAX);
    }

    proptest! {
        #[test]
        fn manifests_come_back(
            version in "[ -~]{0,20}",
            schedules in proptest::collection::vec(
                (0..253_402_300_799_000_i64, 0..u64::from(u32::MAX), proptest::collection::vec(
                    (proptest::collection::vec("[!-~]{1,20}", 0..3), any::<u64>()), 0..3)), 1..4),
        ) {
            let session = |(tags, max_bytes)| GuideSession { tags, max_bytes };
            let schedule = |(start, ms, sessions): (i64, u64, Vec<_>)| GuideSchedule {
                start: WallTime::from_unix_ms(start),
                duration: Duration::from_millis(ms),
                sessions: sessions.into_iter().map(session).collect(),
            };
            let manifest = GuideManifest {
                version_update: version.trim().to_owned(),
                schedules: schedules.into_iter().map(schedule).collect(),
            };
            prop_assert_eq!(GuideManifest::parse(manifest.to_xml().as_bytes()).unwrap(), manifest);
        }

        #[test]
        fn no_document_panics(text in "<NIPContentGuideManifest>([ -~]|</?(GuideSchedule|GuideSession|TagRef|PublishedStartTime)/?>){0,40}(</NIPContentGuideManifest>)?") {
            let _ = GuideManifest::parse(text.as_bytes());
        }
    }
}
