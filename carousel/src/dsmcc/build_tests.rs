use super::*;
use crate::bytes::WireError;

fn carried(uri: &str, length: u64) -> Carried {
    Carried {
        uri: uri.to_owned(),
        content_type: None,
        digest: Digest::of(uri.as_bytes()),
        max_age_s: None,
        length,
        is_text: false,
        lane: 0,
    }
}

fn commit(builder: &mut Builder) {
    builder
        .commit(|_, _, out| {
            out.fill(7);
            Ok::<_, WireError>(())
        })
        .unwrap();
}

fn versions(builder: &Builder) -> BTreeMap<u16, u8> {
    builder.modules().map(|it| (it.id, it.version)).collect()
}

#[test]
fn small_objects_share_a_module_and_long_ones_have_their_own() {
    let mut builder = Builder::new(Profile::default());
    for at in 0..10 {
        builder.add(carried(&format!("http://h/{at}"), 1000)).unwrap();
    }
    builder.add(carried("http://h/long", 5_000_000)).unwrap();
    commit(&mut builder);
    let files: Vec<_> = builder.modules().filter(|it| it.content == ModuleContent::Files).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(builder.objects_of(files[0].id).count(), 10);
    assert_eq!(builder.modules().next().unwrap().content, ModuleContent::Directories);
}

#[test]
fn with_the_limit_of_hbbtv_no_module_has_more_than_255_blocks() {
    let mut builder = Builder::new(Profile { most_blocks: 255, ..Profile::default() });
    builder.add(carried("http://h/film", 10_000_000)).unwrap();
    builder.add(carried("http://h/just", 255 * 4066)).unwrap();
    commit(&mut builder);
    assert!(builder.modules().all(|it| it.blocks <= 255));
    assert!(builder.modules().filter(|it| it.content == ModuleContent::Files).count() == 12);
}

#[test]
fn what_changes_is_what_has_changed() {
    let mut builder = Builder::new(Profile::default());
    let mut numbers = Vec::new();
    for at in 0..300 {
        numbers.push(builder.add(carried(&format!("http://h/{}/{at}", at % 3), 60_000)).unwrap());
    }
    commit(&mut builder);
    let initiate = |builder: &Builder| {
        let mut out = Vec::new();
        builder.write_initiate(&mut out).unwrap();
        out
    };
    let transactions =
        |builder: &Builder| builder.infos().map(|it| builder.transaction(it)).collect::<Vec<_>>();
    let (before, dsi, ids) = (versions(&builder), initiate(&builder), transactions(&builder));
    commit(&mut builder);
    assert_eq!(
        (versions(&builder), transactions(&builder)),
        (before.clone(), ids.clone()),
        "nothing has changed"
    );

    let new = Carried { digest: Digest::of(b"new"), ..carried("http://h/0/0", 60_001) };
    builder.replace(numbers[0], new).unwrap();
    commit(&mut builder);
    let after = versions(&builder);
    let changed: Vec<_> =
        after.iter().filter(|(id, version)| before[id] != **version).map(|(id, _)| *id).collect();
    let of_object: Vec<_> =
        builder.modules().filter(|it| builder.objects_of(it.id).any(|it| it == numbers[0])).collect();
    assert_eq!(changed.len(), 2, "its module and its directory's: {changed:?}");
    assert!(changed.contains(&of_object[0].id));
    assert_eq!(initiate(&builder), dsi, "the DSI stays");
    let now = transactions(&builder);
    let moved: Vec<_> = now.iter().zip(&ids).filter(|(now, before)| now != before).collect();
    assert!(!moved.is_empty() && moved.len() < ids.len());
    for (now, before) in moved {
        assert_eq!((now.identification(), now.0 & 1), (before.identification(), 1 - (before.0 & 1)));
    }

    builder.remove(numbers[299]);
    commit(&mut builder);
    assert_eq!(initiate(&builder), dsi);
    let number = builder.add(carried("http://h/0/x", 60_000)).unwrap();
    commit(&mut builder);
    let id = builder.modules().find(|it| builder.objects_of(it.id).any(|it| it == number)).unwrap().id;
    assert!(
        before.contains_key(&id) && versions(&builder)[&id] != before[&id],
        "ids are used again, versions go on"
    );
}

#[test]
fn a_data_carousel_s_change_reaches_the_dsi() {
    let mut builder = Builder::new(Profile { shape: Shape::Data, ..Profile::default() });
    let number = builder.add(carried("http://h/a", 100)).unwrap();
    commit(&mut builder);
    let initiate = |builder: &Builder| {
        let mut out = Vec::new();
        builder.write_initiate(&mut out).unwrap();
        out
    };
    let before = initiate(&builder);
    builder.replace(number, Carried { digest: Digest::of(b"new"), ..carried("http://h/a", 101) }).unwrap();
    commit(&mut builder);
    assert_ne!(initiate(&builder), before);
    assert_eq!(
        builder.add(carried(&format!("http://h/{}", "x".repeat(240)), 1)),
        Err(BuildError::UriTooLong)
    );
}

#[test]
fn module_ids_run_out_with_a_word() {
    let mut builder = Builder::new(Profile { module_bytes: 4096, ..Profile::default() });
    let refused = (0..70_000).find_map(|at| builder.add(carried(&format!("http://h/{at}"), 4000)).err());
    assert_eq!(refused, Some(BuildError::TooManyModules));
}
