//! Preparation of many objects, by a thread for each core.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::{Prepared, prepare_showing};
use crate::config::Config;
use crate::package::ObjectSource;
use crate::progress::Preparation;

/// Threads at most: one hashes 0.3 GB/s, so that these are beyond what disks read.
const THREADS: usize = 16;

/// Prepares objects of source `index`, and hands them out in the order given. `None`: the file vanished. Results that are ready before
/// their turn are kept, since the caller keeps them all.
///
/// # Errors
/// The first of `put`, after the objects that are under way; no others are begun.
pub(crate) fn prepare_each<E>(
    config: &Config,
    index: usize,
    objects: &[ObjectSource],
    progress: &Preparation,
    put: impl FnMut(Option<Prepared>) -> Result<(), E>,
) -> Result<(), E> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    prepare_by(cores.min(THREADS), config, index, objects, progress, put)
}

fn prepare_by<E>(
    threads: usize,
    config: &Config,
    index: usize,
    objects: &[ObjectSource],
    progress: &Preparation,
    mut put: impl FnMut(Option<Prepared>) -> Result<(), E>,
) -> Result<(), E> {
    let prepare = |object: &ObjectSource| {
        let prepared = prepare_showing(config, index, object, progress);
        progress.complete();
        prepared
    };
    let threads = threads.min(objects.len());
    if threads < 2 {
        return objects.iter().try_for_each(|object| put(prepare(object)));
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (results, prepared) = mpsc::channel();
        for _ in 0..threads {
            let (results, next, prepare) = (results.clone(), &next, &prepare);
            scope.spawn(move || {
                while let Some((at, object)) = at(objects, next) {
                    // Nobody waits for it after an error.
                    if results.send((at, prepare(object))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (at, result) in prepared {
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                put(result)?;
                due += 1;
            }
        }
        Ok(())
    })
}

/// The next object that no thread has taken.
fn at<'a>(objects: &'a [ObjectSource], next: &AtomicUsize) -> Option<(usize, &'a ObjectSource)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, objects.get(at)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Role;
    use carousel::Digest;

    /// Files of 1 byte to 600 KB, the longest first, and the configuration that carries them with FEC.
    fn objects(folder: &std::path::Path) -> (Config, Vec<ObjectSource>) {
        let lengths = [600_000, 1, 300_000, 10, 5000, 200_000, 77, 40_000, 3, 90_000];
        let objects = lengths.iter().enumerate().map(|(at, &length)| {
            let file = folder.join(format!("{at}.m4s"));
            std::fs::write(&file, vec![at as u8; length]).unwrap();
            ObjectSource {
                path: format!("{at}.m4s"),
                file,
                length: length as u64,
                range: None,
                modified_ns: 0,
                content_type: "video/mp4",
                role: Role::Segment,
                bytes: None,
            }
        });
        let text = format!(
            "[link]\nrate_bps = 8_000_000\n[[source]]\npath = {:?}\nbase = \"https://cdn.example.com/\"\n",
            folder.display()
        );
        (Config::parse(&text, folder).unwrap(), objects.collect())
    }

    #[test]
    fn objects_come_in_their_order_whichever_thread_is_faster_and_without_those_that_vanished() {
        let folder = tempfile::tempdir().unwrap();
        let (config, objects) = objects(folder.path());
        std::fs::remove_file(&objects[4].file).unwrap();
        for threads in [1, 2, 3, 50] {
            let (mut seen, progress) = (Vec::new(), Preparation::default());
            let all_bytes = objects.iter().map(|it| it.length).sum();
            progress.begin(objects.len() as u64, all_bytes);
            let put = |prepared: Option<Prepared>| {
                seen.push(prepared.map(|it| (it.object.path, it.digest, it.md5)));
                Ok::<(), String>(())
            };
            prepare_by(threads, &config, 0, &objects, &progress, put).unwrap();
            let expected = objects.iter().enumerate().map(|(at, object)| {
                let bytes = vec![at as u8; object.length as usize];
                let digests = (object.path.clone(), Digest::of(&bytes), carousel::digest::md5(&bytes));
                (at != 4).then_some(digests)
            });
            assert_eq!(seen, expected.collect::<Vec<_>>(), "{threads} threads");
            let shown = progress.to_json();
            assert_eq!(
                (shown["files"].as_u64(), shown["bytes"].as_u64()),
                (Some(10), Some(all_bytes - 5000))
            );
        }
    }

    #[test]
    fn an_error_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let (config, objects) = objects(folder.path());
        for threads in [1, 3] {
            let mut count = 0;
            let put = |_| {
                count += 1;
                if count == 3 { Err(count) } else { Ok(()) }
            };
            assert_eq!(prepare_by(threads, &config, 0, &objects, &Preparation::default(), put), Err(3));
            assert_eq!(count, 3);
        }
    }
}
