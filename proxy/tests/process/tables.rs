//! A DynamoDB API without AWS.

/// The engine's own server, with no table in it.
pub(crate) struct Tables {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Tables {
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let database = dynoxide::Database::memory().unwrap();
        runtime.spawn(dynoxide::server::serve_with_shutdown(listener, database, std::future::pending()));
        Self { url, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
