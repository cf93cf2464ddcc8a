//! The `series` rows of a day, merged piece by piece from a file and memory.

use datafusion::{
    arrow::{
        array::UInt32Array,
        compute::{concat_batches, take_record_batch},
    },
    parquet::arrow::ArrowWriter,
};

use super::*;
use crate::{
    delta_log::TableSnapshot, file_name::FileName, live_file::LiveFile, parquet_file::read_parquet,
    series_day::SeriesDay,
};

/// One point of each of the series `hosts`.
fn one_of_each(hosts: std::ops::Range<u32>, time: i64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (index, host) in hosts.enumerate() {
        batch.series.push(series(&format!("m{}", host % 3), &host.to_string()));
        batch.samples.push(index as u32, 0, time, 0, SampleColumns::DOUBLE);
    }
    batch
}

/// Rows, distinct identities, first time and last time in seconds after [`START`], rows out of order.
async fn shape(store: &Arc<Store>) -> Vec<i64> {
    let seconds = |time: &str| format!("CAST((arrow_cast({time}, 'Int64') - {START}) / 1000000 AS BIGINT)");
    let sql = format!(
        "SELECT count(*), count(DISTINCT identity), min({}), max({}), count(DISTINCT series_id) FROM series",
        seconds("first_time"),
        seconds("last_time")
    );
    let batches = query(store, &sql).await;
    batches[0].columns().iter().map(|column| column.as_primitive::<Int64Type>().value(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_many_series_is_merged_in_pieces_and_has_each_series_once_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    // More than a piece on both sides; a third is on both.
    store.append(one_of_each(0..30_000, START)).await.unwrap();
    store.flush().await.unwrap();
    store.append(one_of_each(20_000..50_000, START + 5_000_000)).await.unwrap();
    for _flushed in [false, true] {
        assert_eq!(shape(&store).await, [50_000, 50_000, 0, 5, 50_000]);
        let known = "SELECT count(*) FROM series WHERE first_time < last_time";
        assert_eq!(query(&store, known).await[0].column(0).as_primitive::<Int64Type>().value(0), 10_000);
        store.flush().await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    // It checks the order too.
    let report = crate::verify(&Config::new(dir.path()), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

fn ids(snapshot: &TableSnapshot, day: i32) -> Vec<i64> {
    let rows = SeriesDay::new(snapshot, Arc::new([]), day, None, Arc::clone(&snapshot.schema)).unwrap();
    rows.flat_map(|batch| batch.unwrap()["series_id"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_writer_need_not_be_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.append(one_of_each(0..1000, START)).await.unwrap();
    store.flush().await.unwrap();
    let ours = (*store.inner.state().snapshot("series").unwrap()).clone();
    let [file] = ours.files.as_slice() else { panic!("{:?}", ours.files) };
    let batches = read_parquet(&ours.storage.dir().join(&file.path)).unwrap();
    let batch = concat_batches(&batches[0].schema(), &batches).unwrap();
    let backwards = take_record_batch(&batch, &UInt32Array::from_iter_values((0..1000).rev())).unwrap();
    let path = Path::new(&file.path).with_file_name("theirs.parquet");
    let out = File::create_new(ours.storage.dir().join(&path)).unwrap();
    let mut writer = ArrowWriter::try_new(out, backwards.schema(), None).unwrap();
    writer.write(&backwards).unwrap();
    writer.close().unwrap();
    let theirs = Arc::new(LiveFile::new(path.to_str().unwrap().to_owned(), file.date, FileName::UNKNOWN));
    let theirs = TableSnapshot { files: vec![theirs], ..ours.clone() };
    assert_eq!(ids(&theirs, file.date), ids(&ours, file.date));
    assert_eq!(ids(&ours, file.date).len(), 1000);
    store.close().await.unwrap();
}
