// Node's HTTP server: `node node_origin.js PORT`. Fields as `rawHeaders` has them: in order, as they were written.
"use strict";
const { createHash } = require("node:crypto");
const http = require("node:http");

let serial = 0;
let readings = [];

function answer(request, body) {
  const fields = [];
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    fields.push(request.rawHeaders.slice(at, at + 2));
  }
  serial += 1;
  const reading = {
    serial,
    connection: String(request.socket.remotePort),
    method: request.method,
    target: request.url,
    fields,
    bytes: body.length,
    sha256: createHash("sha256").update(body).digest("hex"),
  };
  if (!request.url.startsWith("/sentinel?")) {
    readings.push(reading);
    return "ok\n";
  }
  const since = readings;
  readings = [];
  return JSON.stringify({ own: reading, readings: since });
}

const server = http.createServer({ maxHeaderSize: 1 << 16, requestTimeout: 0, headersTimeout: 0 }, (request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.from(answer(request, Buffer.concat(parts)));
    response.writeHead(200, { "X-Origin": String(serial), "Content-Length": body.length });
    response.end(body);
  });
});
server.keepAliveTimeout = 600_000;
server.listen(Number(process.argv[2]), "127.0.0.1");
