//! The smallest encoding of each column, found by encoding a sample of the row group.

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    arrow::arrow_writer::{ArrowColumnChunk, compute_leaves},
    schema::types::ColumnDescPtr,
};

use super::{
    encoding::{ColumnEncoding, candidates},
    row_group_factory,
};
use crate::error::Result;

/// Rows of one slice: enough for a series or two, so that neighbours in the sample are neighbours in the file.
const SLICE_ROWS: usize = 4096;
const SLICES_MAX: usize = 16;
/// Parquet's own limit of a dictionary; beyond it the writer falls back to another encoding.
const DICTIONARY_SIZE_BYTES_MAX: f64 = (1 << 20) as f64;

/// Compressed bytes of one column chunk.
#[derive(Debug, Clone, Copy, Default)]
struct ChunkSize {
    dictionary: f64,
    pages: f64,
}

impl ChunkSize {
    fn new(chunk: &ArrowColumnChunk) -> Self {
        let close = chunk.close();
        let total = close.metadata.compressed_size() as f64;
        let pages = close.offset_index.as_ref().map_or(total, |index| {
            index.page_locations().iter().map(|page| f64::from(page.compressed_page_size)).sum()
        });
        Self { dictionary: total - pages, pages }
    }

    /// The size of a chunk with `factor` times the rows, given the chunk `half` of every other slice.
    ///
    /// Pages grow with the rows; a dictionary as it did from half the sample to the whole, and with it the bits of an
    /// index into it.
    fn scaled_up(self, half: Self, factor: f64) -> f64 {
        if self.dictionary <= 0.0 {
            return self.pages * factor;
        }
        let growth = (self.dictionary / half.dictionary.max(1.0)).log2().clamp(0.0, 1.0);
        let dictionary = self.dictionary * factor.powf(growth);
        if dictionary > DICTIONARY_SIZE_BYTES_MAX {
            return f64::INFINITY;
        }
        let index_bits = |dictionary: f64| dictionary.max(16.0).log2() - 3.0;
        dictionary + self.pages * factor * index_bits(dictionary) / index_bits(self.dictionary)
    }
}

/// The sample: all rows of a small row group, else evenly spaced slices.
fn slices(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let stride = rows.div_ceil(SLICES_MAX).max(SLICE_ROWS);
    let mut slices = Vec::new();
    // Rows until the next slice begins.
    let mut skip = 0;
    for batch in batches {
        let mut from = skip;
        while from < batch.num_rows() {
            slices.push(batch.slice(from, SLICE_ROWS.min(batch.num_rows() - from)));
            from += stride;
        }
        skip = from - batch.num_rows();
    }
    slices
}

/// Sizes of all leaves when `slices` are encoded with `encoding`; `None` where it does not suit the leaf.
fn sizes<'a>(
    schema: &SchemaRef,
    leaves: &[ColumnDescPtr],
    slices: impl Iterator<Item = &'a RecordBatch> + Clone,
    encoding: ColumnEncoding,
) -> Result<Vec<Option<ChunkSize>>> {
    let suits: Vec<bool> = leaves.iter().map(|leaf| candidates(leaf).contains(&encoding)).collect();
    let encodings: Vec<_> =
        leaves.iter().zip(&suits).map(|(leaf, suits)| if *suits { encoding } else { candidates(leaf)[0] }).collect();
    let factory = row_group_factory(schema, leaves, &encodings, 1)?;
    let mut writers = factory.create_column_writers(0)?;
    for slice in slices {
        let mut leaf_index = 0;
        for (field, column) in schema.fields().iter().zip(slice.columns()) {
            for leaf in compute_leaves(field, column)? {
                if suits[leaf_index] {
                    writers[leaf_index].write(&leaf)?;
                }
                leaf_index += 1;
            }
        }
    }
    let chunks = writers
        .into_iter()
        .zip(suits)
        .map(|(writer, suits)| -> Result<_> { Ok(if suits { Some(ChunkSize::new(&writer.close()?)) } else { None }) });
    chunks.collect()
}

/// The encoding of each of `leaves` that makes `batches` smallest.
///
/// # Errors
/// The sample cannot be encoded.
pub(super) fn smallest(
    schema: &SchemaRef,
    leaves: &[ColumnDescPtr],
    batches: &[RecordBatch],
) -> Result<Vec<ColumnEncoding>> {
    let slices = slices(batches);
    let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>().max(1) as f64;
    let factor = rows(batches) / rows(&slices);
    let half = sizes(schema, leaves, slices.iter().step_by(2), ColumnEncoding::Dictionary)?;
    let mut best: Vec<_> = leaves.iter().map(|leaf| (f64::INFINITY, candidates(leaf)[0])).collect();
    for encoding in ColumnEncoding::ALL {
        let sizes = sizes(schema, leaves, slices.iter(), encoding)?;
        for ((best, size), half) in best.iter_mut().zip(sizes).zip(&half) {
            let size = size.map(|size| size.scaled_up(half.unwrap_or_default(), factor));
            if let Some(size) = size.filter(|size| *size < best.0) {
                *best = (size, encoding);
            }
        }
    }
    Ok(best.into_iter().map(|(_, encoding)| encoding).collect())
}
