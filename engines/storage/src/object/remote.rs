//! [`RemoteTier`]: objects in S3, Google Cloud Storage or Azure, through the `object_store` crate.
//!
//! A thread of its own runs all requests: whoever begins one gets a completion, and needs no runtime.
//! A request that fails is tried again for some seconds, then the failure is the answer. Uploads go
//! in parts, a few at a time. Parts of uploads that a crash ended are not listed: a bucket wants a
//! rule that ends unfinished uploads after some days.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use ferrokit_engine::{Env, Error, ErrorKind, Op, Result};
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::buffered::BufWriter;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, ObjectStoreScheme, RetryConfig};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use url::Url;

use super::{Object, ObjectEntry, ObjectTier, Upload, check_name};
use crate::completion::completion;

/// Bytes of a part of an upload, and how many are on their way at once.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 2;
/// How long and how often a request is tried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES: usize = 4;

/// Objects in a store of the `object_store` crate, below a prefix.
pub struct RemoteTier {
    requests: Requests,
    location: String,
    /// Ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What runs requests.
#[derive(Clone)]
struct Requests {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Handle,
}

impl RemoteTier {
    /// The tier at a URL (`s3://bucket/prefix`, `gs://`, `az://`, `file:///`, and the forms that crate
    /// knows); credentials and the rest come from the environment variables that it reads. Nothing is
    /// asked of the store yet.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL or an environment that it does not take, `Io` if no thread is to
    /// be had.
    pub fn open(env: &Env, location: &str) -> Result<Self> {
        let refuse = |error: &dyn std::fmt::Display| {
            Error::invalid("object.open", format!("no object store: {error}")).with_file(location)
        };
        let url = Url::parse(location).map_err(|error| refuse(&error))?;
        let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|error| refuse(&error))?;
        // Another one may be in place already: then that is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let store: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
            ObjectStoreScheme::Local => {
                let store = LocalFileSystem::new().with_automatic_cleanup(false);
                Ok(Arc::new(store.with_fsync(true)))
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(location).with_retry(retry);
                builder.build().map(|store| Arc::new(store) as _)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(location);
                builder.with_retry(retry).build().map(|store| Arc::new(store) as _)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(location);
                builder.with_retry(retry).build().map(|store| Arc::new(store) as _)
            }
            _ => return Err(refuse(&"neither s3, gs, az nor file")),
        };
        Self::over(env, store.map_err(|error| refuse(&error))?, path, location)
    }

    /// The tier in a store, below a prefix.
    ///
    /// # Errors
    /// `Io` if no thread is to be had.
    pub fn over(
        env: &Env,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        location: &str,
    ) -> Result<Self> {
        let failed = |error| Error::io("object.open", error).with_file(location);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // An error means that nobody is left to stop it.
            let _ = runtime.block_on(stopped);
            // What a request is blocked in (the resolver) is not waited for.
            runtime.shutdown_background();
        };
        let thread = env.spawner.spawn("object-store", Box::new(run)).map_err(failed)?;
        Ok(Self {
            requests: Requests { store, prefix, runtime: handle },
            location: location.trim_end_matches('/').to_owned(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }
}

impl Drop for RemoteTier {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics no more than its requests do, each of which is a task of its own.
            let _ = thread.join();
        }
    }
}

impl Requests {
    fn at(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    /// Runs a request on the tier's thread. It takes its course if nobody waits.
    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: String,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Op<'static, T> {
        let (completer, answer) = completion();
        self.runtime.spawn(async move {
            completer.complete(request.await.map_err(|error| explain(operation, &path, error)));
        });
        Op::pending(answer)
    }
}

#[cold]
fn explain(operation: &'static str, path: &str, error: object_store::Error) -> Error {
    let (kind, message) = match &error {
        object_store::Error::NotFound { .. } => (ErrorKind::NotFound, "no such object"),
        _ => (ErrorKind::Io, "the object store failed"),
    };
    Error::new(kind, operation, message).with_file(path).with_source(error)
}

impl ObjectTier for RemoteTier {
    fn location(&self) -> &str {
        &self.location
    }

    fn upload(&self, name: &str) -> Result<Box<dyn Upload>> {
        check_name(name)?;
        let (store, at) = (Arc::clone(&self.requests.store), self.requests.at(name));
        let writer = BufWriter::with_capacity(store, at, PART_BYTES);
        Ok(Box::new(RemoteUpload {
            requests: self.requests.clone(),
            path: self.path(name),
            writer: Arc::new(Mutex::new(Some(writer.with_max_concurrency(PARTS_AT_ONCE)))),
        }))
    }

    fn open(&self, name: &str, _bytes: u64) -> Result<Arc<dyn Object>> {
        check_name(name)?;
        Ok(Arc::new(RemoteObject {
            requests: self.requests.clone(),
            path: self.path(name),
            at: self.requests.at(name),
        }))
    }

    fn delete(&self, name: &str) -> Op<'static, ()> {
        if let Err(error) = check_name(name) {
            return Op::err(error);
        }
        let (store, at) = (Arc::clone(&self.requests.store), self.requests.at(name));
        self.requests.run("object.delete", self.path(name), async move {
            match store.delete(&at).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                answer => answer,
            }
        })
    }

    fn list(&self, prefix: &str) -> Op<'static, Vec<ObjectEntry>> {
        let Requests { store, prefix: root, .. } = self.requests.clone();
        let prefix = prefix.to_owned();
        self.requests.run("object.list", self.location.clone(), async move {
            let mut entries = Vec::new();
            let mut listed = store.list(Some(&root));
            while let Some(meta) = listed.try_next().await? {
                let mut rest = meta.location.prefix_match(&root).into_iter().flatten();
                if let (Some(name), None) = (rest.next(), rest.next())
                    && name.as_ref().starts_with(&prefix)
                {
                    let (name, bytes) = (name.as_ref().to_owned(), meta.size);
                    entries.push(ObjectEntry { name, bytes });
                }
            }
            entries.sort();
            Ok(entries)
        })
    }

    fn remove_unfinished(&self, _prefix: &str) -> Op<'static, ()> {
        // The store's own rule does.
        Op::ok(())
    }
}

struct RemoteObject {
    requests: Requests,
    path: String,
    at: Path,
}

impl Object for RemoteObject {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, offset: u64, len: usize) -> Op<'static, Vec<u8>> {
        const OPERATION: &str = "object.read";
        if len == 0 {
            return Op::ok(Vec::new());
        }
        let (store, at) = (Arc::clone(&self.requests.store), self.at.clone());
        let end = offset.saturating_add(len as u64);
        let request = async move { store.get_range(&at, offset..end).await };
        let bytes = self.requests.run(OPERATION, self.path.clone(), request);
        let path = self.path.clone();
        Op::pending(async move {
            let bytes = bytes.await.map_err(|error| error.with_offset(offset))?;
            if bytes.len() == len {
                return Ok(bytes.into());
            }
            let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            Err(Error::io(OPERATION, short).with_file(&path).with_offset(offset))
        })
    }
}

struct RemoteUpload {
    requests: Requests,
    path: String,
    /// Absent while something is done with it.
    writer: Arc<Mutex<Option<BufWriter>>>,
}

impl RemoteUpload {
    fn take(&self) -> Option<BufWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn busy<T>(&self) -> Op<'static, T> {
        let message = "the part before was not waited for, or has failed";
        Op::err(Error::invalid("object.upload", message).with_file(&self.path))
    }
}

impl Upload for RemoteUpload {
    fn append(&mut self, bytes: Vec<u8>) -> Op<'static, ()> {
        let Some(mut writer) = self.take() else { return self.busy() };
        let place = Arc::clone(&self.writer);
        self.requests.run("object.upload", self.path.clone(), async move {
            writer.put(Bytes::from(bytes)).await?;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> Op<'static, ()> {
        let Some(mut writer) = self.take() else { return self.busy() };
        self.requests.run("object.upload", self.path.clone(), async move {
            writer.shutdown().await.map_err(|error| object_store::Error::Generic {
                store: "upload",
                source: error.into(),
            })
        })
    }
}

impl Drop for RemoteUpload {
    fn drop(&mut self) {
        if let Some(mut writer) = self.take() {
            self.requests.runtime.spawn(async move {
                // What stays is for the store's own rule.
                let _ = writer.abort().await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::testing::fs_suite::Blocking;
    use crate::testing::object_suite;

    #[test]
    fn a_store_in_memory_is_a_tier() {
        let prefix = Path::from("some/where");
        let store = Arc::new(InMemory::new());
        let tier = RemoteTier::over(&Env::system(), store, prefix, "memory:///some/where").unwrap();
        object_suite::run(&tier, &Blocking);
    }

    #[test]
    fn a_local_directory_by_url_is_a_tier() {
        let directory =
            std::env::temp_dir().join(format!("ferrokit-remote-{}", std::process::id()));
        let url = format!("file://{}", directory.display());
        let tier = RemoteTier::open(&Env::system(), &url).unwrap();
        object_suite::run(&tier, &Blocking);
        drop(tier);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_url_of_no_store_is_refused() {
        for url in ["ftp://host/x", "memory:///x", "s3://", "https://example.org/x", "://"] {
            let error = RemoteTier::open(&Env::system(), url).err().expect(url);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error}");
        }
    }

    #[test]
    fn a_store_that_is_not_there_is_an_error_and_no_hang() {
        // Nobody listens at this port.
        let builder = AmazonS3Builder::new()
            .with_endpoint("http://127.0.0.1:9")
            .with_allow_http(true)
            .with_bucket_name("bucket")
            .with_access_key_id("id")
            .with_secret_access_key("secret")
            .with_retry(RetryConfig { max_retries: 1, ..RetryConfig::default() });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(builder.build().unwrap());
        let tier = RemoteTier::over(&Env::system(), store, Path::default(), "s3://bucket").unwrap();
        let error = tier.open("a", 10).unwrap().read_at(0, 10).wait().unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some("s3://bucket/a")), "{error}");
        assert_eq!(tier.list("a").wait().unwrap_err().kind(), ErrorKind::Io);
    }
}
