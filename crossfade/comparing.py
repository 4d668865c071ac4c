"""Comparing both backends live, from here: services, truth, recording, and what is said about it in reports."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from adapters.spool_reader import SpoolReaders
from crossfade.client_views import client_views
from crossfade.errors import UsageError
from monitoring.service import PUSHING, Backend
from monitoring.topics import parse_topics
from monitoring.yaml_text import YamlError, loaded
from validation.errors import InvalidRules
from validation.frames import Frame, to_line
from validation.limits import Limits
from validation.rules import NO_RULES, Rules, parse_rules
from validation.runner import LiveComparison, utc_now
from validation.state_taking import take_states
from validation.states import StateResult, States
from validation.terms import Terms

if TYPE_CHECKING:
    from crossfade.wiring import Wiring
    from validation.result import Result, Thresholds

FRAMES = "frames.jsonl"
"""The recording in its directory."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for: how long (None: until stopped), or until it passes; what is compared, and how."""

    seconds: float | None
    thresholds: Thresholds
    until_pass: bool = False
    topics: tuple[str, ...] = ("global",)
    rules: Rules = NO_RULES
    record: Path | None = None


async def compare_live(
    wired: Wiring, asked: Asked, progress: Callable[[LiveComparison, float], None] | None = None
) -> Result:
    """Compare both backends; SIGINT, SIGTERM and SIGHUP end it early, with a result that says so.

    ``progress`` is called twice a second, with the seconds that have passed.
    """
    foreign = wired.foreign() is not None
    # Other machines may write to the same Supabase; the spool here knows nothing of their streams.
    terms = Terms(
        Limits(truth_is_complete=False),
        asked.thresholds,
        asked.rules,
        topics=asked.topics,
        legacy_taps=1 + foreign,
        clients_seconds=wired.settings.rollout_block_seconds,
    )
    flags = wired.flags()
    await asyncio.to_thread(flags.refresh)
    taps = {side: _Raw() for side in PUSHING}
    services = {side: wired.connect_backend(side, taps[side].take) for side in PUSHING}
    noise = wired.connect_backend(Backend.LEGACY) if foreign else None
    if foreign:
        terms = replace(terms, likeness=services[Backend.LEGACY].capabilities.likeness)
    data = wired.data
    truth = (
        SpoolReaders(data.bridge_spool)
        if foreign
        else SpoolReaders(data.spool, data.query_spool, data.alerts_spool)
    )
    with contextlib.ExitStack() as stack:
        stack.callback(truth.close)
        note = stack.enter_context(_recording(asked.record)) if asked.record else None
        views = client_views(data.client_reports, flags.current)
        comparison = LiveComparison(truth, terms=terms, note=note, clients=views)
        for side, tap in taps.items():
            tap.on_raw = comparison.on_raw(side)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, comparison.stop)
        telling = asyncio.ensure_future(_tell(comparison, progress))
        try:
            return await comparison.run(services, asked.seconds, until_pass=asked.until_pass, noise=noise)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            for service in (*services.values(), *([noise] if noise else [])):
                await service.close()


async def compare_states(wired: Wiring, topics: tuple[str, ...], rules: Rules = NO_RULES) -> StateResult:
    """Compare the snapshots of both backends now, until each stream stood alike or it takes too long."""
    if wired.foreign() is not None:
        raise UsageError("a server without ids has no positions to compare states at")
    services = {side: wired.connect_backend(side) for side in PUSHING}
    states = States({}, rules)
    try:
        problem = await take_states(services, parse_topics(topics), states.take)
    finally:
        for service in services.values():
            await service.close()
    return replace(states.finish(), problem=problem)


class _Raw:
    """The observer of an adapter that is made before the comparison is."""

    def __init__(self) -> None:
        self.on_raw: Callable[[Any], None] | None = None

    def take(self, event: Any) -> None:
        if self.on_raw is not None:
            self.on_raw(event)


async def _tell(comparison: LiveComparison, progress: Callable[[LiveComparison, float], None] | None) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while progress is not None:
        progress(comparison, loop.time() - began)
        await asyncio.sleep(0.5)


@contextlib.contextmanager
def _recording(directory: Path) -> Iterator[Callable[[Frame], None]]:
    """Yield what writes frames to a directory; raises UsageError when it cannot be used, or has a recording."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / FRAMES).open("xb")
    except FileExistsError:
        raise UsageError(
            f"{directory} has a recording already, or is a file; name another directory"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be written: {error.strerror}; name another directory"
        ) from error
    with file:
        yield _writer(file, directory)


def _writer(file: BinaryIO, directory: Path) -> Callable[[Frame], None]:
    def note(frame: Frame) -> None:
        try:
            file.write(to_line(frame))
        except OSError as error:
            raise UsageError(f"{directory} cannot be written: {error.strerror}") from error

    return note


def read_rules(path: Path | None) -> Rules:
    """Read the rules for fields from a YAML or JSON file; raises UsageError."""
    if path is None:
        return NO_RULES
    try:
        return parse_rules(loaded(path.read_text("utf-8")), utc_now().date())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except YamlError as error:
        where = f", line {error.line}" if error.line else ""
        raise UsageError(f"{path}{where}: {error}") from error
    except (UnicodeDecodeError, InvalidRules) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error


def about(what: str, version: str, rules: Path | None = None, **more: str) -> dict[str, str]:
    """Return what a report says about how it was made."""
    said = {"what": what, "crossfade": version, **more}
    if rules is not None:
        said["rules"] = f"{rules.name} sha256:{hashlib.sha256(rules.read_bytes()).hexdigest()[:16]}"
    return said
