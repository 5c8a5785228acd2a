"""For uvicorn: fields in order, as bytes."""

from record import Record

record = Record()


async def application(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    method = scope["method"]
    serial, answer = record.answer(method, target.decode("latin-1"), fields, body, scope["client"][1])
    headers = [
        (b"content-type", b"text/plain"),
        (b"x-origin", str(serial).encode()),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer})
