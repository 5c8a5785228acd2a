//! `cargo xtask hellos`: the ClientHellos of real clients into the corpus of `proxy-common`, from each client that is installed.
//! Not here: what must hold of them (`proxy_common::decide`). They are kept, since a test is to meet the same bytes each time.

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::shell;

/// Captures one hello of each client into `proxy-common/tests/corpus/clients`.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = shell()?.current_dir().join("proxy-common/tests/corpus/clients");
    fs::create_dir_all(&folder)?;
    for (file, command) in CLIENTS {
        match capture(command) {
            Ok(hello) => {
                fs::write(folder.join(file), &hello)?;
                println!("{file}: {} bytes", hello.len());
            }
            Err(error) => println!("{file}: {error:#}; what is there stays"),
        }
    }
    Ok(())
}

fn capture(command: &str) -> anyhow::Result<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let scratch = Scratch::new(port)?;
    let command = command.replace("PORT", &port.to_string());
    let mut child = Command::new("sh")
        .args(["-c", &format!("exec timeout 20 {command}")])
        .current_dir(&scratch.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let hello = accept(&listener, &mut child);
    // It has been refused by now, or ends by itself in seconds.
    drop(listener);
    child.wait()?;
    hello
}

/// The first record that a client sends for the name. A browser calls at its maker's, too.
fn accept(listener: &TcpListener, child: &mut std::process::Child) -> anyhow::Result<Vec<u8>> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Ok(hello) = read(stream) {
                    return Ok(hello);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("not captured: {status}");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn read(mut stream: TcpStream) -> anyhow::Result<Vec<u8>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut header = [0; 5];
    stream.read_exact(&mut header).context("no record")?;
    let [kind, _, _, high, low] = header;
    ensure!(kind == HANDSHAKE, "a record of type {kind}");
    let mut fragment = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    stream.read_exact(&mut fragment).context("half a record")?;
    let holds_name = fragment.windows(NAME.len()).any(|window| window == NAME.as_bytes());
    ensure!(holds_name, "a hello without {NAME}");
    Ok([&header, fragment.as_slice()].concat())
}

/// A folder for what a client writes, and for the programs of those that are libraries.
struct Scratch(PathBuf);

impl Scratch {
    fn new(port: u16) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("gatehouse-hellos-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        for (file, text) in [("Hello.java", JAVA), ("hello.go", GO)] {
            fs::write(folder.join(file), text.replace("PORT", &port.to_string()))?;
        }
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it is the temporary folder's to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What every client asks for.
const NAME: &str = "shop.example.com";
/// RFC 8446 §5.1
const HANDSHAKE: u8 = 22;

const CLIENTS: [(&str, &str); 9] = [
    (
        "chromium",
        "chromium --headless=new --no-sandbox --user-data-dir=profile --disable-gpu --host-resolver-rules='MAP * 127.0.0.1:PORT' --no-proxy-server https://shop.example.com/",
    ),
    ("curl", "curl --noproxy '*' --connect-to ::127.0.0.1:PORT https://shop.example.com/"),
    ("gnutls", "gnutls-cli --sni-hostname=shop.example.com --port=PORT 127.0.0.1"),
    ("go", "env HOME=. GOCACHE=$PWD/go-cache GO111MODULE=off go run hello.go"),
    ("java", "java Hello.java"),
    (
        "node",
        "node -e 'require(\"tls\").connect({host: \"127.0.0.1\", port: PORT, servername: \"shop.example.com\", ALPNProtocols: [\"h2\"]})'",
    ),
    ("openssl", "openssl s_client -connect 127.0.0.1:PORT -servername shop.example.com"),
    (
        "openssl-tls12",
        "openssl s_client -tls1_2 -connect 127.0.0.1:PORT -servername shop.example.com -alpn h2,http/1.1",
    ),
    (
        "python",
        "python3 -c 'import socket, ssl; ssl.create_default_context().wrap_socket(socket.create_connection((\"127.0.0.1\", PORT)), server_hostname=\"shop.example.com\")'",
    ),
];

const JAVA: &str = r#"
import java.net.Socket;
import javax.net.ssl.*;
class Hello {
    public static void main(String[] arguments) throws Exception {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        ((SSLSocket) factory.createSocket(new Socket("127.0.0.1", PORT), "shop.example.com", PORT, true)).startHandshake();
    }
}
"#;

const GO: &str = r#"
package main

import "crypto/tls"

func main() {
	tls.Dial("tcp", "127.0.0.1:PORT", &tls.Config{ServerName: "shop.example.com", NextProtos: []string{"h2"}})
}
"#;
