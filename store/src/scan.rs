//! A table as DataFusion sees it: ordinary Parquet scans of the live files, and the unflushed rows beside them (`READ-1`).
//! Sources that may hold the same point are merged, so that a point is one row (`READ-2`).

mod series_source;
mod sources;

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use crate::{
    checksum::compare_before_scan,
    delta_log::TableSnapshot,
    live_file::{KeyRange, KeyRanges, LiveFile},
    memtable::{Memtable, Point, SeriesPoints, day_of},
    rows::{file_schema, histogram_batches, rejection_batch},
    sample_projection,
    sample_rows::sample_batches,
    series_day::unflushed_rows,
    store::{Inner, WalTable},
};
use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{Field, SchemaRef},
    catalog::{Session, TableProvider},
    common::{DFSchema, ScalarValue},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder},
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
};

use series_source::{SeriesSource, series_scan};
use sources::{Sources, UnflushedRows};

/// One table of an open store.
#[derive(Debug)]
pub(crate) struct StoreTable {
    store: Weak<Inner>,
    name: String,
    schema: SchemaRef,
}

impl StoreTable {
    pub(crate) fn new(store: &Arc<Inner>, name: &str, schema: SchemaRef) -> Self {
        Self { store: Arc::downgrade(store), name: name.to_owned(), schema }
    }
}

#[async_trait]
impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Pruning only drops what cannot match, so the exact filter stays above the scan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let store = self.store.upgrade().ok_or_else(|| DataFusionError::Execution("the store is closed".into()))?;
        let filter = Filter::new(state, &self.schema, filters)?;
        let table = WalTable::from_name(&self.name);
        let name = self.name.clone();
        let task_filter = filter.clone();
        // Copying unflushed rows is too long for the async threads.
        let read = tokio::task::spawn_blocking(move || read_snapshot(&store, &name, table, &task_filter));
        let SnapshotRead { snapshot, unflushed, series_days, replaced_days } =
            read.await.map_err(|error| DataFusionError::External(Box::new(error)))??;
        let files = filter.keep(&snapshot.files, |file| file.keys.clone())?;
        let files: Vec<_> = files.into_iter().filter(|file| !replaced_days.contains(&file.date)).collect();
        compare_before_scan(&snapshot.storage, &files).await?;
        let sources = Sources { state, snapshot: &snapshot, schema: self.schema(), projection, limit };
        let mut inputs = match table {
            Some(table) if table.holds_points() => sources.scan_points(files, unflushed)?,
            _ => sources.scan(&files, unflushed)?,
        };
        if !series_days.is_empty() {
            inputs.push(series_scan(series_days, projection, limit)?);
        }
        match inputs.len() {
            0 => {
                let schema = match projection {
                    Some(indices) => Arc::new(self.schema.project(indices)?),
                    None => self.schema(),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
            1 => Ok(inputs.swap_remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}

/// The pushed-down predicate, applied to key ranges.
#[derive(Clone)]
struct Filter(Option<Arc<PruningPredicate>>);

impl Filter {
    fn new(state: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Self> {
        let Some(filter) = conjunction(filters.to_vec()) else { return Ok(Self(None)) };
        let df_schema = DFSchema::try_from(Arc::clone(schema))?;
        let predicate = state.create_physical_expr(filter, &df_schema)?;
        // A predicate that pruning cannot use is not an error: the filter above the scan still applies it.
        Ok(Self(PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).build(predicate)))
    }

    fn keep<T: Clone>(&self, items: &[T], keys: impl Fn(&T) -> KeyRange) -> Result<Vec<T>> {
        let Some(predicate) = &self.0 else { return Ok(items.to_vec()) };
        if items.is_empty() {
            return Ok(vec![]);
        }
        let ranges: Vec<_> = items.iter().map(keys).collect();
        let kept = predicate.prune(&KeyRanges(&ranges))?;
        Ok(items.iter().zip(kept).filter(|(_, keep)| *keep).map(|(item, _)| item.clone()).collect())
    }
}

/// One consistent view: the table's version, the rows that it does not hold yet (oldest memtable first), and the days
/// whose files those rows already include.
struct SnapshotRead {
    snapshot: Arc<TableSnapshot>,
    unflushed: Vec<UnflushedRows>,
    series_days: Vec<SeriesSource>,
    replaced_days: BTreeSet<i32>,
}

fn read_snapshot(store: &Inner, name: &str, table: Option<WalTable>, filter: &Filter) -> Result<SnapshotRead> {
    let state = store.state();
    let snapshot = state.snapshot(name).ok_or_else(|| DataFusionError::Plan(format!("table {name} does not exist")))?;
    let mut replaced_days = BTreeSet::new();
    let Some(table) = table else {
        return Ok(SnapshotRead { snapshot, unflushed: vec![], series_days: vec![], replaced_days });
    };
    let memtables: Vec<&Memtable> = state.unflushed(&snapshot).collect();
    let (mut unflushed, mut series_days) = (Vec::new(), Vec::new());
    match table {
        WalTable::Samples | WalTable::Histograms => {
            for memtable in &memtables {
                let series = filter.keep(&memtable.sorted(), |points| key_range(points))?;
                let (repeated, batches) = match table {
                    WalTable::Samples => (
                        &memtable.repeated_samples,
                        sample_batches(series, |points| 0..points.len()).collect::<Result<_, _>>()?,
                    ),
                    _ => (
                        &memtable.repeated_histograms,
                        histogram_batches(series, |points| 0..points.len()).collect::<Result<_, _>>()?,
                    ),
                };
                unflushed.push(UnflushedRows::of(memtable, repeated, batches));
            }
        }
        WalTable::Rejections => {
            let batches = memtables.iter().map(|memtable| rejection_batch(&memtable.rejections, None));
            unflushed.push(UnflushedRows::plain(batches.collect::<Result<Vec<_>, _>>()?));
        }
        WalTable::Series => {
            replaced_days = memtables.iter().flat_map(|memtable| memtable.days.iter().copied()).collect();
            let days: Vec<i32> = replaced_days.iter().copied().collect();
            let days = filter.keep(&days, |day| KeyRange { date: Some((*day, *day)), ..KeyRange::default() })?;
            let source = |day| SeriesSource::new(&snapshot, unflushed_rows(&memtables, day), day);
            series_days.extend(days.into_iter().map(source));
        }
    }
    for rows in &mut unflushed {
        rows.batches.retain(|batch| batch.num_rows() > 0);
    }
    unflushed.retain(|rows| !rows.batches.is_empty());
    Ok(SnapshotRead { snapshot, unflushed, series_days, replaced_days })
}

fn key_range(points: &SeriesPoints) -> KeyRange {
    fn ends<P: Point>(points: &[P]) -> Option<(i64, i64)> {
        Some((points.first()?.key().0, points.last()?.key().0))
    }
    let time = [ends(&points.samples), ends(&points.histograms)].into_iter().flatten();
    let time = time.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let metric = &points.series.definition.metric;
    let id = points.series.id.to_column();
    KeyRange {
        metric: Some((metric.to_string(), metric.to_string())),
        series_id: Some((id, id)),
        // A series without points matches nothing; a range that is never selected says so.
        time: time.or(Some((i64::MIN, i64::MIN))),
        date: time.map(|(first, last)| (day_of(first), day_of(last))).or(Some((i32::MIN, i32::MIN))),
    }
}

fn file_scan(
    state: &dyn Session,
    schema: &SchemaRef,
    snapshot: &TableSnapshot,
    files: &[Arc<LiveFile>],
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let date = Arc::new(Field::new("date", datafusion::arrow::datatypes::DataType::Date32, false));
    let table_schema =
        TableSchema::builder(file_schema(&snapshot.schema)).with_table_partition_cols(vec![date]).build();
    let options = state.table_options().parquet.clone();
    let parquet = &state.config_options().execution.parquet;
    let source = ParquetSource::new(table_schema)
        .with_table_parquet_options(options)
        .with_pushdown_filters(parquet.pushdown_filters)
        .with_reorder_filters(parquet.reorder_filters)
        .with_enable_page_index(parquet.enable_page_index);
    let mut groups = vec![Vec::new(); state.config_options().execution.target_partitions.clamp(1, files.len())];
    let group_count = groups.len();
    for (index, file) in files.iter().enumerate() {
        let path = snapshot.storage.scan_path(&file.path)?;
        let mut partitioned = PartitionedFile::new(path.to_string(), file.size_bytes);
        partitioned.object_meta.location = path;
        // Whatever reads the file holds on to it, so that it is not deleted under a long scan.
        partitioned.extensions.insert_arc(Arc::clone(file));
        groups[index % group_count].push(partitioned.with_partition_values(vec![ScalarValue::Date32(Some(file.date))]));
    }
    // The source computes what files hold in another form than queries see it, so filters, limits and statistics of
    // the other columns pass as if every column were stored.
    let exprs = sample_projection::project(schema, projection, source.table_schema().table_schema(), state)?;
    let source = source
        .try_pushdown_projection(&exprs)?
        .ok_or_else(|| DataFusionError::Internal("the Parquet source does not take a projection".into()))?;
    let config = FileScanConfigBuilder::new(snapshot.storage.register(state.runtime_env()), source)
        .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}
