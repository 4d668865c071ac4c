"""The named peer: python-socketio on uvicorn, emitting each message to everybody, the way its documentation broadcasts.

Prints its port; for each line "MESSAGES SIZE" on stdin emits so many of that size and prints "sent".
"""

from __future__ import annotations

import asyncio
import sys

sys.path.insert(0, sys.argv[1])

import socketio
import uvicorn


async def main() -> None:
    server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[])
    config = uvicorn.Config(
        socketio.ASGIApp(server), host="127.0.0.1", port=0, log_level="critical", ws_per_message_deflate=False
    )
    serving = uvicorn.Server(config)
    task = asyncio.create_task(serving.serve())
    while not serving.started:
        await asyncio.sleep(0.01)
    print(serving.servers[0].sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        messages, size = map(int, line.split())
        for number in range(messages):
            await server.emit("event", f"{number}".ljust(size - len('42["event",""]'), "x"))
            await asyncio.sleep(0)
        print("sent", flush=True)
    serving.should_exit = True
    await task


if __name__ == "__main__":
    asyncio.run(main())
