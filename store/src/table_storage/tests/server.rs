//! A real S3 server over HTTP in this process, which fails on demand: with error answers, slowly, or by closing the
//! connection before or after it did what was asked.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    error_handling::HandleError,
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderName, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    serve::{IncomingStream, Listener},
};
use object_store::{ObjectStore, aws::AmazonS3Builder};
use s3s::{HttpError, auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{Config, RawS3, S3Settings, S3Url};

const KEY: &str = "AKIDTEST";
const SECRET: &str = "test-secret";
pub(crate) const BUCKET: &str = "bucket";

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing is done, and this is the answer.
    Status(u16),
    /// Done and answered after this time.
    Slow(Duration),
    /// Nothing is done, and the connection closes.
    LostBefore,
    /// Done, and the connection closes in place of the answer.
    LostAfter,
    /// The connection closes at once, and it is done after this time all the same.
    Late(Duration),
}

#[derive(Debug)]
struct Plan {
    method: &'static str,
    /// What the path holds.
    part: &'static str,
    failure: Failure,
    left: usize,
}

#[derive(Debug, Default)]
struct Faults {
    plans: Mutex<Vec<Plan>>,
    /// Requests that failed.
    failed: Mutex<usize>,
    /// `s3s-fs` looks whether an object exists and writes it in two steps; between them no other conditional put comes.
    conditional: tokio::sync::Mutex<()>,
}

/// The server and its objects; both end with this value.
pub(crate) struct S3Server {
    root: TempDir,
    pub(crate) endpoint: String,
    faults: Arc<Faults>,
    serving: JoinHandle<()>,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = HandleError::new(builder.build(), |error: HttpError| async move {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"))
        });
        let faults = Arc::new(Faults::default());
        let app = Router::new().fallback_service(service).layer(from_fn_with_state(Arc::clone(&faults), serve_or_fail));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = app.into_make_service_with_connect_info::<Cut>();
        let serving = tokio::spawn(async move { axum::serve(CuttingListener(listener), app).await.unwrap() });
        Self { root, endpoint, faults, serving }
    }

    /// The next `times` requests of `method` whose path holds `part` fail.
    pub(crate) fn fail(&self, method: &'static str, part: &'static str, failure: Failure, times: usize) {
        self.faults.plans.lock().unwrap().push(Plan { method, part, failure, left: times });
    }

    /// No more failures; how many requests failed so far.
    pub(crate) fn heal(&self) -> usize {
        self.faults.plans.lock().unwrap().clear();
        std::mem::take(&mut *self.faults.failed.lock().unwrap())
    }

    fn settings(&self, timeout: &str) -> S3Settings {
        let section = serde_json::json!({
            "endpoint": self.endpoint, "allow_http": true, "region": "us-east-1", "access_key_id": KEY,
            "secret_access_key": SECRET, "request_timeout": timeout, "retry_timeout": timeout,
        });
        let raw: RawS3 = serde_json::from_value(section).unwrap();
        raw.validate().unwrap()
    }

    /// Settings for large files, which take their time here.
    pub(crate) fn patient(&self) -> S3Settings {
        self.settings("30s")
    }

    /// A store in `data_dir` with its tables here, below `prefix`; requests give up soon.
    pub(crate) fn config(&self, data_dir: &Path, prefix: &str) -> Config {
        Config {
            tables: Some(S3Url::parse(&format!("s3://{BUCKET}/{prefix}")).unwrap()),
            s3: self.settings("1s"),
            ..Config::new(data_dir)
        }
    }

    /// A client that has nothing to do with the store's own.
    pub(crate) fn client(&self) -> Arc<dyn ObjectStore> {
        let builder = AmazonS3Builder::new().with_endpoint(&self.endpoint).with_allow_http(true);
        let builder = builder.with_bucket_name(BUCKET).with_region("us-east-1");
        Arc::new(builder.with_access_key_id(KEY).with_secret_access_key(SECRET).build().unwrap())
    }

    /// Where the server keeps the object `key`.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(key)
    }
}

impl Faults {
    fn take(&self, request: &Request) -> Option<Failure> {
        let mut plans = self.plans.lock().unwrap();
        let plan = plans.iter_mut().find(|plan| {
            plan.left > 0 && plan.method == request.method().as_str() && request.uri().path().contains(plan.part)
        })?;
        plan.left -= 1;
        *self.failed.lock().unwrap() += 1;
        Some(plan.failure)
    }

    async fn serve(&self, request: Request, next: Next) -> Response {
        let conditional = request.headers().contains_key(HeaderName::from_static("if-none-match"));
        let _alone = if conditional { Some(self.conditional.lock().await) } else { None };
        next.run(request).await
    }
}

async fn serve_or_fail(
    State(faults): State<Arc<Faults>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
    next: Next,
) -> Response {
    match faults.take(&request) {
        None => faults.serve(request, next).await,
        Some(Failure::Status(code)) => StatusCode::from_u16(code).unwrap().into_response(),
        Some(Failure::Slow(pause)) => {
            pause_for(pause).await;
            faults.serve(request, next).await
        }
        Some(Failure::LostBefore) => cut.answer(),
        Some(Failure::LostAfter) => {
            faults.serve(request, next).await;
            cut.answer()
        }
        Some(Failure::Late(pause)) => {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            tokio::spawn(async move {
                pause_for(pause).await;
                faults.serve(Request::from_parts(parts, Body::from(body)), next).await
            });
            cut.answer()
        }
    }
}

async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// Set, the next write to the connection fails, which closes it.
#[derive(Debug, Clone, Default)]
struct Cut(Arc<AtomicBool>);

impl Cut {
    /// Never arrives.
    fn answer(&self) -> Response {
        self.0.store(true, Ordering::SeqCst);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl Connected<IncomingStream<'_, CuttingListener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, CuttingListener>) -> Self {
        stream.remote_addr().clone()
    }
}

struct CuttingListener(TcpListener);

impl Listener for CuttingListener {
    type Io = CuttingStream;
    type Addr = Cut;

    async fn accept(&mut self) -> (CuttingStream, Cut) {
        let cut = Cut::default();
        let (stream, _) = self.0.accept().await.unwrap();
        (CuttingStream { stream, cut: cut.clone() }, cut)
    }

    fn local_addr(&self) -> io::Result<Cut> {
        Ok(Cut::default())
    }
}

struct CuttingStream {
    stream: TcpStream,
    cut: Cut,
}

impl AsyncRead for CuttingStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CuttingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
