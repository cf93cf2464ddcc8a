//! A table as DataFusion sees it: ordinary Parquet scans of the live files, and the unflushed rows beside them (`READ-1`).
//! Sources that may hold the same point are merged, so that a point is one row (`READ-2`).

mod key_filter;
mod pruning;
mod series_source;
mod sources;
mod unflushed;
mod unflushed_exec;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{Field, SchemaRef},
    catalog::{Session, TableProvider},
    common::{ScalarValue, Statistics, stats::Precision},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
};

use crate::{
    checksum::compare_before_scan,
    delta_log::TableSnapshot,
    live_file::{KeyRange, LiveFile},
    rows::file_schema,
    sample_projection,
    series_day::unflushed_rows,
    store::{Inner, WalTable},
};

use pruning::Filter;
use series_source::{SeriesSource, series_scan};
use sources::{Sources, UnflushedRows};
use unflushed::SharedRows;

/// One table of an open store.
#[derive(Debug)]
pub(crate) struct StoreTable {
    store: Weak<Inner>,
    name: String,
    schema: SchemaRef,
    in_order: bool,
}

impl StoreTable {
    pub(crate) fn new(store: &Arc<Inner>, name: &str, schema: SchemaRef) -> Self {
        Self { store: Arc::downgrade(store), name: name.to_owned(), schema, in_order: false }
    }

    /// The same table of points as one stream in table order, which needs no sort but has one reader.
    pub(crate) fn in_order(self) -> Self {
        Self { in_order: true, ..self }
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
        // Looking through all unflushed series is too long for the async threads.
        let read = tokio::task::spawn_blocking(move || read_snapshot(&store, &name, table, &task_filter));
        let SnapshotRead { snapshot, unflushed, series_days, replaced_days } =
            read.await.map_err(|error| DataFusionError::External(Box::new(error)))??;
        let files = filter.keep(&snapshot.files, |file| file.keys.clone())?;
        let files: Vec<_> = files.into_iter().filter(|file| !replaced_days.contains(&file.date)).collect();
        compare_before_scan(&snapshot.storage, &files).await?;
        let (schema, in_order) = (self.schema(), self.in_order);
        let holds_points = table.is_some_and(WalTable::holds_points);
        let sources = Sources { state, snapshot: &snapshot, schema, projection, limit, in_order, holds_points };
        let mut inputs = match holds_points {
            true => sources.scan_points(files, unflushed)?,
            false => sources.scan(&files, unflushed)?,
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

/// One consistent view: the table's version, the rows that it does not hold yet (oldest memtable first), and the days
/// whose files those rows already include.
struct SnapshotRead {
    snapshot: Arc<TableSnapshot>,
    unflushed: Vec<UnflushedRows>,
    series_days: Vec<SeriesSource>,
    replaced_days: BTreeSet<i32>,
}

fn read_snapshot(store: &Inner, name: &str, table: Option<WalTable>, filter: &Filter) -> Result<SnapshotRead> {
    let metrics: Vec<Arc<str>> = store.state().unflushed_metrics().into_iter().collect();
    let metrics: HashSet<Arc<str>> = filter.keep(&metrics, |metric| KeyRange::of_metric(metric))?.into_iter().collect();
    // A metric that comes only now belongs to a later moment than this scan.
    let wanted = |metric: &str| metrics.contains(metric);
    let (snapshot, memtables) = {
        // Appends wait for this lock, so it is held only while the rows are shared.
        let state = store.state();
        let snapshot =
            state.snapshot(name).ok_or_else(|| DataFusionError::Plan(format!("table {name} does not exist")))?;
        let memtables = table.map(|_| state.unflushed(&snapshot, wanted)).unwrap_or_default();
        (snapshot, memtables)
    };
    let (mut unflushed, mut series_days, mut replaced_days) = (Vec::new(), Vec::new(), BTreeSet::new());
    match table {
        None => {}
        Some(WalTable::Samples) => {
            for memtable in &memtables {
                let series = filter.keep_series(memtable.series_of(wanted), |points| points.samples.times())?;
                unflushed.push(UnflushedRows::of(memtable, &memtable.repeated_samples, SharedRows::Samples(series)));
            }
        }
        Some(WalTable::Histograms) => {
            for memtable in &memtables {
                let series = filter.keep_series(memtable.series_of(wanted), |points| points.histograms.times())?;
                let rows = SharedRows::Histograms(series);
                unflushed.push(UnflushedRows::of(memtable, &memtable.repeated_histograms, rows));
            }
        }
        Some(WalTable::Rejections) => {
            let lists = memtables.iter().flat_map(|memtable| memtable.rejections.iter().map(Arc::clone));
            unflushed.push(UnflushedRows::plain(SharedRows::Rejections(lists.collect())));
        }
        Some(WalTable::Series) => {
            replaced_days = memtables.iter().flat_map(|memtable| memtable.days.iter().copied()).collect();
            let days: Vec<i32> = replaced_days.iter().copied().collect();
            let days = filter.keep(&days, |day| KeyRange { date: Some((*day, *day)), ..KeyRange::default() })?;
            let rows = |day| unflushed_rows(memtables.iter().map(Arc::as_ref), day, wanted);
            let source = |day| SeriesSource::new(&snapshot, rows(day), day, filter.metric_mask());
            series_days.extend(days.into_iter().map(source));
        }
    }
    unflushed.retain(|rows| !rows.rows.is_empty());
    Ok(SnapshotRead { snapshot, unflushed, series_days, replaced_days })
}

fn file_scan(
    state: &dyn Session,
    schema: &SchemaRef,
    snapshot: &TableSnapshot,
    files: &[Arc<LiveFile>],
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
    row_count: Precision<usize>,
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
    let statistics = Statistics::new_unknown(source.table_schema().table_schema()).with_num_rows(row_count);
    let source = source
        .try_pushdown_projection(&exprs)?
        .ok_or_else(|| DataFusionError::Internal("the Parquet source does not take a projection".into()))?;
    let config = FileScanConfigBuilder::new(snapshot.storage.register(state.runtime_env()), source)
        .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
        .with_statistics(statistics)
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}
