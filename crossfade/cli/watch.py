"""``crossfade watch``: events as JSON lines."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.flag_file import POLL_SECONDS
from crossfade import logs
from crossfade.cli.options import DataDirOption, FlagsOption, ForOption, wiring
from crossfade.cli.output import discard_output, print_json
from crossfade.client import Client, Events
from crossfade.errors import NotRunning, UsageError
from crossfade.flag_summary import summarize
from crossfade.plan import running_state
from crossfade.verify import DeliveryCheck
from monitoring.events import Event, to_json
from monitoring.service import Backend, MoveAbandoned, Moved, Status
from monitoring.topics import parse_topics

if TYPE_CHECKING:
    from adapters.flag_file import FlagFile
    from crossfade.elsewhere import Elsewhere
    from crossfade.settings import Settings

_SLOW_SECONDS = 2.0


class Choice(StrEnum):
    """Which backend to watch."""

    AUTO = "auto"
    LEGACY = "legacy"
    SUPABASE = "supabase"
    POLLING = "polling"


def watch(
    backend: Annotated[Choice, typer.Option(help="auto: the one that the flags choose.")] = Choice.AUTO,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOPIC", help="global, devices.NAME, categories.NAME, metrics.NAME; repeatable."
        ),
    ] = None,
    for_: ForOption = None,
    client: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Client id. (default: one per user and data directory)", show_default=False
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The query service of another machine, http://HOST:8000; CROSSFADE_ACCESS_TOKEN is the token.",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Exit 1 when an event is missing or double.")
    ] = False,
    flags: FlagsOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print events as JSON lines; what else happens goes to stderr."""
    wired = wiring(data_dir, flags)
    parse_topics(topic or ())  # a mistake is told before anything is connected
    if at is None and not wired.settings.hosted and running_state(wired.data) is None:
        raise NotRunning(
            f"nothing runs on {wired.data.root}; start crossfade up, or name its data directory (--data-dir, CROSSFADE_DATA_DIR)"
        )
    logs.to_stderr(logging.ERROR)  # what matters of the connection is told below
    check = DeliveryCheck()
    seconds = for_.total_seconds() if for_ else None

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        pinned = None if backend is Choice.AUTO else Backend(backend.value)
        flags = wired.flags() if at is None else None
        opener = (
            partial(wired.connect_router, client, backend=pinned, flags=flags)
            if at is None
            else partial(_elsewhere(at, wired.settings).connect_router, client, backend=pinned)
        )
        async with Client(opener, _tell_move) as service, service.subscribe(*topic or ()) as events:
            await _follow(service, events, flags if pinned is None else None, check, stop, seconds)

    try:
        asyncio.run(run())
    except BrokenPipeError:  # here, because click would make it exit status 1: head(1) has all it wanted
        discard_output()
    if verify:
        for finding in check.findings:
            _say(finding)
        _say(check.summary())
        if check.faults or not check.events:
            raise typer.Exit(1)


def _elsewhere(url: str, settings: Settings) -> Elsewhere:
    from crossfade.elsewhere import Elsewhere  # noqa: PLC0415 - it imports every driver

    if settings.access_token is None:
        raise UsageError("CROSSFADE_ACCESS_TOKEN is not set; make a token there with crossfade token NAME")
    return Elsewhere(url, settings.access_token.get_secret_value())


async def _follow(
    service: Client,
    events: Events,
    flags: FlagFile | None,
    check: DeliveryCheck,
    stop: asyncio.Event,
    seconds: float | None,
) -> None:
    """Print until told to stop, or for some seconds from the moment the feed is live."""
    reading = asyncio.ensure_future(_read(events, check))
    stopping = asyncio.ensure_future(stop.wait())
    tellers = [asyncio.ensure_future(_tell(service))]
    if flags is not None:
        tellers.append(asyncio.ensure_future(_tell_flags(flags)))
    live = asyncio.ensure_future(events.wait_live())
    tasks = {reading, stopping, *tellers, live}
    try:
        # A backend that never answers must not make --for wait for ever.
        await asyncio.wait({live, reading, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set() and not reading.done():
            if not live.done():
                health = await service.health()
                raise NotRunning(f"{health.backend} was not live within {seconds:g} s: {health.detail}")
            await asyncio.wait({reading, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not reading.cancelled():
        reading.result()  # what ended the feed, if that was not we
    for telling in tellers:
        if not telling.cancelled():
            telling.result()


async def _read(events: Events, check: DeliveryCheck) -> None:
    async for item in events:
        check.take(item)
        if isinstance(item, Event):
            print_json(to_json(item), indent=False)
        else:
            upto = "an unknown end" if item.to_seq is None else item.to_seq
            _say(f"gap: {item.stream} epoch {item.epoch} from {item.from_seq} to {upto}: {item.reason}")


def _tell_move(item: Moved | MoveAbandoned) -> None:
    if isinstance(item, MoveAbandoned):
        _say(f"move abandoned: {item.from_backend} to {item.to_backend}: {item.reason}")
        return
    dropped = f", {item.duplicates_dropped} doubles dropped" if item.duplicates_dropped else ""
    polled = f", {' and '.join(sorted(item.polled))} polled" if item.polled else ""
    _say(
        f"moved: {item.from_backend} to {item.to_backend}{polled} in {item.seconds:.2f} s: {item.reason}{dropped}"
    )


async def _tell(service: Client) -> None:
    """Say when the connection is not live for some time, and when it is again."""
    told = ""
    while True:
        await asyncio.sleep(_SLOW_SECONDS)
        health = await service.health()
        if health.status is Status.LIVE:
            if told:
                _say(f"{health.backend}: live again")
            told = ""
        elif not told:
            told = f"{health.backend}: {health.status}: {health.detail}"
            _say(told)


async def _tell_flags(flags: FlagFile) -> None:
    """Say when the flag file is refused, once for each reason, and when it is good again."""
    told: str | None = None
    while True:
        problem = flags.problem()
        if problem != told:
            told = problem
            _say(f"flags: {problem or f'good again, {summarize(flags.current())}'}")
        await asyncio.sleep(POLL_SECONDS)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
