//! How each server is set up: its limits are raised beyond ours, so that it is its parser that is tried; connections are kept, and all
//! else is as it comes.

use std::{net::SocketAddr, path::Path};

use super::Server;

/// The program of a server that is no Python module.
pub(super) const fn program(server: Server) -> &'static str {
    match server {
        Server::Nginx => "nginx",
        Server::Apache => "apache2",
        Server::Lighttpd => "lighttpd",
        Server::Node => "node",
        Server::Gunicorn | Server::Uvicorn | Server::Tornado | Server::Waitress => "python",
    }
}

pub(super) fn nginx(port: &str, gateway: SocketAddr) -> String {
    format!(
        "daemon off; user root; worker_processes 1; pid nginx.pid; error_log stderr error;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; keepalive_requests 1000000; keepalive_timeout 600s;\n\
         large_client_header_buffers 4 64k; client_max_body_size 0; client_body_buffer_size 1m;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ fastcgi_pass {gateway};\n\
         fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri;\n\
         fastcgi_param CONTENT_LENGTH $content_length;\n\
         fastcgi_param REMOTE_PORT $remote_port; }} }} }}\n"
    )
}

/// One `server` that a case has written.
pub(super) fn nginx_with(name: &str, address: SocketAddr, listen: &str, server: &str) -> String {
    format!(
        "daemon off; user root; worker_processes 1; pid {name}.pid; error_log stderr error;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; keepalive_timeout 600s; server {{ listen {address} {listen}; {server} }} }}\n"
    )
}

pub(super) fn apache(port: &str, gateway: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "ServerRoot /usr/lib/apache2\nServerName origin.test\nListen 127.0.0.1:{port}\n\
         LoadModule mpm_event_module modules/mod_mpm_event.so\nLoadModule authz_core_module modules/mod_authz_core.so\n\
         LoadModule proxy_module modules/mod_proxy.so\nLoadModule proxy_fcgi_module modules/mod_proxy_fcgi.so\n\
         User www-data\nGroup www-data\nPidFile {folder}/apache.pid\nDefaultRuntimeDir {folder}\n\
         DocumentRoot /usr/lib/apache2\nErrorLog /dev/stderr\nLogLevel warn\n\
         StartServers 1\nServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\n\
         KeepAlive On\nKeepAliveTimeout 600\nMaxKeepAliveRequests 0\nTimeout 600\n\
         LimitRequestLine 65536\nLimitRequestFieldSize 65536\nLimitRequestFields 200\nAllowEncodedSlashes NoDecode\n\
         <Location \"/\">\nSetHandler \"proxy:fcgi://{gateway}\"\nCGIPassAuth On\n</Location>\n"
    )
}

pub(super) fn lighttpd(port: &str, gateway: SocketAddr, folder: &Path) -> String {
    let (folder, host, gateway_port) = (folder.display(), gateway.ip(), gateway.port());
    format!(
        "server.port = {port}\nserver.bind = \"127.0.0.1\"\nserver.document-root = \"{folder}\"\n\
         server.upload-dirs = (\"{folder}\")\nserver.modules = (\"mod_fastcgi\")\n\
         server.max-keep-alive-requests = 65535\nserver.max-keep-alive-idle = 600\n\
         server.max-request-field-size = 65535\nserver.max-request-size = 0\n\
         fastcgi.server = (\"/\" => ((\"host\" => \"{host}\", \"port\" => {gateway_port}, \"check-local\" => \"disable\")))\n"
    )
}

/// `bind` is `ADDRESS:PORT`, or `unix:PATH`.
pub(super) fn gunicorn(bind: String) -> Vec<String> {
    let fixed = [
        "-m gunicorn --workers 1 --worker-class gthread --threads 4 --keep-alive 600 --timeout 600",
        "--limit-request-line 0 --limit-request-field_size 0 --limit-request-fields 200 --no-control-socket",
        "--http-parser python --log-level warning --bind",
    ];
    words(&fixed).chain([bind]).collect()
}

pub(super) fn uvicorn(port: &str) -> Vec<String> {
    let fixed = [
        "-m uvicorn --http h11 --loop asyncio --lifespan off --no-access-log --no-proxy-headers --log-level warning",
        "--timeout-keep-alive 600 --h11-max-incomplete-event-size 65536 --host 127.0.0.1 --port",
    ];
    words(&fixed).chain([port.to_owned()]).collect()
}

pub(super) fn waitress(port: &str) -> Vec<String> {
    let fixed = ["-m waitress --threads=4 --channel-timeout=600"];
    words(&fixed).chain([format!("--listen=127.0.0.1:{port}")]).collect()
}

fn words(lines: &[&'static str]) -> impl Iterator<Item = String> {
    lines.iter().flat_map(|line| line.split(' ')).map(str::to_owned)
}
