"""WebSocket through Gatehouse by two implementations: `websockets` over HTTP/1.1 (RFC 6455), `h2` with `wsproto` over HTTP/2 (RFC 8441).

Arguments: address, name, file of root certificates. Prints a line per case: `ok CASE`, or `failed CASE: what was seen`.
"""

import asyncio
import os
import ssl
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

ADDRESS, NAME, ROOTS = sys.argv[1:4]
PATIENCE = 20
# More than any buffer on the way, and no multiple of a frame's or record's size.
LARGE = os.urandom(3_000_001)


def tls(protocol):
    context = ssl.create_default_context(cafile=ROOTS)
    context.set_alpn_protocols([protocol])
    return context


def expect(seen, wanted):
    assert seen == wanted, f"{str(seen)[:200]} instead of {str(wanted)[:200]}"


def over_http1(**options):
    return connect(f"wss://{NAME}/echo", host=ADDRESS, port=443, ssl=tls("http/1.1"), max_size=None, **options)


async def echoes_text_and_bytes():
    async with over_http1() as socket:
        for message in ["text", "", b"bytes", b"", "ü" * 70_000, LARGE]:
            await socket.send(message)
            expect(await socket.recv(), message)


async def echoes_a_message_in_fragments():
    async with over_http1() as socket:
        await socket.send(["one ", "two ", "three"])
        expect(await socket.recv(), "one two three")


async def many_messages_at_once_keep_their_order():
    async with over_http1() as socket:
        sent = [f"message {number}" * (number % 50) for number in range(1_000)]

        async def send():
            for message in sent:
                await socket.send(message)

        sending = asyncio.create_task(send())
        expect([await socket.recv() for _ in sent], sent)
        await sending


async def answers_pings_of_the_client():
    async with over_http1() as socket:
        await (await socket.ping(b"are you there"))


async def negotiates_compression_and_a_subprotocol():
    async with over_http1(subprotocols=["a.test", "b.test"]) as socket:
        expect(socket.subprotocol, "b.test")
        extensions = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        assert "permessage-deflate" in extensions, extensions
        await socket.send("x" * 100_000)
        expect(await socket.recv(), "x" * 100_000)


async def passes_a_close_with_its_code():
    async with over_http1() as socket:
        await socket.send("close with 4321")
        try:
            seen = await socket.recv()
        except ConnectionClosed as closed:
            seen = (closed.rcvd.code, closed.rcvd.reason)
        expect(seen, (4321, "as asked"))


class OverHttp2:
    """One connection of HTTP/2; `messages` is what came on a stream, as events of wsproto."""

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(ADDRESS, 443, ssl=tls("h2"), server_hostname=NAME)
        expect(self.writer.get_extra_info("ssl_object").selected_alpn_protocol(), "h2")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.fault = None
        self.changed, self.sockets, self.answers, self.ended, self.waiting = asyncio.Condition(), {}, {}, set(), {}
        await self.flush()
        self.receiving = asyncio.create_task(self.receive())
        # RFC 8441 §3: the method may be used only once the server has said so.
        await self.until(lambda: self.h2.remote_settings.enable_connect_protocol == 1)
        return self

    async def __aexit__(self, *_):
        self.receiving.cancel()
        self.writer.close()

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def until(self, condition):
        async with self.changed:
            await self.changed.wait_for(lambda: condition() or self.fault)
        assert not self.fault, self.fault

    async def receive(self):
        try:
            while data := await self.reader.read(65_536):
                async with self.changed:
                    for event in self.h2.receive_data(data):
                        self.take(event)
                    self.changed.notify_all()
                await self.flush()
            self.fault = "the connection was closed"
        except Exception as error:
            self.fault = repr(error)
        async with self.changed:
            self.changed.notify_all()

    def take(self, event):
        stream = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.ResponseReceived):
            self.answers[stream] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            # The end of a stream may be a frame without data, of which wsproto makes the end of a connection.
            if event.data:
                self.sockets[stream].receive_data(event.data)
                self.waiting[stream].extend(self.sockets[stream].events())
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            self.ended.add(stream)

    async def open(self):
        stream = self.h2.get_next_available_stream_id()
        self.sockets[stream], self.waiting[stream] = Connection(ConnectionType.CLIENT), []
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/echo"), (":authority", NAME)]
        self.h2.send_headers(stream, pseudo + [("sec-websocket-version", "13")])
        await self.flush()
        await self.until(lambda: stream in self.answers)
        expect(self.answers[stream][":status"], "200")
        return stream

    async def send(self, stream, event):
        data = self.sockets[stream].send(event)
        while data:
            await self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            size = min(len(data), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, data[:size])
            data = data[size:]
            await self.flush()

    async def message(self, stream, kind):
        """A whole message of this kind."""
        parts = []
        while True:
            await self.until(lambda: self.waiting[stream])
            event = self.waiting[stream].pop(0)
            assert isinstance(event, kind), f"{event!r} instead of {kind.__name__}"[:200]
            if not hasattr(event, "message_finished"):
                return event
            parts.append(event.data)
            if event.message_finished:
                return parts[0][:0].join(parts)


async def http2_echoes_on_several_streams_of_one_connection():
    async with OverHttp2() as client:
        streams = [await client.open() for _ in range(5)]
        for number, stream in enumerate(streams):
            await client.send(stream, TextMessage(data=f"stream {number}"))
        for number, stream in reversed(list(enumerate(streams))):
            expect(await client.message(stream, TextMessage), f"stream {number}")


async def http2_echoes_a_large_message():
    async with OverHttp2() as client:
        stream = await client.open()
        sending = asyncio.create_task(client.send(stream, BytesMessage(data=LARGE)))
        assert await client.message(stream, BytesMessage) == LARGE, "other bytes than were sent"
        await sending


async def http2_answers_pings_and_closes():
    async with OverHttp2() as client:
        stream = await client.open()
        await client.send(stream, Ping(payload=b"there?"))
        expect((await client.message(stream, Pong)).payload, b"there?")
        await client.send(stream, CloseConnection(code=1000))
        expect((await client.message(stream, CloseConnection)).code, 1000)
        await client.until(lambda: stream in client.ended)


CASES = [
    echoes_text_and_bytes,
    echoes_a_message_in_fragments,
    many_messages_at_once_keep_their_order,
    answers_pings_of_the_client,
    negotiates_compression_and_a_subprotocol,
    passes_a_close_with_its_code,
    http2_echoes_on_several_streams_of_one_connection,
    http2_echoes_a_large_message,
    http2_answers_pings_and_closes,
]


async def main():
    for case in CASES:
        try:
            await asyncio.wait_for(case(), PATIENCE)
            print("ok", case.__name__)
        except Exception as error:
            print(f"failed {case.__name__}: {type(error).__name__}: {error}")


asyncio.run(main())
