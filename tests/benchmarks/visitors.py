"""Many visitors at once: ``python -m tests.benchmarks.visitors ADDRESS [CLIENTS] [MINUTES]``.

``python -m tests.benchmarks.visitors --serve`` serves a page whose encoder takes no time, so that
what is measured is the page, not the search. Each visitor adds a document with a secret of its
own over the API, then asks again and again, for its own and others' secrets. Told are errors,
answers that came from another visitor's document, how long was waited at the
beginning and at the end, and the memory of the server (by its process id, if PID is set).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx


def memory(pid: str) -> int:
    """Resident megabytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


async def call(client: httpx.AsyncClient, name: str, data: list[Any], session: str) -> Any:
    body = {"data": data, "session_hash": session}
    begun = await client.post(f"/gradio_api/call/{name}", json=body)
    begun.raise_for_status()
    event = begun.json()["event_id"]
    async with client.stream("GET", f"/gradio_api/call/{name}/{event}") as lines:
        kind = ""
        async for line in lines.aiter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: ") and kind in ("complete", "error"):
                if kind == "error":
                    raise RuntimeError(line)
                return json.loads(line[6:])[0]
    raise RuntimeError("no answer")


async def visitor(
    number: int, address: str, until: float, waits: list[tuple[float, float]], faults: list[str]
) -> None:
    session = f"visitor{number}x{random.random()}"
    async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False) as client:
        try:
            text = f"Das Geheimnis von Besucher {number} ist die Zahl {number * 7919}."
            files = {"files": (f"secret{number}.txt", text.encode())}
            uploaded = await client.post("/gradio_api/upload", files=files)
            uploaded.raise_for_status()
            held = [{"path": uploaded.json()[0], "meta": {"_type": "gradio.FileData"}}]
            added = await call(client, "add", [held], session)
            assert [document["source"] for document in added["added"]] == [f"secret{number}.txt"]
        except Exception as error:
            faults.append(f"adding: {type(error).__name__} {error}"[:200])
            return
        while time.monotonic() < until:
            started = time.monotonic()
            try:
                other = random.randrange(200)
                question = f"Was ist das Geheimnis von Besucher {other}?"
                answer = await call(client, "ask", [question], session)
                sources = {passage["source"] for passage in answer["passages"]}
                assert f"secret{number}.txt" in sources
                if foreign := sources - {f"secret{number}.txt", "gipfel.de.txt"}:
                    faults.append(f"leak: {foreign}")
            except Exception as error:
                faults.append(f"{type(error).__name__} {error}"[:200])
                await asyncio.sleep(1)
            waits.append((started, time.monotonic() - started))
            await asyncio.sleep(1)  # to read


async def main(address: str, clients: int, minutes: float) -> None:
    pid = os.environ.get("PID", "")
    begun = time.monotonic()
    until = begun + minutes * 60
    waits: list[tuple[float, float]] = []
    faults: list[str] = []
    if pid:
        print(f"memory before: {memory(pid)} MB")
    tasks = [asyncio.create_task(visitor(n, address, until, waits, faults)) for n in range(clients)]
    while not all(task.done() for task in tasks):
        await asyncio.wait(tasks, timeout=30)
        if pid:
            since = time.monotonic() - begun
            print(f"{since:4.0f} s, {len(waits)} answers, {memory(pid)} MB", flush=True)
    took = time.monotonic() - begun
    print(f"{clients} visitors, {took:.0f} s: {len(waits)} questions, {len(faults)} faults")
    for fault in sorted(set(faults))[:10]:
        print(f"  {faults.count(fault)} × {fault}")
    thirds = [[w for at, w in waits if i <= (at - begun) / took * 3 < i + 1] for i in range(3)]
    for name, part in zip(("first", "second", "last"), thirds, strict=True):
        if part:
            print(f"{name} third: median wait {statistics.median(part):.2f} s, max {max(part):.2f}")


def serve_tiny() -> None:
    from index.load import load
    from index.store import PassageIndex
    from rag.chatbot import EXAMPLE, Chatbot
    from tests.tiny import TinyEncoder
    from ui.app import serve

    index = PassageIndex(encoder=TinyEncoder())
    index.add(load(EXAMPLE))
    serve(Chatbot(index), announce=lambda address: print(address, flush=True))


if __name__ == "__main__":
    _, where, *rest = sys.argv
    if where == "--serve":
        sys.exit(serve_tiny())
    asyncio.run(main(where, int(rest[0]) if rest else 50, float(rest[1]) if rest[1:] else 5))
