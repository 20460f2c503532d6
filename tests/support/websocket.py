"""A WebSocket server and a client of it, to be run with a proxy between them.

`websocket.py serve` says on which port of 127.0.0.1 it is, and then how each connection ended.
`websocket.py ask URL` holds what answers there to RFC 6455; it ends with 0 if all of it is as it should be.
`websocket.py refused URL` says why no connection could be made there.
"""

import asyncio
import ssl
import sys

import websockets

LARGE = bytes(range(256)) * 4096


async def echo(connection):
    """Sends back what comes, in as many pieces as a list asks for; the word `bye` ends it from this side."""
    try:
        async for message in connection:
            if message == "bye":
                await connection.close(4001, "done")
            elif message == "ping":
                answered = await connection.ping(b"from the server")
                await answered
                await connection.send("pong came")
            else:
                half = len(message) // 2
                await connection.send([message[:half], message[half:]])
    except websockets.ConnectionClosedError:
        pass
    print("closed", connection.close_code, connection.close_reason, flush=True)


async def serve():
    limit = {"max_size": 4 * len(LARGE), "subprotocols": ["notes"]}
    async with websockets.serve(echo, "127.0.0.1", 0, **limit) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


def connect(url, **settings):
    if url.startswith("wss:"):
        # Who the proxy is, is tested elsewhere.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        settings["ssl"] = context
    return websockets.connect(url, max_size=4 * len(LARGE), subprotocols=["notes"], **settings)


async def ask(url):
    for compression in (None, "deflate"):
        async with connect(url, compression=compression) as connection:
            assert connection.subprotocol == "notes", connection.subprotocol
            names = [extension.name for extension in connection.extensions]
            assert names == (["permessage-deflate"] if compression else []), names
            for message in ("", "short", "wörter", b"", b"\x00\xff", LARGE, "a" * 70_000):
                await connection.send(message)
                assert await connection.recv() == message
            # In frames of their own, also of nothing, with a question between that is answered at once.
            await connection.send(["one ", "", "two ", "three"])
            assert await connection.recv() == "one two three"
            answered = await connection.ping(b"from the client")
            await asyncio.wait_for(answered, 10)
            await connection.send("ping")
            assert await connection.recv() == "pong came"
            # Both ways at once.
            messages = [f"message {number}" for number in range(200)]
            receiving = asyncio.gather(*(connection.send(message) for message in messages))
            assert [await connection.recv() for _ in messages] == messages
            await receiving
            await connection.close(1001, "gone")
        assert connection.close_code == 1001, connection.close_code
    async with connect(url) as connection:
        await connection.send("bye")
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (4001, "done")


async def refused(url):
    try:
        async with connect(url):
            print("connected")
    except websockets.InvalidStatusCode as error:
        print("status", error.status_code)
    except (OSError, websockets.InvalidMessage) as error:
        print("no answer", type(error).__name__)


if __name__ == "__main__":
    act = {"serve": serve, "ask": ask, "refused": refused}[sys.argv[1]]
    asyncio.run(act(*sys.argv[2:]))
