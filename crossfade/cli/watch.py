"""``crossfade watch``: events as JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.flag_file import POLL_SECONDS
from crossfade import logs
from crossfade.cli.options import DataDirOption, FlagsOption, ForOption, wiring
from crossfade.cli.output import discard_output, print_json
from crossfade.errors import NotRunning
from crossfade.flag_summary import summarize
from crossfade.plan import running_state
from crossfade.verify import DeliveryCheck
from monitoring.events import Event, to_json
from monitoring.service import Backend, Gap, Item, MonitoringService, MoveAbandoned, Moved, Status
from monitoring.topics import parse_topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adapters.flag_file import FlagFile
    from crossfade.wiring import Wiring
    from monitoring.subscription import Subscription

_SLOW_SECONDS = 2.0


class Choice(StrEnum):
    """Which backend to watch."""

    AUTO = "auto"
    LEGACY = "legacy"
    SUPABASE = "supabase"


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
    verify: Annotated[
        bool, typer.Option("--verify", help="Exit 1 when an event is missing or double.")
    ] = False,
    flags: FlagsOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print events as JSON lines; what else happens goes to stderr."""
    wired = wiring(data_dir, flags)
    topics = parse_topics(topic or ())
    if not wired.settings.hosted and running_state(wired.data) is None:
        raise NotRunning(f"nothing runs on {wired.data.root}; start crossfade up, or name its --data-dir")
    logs.to_stderr(logging.ERROR)  # what matters of the connection is told below
    check = DeliveryCheck()
    seconds = for_.total_seconds() if for_ else None

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        watched = wired.flags() if backend is Choice.AUTO else None
        async with (
            _service(wired, backend, client, watched) as service,
            service.subscribe(topics) as subscription,
        ):
            await _follow(service, subscription, watched, check, stop, seconds)

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


@contextlib.asynccontextmanager
async def _service(
    wired: Wiring, backend: Choice, client: str | None, flags: FlagFile | None
) -> AsyncIterator[MonitoringService]:
    if backend is Choice.AUTO:
        async with wired.connect_router(client or wired.client_id(), flags=flags) as router:
            yield router
        return
    service = wired.connect_backend(Backend(backend.value))
    try:
        yield service
    finally:
        await service.close()


async def _follow(
    service: MonitoringService,
    subscription: Subscription[Item],
    flags: FlagFile | None,
    check: DeliveryCheck,
    stop: asyncio.Event,
    seconds: float | None,
) -> None:
    """Print until told to stop, or for some seconds from the moment the feed is live."""
    reading = asyncio.ensure_future(_read(subscription, check))
    stopping = asyncio.ensure_future(stop.wait())
    tellers = [asyncio.ensure_future(_tell(service))]
    if flags is not None:
        tellers.append(asyncio.ensure_future(_tell_flags(flags)))
    live = asyncio.ensure_future(subscription.wait_live())
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


async def _read(subscription: Subscription[Item], check: DeliveryCheck) -> None:
    async for item in subscription:
        check.take(item)
        match item:
            case Event():
                print_json(to_json(item), indent=False)
            case Gap():
                upto = "an unknown end" if item.to_seq is None else item.to_seq
                _say(f"gap: {item.stream} epoch {item.epoch} from {item.from_seq} to {upto}: {item.reason}")
            case Moved():
                dropped = f", {item.duplicates_dropped} doubles dropped" if item.duplicates_dropped else ""
                _say(
                    f"moved: {item.from_backend} to {item.to_backend} in {item.seconds:.2f} s: {item.reason}{dropped}"
                )
            case MoveAbandoned():
                _say(f"move abandoned: {item.from_backend} to {item.to_backend}: {item.reason}")


async def _tell(service: MonitoringService) -> None:
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
