from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from crossfade.verify import DeliveryCheck
from monitoring.events import Event, StreamId
from monitoring.service import Gap

STREAM = StreamId("web-1/system")


def event(epoch: int, seq: int, *, previous: tuple[int, int] | None = None) -> Event:
    opened = {"previous": {"epoch": previous[0], "seq": previous[1]}} if previous else {}
    kind = "stream_opened" if previous else "metric_collected"
    return Event(
        UUID(int=epoch << 64 | seq), STREAM, epoch, seq, kind, datetime(2026, 1, 1, tzinfo=UTC), opened
    )


def checked(*items: Event | Gap) -> DeliveryCheck:
    check = DeliveryCheck()
    for item in items:
        check.take(item)
    return check


def test_every_event_once_and_in_order_is_good_across_epochs() -> None:
    check = checked(event(1, 5), event(1, 6), event(2, 1, previous=(1, 6)), event(2, 2))
    assert check.summary() == "4 events of 1 streams: no hole, no double"


def test_a_hole_a_double_a_lost_end_of_an_epoch_and_a_gap_are_each_found() -> None:
    assert checked(event(1, 5), event(1, 7)).findings == [
        "web-1/system epoch 1 seq 7: hole after epoch 1 seq 5"
    ]
    assert checked(event(1, 5), event(1, 5)).faults == 1
    assert checked(event(1, 5), event(2, 1, previous=(1, 6))).faults == 1
    assert checked(Gap(STREAM, 1, 2, None)).findings == [
        "web-1/system epoch 1: gap from 2 to ?, history is gone"
    ]


def test_of_a_server_that_numbers_nothing_no_hole_is_found_and_none_denied() -> None:
    alone = checked(event(0, 1), event(0, 2))
    assert alone.faults == 0
    assert alone.summary() == (
        "2 events of 1 streams: 2 of a server that numbers nothing, of which holes and doubles are not known"
    )
    there_and_back = checked(event(0, 1), event(1, 5), event(1, 6), event(0, 2), event(1, 9))
    assert there_and_back.summary().startswith("5 events of 1 streams: no hole, no double, but 2 of a server")
    assert checked(event(1, 5), event(0, 1), event(1, 5)).faults == 1
    assert checked(event(1, 5), event(0, 1), event(1, 8), event(1, 10)).faults == 1
