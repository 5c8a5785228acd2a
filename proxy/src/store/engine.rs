//! The engine in this process, behind the SDK's own connector trait: no port is opened, and the SDK cannot tell the difference.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError, actions::describe_table::DescribeTableRequest};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A `DynamoDB`-compatible engine (`SQLite` in WAL mode) in this process; clones are one engine.
#[derive(Clone)]
pub struct Engine {
    database: Database,
    /// Held for as long as the engine lives; absent for one in memory.
    _lock: Option<Arc<File>>,
}

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process has it.
    #[error(
        "{}: another process holds this store; stop it, use its control socket, or choose another `state_directory`",
        .0.display()
    )]
    Held(PathBuf),
    /// The file system refuses.
    #[error("{}: cannot be used as the embedded store; check `state_directory` and its owner", path.display())]
    File {
        /// What was opened.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The disk has no room.
    #[error("{}: no disk space is left for the embedded store; free some, the store itself is intact", .0.display())]
    Full(PathBuf),
    /// The engine refuses.
    #[error(
        "{}: the embedded store cannot be opened; if a later release has written it, install that again, and if it is damaged, restore it from a copy",
        path.display()
    )]
    Engine {
        /// Its file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: DynoxideError,
    },
}

impl Engine {
    /// Opens or creates the store in `directory`; both are for this user alone.
    pub fn open(directory: &Path) -> Result<Self, EngineError> {
        let refuse = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::Full(path),
                _ => EngineError::File { path, source },
            }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refuse(directory))?;
        let lock_path = directory.join(LOCK_FILE);
        let lock = private(&lock_path).map_err(refuse(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EngineError::Held(directory.join(STORE_FILE))),
            Err(TryLockError::Error(source)) => return Err(refuse(&lock_path)(source)),
        }
        let path = directory.join(STORE_FILE);
        // SQLite gives `-wal` and `-shm` the mode of the file they belong to.
        private(&path).map_err(refuse(&path))?;
        let database = path.to_str().ok_or_else(|| refuse(&path)(io::ErrorKind::InvalidFilename.into()))?;
        let database = Database::new(database).map_err(|source| {
            let is_full = says_disk_full(&source.to_string()) || is_full(directory);
            if is_full { EngineError::Full(path) } else { EngineError::Engine { path, source } }
        })?;
        Ok(Self { database, _lock: Some(Arc::new(lock)) })
    }

    /// Whether there is a store in `directory`.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(STORE_FILE).is_file()
    }

    /// One that is gone when its last clone is: for tests and trials.
    pub fn in_memory() -> Result<Self, EngineError> {
        let database = Database::memory()
            .map_err(|source| EngineError::Engine { path: PathBuf::from(":memory:"), source })?;
        Ok(Self { database, _lock: None })
    }

    /// Removes what its time to live has ended, as `DynamoDB` does by itself; blocks.
    pub(super) fn sweep(&self) -> Result<usize, DynoxideError> {
        self.database.sweep_ttl()
    }
}

/// Less than `SQLite` needs to open a database: then it may say anything, an error of input and output among them.
fn is_full(directory: &Path) -> bool {
    let left = nix::sys::statvfs::statvfs(directory).map(|of| of.blocks_available() * of.fragment_size());
    left.is_ok_and(|bytes| bytes < LEAST_SPACE_BYTES)
}

/// Whether the engine failed for want of room: `SQLite`'s words for `SQLITE_FULL`.
pub(super) fn says_disk_full(message: &str) -> bool {
    message.contains("disk is full")
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl HttpClient for Engine {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Engine {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let database = self.database.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            let body = request.body().bytes().map(<[u8]>::to_vec).unwrap_or_default();
            let answer = tokio::task::spawn_blocking(move || dispatch(&database, &operation, &body))
                .await
                .map_err(|error| ConnectorError::other(error.into(), None))?;
            match answer {
                Ok(body) => response(200, body),
                Err(error) => response(error.status_code(), error.to_json().into_bytes()),
            }
        })
    }
}

/// An answer as the API gives it (`application/x-amz-json-1.0`).
pub(super) fn response(status: u16, body: Vec<u8>) -> Result<HttpResponse, ConnectorError> {
    let status = StatusCode::try_from(status).map_err(|error| ConnectorError::other(error.into(), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    Ok(response)
}

fn dispatch(db: &Database, operation: &str, body: &[u8]) -> Result<Vec<u8>, DynoxideError> {
    match operation {
        "CreateTable" => write(&db.create_table(read(body)?)?),
        "DescribeTable" => describe(db, body),
        "ListTables" => write(&db.list_tables(read(body)?)?),
        "UpdateTimeToLive" => write(&db.update_time_to_live(read(body)?)?),
        "DescribeTimeToLive" => write(&db.describe_time_to_live(read(body)?)?),
        "GetItem" => write(&db.get_item(read(body)?)?),
        "PutItem" => write(&db.put_item(read(body)?)?),
        "UpdateItem" => write(&db.update_item(read(body)?)?),
        "DeleteItem" => write(&db.delete_item(read(body)?)?),
        "Query" => write(&db.query(read(body)?)?),
        "Scan" => write(&db.scan(read(body)?)?),
        "BatchGetItem" => write(&db.batch_get_item(read(body)?)?),
        "BatchWriteItem" => write(&db.batch_write_item(read(body)?)?),
        "TransactWriteItems" => write(&db.transact_write_items(read(body)?)?),
        "TransactGetItems" => write(&db.transact_get_items(read(body)?)?),
        other => Err(DynoxideError::ValidationException(format!("the embedded store has no {other}"))),
    }
}

/// The description of an active table without its counts, for which the engine would read each entry of each index: at a start, with a million
/// of them, for longer than a call may take.
fn describe(db: &Database, body: &[u8]) -> Result<Vec<u8>, DynoxideError> {
    let request: DescribeTableRequest = read(body)?;
    let Some(table) =
        db.get_table_metadata(&request.table_name)?.filter(|table| table.table_status == ACTIVE)
    else {
        return write(&db.describe_table(request)?);
    };
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut indexes = table.gsi_definitions.as_deref().map(parsed).unwrap_or_default();
    for index in indexes.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        index.insert("IndexStatus".to_owned(), ACTIVE.into());
    }
    write(&json!({ "Table": {
        "TableName": table.table_name,
        "TableStatus": ACTIVE,
        "KeySchema": parsed(&table.key_schema),
        "AttributeDefinitions": parsed(&table.attribute_definitions),
        "GlobalSecondaryIndexes": indexes,
    } }))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, DynoxideError> {
    serde_json::from_slice(body).map_err(|error| {
        // The engine's own deserialisers mark what the API would report as a validation error.
        let text = error.to_string();
        match text.split_once("VALIDATION:") {
            Some((_, message)) => {
                let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
                DynoxideError::ValidationException(message.to_owned())
            }
            None => DynoxideError::SerializationException(text),
        }
    })
}

fn write<T: Serialize>(answer: &T) -> Result<Vec<u8>, DynoxideError> {
    serde_json::to_vec(answer).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

const ACTIVE: &str = "ACTIVE";
const STORE_FILE: &str = "store.db";
const LOCK_FILE: &str = "store.lock";
const LEAST_SPACE_BYTES: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::SystemTime};

    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::store::{Store, instant::epoch_millis, tables};

    #[tokio::test]
    async fn a_table_is_described_as_the_engine_does_and_nothing_is_counted_for_it() {
        let engine = Engine::in_memory().unwrap();
        let store = Store::on(engine.clone(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let names = store.tables();
        for name in [&names.certificates, &names.domains, &names.state] {
            let body = json!({ "TableName": name }).to_string();
            let ours: Value = serde_json::from_slice(
                &dispatch(&engine.database, "DescribeTable", body.as_bytes()).unwrap(),
            )
            .unwrap();
            let request = DescribeTableRequest { table_name: name.clone() };
            let theirs = serde_json::to_value(engine.database.describe_table(request).unwrap()).unwrap();
            let (ours, theirs) = (&ours["Table"], &theirs["Table"]);
            assert!(theirs["ItemCount"].is_number() && ours["ItemCount"].is_null(), "{theirs}");
            for field in ["TableName", "TableStatus", "KeySchema", "AttributeDefinitions"] {
                assert_eq!(ours[field], theirs[field], "{field}");
            }
            let indexes = |of: &Value| of["GlobalSecondaryIndexes"].as_array().cloned().unwrap_or_default();
            let (ours, theirs) = (indexes(ours), indexes(theirs));
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                for field in ["IndexName", "KeySchema", "Projection", "IndexStatus"] {
                    assert_eq!(ours[field], theirs[field], "{field}");
                }
                assert!(ours["ItemCount"].is_null());
            }
        }
        let absent = dispatch(&engine.database, "DescribeTable", b"{\"TableName\":\"nobodys\"}").unwrap_err();
        assert!(matches!(absent, DynoxideError::ResourceNotFoundException(_)), "{absent}");
    }

    #[test]
    fn a_second_opening_of_the_same_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = Engine::open(directory.path()).unwrap();
        assert!(matches!(Engine::open(directory.path()), Err(EngineError::Held(_))));
        drop(first);
        Engine::open(directory.path()).unwrap();
    }

    /// A file system of one megabyte, gone with its value.
    struct Small(tempfile::TempDir);

    impl Small {
        fn mount() -> Self {
            use nix::mount::{MsFlags, mount};
            let place = tempfile::tempdir().unwrap();
            mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
            Self(place)
        }

        fn fill(&self) {
            let mut file = File::create(self.0.path().join("filler")).unwrap();
            while io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
        }
    }

    #[test]
    fn a_full_disk_at_the_start_is_no_reason_to_remove_the_store() {
        let disk = Small::mount();
        let state = disk.0.path().join("state");
        drop(Engine::open(&state).unwrap());
        disk.fill();
        let error = Engine::open(&state).map(drop).unwrap_err().to_string();
        assert!(error.contains("no disk space is left") && !error.contains("remove"), "{error}");
    }

    #[tokio::test]
    async fn a_disk_that_fills_up_is_named_by_the_write_that_fails() {
        let disk = Small::mount();
        let store = Store::on(
            Engine::open(&disk.0.path().join("state")).unwrap(),
            &crate::config::StoreConfig::default(),
        );
        tables::create(&store).await.unwrap();
        disk.fill();
        let put = store.client().put_item().table_name(&store.tables().state);
        let put = put.item("pk", AttributeValue::S("a".into())).item("sk", AttributeValue::S("-".into()));
        let put = put.item("much", AttributeValue::S("x".repeat(300 << 10)));
        let error = crate::store::StoreError::from(put.send().await.unwrap_err());
        assert!(matches!(error, crate::store::StoreError::DiskFull(_)), "{error:?}");
        assert!(error.to_string().contains("free space under `state_directory`"), "{error}");
    }

    #[test]
    fn private_keys_in_the_store_are_for_its_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("state");
        let _engine = Engine::open(&inner).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        for entry in fs::read_dir(&inner).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn what_its_time_to_live_has_ended_is_swept_and_the_rest_stays() {
        let engine = Engine::in_memory().unwrap();
        let store = Store::on(engine.clone(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let now = epoch_millis(SystemTime::now()) / 1000;
        for (pk, expires_at) in [("ended", now - 60), ("lasting", now + 60)] {
            let put = store.client().put_item().table_name(&store.tables().state);
            let put = put.item("pk", AttributeValue::S(pk.into())).item("sk", AttributeValue::S("-".into()));
            put.item("expires_at", AttributeValue::N(expires_at.to_string())).send().await.unwrap();
        }
        tokio::task::spawn_blocking(move || engine.sweep()).await.unwrap().unwrap();
        let left = store.client().scan().table_name(&store.tables().state).send().await.unwrap();
        let left: Vec<_> = left.items().iter().map(|item| item["pk"].as_s().unwrap()).collect();
        assert_eq!(left, ["lasting"]);
    }
}
