"""A gRPC service without generated code: messages are bytes. The port is the argument; with a certificate and its key, it speaks TLS."""

import sys
import time
from concurrent import futures

import grpc


def unary(message, context):
    """Twice the message, with what was read of the call in its trailers."""
    seen = dict(context.invocation_metadata())
    context.set_trailing_metadata((("seen-domain", seen.get("user-custom-domain", "")),))
    if message == b"refuse":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not this one, 100% sure")
    return message + message


def down(message, context):
    for count in range(int(message)):
        yield b"%d" % count


def up(messages, context):
    return b"%d" % sum(len(message) for message in messages)


def both(messages, context):
    """Each message comes back as it arrives; the first word is the server's."""
    context.send_initial_metadata((("first-word", "mine"),))
    yield from messages


def slow(message, context):
    """Tells in the file that the message names how the call has ended."""
    name = message.decode()
    context.add_callback(lambda: open(name, "w").write("ended"))
    while context.is_active():
        time.sleep(0.01)
    return b""


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}


def main(port, *pair):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", METHODS),))
    address = f"127.0.0.1:{port}"
    if pair:
        certificate, key = (open(name, "rb").read() for name in pair)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


main(*sys.argv[1:])
