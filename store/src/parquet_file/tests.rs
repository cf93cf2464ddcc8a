use datafusion::arrow::{
    array::{
        ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
    },
    compute::concat_batches,
    datatypes::{Int32Type, Int64Type},
};
use parquet::{
    basic::Encoding,
    file::reader::{FileReader, SerializedFileReader},
};

use super::*;
use crate::schema::{histograms_schema, samples_file_schema};

/// Pseudo-random (xorshift64).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// `rows` rows of one metric, 1000 to a series.
fn samples(rows: usize, scaled: impl Fn(usize) -> Option<i64>, value: impl Fn(usize) -> Option<f64>) -> RecordBatch {
    let time = (0..rows).map(|row| 1_795_000_000_000_000 + (row % 1000) as i64 * 15_000_000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..rows).map(|_| "m"))),
        Arc::new(Int64Array::from_iter_values((0..rows).map(|row| (row / 1000) as i64 * 7_777_777_777))),
        Arc::new(TimestampMicrosecondArray::from(vec![None; rows]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from_iter_values(time).with_timezone("UTC")),
        Arc::new((0..rows).map(&scaled).collect::<Int64Array>()),
        Arc::new((0..rows).map(|row| scaled(row).map(|_| 2)).collect::<Int32Array>()),
        Arc::new((0..rows).map(value).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(file_schema(&samples_file_schema()), columns).unwrap()
}

fn write(dir: &Path, batches: &[RecordBatch], effort: Effort) -> (LiveFile, PathBuf) {
    let mut file = FileWriter::create(
        &TableStorage::local(dir.to_owned()),
        20_000,
        FileName::RESULT,
        &batches[0].schema(),
        effort,
    )
    .unwrap();
    batches.iter().for_each(|batch| file.write(batch).unwrap());
    let new = file.finish().unwrap();
    new.uncommitted.keep();
    let path = dir.join(&new.file.path);
    (new.file, path)
}

fn encodings(path: &Path, column: usize) -> Vec<Encoding> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.metadata().row_group(0).column(column).encodings().collect()
}

#[test]
fn rows_come_back_with_both_efforts_and_any_batch_size() {
    let mut state = 1;
    let odd: Vec<f64> = (0..50_000).map(|_| f64::from_bits(random(&mut state))).collect();
    let scaled = |row: usize| (!row.is_multiple_of(3)).then_some(row as i64 - 7);
    let rows = samples(50_000, scaled, |row| (row.is_multiple_of(3) && !row.is_multiple_of(5)).then_some(odd[row]));
    for effort in [Effort::Flush, Effort::Compaction] {
        for batch_rows in [50_000, 777] {
            let dir = tempfile::tempdir().unwrap();
            let batches: Vec<_> = (0..rows.num_rows())
                .step_by(batch_rows)
                .map(|from| rows.slice(from, batch_rows.min(rows.num_rows() - from)))
                .collect();
            let (live, path) = write(dir.path(), &batches, effort);
            assert_eq!(live.row_count, 50_000);
            assert_eq!(live.size_bytes, fs::metadata(&path).unwrap().len());
            let read = read_parquet(&path).unwrap();
            let read = concat_batches(&read[0].schema(), &read).unwrap();
            for (column, (a, b)) in read.columns().iter().zip(rows.columns()).enumerate() {
                // Bits, not numbers: NaN is not equal to itself.
                assert_eq!(a.to_data(), b.to_data(), "column {column} with {effort:?}");
            }
        }
    }
}

#[test]
fn lists_and_missing_lists_come_back() {
    let rows = 3000;
    let lists = |row: usize| {
        (!row.is_multiple_of(4)).then(move || (0..row % 15).map(move |bucket| Some((row * bucket) as i64)))
    };
    let columns: Vec<ArrayRef> = file_schema(&histograms_schema())
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            let is_key = !field.is_nullable();
            match field.name().as_str() {
                "metric" => Arc::new(StringArray::from(vec!["h"; rows])),
                "series_id" => Arc::new(Int64Array::from_iter_values(0..rows as i64)),
                "time" => Arc::new(TimestampMicrosecondArray::from(vec![1; rows]).with_timezone("UTC")),
                "bucket_counts" => {
                    let list = ListArray::from_iter_primitive::<Int64Type, _, _>((0..rows).map(lists));
                    cast(&list, field.data_type()).unwrap()
                }
                _ if is_key => unreachable!("no other key"),
                _ => datafusion::arrow::array::new_null_array(field.data_type(), rows),
            }
        })
        .collect();
    let batch = RecordBatch::try_new(file_schema(&histograms_schema()), columns).unwrap();
    for effort in [Effort::Flush, Effort::Compaction] {
        let dir = tempfile::tempdir().unwrap();
        let (_, path) = write(dir.path(), &[batch.slice(0, 1234), batch.slice(1234, rows - 1234)], effort);
        let read = read_parquet(&path).unwrap();
        let read = concat_batches(&read[0].schema(), &read).unwrap();
        let lists = |batch: &RecordBatch| -> Vec<Option<Vec<i64>>> {
            let list = batch["bucket_counts"].as_list::<i32>().clone();
            list.iter().map(|list| list.map(|list| list.as_primitive::<Int64Type>().values().to_vec())).collect()
        };
        assert_eq!(lists(&read), lists(&batch));
    }
}

#[test]
fn the_encoding_follows_the_values() {
    let mut state = 7;
    let few: Vec<i64> = (0..8).map(|_| (random(&mut state) >> 1) as i64).collect();
    let picks: Vec<usize> = (0..60_000).map(|_| (random(&mut state) % 8) as usize).collect();
    let dir = tempfile::tempdir().unwrap();
    // A few large numbers at random: a dictionary. Steps of one: differences.
    let (_, path) = write(dir.path(), &[samples(60_000, |row| Some(few[picks[row]]), |_| None)], Effort::Compaction);
    assert!(encodings(&path, 4).contains(&Encoding::RLE_DICTIONARY), "{:?}", encodings(&path, 4));
    let dir = tempfile::tempdir().unwrap();
    let counter = samples(60_000, |row| Some(row as i64), |_| None);
    let (_, path) = write(dir.path(), &[counter], Effort::Compaction);
    assert!(encodings(&path, 4).contains(&Encoding::DELTA_BINARY_PACKED), "{:?}", encodings(&path, 4));
}

#[test]
fn a_file_has_pages_statistics_and_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (_, path) = write(dir.path(), &[samples(60_000, |row| Some(row as i64), |_| None)], Effort::Compaction);
    let options = parquet::file::serialized_reader::ReadOptionsBuilder::new().with_page_index().build();
    let reader = SerializedFileReader::new_with_options(File::open(&path).unwrap(), options).unwrap();
    let metadata = reader.metadata();
    let row_group = metadata.row_group(0);
    let order: Vec<_> = row_group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
    assert_eq!(order, [0, 1, 3]);
    assert_eq!(metadata.offset_index().unwrap()[0][1].page_locations().len(), 3);
    assert!(metadata.column_index().is_some());
    assert!(row_group.column(1).statistics().is_some());
}

#[test]
fn a_file_is_cut_into_row_groups_and_one_not_finished_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let batch = samples(400_000, |row| Some(row as i64 % 100), |_| None);
    let (_, path) = write(dir.path(), &[batch.clone(), batch.clone(), batch.clone()], Effort::Flush);
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let rows: Vec<_> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [1 << 20, 1_200_000 - (1 << 20)]);
    let read = read_parquet(&path).unwrap();
    let exponents: usize = read.iter().map(|batch| batch["exponent"].as_primitive::<Int32Type>().len()).sum();
    assert_eq!(exponents, 1_200_000);

    let storage = TableStorage::local(dir.path().to_owned());
    let mut file = FileWriter::create(&storage, 20_000, FileName::RESULT, &batch.schema(), Effort::Flush).unwrap();
    file.write(&batch).unwrap();
    let path = file.path.clone();
    assert!(path.exists());
    drop(file);
    assert!(!path.exists());
}
