"""How a busy Atelier answers: a picture is being made, a training runs, 200 watchers listen, and pages are asked for 50 times a second.

usage: tests/bench/load.py [--program target/release/atelier] [--seconds 30] [--watchers 200] [--rate 50] [--json FILE]

Starts a server of its own on loopback with a data folder of its own, ends it, and leaves nothing. Prints a table, and JSON with --json.
Fails when an event is missing, told twice or out of order, when an answer is not 200, or when p99 of a page is 250 ms or more.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["/", "/gallery", "/train", "/adapters", "/compare"]
MOST_MS = 250
# Of everything together, whatever happens.
BOUND_S = 240


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/atelier"))
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50, help="page requests a second")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


class Server:
    """A program with a folder of its own, gone with the block."""

    def __init__(self, program):
        self.folder = tempfile.TemporaryDirectory(prefix="atelier-load-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [program, "serve", "--port", str(self.port), "--data-dir", self.folder.name + "/data"]
        self.log = open(self.folder.name + "/log", "w+b")
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Connection:
    """One HTTP/1.1 connection that is kept, as a browser keeps it."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def ask(self, method, path, body=None, accept="text/html"):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{self.port}\r\nAccept: {accept}\r\n"
        # As browsers do; what is read here comes plain.
        head += "Accept-Encoding: gzip\r\n" if accept == "text/html" else ""
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        self.writer.write(head.encode() + payload)
        status, headers = await self.head()
        return status, await self.body(headers)

    async def head(self):
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return int(lines[0].split()[1]), headers

    async def body(self, headers):
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        parts = []
        while size := int(await self.reader.readline(), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readline()
        await self.reader.readline()
        return b"".join(parts)


async def call(port, method, path, body=None):
    status, answer = await Connection(port).ask(method, path, body, accept="application/json")
    assert status < 300, (path, status, answer)
    return json.loads(answer) if answer else None


async def until_ready(server):
    while True:
        assert server.process.poll() is None, "the server left"
        try:
            if (await call(server.port, "GET", "/health"))["ready"]:
                return
        except (OSError, AssertionError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.05)


async def watch(port, run, heard, connected):
    """Every event of a run until it ends, parsed as it comes; `heard` collects what must not be lost."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(f"GET /events/{run}?after=0 HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    connected.set()
    while line := await reader.readline():
        heard["lines"] += 1
        if not line.startswith(b"data: "):
            continue
        # Previews are counted, and not looked into: 200 watchers share one interpreter.
        if line.startswith(b'data: {"type":"preview"'):
            heard["previews"] += 1
            continue
        event = json.loads(line[6:])
        if event["type"] == "loss":
            heard["losses"].append(event["point"]["step"])
        elif event["type"] == "picture":
            heard["pictures"].append(event["picture"]["id"])
        elif event["type"] == "snapshot":
            heard["last"] = event["run"]["state"]
    writer.close()


def listening(port, run, number):
    """`number` watchers of one run: what each hears, their tasks, and their connections."""
    heard = [{"lines": 0, "previews": 0, "losses": [], "pictures": [], "last": None} for _ in range(number)]
    connected = [asyncio.Event() for _ in range(number)]
    tasks = [asyncio.create_task(watch(port, run, one, there)) for one, there in zip(heard, connected)]
    return heard, tasks, connected


async def browse(port, seconds, rate):
    """Asks for pages at fixed moments, whether the answers before have come or not; (path, status, seconds) of each."""
    free, answers, tasks = [], [], []
    begin = time.perf_counter()

    async def one(path, due):
        connection = free.pop() if free else Connection(port)
        status, body = await connection.ask("GET", path)
        # From when it was due: waiting for a turn counts.
        answers.append((path, status, time.perf_counter() - due))
        assert b"" != body
        free.append(connection)

    for i in range(int(seconds * rate)):
        due = begin + i / rate
        await asyncio.sleep(max(0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(PAGES[i % len(PAGES)], due)))
    await asyncio.gather(*tasks)
    return answers


async def draw(port, until):
    """Pictures one after the other, each with watchers of its own; returns the runs and what was heard."""
    runs = []
    while time.perf_counter() < until:
        request = {"prompt": f"a lake at dusk, number {len(runs)}", "seed": len(runs), "steps": 20}
        run = await call(port, "POST", "/api/v1/pictures", request)
        heard, tasks, _ = listening(port, run["id"], 20)
        await asyncio.gather(*tasks)
        runs.append((await call(port, "GET", f"/api/v1/runs/{run['id']}"), heard))
    return runs


async def measure(server, settings):
    port = server.port
    await until_ready(server)
    data = await call(port, "POST", "/api/v1/sample-sets/mucha/copy")
    recipe = {"steps": 20000, "rank": 4, "alpha": 4, "checkpoint_every": 0}
    training = await call(port, "POST", "/api/v1/trainings", {"dataset": data["id"], "name": "Load", "recipe": "quick", "settings": recipe})
    heard, tasks, connected = listening(port, training["id"], settings.watchers - 20)
    await asyncio.gather(*(there.wait() for there in connected))
    while (await call(port, "GET", f"/api/v1/runs/{training['id']}"))["progress"]["phase"] != "training":
        await asyncio.sleep(0.1)
    cpu, begin = server.cpu_seconds(), time.perf_counter()
    answers, runs = await asyncio.gather(browse(port, settings.seconds, settings.rate), draw(port, begin + settings.seconds))
    elapsed = time.perf_counter() - begin
    cores = (server.cpu_seconds() - cpu) / elapsed
    done = (await call(port, "GET", f"/api/v1/runs/{training['id']}"))["progress"]["done"]
    await call(port, "POST", f"/api/v1/runs/{training['id']}/stop")
    await asyncio.gather(*tasks)
    losses = [point["step"] for point in (await call(port, "GET", f"/api/v1/trainings/{training['id']}"))["losses"]]
    return {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "load_average": os.getloadavg()[0]},
        "settings": {"seconds": settings.seconds, "watchers": settings.watchers, "pages_per_second": settings.rate},
        "pages": pages(answers),
        "events": {
            "watchers": settings.watchers,
            "heard": sum(one["lines"] // 2 for one in heard) + sum(one["lines"] // 2 for _, all in runs for one in all),
            "faults": faults(heard, losses, runs),
        },
        "work": {"training_steps": done, "pictures": len(runs), "cores": round(cores, 2), "peak_mib": round(server.peak_mib())},
    }


def pages(answers):
    took = sorted(seconds * 1000 for _, _, seconds in answers)
    at = lambda share: round(took[min(len(took) - 1, int(share * len(took)))], 1)
    by_page = {path: sorted(s * 1000 for p, _, s in answers if p == path) for path in PAGES}
    return {
        "answers": len(answers),
        "errors": sum(status != 200 for _, status, _ in answers),
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "max_ms": round(took[-1], 1),
        "p50_ms_by_page": {path: round(times[len(times) // 2], 1) for path, times in by_page.items() if times},
    }


def faults(heard, losses, runs):
    """What a watcher did not hear, or heard otherwise than it was."""
    found = []
    if losses != list(range(1, len(losses) + 1)):
        found.append("the store lacks losses")
    for number, one in enumerate(heard):
        if one["losses"] != losses or one["last"] != "stopped":
            found.append(f"watcher {number} of the training heard {len(one['losses'])} of {len(losses)} losses, and last {one['last']}")
    for run, watchers in runs:
        for number, one in enumerate(watchers):
            if run["state"] != "done" or one["pictures"] != run["pictures"] or one["last"] != "done":
                found.append(f"watcher {number} of picture {run['id']} heard {one['pictures']}, and last {one['last']}")
    return found


def table(result):
    page, events, work = result["pages"], result["events"], result["work"]
    return "\n".join(
        [
            f"pages      {page['answers']} answers, {page['errors']} errors",
            f"           p50 {page['p50_ms']} ms, p90 {page['p90_ms']} ms, p99 {page['p99_ms']} ms, longest {page['max_ms']} ms",
            f"           p50 by page: " + ", ".join(f"{path} {ms} ms" for path, ms in page["p50_ms_by_page"].items()),
            f"events     {events['watchers']} watchers heard {events['heard']}, {len(events['faults'])} faults",
            f"meanwhile  {work['training_steps']} training steps, {work['pictures']} pictures; {work['cores']} cores, {work['peak_mib']} MiB at most",
        ]
    )


def main():
    settings = options()
    # Whoever ends this ends the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Server(settings.program) as server:
        result = asyncio.run(asyncio.wait_for(measure(server, settings), BOUND_S))
    print(table(result))
    for fault in result["events"]["faults"][:10]:
        print(fault)
    if settings.json:
        settings.json.write_text(json.dumps(result, indent=1) + "\n")
    good = not result["events"]["faults"] and not result["pages"]["errors"] and result["pages"]["p99_ms"] < MOST_MS
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
