use std::fs;
use std::io::Write as _;
use std::path::Path;

use carousel::time::WallTime;

use super::*;
use crate::clock::VirtualClocks;

const WALL: WallTime = WallTime::from_unix_ms(1_795_219_200_000);

fn config(folder: &Path) -> Config {
    let text = format!(
        "[link]\nrate_bps = 8_000_000\n[[source]]\npath = {:?}\nbase = \"https://cdn.example.com/\"\n",
        folder.display()
    );
    Config::parse(&text, Path::new(".")).unwrap_or_else(|why| panic!("{why:?}"))
}

/// A playlist of fragmented media with an init segment.
fn package(folder: &Path, segments: &[u32]) {
    let mut list =
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"init.mp4\"\n".to_owned();
    for at in segments {
        list += &format!("#EXTINF:2,\n{at}.m4s\n");
        let file = folder.join(format!("{at}.m4s"));
        if !file.exists() {
            fs::write(file, vec![*at as u8; 1000]).unwrap();
        }
    }
    let init = folder.join("init.mp4");
    if !init.exists() {
        fs::write(init, [1; 100]).unwrap();
    }
    fs::write(folder.join("live.m3u8"), list).unwrap();
}

/// As [`package`], by files that were written a minute ago: those that a watch finds are finished then.
fn old_package(folder: &Path, segments: &[u32]) {
    package(folder, segments);
    let minute_ago = std::time::SystemTime::now() - Duration::from_secs(60);
    for entry in fs::read_dir(folder).unwrap() {
        let file = fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(minute_ago).unwrap();
    }
}

/// The following part without its thread, and the receiver of its updates.
fn following(folder: &Path) -> (FollowerState, Receiver<Update>) {
    let config = config(folder);
    let known = crate::prepare::read_source(&config.sources[0], false).unwrap();
    let (sender, updates) = sync_channel(100);
    let sources = vec![FollowedSource::new(&config.sources[0], known)];
    let clocks = Arc::new(VirtualClocks::new(WALL));
    let following = FollowerState {
        config,
        sources,
        catalog: None,
        commands: Vec::new(),
        firmware: Vec::new(),
        clocks,
        lost: Lost::default(),
        updates: sender,
    };
    (following, updates)
}

/// The updates so far, as words.
fn words(updates: &Receiver<Update>) -> Vec<String> {
    let word = |update| match update {
        Update::Changed { mut removed, .. } => {
            removed.sort();
            format!("changed -{}", removed.join(","))
        }
        Update::Ready { prepared, .. } => format!("ready {}", prepared.object.path),
        Update::Piece { piece, .. } => {
            let is_last = if piece.piece.is_last { " last" } else { "" };
            format!("piece {} {}+{}{is_last}", piece.path, piece.piece.offset, piece.piece.bytes.len())
        }
        Update::Abandoned { path, .. } => format!("abandoned {path}"),
        Update::Settled { .. } => "settled".to_owned(),
        Update::Condition { condition, .. } => condition.as_str().to_owned(),
        Update::Commands(commands) => format!("{} commands", commands.len()),
        Update::Firmware(firmware) => format!("{} bundles", firmware.len()),
        Update::Catalog(_) => "catalog".to_owned(),
    };
    let mut all: Vec<String> = updates.try_iter().map(word).collect();
    let end = all.len().saturating_sub(1);
    if let Some(ready) = all.get_mut(1..end) {
        ready.sort();
    }
    all
}

#[test]
fn a_change_is_told_in_the_order_in_which_it_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    old_package(folder.path(), &[1, 2]);
    let (mut following, updates) = following(folder.path());
    following.look(0).unwrap();
    assert!(words(&updates).is_empty(), "nothing is new");
    package(folder.path(), &[2, 3]);
    fs::remove_file(folder.path().join("1.m4s")).unwrap();
    following.look(0).unwrap();
    // What is replaced stays until its successor is ready.
    assert_eq!(words(&updates), ["changed -1.m4s", "ready 3.m4s", "ready live.m3u8", "settled"]);
    following.look(0).unwrap();
    assert!(words(&updates).is_empty(), "once");
}

#[test]
fn files_that_were_new_when_sending_began_stay_on_the_air() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), &[1, 2]);
    let (mut following, updates) = following(folder.path());
    following.look(0).unwrap();
    assert!(words(&updates).is_empty(), "they are as they were read");
    // One that is written to since is not whole.
    let mut file = fs::File::options().append(true).open(folder.path().join("2.m4s")).unwrap();
    file.write_all(&[0]).unwrap();
    following.look(0).unwrap();
    assert_eq!(words(&updates)[..1], ["changed -2.m4s"]);
    drop(file);
}

#[test]
fn a_file_that_left_the_air_comes_back_although_nothing_else_changed() {
    let folder = tempfile::tempdir().unwrap();
    old_package(folder.path(), &[1, 2]);
    let (mut following, updates) = following(folder.path());
    following.look(0).unwrap();
    following.take_lost(vec![(0, "2.m4s".to_owned())]);
    following.look(0).unwrap();
    assert_eq!(words(&updates), ["changed -", "ready 2.m4s", "settled"]);
    following.take_lost(vec![(0, "unknown.m4s".to_owned())]);
    following.look(0).unwrap();
    assert!(words(&updates).is_empty());
}

#[test]
fn nobody_who_reads_updates_ends_the_thread() {
    let folder = tempfile::tempdir().unwrap();
    old_package(folder.path(), &[1]);
    let (mut following, updates) = following(folder.path());
    drop(updates);
    assert_eq!(following.look(0), Some(()), "nothing to say");
    package(folder.path(), &[1, 2]);
    assert_eq!(following.look(0), None);
}

#[test]
fn an_init_segment_that_is_emptied_stays_for_the_time_of_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    old_package(folder.path(), &[1]);
    let (mut following, _updates) = following(folder.path());
    let source = &mut following.sources[0];
    assert!(source.known.objects.contains_key("init.mp4"));
    fs::write(folder.path().join("init.mp4"), []).unwrap();
    let mut has_init = |now_ns: u64| {
        let inventory = {
            source.look();
            source.lost.insert("unknown".to_owned());
            source.read(now_ns, 0).unwrap()
        };
        (inventory.objects.contains_key("init.mp4"), source.is_unsettled)
    };
    assert_eq!(has_init(5), (true, true), "and it is looked at again without an event");
    assert_eq!(has_init(5 + KEEP_NS - 1), (true, true));
    assert_eq!(has_init(5 + KEEP_NS), (false, false), "then it goes");
}

#[test]
fn segments_are_not_kept_when_their_file_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    old_package(folder.path(), &[1, 2]);
    let (mut following, _updates) = following(folder.path());
    fs::write(folder.path().join("2.m4s"), []).unwrap();
    let inventory = {
        following.sources[0].look();
        following.sources[0].read(0, 0).unwrap()
    };
    assert!(!inventory.objects.contains_key("2.m4s") && inventory.objects.contains_key("init.mp4"));
}

#[test]
fn a_source_that_appears_later_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let later = folder.path().join("later");
    let config = config(&later);
    let mut source = FollowedSource::new(&config.sources[0], Inventory::default());
    source.look();
    assert!(source.reading.is_none() && source.read(0, 0).is_none());
    fs::create_dir(&later).unwrap();
    old_package(&later, &[1]);
    source.look();
    let inventory = source.read(0, 0).unwrap();
    assert!(inventory.objects.contains_key("1.m4s"));
}

#[test]
fn the_handle_passes_on_what_was_lost_and_what_came() {
    let (sender, updates) = sync_channel(1);
    let follower = Follower { updates, lost: Lost::default() };
    assert!(matches!(follower.poll(), Ok(None)));
    sender.send(Update::Settled { source: 0 }).unwrap();
    assert!(matches!(follower.poll(), Ok(Some(Update::Settled { source: 0 }))));
    follower.report_lost(vec![(0, "a".to_owned())]);
    follower.report_lost(vec![(1, "b".to_owned())]);
    assert_eq!(*lock(&follower.lost), [(0, "a".to_owned()), (1, "b".to_owned())]);
    assert_eq!(follower.updates.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn the_end_of_the_thread_is_seen_behind_its_last_update() {
    let (sender, updates) = sync_channel(1);
    let follower = Follower { updates, lost: Lost::default() };
    assert!(matches!(follower.poll(), Ok(None)));
    sender.send(Update::Settled { source: 0 }).unwrap();
    drop(sender);
    assert!(matches!(follower.poll(), Ok(Some(Update::Settled { source: 0 }))));
    assert!(matches!(follower.poll(), Err(Ended)));
}

#[test]
fn a_bundle_is_prepared_again_when_its_file_or_its_offer_is_another() {
    use crate::releases::tests::{config, release};
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (sender, updates) = sync_channel(100);
    let mut following = FollowerState {
        config: config.clone(),
        sources: Vec::new(),
        catalog: None,
        commands: Vec::new(),
        firmware: Vec::new(),
        clocks: Arc::new(VirtualClocks::new(WallTime::from_unix_ms(50_000))),
        lost: Lost::default(),
        updates: sender,
    };
    /// Report of a scan for each bundle.
    fn look(following: &mut FollowerState, updates: &Receiver<Update>) -> Option<Vec<&'static str>> {
        following.check_firmware().unwrap();
        let Ok(Update::Firmware(all)) = updates.try_recv() else { return None };
        let kinds = all.into_iter().map(|it| match it.bundle {
            Bundle::Same => "same",
            Bundle::New(_) => "new",
            Bundle::Unusable => "unusable",
        });
        Some(kinds.collect())
    }
    let offer = |bytes: &[u8]| releases::add(&config, release(folder.path(), "1.5", bytes), 50).unwrap();
    let one = offer(b"one");
    assert_eq!(look(&mut following, &updates), Some(vec!["new"]));
    assert_eq!(look(&mut following, &updates), None, "nothing has changed");
    releases::set_share(&config, &one.id(), 5000, 50).unwrap();
    assert_eq!(look(&mut following, &updates), Some(vec!["same"]));
    // Withdrawn and offered again between two looks, with another file of the same name.
    releases::withdraw(&config, &one.id()).unwrap();
    offer(b"two");
    assert_eq!(look(&mut following, &updates), Some(vec!["new"]));
    // The file is overwritten while it is on offer, and put back: both are seen, without another offer.
    fs::write(&one.path, b"odd").unwrap();
    assert_eq!(look(&mut following, &updates), Some(vec!["unusable"]));
    fs::remove_file(&one.path).unwrap();
    assert_eq!(look(&mut following, &updates), Some(vec!["unusable"]));
    fs::write(&one.path, b"two").unwrap();
    assert_eq!(look(&mut following, &updates), Some(vec!["new"]));
    // The same bytes under another name.
    releases::withdraw(&config, &one.id()).unwrap();
    let renamed = folder.path().join("1.5 b.raucb");
    fs::rename(&one.path, &renamed).unwrap();
    let mut again = release(folder.path(), "1.5", b"two");
    fs::remove_file(&again.path).unwrap();
    again.path = renamed;
    releases::add(&config, again, 50).unwrap();
    assert_eq!(look(&mut following, &updates), Some(vec!["new"]));
    releases::withdraw(&config, &one.id()).unwrap();
    assert_eq!(look(&mut following, &updates), Some(vec![]));
}

/// A look at a source whose folder was moved or deleted reports this; everything that left the air meanwhile is sent again
/// when a folder is back, be it the same one or a copy.
#[test]
fn a_folder_that_was_away_is_sent_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (film, gone) = (folder.path().join("film"), folder.path().join("gone"));
    fs::create_dir(&film).unwrap();
    old_package(&film, &[1, 2]);
    let (mut following, updates) = following(&film);
    let mut look = |lost: &[&str]| {
        following.take_lost(lost.iter().map(|&path| (0, path.to_owned())).collect());
        following.look(0).unwrap();
        following.report_condition(0).unwrap();
        words(&updates)
    };
    assert!(look(&[]).is_empty());
    fs::rename(&film, &gone).unwrap();
    assert_eq!(look(&["1.m4s"]), ["away"]);
    assert!(look(&["2.m4s"]).is_empty(), "it is reported once");
    fs::rename(&gone, &film).unwrap();
    assert_eq!(look(&[]), ["changed -", "ready 1.m4s", "ready 2.m4s", "settled", "available"]);
    assert!(look(&[]).is_empty());
    // Moved there and back between two looks: the folder is watched from the start, and what was lost is there.
    fs::rename(&film, &gone).unwrap();
    fs::write(gone.join("3.m4s"), [3; 10]).unwrap();
    fs::rename(&gone, &film).unwrap();
    assert_eq!(look(&["1.m4s"]), ["changed -", "ready 1.m4s", "settled"]);
    // Deleted, and copied there again.
    fs::remove_dir_all(&film).unwrap();
    assert_eq!(look(&["1.m4s", "2.m4s"]), ["away"]);
    fs::create_dir(&film).unwrap();
    assert_eq!(look(&[]), ["away"], "an empty folder is not a package: it is away for another reason");
    old_package(&film, &[1, 2]);
    let back = look(&[]);
    let ready: Vec<&String> = back.iter().filter(|it| it.starts_with("ready")).collect();
    assert_eq!(ready, ["ready 1.m4s", "ready 2.m4s", "ready init.mp4", "ready live.m3u8"], "{back:?}");
    assert_eq!(back.last().unwrap(), "available");
}

#[test]
fn a_live_source_without_new_segments_is_reported_once_and_so_is_its_return() {
    let folder = tempfile::tempdir().unwrap();
    old_package(folder.path(), &[1, 2]);
    let (mut following, updates) = following(folder.path());
    let clocks = Arc::clone(&following.clocks);
    let look = |following: &mut FollowerState, seconds: u64| {
        clocks.sleep(Duration::from_secs(seconds));
        following.look(0).unwrap();
        following.report_condition(0).unwrap();
        words(&updates)
    };
    for _ in 0..3 {
        assert!(look(&mut following, 60).is_empty(), "a source without a reserve is not taken to be live");
    }
    following.sources[0].source.reserved_bps = Some(1_000_000);
    following.sources[0].arrivals = Arrivals::default();
    assert!(look(&mut following, 0).is_empty());
    assert!(look(&mut following, 5).is_empty(), "three segments of 2 s are waited for");
    assert_eq!(look(&mut following, 1), ["stalled"]);
    let why = following.sources[0].condition.why().unwrap().to_owned();
    assert!(why.starts_with("no new segment for 6 s"), "{why}");
    assert_eq!(look(&mut following, 60), ["stalled"], "the time grows");
    let why = following.sources[0].condition.why().unwrap();
    assert!(why.starts_with("no new segment for 66 s"), "{why}");
    package(folder.path(), &[1, 2, 3]);
    let back = look(&mut following, 1);
    assert_eq!(back.last().unwrap(), "available", "{back:?}");
    // Its end is not a silence.
    let mut list = fs::read_to_string(folder.path().join("live.m3u8")).unwrap();
    list.push_str("#EXT-X-ENDLIST\n");
    fs::write(folder.path().join("live.m3u8"), list).unwrap();
    let ended: Vec<String> = (0..3).flat_map(|_| look(&mut following, 60)).collect();
    assert!(!ended.contains(&"stalled".to_owned()), "{ended:?}");
    assert_eq!(ended.iter().filter(|it| *it == "ended").count(), 1, "{ended:?}");
}
