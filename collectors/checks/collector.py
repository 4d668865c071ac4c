"""A check as a collector: each reading is told in ``device/checks``, and what is not met is a failure as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from collectors.checks.config import Check, HttpCheck, PostgresCheck
from collectors.checks.result import Result, milliseconds
from collectors.collector import Collector, CollectorError
from collectors.judge import Judge
from collectors.pace import Pace
from monitoring.device_status import Condition, Outcome
from monitoring.events import Draft, Kind, StreamId, stream_id

Probe = Callable[[], Awaitable[Result]]


class CheckFailed(CollectorError):  # noqa: N818 - named for what it is
    """What was asked is not met; its reading is told all the same."""

    def __init__(self, result: Result, drafts: Sequence[Draft]) -> None:
        super().__init__(result.reason)
        self.outcome = result.outcome
        self.drafts = drafts


def probe_of(check: Check) -> Probe:
    """Return what asks for a check. Each kind's client is loaded when it is first needed: most need few of them."""
    match check:
        case HttpCheck():
            from collectors.checks.http import HttpProbe  # noqa: PLC0415 - see above

            return HttpProbe(check)
        case PostgresCheck():
            from collectors.checks.postgres import PostgresProbe  # noqa: PLC0415 - see above

            return PostgresProbe(check)
        case _:
            from collectors.checks.redis import RedisProbe  # noqa: PLC0415 - see above

            return RedisProbe(check)


class CheckCollector(Collector):
    """Asks one check at every tick."""

    def __init__(
        self,
        name: str,
        check: Check,
        device: str,
        *,
        probe: Probe | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Tell of ``device``, or of the one that the check names; raises InvalidEvent for a name without address."""
        self.check = check
        self._check_name = name
        self._stream = stream_id(check.device or device, "checks")
        self._probe = probe or probe_of(check)
        self._clock = clock

    @property
    def name(self) -> str:
        """What status and logs call it."""
        return f"check {self._check_name}"

    @property
    def streams(self) -> Collection[StreamId]:
        """The stream of all checks of the device."""
        return (self._stream,)

    async def collect(self) -> Sequence[Draft]:
        """Ask once; raises CheckFailed, with the reading, for whatever is not met."""
        result = await self._probe()
        payload = {
            **self.named,
            "ok": result.outcome == Outcome.WHOLE,
            "outcome": result.outcome.value,
            "reason": result.reason,
            "latency_ms": milliseconds(result.latency_seconds),
            **result.details,
        }
        drafts = [Draft(self._stream, Kind.CHECK_COMPLETED, self._clock(), payload)]
        if result.outcome == Outcome.WHOLE:
            return drafts
        raise CheckFailed(result, drafts)

    @property
    def named(self) -> Mapping[str, str]:
        """What each of its events says of it."""
        return {"check": self._check_name, "type": self.check.kind, "target": self.check.target}

    async def close(self) -> Sequence[Draft]:
        """Nothing is held between readings."""
        return []

    def judge(self, remembered: Mapping[str, Condition]) -> Judge:
        """Return who tells its status, as it was left."""
        subject = f"check {self._stream} {self._check_name}"
        return Judge(
            subject,
            self._stream,
            kind=Kind.CHECK_STATUS_CHANGED,
            named=self.named,
            remembered=remembered.get(subject),
        )

    @property
    def pace(self) -> Pace:
        """Its interval. A check that fails is not asked less often: when it is well again is what people wait for."""
        return Pace(self.check.every, longest_seconds=self.check.timeout_seconds + 1, slowest=1.0)
