"""Echoes whatever comes, as `websockets` does it. Argument: its port."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        if message == "close with 4321":
            await connection.close(4321, "as asked")
        else:
            await connection.send(message)


def choose(_, offered):
    return "b.test" if "b.test" in offered else None


async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None, select_subprotocol=choose):
        await asyncio.Event().wait()


asyncio.run(main())
