"""A gRPC client: ADDRESS NAME ROOTS FOLDER. Calls everything that grpc_server.py has, and ends with an error where an answer is not the right one."""

import os
import queue
import sys
import threading
import time

import grpc


def check(what, seen, expected):
    if seen != expected:
        sys.exit(f"{what}: {seen!r} instead of {expected!r}")


def unary(channel, name):
    answer, call = channel.unary_unary("/test.Echo/Unary").with_call(b"abc", timeout=20)
    check("unary", answer, b"abcabc")
    check("the domain in the trailers", dict(call.trailing_metadata())["seen-domain"], name)
    large = os.urandom(3 << 20)
    check("a large message", channel.unary_unary("/test.Echo/Unary")(large[: 1 << 20], timeout=60), large[: 1 << 20] * 2)


def refused(channel):
    try:
        channel.unary_unary("/test.Echo/Unary")(b"refuse", timeout=20)
        sys.exit("a refusal came as an answer")
    except grpc.RpcError as error:
        check("status", error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        check("message", error.details(), "not this one, 100% sure")
    try:
        channel.unary_unary("/test.Echo/Nothing")(b"", timeout=20)
        sys.exit("a method that is not there has answered")
    except grpc.RpcError as error:
        check("status", error.code(), grpc.StatusCode.UNIMPLEMENTED)


def streams(channel):
    down = list(channel.unary_stream("/test.Echo/Down")(b"1000", timeout=20))
    check("down", down, [b"%d" % count for count in range(1000)])
    up = channel.stream_unary("/test.Echo/Up")((b"x" * 1000 for _ in range(1000)), timeout=20)
    check("up", up, b"1000000")


def conversation(channel):
    """Each message is written only when the one before has come back, the first when the server has spoken."""
    messages = queue.Queue()
    call = channel.stream_stream("/test.Echo/Both")(iter(messages.get, None), timeout=20)
    check("first word", dict(call.initial_metadata())["first-word"], "mine")
    for count in range(100):
        messages.put(b"%d" % count)
        check("both", next(call), b"%d" % count)
    messages.put(None)
    check("rest", list(call), [])


def ends(channel, folder):
    """A deadline and a cancellation reach the server."""
    for what, end in (("deadline", lambda call: call.exception()), ("cancelled", lambda call: call.cancel())):
        file = os.path.join(folder, what)
        call = channel.unary_unary("/test.Echo/Slow").future(file.encode(), timeout=1 if what == "deadline" else 20)
        if what == "cancelled":
            # Another call that is answered says that the one before it has left.
            channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
        end(call)
        until = time.monotonic() + 20
        while not os.path.exists(file):
            if time.monotonic() > until:
                sys.exit(f"{what}: the server was not told")
            time.sleep(0.01)


def many(channel):
    """More calls at once than one connection to the server takes."""
    wrong = []

    def work():
        for _ in range(10):
            if channel.unary_unary("/test.Echo/Unary")(b"m", timeout=60) != b"mm":
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check("wrong answers among many", wrong, [])


def main(address, name, roots, folder):
    credentials = grpc.ssl_channel_credentials(open(roots, "rb").read())
    options = [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
    with grpc.secure_channel(address, credentials, options) as channel:
        unary(channel, name)
        refused(channel)
        streams(channel)
        conversation(channel)
        ends(channel, folder)
        many(channel)
    print("all calls were answered")


main(*sys.argv[1:])
