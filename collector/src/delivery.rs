//! The way of scraped points to the server: at once, or through the buffer on disk.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use crate::{
    buffer::Buffer,
    error::Result,
    send::{Answer, Sender},
};

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// To the server, with a bounded number of retries.
    Direct(Box<Sender>),
    /// To the disk, and from there to the server.
    Buffered(Arc<Buffer>),
}

impl Delivery {
    /// Hands `request` over; what the server refused of it, where it has answered already.
    ///
    /// # Errors
    /// [`crate::Error::Export`] if it is lost.
    pub(crate) async fn deliver(&self, request: ExportMetricsServiceRequest) -> Result<Answer> {
        match self {
            Self::Direct(sender) => sender.send(&request).await,
            Self::Buffered(buffer) => buffer.deliver(request).await.map(|()| Answer::default()),
        }
    }
}
