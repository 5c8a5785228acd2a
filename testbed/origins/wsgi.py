"""For gunicorn and waitress: PEP 3333, beside the target as it was received."""

from record import Record

record = Record()


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    if len(body) != int(environ.get("CONTENT_LENGTH") or len(body)):
        # PEP 3333 has no word for a body that broke off; its program has to count.
        raise ConnectionError("the body broke off")
    target = environ.get("RAW_URI") or environ["REQUEST_URI"]
    serial, answer = record.answer(
        environ["REQUEST_METHOD"], target, list(fields(environ)), body, environ.get("REMOTE_PORT", "")
    )
    length = ("Content-Length", str(len(answer)))
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Origin", str(serial)), length])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer]


def fields(environ):
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            yield name[5:], value
        elif name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            yield name, value
