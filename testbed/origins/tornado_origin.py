"""tornado's HTTP server without its web framework: `python tornado_origin.py PORT`."""

import asyncio
import sys

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, ResponseStartLine

from record import Record

record = Record()


def read(request):
    fields = [list(field) for field in request.headers.get_all()]
    connection = request.connection.context.address[1]
    serial, answer = record.answer(request.method, request.uri, fields, request.body, connection)
    headers = HTTPHeaders({"X-Origin": str(serial), "Content-Length": str(len(answer))})
    body = b"" if request.method == "HEAD" else answer
    request.connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, body)
    request.connection.finish()


async def main():
    server = HTTPServer(read, max_header_size=1 << 16, idle_connection_timeout=600)
    server.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
