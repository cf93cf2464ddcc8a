//! Rows of a file, each at a time of its own: a training set or a log on its way to the tables of metrics.
//!
//! A file is read twice. The survey reads all of it before anything is sent: a broken file is refused whole, with line and
//! column, and how finely its times are written is known. Memory is that of one batch of rows.

mod columns;
mod reading;
mod survey;

use std::path::{Path, PathBuf};

use datafusion::prelude::DataFrame;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use crate::{
    broken_file::broken_file,
    error::{Error, Result},
    gates::{Table, open_rows},
};
pub use columns::{ColumnChoice, EpochUnit};
use columns::{Columns, describe};
use reading::read_batch;
pub use reading::{Cell, DatedRows};
pub use survey::Survey;

/// A file of rows with the columns that were chosen.
#[derive(Debug)]
pub struct DatedFile {
    path: PathBuf,
    rows: DataFrame,
    columns: Columns,
}

impl DatedFile {
    /// Opens `path` (CSV with a header, Parquet, or JSON lines, by the end of its name) and finds the columns of `choice`.
    ///
    /// # Errors
    /// [`Error::FileFormat`] for another end of the name, [`Error::ImportColumn`] for a column that is not there or cannot be what it is
    /// asked to be, [`Error::BrokenFile`] for a file that cannot be read.
    pub async fn open(path: &Path, choice: &ColumnChoice) -> Result<Self> {
        let rows = open(path).await?;
        let columns = describe(rows.schema().as_arrow(), choice)?;
        Ok(Self { path: path.to_owned(), rows, columns })
    }

    /// Names of all columns of the file at `path`, before any is chosen.
    ///
    /// # Errors
    /// [`Error::FileFormat`], [`Error::BrokenFile`].
    pub async fn columns_of(path: &Path) -> Result<Vec<String>> {
        let rows = open(path).await?;
        Ok(rows.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    /// Names of the columns whose numbers are values, in their order.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.columns.values.iter().map(|column| column.name.as_str())
    }

    /// Names of the columns whose values are counted.
    pub fn categories(&self) -> impl Iterator<Item = &str> {
        self.columns.categories.iter().map(|column| column.name.as_str())
    }

    /// Names of the columns that name the series of a row.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.columns.labels.iter().map(|column| column.name.as_str())
    }

    /// Names of the columns that nothing is taken from.
    pub fn unused(&self) -> &[String] {
        &self.columns.unused
    }

    /// Reads the whole file; `progress` gets the rows so far.
    ///
    /// # Errors
    /// [`Error::BrokenFile`] with line and column.
    pub async fn survey(&self, mut progress: impl FnMut(u64)) -> Result<Survey> {
        let mut survey = Survey::default();
        let mut rows = std::pin::pin!(self.read().await?);
        while let Some(batch) = rows.try_next().await? {
            survey.see(&batch);
            progress(survey.row_count);
        }
        Ok(survey)
    }

    /// The rows in their order, batch by batch, their times set apart where the survey found that they have to be.
    ///
    /// # Errors
    /// [`Error::BrokenFile`] with line and column.
    pub async fn rows(&self, survey: &Survey) -> Result<impl Stream<Item = Result<DatedRows>> + Send + use<'_>> {
        let apart_us = survey.apart_us();
        Ok(self.read().await?.map_ok(move |rows| rows.set_apart(apart_us)))
    }

    async fn read(&self) -> Result<impl Stream<Item = Result<DatedRows>> + Send + use<'_>> {
        let stream = self.rows.clone().execute_stream().await?;
        let mut row_count = 0;
        Ok(stream.map(move |batch| {
            let batch = batch
                .map_err(|error| broken_file(&self.path, &error, Some(self.rows.schema().as_arrow()), row_count))?;
            let rows = read_batch(&self.columns, &batch, row_count)?;
            row_count += batch.num_rows() as u64;
            Ok(rows)
        }))
    }
}

async fn open(path: &Path) -> Result<DataFrame> {
    let opened = open_rows(path, &Table::new("import")).await;
    opened.map_err(|error| match error {
        Error::DataFusion(error) => broken_file(path, &error, None, 0),
        other => other,
    })
}

#[cfg(test)]
mod tests;
