//! What requests are made of: usual, odd but legal, and what must be refused.

pub(super) const METHODS: [&str; 18] = [
    "DO", "GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND",
    "REPORT", "MKCOL", "M-SEARCH", "BREW", "get", "x!y~z",
];

pub(super) const PATHS: [&str; 27] = [
    "/",
    "/index.html",
    "//",
    "//host/path",
    "/a//b///c",
    "/a/./b/../c",
    "/../../etc/passwd",
    "/a/%2e%2e/%2E%2e/b",
    "/a%2Fb%5Cc",
    "/%00",
    "/a%0d%0aX:%20y",
    "/%e2%82%ac/%F0%9F%98%80",
    "/%ff%fe",
    "/~user/-_.~",
    "/!$&'()*+,;=:@",
    "/a;b=c;d/e",
    "/a:80/b@c",
    "/http://other.test/x",
    "/%25%32%46",
    "/sentinels?17",
    "/%",
    "/%zz",
    "/{a}|b",
    "/\"quoted\"",
    "/back\\slash",
    "/[brackets]",
    "/ü€",
];

pub(super) const PIECES: [&str; 12] =
    ["a", "..", ".", "", "%2e", "%2F", "a%20b", "a+b", "*", "index.php", "~", "%C3%BC"];

pub(super) const QUERIES: [&str; 14] = [
    "",
    "",
    "",
    "?",
    "??",
    "?a=b",
    "?a=b&a=c&&",
    "?a=%26%3d%23",
    "?/?:@",
    "?a[]=1",
    "?%00",
    "?x=http://other.test/?y",
    "?+a+%2B",
    "?LONG",
];

/// Fields with values that are odd but legal. `LONG` stands for thousands of letters.
pub(super) const FIELDS: [(&str, &[u8]); 45] = [
    ("accept", b"*/*"),
    ("accept", b"text/html;q=0.9, */*;q=0.1"),
    ("accept-encoding", b"gzip, br;q=0"),
    ("accept-language", b"de, en;q=0.5"),
    ("user-agent", b"Mozilla/5.0 (X11; Linux) \"quoted\\\" (comment (nested))\""),
    ("cookie", b"a=1"),
    ("cookie", b"b=2; c=\"3\""),
    ("cookie", b"empty="),
    ("x-empty", b""),
    ("x-one", b"1"),
    ("x-two", b"first"),
    ("x-two", b"second, third"),
    ("x-two", b"\"a, b\", c"),
    ("x-tab", b"a\tb \t c"),
    ("x-latin", b"caf\xe9 \xff\x80"),
    ("x-utf8", b"\xe2\x82\xac\xf0\x9f\x98\x80"),
    ("x-commas", b",a,,b,"),
    ("x-colons", b"a: b:c"),
    ("x-marks", b"!#$%&'*+-.^_`|~()<>@;\\\"/[]?={}"),
    ("x-long", b"LONG"),
    ("x-crlf-escaped", b"a%0d%0aX-Injected: 1"),
    ("x-number", b"00000000000000000000000000000001"),
    ("content-type", b"text/plain; charset=\"utf-8\""),
    ("content-encoding", b"identity"),
    ("authorization", b"Basic dXNlcjpwYXNz"),
    ("range", b"bytes=0-0"),
    ("if-none-match", b"\"a\", W/\"b\""),
    ("if-modified-since", b"Sat, 29 Oct 1994 19:43:31 GMT"),
    ("max-forwards", b"0"),
    ("via", b"1.0 fred, 1.1 p.example.net (proxy)"),
    ("cdn-loop", b"other-cdn; a=\"b, c\""),
    ("x_under", b"score"),
    ("x.dot", b"dotted"),
    ("x!#$&'*+^`|~", b"token"),
    ("1-digit", b"first"),
    ("connection", b"x-one"),
    ("connection", b"keep-alive, X-Two"),
    ("keep-alive", b"timeout=5"),
    ("upgrade", b"websocket"),
    ("te", b"trailers"),
    ("proxy-connection", b"keep-alive"),
    ("x-forwarded-for", b"198.51.100.7"),
    ("forwarded", b"for=198.51.100.7"),
    ("user-custom-domain", b"victim.example"),
    ("x-request-id", b"mine"),
];

pub(super) const BODIES: [usize; 16] =
    [0, 0, 0, 0, 0, 1, 2, 5, 17, 100, 1_000, 4_095, 9_000, 17_000, 70_000, 200_000];

/// RFC 9112 §7.1.1, with the blanks that are seen in practice.
pub(super) const EXTENSIONS: [&str; 10] =
    ["", "", "", "", ";a", ";a=b", "; a=\"b;c\"", " ", ";\"", ";a=0123456789012345678901234567890123456789"];

pub(super) const TRAILERS: [&str; 4] =
    ["", "", "X-Sum: 1\r\n", "Content-Length: 5\r\nHost: other.test\r\nX-One: 2\r\n"];

/// What a server might read in two ways; `HERE` is the host. Behind each, a request that must not come to be read.
pub(super) const SMUGGLED: [&str; 35] = [
    "GET /a#fragment HTTP/1.1\r\nHost: HERE\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\x00\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent_Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContentLength: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 5, 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: +5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 0x5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 5 0\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 18446744073709551617\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: HERE\r\nHost: other.test\r\n\r\n",
    "GET https://other.test/ HTTP/1.1\r\nHost: HERE\r\n\r\n",
    "GET /\r\nHost: HERE\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: HERE\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// What is beyond our limits; `MANY` stands for tens of thousands of letters, `FIELDS` for hundreds of fields.
pub(super) const TOO_LARGE: [&str; 4] = [
    "GET /MANY HTTP/1.1\r\nHost: HERE\r\n\r\n",
    "GET /?MANY HTTP/1.1\r\nHost: HERE\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: HERE\r\nX-Many: MANY\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: HERE\r\nFIELDSContent-Length: 0\r\n\r\n",
];

/// It follows each of [`SMUGGLED`].
pub(super) const FOLLOWER: &str = "GET /smuggled HTTP/1.1\r\nHost: HERE\r\n\r\n";
