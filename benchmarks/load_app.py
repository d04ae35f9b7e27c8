"""Many people at once: 30 users log in to the app and draw images for five minutes, each looking for the others' files.

    python benchmarks/load_app.py                             # 30 users, 300 s, the bundled models
    python benchmarks/load_app.py --users 8 --seconds 20      # a quick look
    python benchmarks/load_app.py --workers 2                 # drawn by Ray Serve workers

The app runs in a process of its own, with a log-in. Two users of three press Generate as a browser does (the page's own
event, its previews streamed), the third calls the endpoint for programs. Each gets its own files (they must be there)
and asks for a file of another user (that must give 403). Half-way one model's weights are deleted: whoever asks for it
must read a sentence, and the line must go on. Memory is the server's resident size. The last line is one JSON object;
the exit status is 1 if anything failed, leaked or grew.
"""

import argparse
import asyncio
import json
import random
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from arra_med.models.bundled import bundled

REPORTS = (
    "PA view. Pleural effusion.",
    "AP view. Cardiomegaly.",
    "PA view. The lungs are clear.",
    "Pneumonia in a child.",
)
PATIENCE_S = 240.0
WARM_UP_S = 60.0
MAX_GROWTH = 0.05
"""Of the resident size after the first minute."""


@dataclass
class Told:
    """What all users saw."""

    waits_s: list[float] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # last file of each user
    own_files: int = 0
    refused: int = 0
    leaks: int = 0
    sentences: int = 0
    errors: list[str] = field(default_factory=list)


class User:
    """One user with a log-in and a session of its own."""

    def __init__(self, name: str, url: str, password: str, told: Told, chance: random.Random) -> None:
        self.name, self.password, self.told, self.chance = name, password, told, chance
        self.client = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False)
        self.session = secrets.token_hex(6)
        self.defaults: list[Any] = []
        self.event = -1
        self.inputs: list[str] = []
        self.mine: set[str] = set()

    async def enter(self) -> None:
        """Logs in and reads the page."""
        answer = await self.client.post("/login", data={"username": self.name, "password": self.password})
        answer.raise_for_status()
        config = (await self.client.get("/config")).json()
        props = {part["id"]: part["props"] for part in config["components"]}
        report = next(name for name, has in props.items() if has.get("elem_id") == "am-report")
        runs = [run for run in config["dependencies"] if report in run["inputs"] and len(run["outputs"]) == 10]
        self.event = runs[0]["id"]
        self.inputs = [str(props[name].get("elem_id") or name) for name in runs[0]["inputs"]]
        self.defaults = [props[name].get("value") for name in runs[0]["inputs"]]
        self.model_at = next(
            at for at, name in enumerate(runs[0]["inputs"])
            if any(isinstance(c, list) and "/" in str(c[-1]) for c in props[name].get("choices") or ())
        )  # fmt: skip

    async def press_generate(self, model: str | None = None) -> list[Any]:
        """Runs the page's own event and reads its stream to the end; returns the last updates."""
        data = list(self.defaults)
        data[self.inputs.index("am-report")] = self.chance.choice(REPORTS)
        data[self.inputs.index("am-seed")] = self.chance.randrange(10**6)
        if model is not None:
            data[self.model_at] = model
        body = {"data": data, "fn_index": self.event, "session_hash": self.session, "trigger_id": None}
        (await self.client.post("/gradio_api/queue/join", json=body)).raise_for_status()
        query = {"session_hash": self.session}
        async with self.client.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise RuntimeError("the page's event failed")
                    return list(message["output"]["data"])
        raise RuntimeError("the page's stream ended early")

    async def call_endpoint(self) -> list[Any]:
        """Draws through the endpoint for programs."""
        wanted = {"data": [self.chance.choice(REPORTS), "cxr", self.chance.randrange(10**6), 1]}
        begun = await self.client.post("/gradio_api/call/draw", json=wanted)
        begun.raise_for_status()
        kind = ""
        async with self.client.stream("GET", f"/gradio_api/call/draw/{begun.json()['event_id']}") as stream:
            async for line in stream.aiter_lines():
                kind = line[6:].strip() if line.startswith("event:") else kind
                if line.startswith("data:") and kind == "complete":
                    return list(json.loads(line[5:]))
                if kind == "error":
                    raise RuntimeError("the endpoint failed")
        raise RuntimeError("the endpoint's stream ended early")

    async def look_at_files(self, output: list[Any]) -> None:
        """Gets its own files, and asks for another user's."""
        paths = sorted(set(_paths(output)))
        if not paths:
            raise RuntimeError(f"no file came: {_sentence(output) or 'nor a sentence'}")
        for path in paths[:3]:
            answer = await self.client.get(f"/gradio_api/file={path}")
            if answer.status_code != 200 or not answer.content:
                raise RuntimeError(f"its own file gave {answer.status_code}")
            self.told.own_files += 1
        self.mine.update(
            paths
        )  # the same report and seed give two users the same picture, which is then both their own
        others = [path for path in self.told.files.values() if path not in self.mine]
        if others:
            status = (await self.client.get(f"/gradio_api/file={self.chance.choice(others)}")).status_code
            self.told.refused += status == 403
            self.told.leaks += status != 403
        self.told.files[self.name] = paths[0]

    async def work(self, until: float, is_program: bool) -> None:
        """Draws, looks, thinks, until the time is over."""
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                await self.look_at_files(await (self.call_endpoint() if is_program else self.press_generate()))
                self.told.waits_s.append(time.monotonic() - began)
            except (httpx.HTTPError, RuntimeError, KeyError, ValueError) as error:
                self.told.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self.chance.uniform(1, 4))


def _paths(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["path"]] if isinstance(value.get("path"), str) else []
        return own + [path for part in value.values() for path in _paths(part)]
    return [path for part in value for path in _paths(part)] if isinstance(value, list) else []


def _sentence(output: list[Any]) -> str:
    told = json.dumps(output[:1])
    return told[:300] if "am-problem" in told else ""


def resident_mib(process: int) -> float:
    """Returns a process's resident size in MiB (Linux)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


async def drive(url: str, names: list[str], password: str, seconds: float, server: int, doomed: Path) -> dict[str, Any]:
    """Runs all users and returns what was seen."""
    told = Told()
    users = [User(name, url, password, told, random.Random(index)) for index, name in enumerate(names)]
    for start in range(0, len(users), 4):  # a log-in is slow on purpose
        await asyncio.gather(*(user.enter() for user in users[start : start + 4]))
    began = time.monotonic()
    sizes: list[tuple[float, float]] = []

    async def watch() -> None:
        while time.monotonic() - began < seconds:
            sizes.append((time.monotonic() - began, resident_mib(server)))
            await asyncio.sleep(1)

    async def break_one() -> None:
        await asyncio.sleep(seconds / 2)
        shutil.rmtree(doomed)
        broken = User("breaker", url, password, told, random.Random(-1))
        await broken.enter()
        told.sentences += bool(_sentence(await broken.press_generate(model=str(doomed))))
        await broken.look_at_files(await broken.press_generate())
        told.sentences += 1

    work = [user.work(began + seconds, at % 3 == 2) for at, user in enumerate(users)]
    await asyncio.gather(watch(), break_one(), *work)
    warm = min(WARM_UP_S, seconds / 3)
    early = [mib for when, mib in sizes if warm <= when < warm + (seconds - warm) / 4]
    late = [mib for when, mib in sizes if when >= seconds - (seconds - warm) / 4]
    spread = statistics.quantiles(told.waits_s, n=20) if len(told.waits_s) > 1 else [0.0] * 19
    return {
        "users": len(users),
        "seconds": seconds,
        "runs": len(told.waits_s),
        "errors": len(told.errors),
        "error_examples": sorted(set(told.errors))[:3],
        "own_files_fetched": told.own_files,
        "others_files_refused": told.refused,
        "leaks": told.leaks,
        "sentence_for_the_deleted_model_and_a_run_after_it": told.sentences == 2,
        "seconds_to_images_median": round(statistics.median(told.waits_s or [0.0]), 1),
        "seconds_to_images_95": round(spread[18], 1),
        "runs_per_second": round(len(told.waits_s) / seconds, 2),
        "resident_mib_after_the_first_minute": round(statistics.median(early)),
        "resident_mib_at_the_end": round(statistics.median(late)),
        "resident_mib_highest": round(max(mib for _, mib in sizes)),
    }


def main() -> None:
    """Prints what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--workers", type=int, help="Draw in so many Ray Serve workers (--engine ray).")
    options = parser.parse_args()
    names, password = [f"user{number}" for number in range(options.users)], secrets.token_hex(12)
    command = [sys.executable, "-m", "arra_med.cli"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for variant in ("arra", "finetuned"):
            shutil.copytree(bundled("cxr", variant), folder / "bundles" / variant)  # type: ignore[arg-type]
        for user in (*names, "breaker"):
            asked = [*command, "users", "add", user, "--file", str(folder / "users.txt")]
            subprocess.run(asked, input=password, text=True, check=True, stdout=subprocess.DEVNULL)
        settings = folder / "service.yaml"
        settings.write_text(f"users_file: {folder / 'users.txt'}\nimages_per_hour: 100000\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        asked = [
            "app",
            "--no-open",
            "--port",
            str(port),
            "--bundles",
            str(folder / "bundles"),
            "--service",
            str(settings),
        ]
        asked += ["--engine", "ray", "--workers", str(options.workers)] if options.workers else []
        with (folder / "log").open("w") as log:
            server = subprocess.Popen([*command, *asked], stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                time.sleep(0.2)
                try:
                    if httpx.get(url + "/healthz", trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
            result = asyncio.run(
                drive(url, names, password, options.seconds, server.pid, folder / "bundles" / "finetuned")
            )
        finally:
            server.terminate()
            server.wait(30)
            print((folder / "log").read_text()[-2000:], file=sys.stderr)
    grown = result["resident_mib_at_the_end"] / result["resident_mib_after_the_first_minute"] - 1
    result["growth"] = round(grown, 3)
    print(json.dumps(result))
    said = result["sentence_for_the_deleted_model_and_a_run_after_it"]
    sys.exit(bool(result["errors"] or result["leaks"] or not said or grown > MAX_GROWTH))


if __name__ == "__main__":
    main()
