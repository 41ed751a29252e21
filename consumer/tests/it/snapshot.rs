//! A snapshot and the tail of the log are the index.

use std::io::Cursor;

use consumer::snapshot::{Into, SnapshotError, restore, write};

use crate::rebuild::differences;
use crate::rig::{PATIENCE, Rig, Running, random_events, settings};

async fn snapshot(rig: &Rig) -> Vec<u8> {
    let mut file = Vec::new();
    let partitions = rig.log.partitions().await.unwrap();
    write(rig.generations.as_ref(), partitions, &mut file).await.unwrap();
    file
}

async fn restored(rig: &Rig, file: &[u8], into: Into) -> Result<u64, SnapshotError> {
    let report = restore(rig.store.as_ref(), rig.generations.as_ref(), &mut Cursor::new(file), into).await?;
    Ok(report.accounts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_restored_and_the_tail_of_the_log_are_the_index() {
    snapshot_and_tail(Rig::embedded(2).await, Rig::embedded(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_restored_and_the_tail_of_the_log_are_the_index_on_servers() {
    snapshot_and_tail(Rig::on_servers(2).await, Rig::on_servers(1).await).await;
}

async fn snapshot_and_tail(rig: Rig, later: Rig) {
    rig.append_shuffled(&random_events(1_500, 1_200, 300), 301).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    // The index goes on while the snapshot is written.
    let more = random_events(1_000, 1_200, 302);
    let ((), file) = tokio::join!(rig.append_shuffled(&more, 303), snapshot(&rig));
    rig.append_shuffled(&random_events(200, 1_400, 304), 305).await;
    rig.projected().await;
    projector.stop().await;

    assert!(restored(&later, &file, Into::Empty).await.unwrap() > 700);
    let report_offset = later.checkpoint(0).await;
    let end = rig.ends().await[&0];
    assert!((1..end).contains(&report_offset), "it goes on where the snapshot stands, and the log has a tail");
    assert!(matches!(restored(&later, &file, Into::Empty).await, Err(SnapshotError::NotEmpty)));
    restored(&later, &file, Into::Any).await.unwrap();
    let projector = Running::start(rig.log.clone(), rig.letters.clone(), later.store.clone(), settings());
    let ends = rig.ends().await;
    testkit::wait_until(PATIENCE, || async {
        for (partition, end) in &ends {
            if later.checkpoint(*partition).await < *end {
                return false;
            }
        }
        true
    })
    .await;
    projector.stop().await;
    let restored = Rig { store: later.store.clone(), generations: later.generations.clone(), ..rig };
    restored.assert_index_is_fold_of_log().await;
    assert_eq!(differences(&restored).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_damaged_is_refused_and_changes_nothing() {
    let (rig, later) = (Rig::embedded(1).await, Rig::embedded(1).await);
    rig.append_shuffled(&random_events(300, 100, 310), 311).await;
    let projector = rig.projector(settings());
    rig.projected().await;
    projector.stop().await;
    let file = snapshot(&rig).await;
    for cut in [0, 1, 30, file.len() / 2, file.len() - 9, file.len() - 1] {
        assert!(restored(&later, &file[..cut], Into::Empty).await.is_err(), "cut at {cut}");
    }
    for place in (0..file.len()).step_by(file.len() / 40) {
        let mut changed = file.clone();
        changed[place] ^= 0x10;
        // A gzip header has bytes that mean nothing for the contents.
        if let Ok(accounts) = restored(&later, &changed, Into::Any).await {
            assert!(place < 10 && accounts > 0, "changed at {place}");
            return;
        }
    }
    assert_eq!(later.store.counts(None).await.unwrap().by_state, Default::default());
    assert_eq!(later.checkpoint(0).await, 0);
    assert!(restored(&later, &file, Into::Empty).await.unwrap() > 50);
}
