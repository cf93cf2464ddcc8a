//! Parameters of prepared statements: their types, and one row of values for them.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema},
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use arrow_flight::{FlightData, decode::FlightRecordBatchStream, error::FlightError};
use bytes::Bytes;
use datafusion::{
    common::{ParamValues, ScalarValue},
    error::DataFusionError,
    logical_expr::LogicalPlan,
};
use futures::{Stream, TryStreamExt};
use tonic::Status;

use super::internal;
use crate::parameter_places::parameter_places;

/// Values of one statement, as an IPC stream.
const VALUES_SIZE_BYTES_MAX: usize = 1 << 20;

/// The parameters of `plan` in their order, with the types that they are used or cast as; that of one that may be anything is null.
///
/// # Errors
/// If one parameter is used as values of two types.
pub(super) fn schema(plan: &LogicalPlan) -> Result<Schema, DataFusionError> {
    let mut fields: Vec<_> = plan.get_parameter_fields()?.into_iter().collect();
    fields.sort_by_cached_key(|(name, _)| (position(name).unwrap_or(usize::MAX), name.clone()));
    let places = parameter_places(plan);
    let fields = fields.into_iter().map(|(name, field)| {
        let field = field.filter(|field| !field.data_type().is_null());
        let place = || places.iter().find(|(place, _)| *place == name).map(|(_, field)| Arc::clone(field));
        let data_type = field.or_else(place).map_or(DataType::Null, |field| field.data_type().clone());
        Field::new(name, data_type, true)
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// The place of `$1`; none of `$name`.
fn position(name: &str) -> Option<usize> {
    name.strip_prefix('$')?.parse().ok()
}

/// Puts the row of `values` in the place of the parameters: by position, or by the names of the columns where the
/// statement names its parameters.
///
/// # Errors
/// If a parameter has no value.
pub(super) fn bind(plan: LogicalPlan, values: &RecordBatch) -> Result<LogicalPlan, DataFusionError> {
    let scalars = values.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
    let scalars = scalars.collect::<Result<Vec<_>, _>>()?;
    let named = plan.get_parameter_fields()?.keys().any(|name| position(name).is_none());
    let values: ParamValues = if named {
        let names = values.schema_ref().fields().iter().map(|field| field.name().trim_start_matches('$').to_owned());
        names.zip(scalars).collect::<Vec<_>>().into()
    } else {
        scalars.into()
    };
    plan.with_param_values(values)
}

/// The one row of parameters that a client sends, as an IPC stream.
///
/// # Errors
/// `INVALID_ARGUMENT` for no row, several or too large a row, and for what is no batch.
pub(super) async fn receive(
    data: impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static,
) -> Result<Bytes, Status> {
    let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
    let mut row = None;
    while let Some(batch) = batches.try_next().await.map_err(refused)? {
        match batch.num_rows() {
            0 => {}
            1 if row.is_none() => row = Some(batch),
            _ => return Err(Status::invalid_argument("a query takes one row of parameters at a time")),
        }
    }
    let row = row.ok_or_else(|| Status::invalid_argument("there is no row of parameters"))?;
    let bytes = write(&row).map_err(internal)?;
    if bytes.len() > VALUES_SIZE_BYTES_MAX {
        return Err(Status::invalid_argument(format!("the parameters are larger than {VALUES_SIZE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn refused(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        error => Status::invalid_argument(format!("the parameters cannot be read: {error}")),
    }
}

fn write(row: &RecordBatch) -> Result<Bytes, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), row.schema_ref())?;
    writer.write(row)?;
    Ok(writer.into_inner()?.into())
}

/// The row that [`receive`] wrote.
///
/// # Errors
/// If it is none.
pub(super) fn read(bytes: &Bytes) -> Result<RecordBatch, ArrowError> {
    let mut reader = StreamReader::try_new(bytes.as_ref(), None)?;
    match reader.next().transpose()? {
        Some(row) if row.num_rows() == 1 => Ok(row),
        _ => Err(ArrowError::IpcError("no row of parameters".into())),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow_flight::encode::FlightDataEncoderBuilder;
    use datafusion::prelude::SessionContext;
    use futures::stream;

    use super::*;

    fn row(columns: [(&str, ArrayRef); 2]) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    async fn answer(sql: &str, values: &RecordBatch) -> String {
        let ctx = SessionContext::new();
        let plan = crate::run::plan(&ctx, sql).await.unwrap();
        let plan = bind(plan, &read(&write(values).unwrap()).unwrap()).unwrap();
        let batches = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap()
    }

    #[tokio::test]
    async fn values_go_to_their_parameters_by_place_or_by_name() {
        let (seven, text): (ArrayRef, ArrayRef) =
            (Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["x"])));
        let values = row([("a", seven), ("b", text)]);
        for sql in
            ["SELECT concat($2, $1)", "SELECT concat($b, $a)", "SELECT concat(x, y) FROM (VALUES ($2, $1)) t(x, y)"]
        {
            assert_eq!(answer(sql, &values).await, "x7", "{sql}");
        }
        assert_eq!(answer("SELECT concat(?, ?)", &values).await, "7x");
    }

    #[tokio::test]
    async fn parameters_are_described_in_their_order() {
        let sql = "SELECT $10, CAST($3 AS DOUBLE) FROM (VALUES (1, 'a')) t(n, s) WHERE n = $2 AND s = $1";
        let plan = crate::run::plan(&SessionContext::new(), sql).await.unwrap();
        let schema = schema(&plan).unwrap();
        let described: Vec<_> =
            schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
        assert_eq!(
            described,
            [("$1", &DataType::Utf8), ("$2", &DataType::Int64), ("$3", &DataType::Float64), ("$10", &DataType::Null)]
        );
    }

    #[tokio::test]
    async fn one_row_is_taken() {
        let (one, two): (ArrayRef, ArrayRef) =
            (Arc::new(Int64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![3, 4])));
        let both = row([("a", one), ("b", two)]);
        for (batch, count) in [(both.slice(0, 1), 1), (both.slice(0, 0), 0), (both.clone(), 2)] {
            let data = FlightDataEncoderBuilder::new().build(stream::iter([Ok(batch)]));
            let received = receive(data).await;
            assert_eq!(received.is_ok(), count == 1, "{count} rows");
            if let Ok(bytes) = received {
                assert_eq!(read(&bytes).unwrap(), both.slice(0, 1));
            }
        }
        assert!(read(&Bytes::from_static(b"no stream")).is_err());
    }
}
