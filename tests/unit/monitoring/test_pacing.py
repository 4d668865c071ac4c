"""How many moves begin at once: fewer when they take long, more again when they do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.pacing import Pacer


class Client:
    """Somebody who wants to move, and is told when to ask again."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def begun(pacer: Pacer, count: int) -> int:
    """Return how many of so many new clients may begin; the others wait no more."""
    clients = [Client() for _ in range(count)]
    entered = sum(pacer.enter(client.wake) for client in clients)
    for client in clients:
        pacer.forget(client.wake)
    return entered


def leave(pacer: Pacer, count: int, *, late: bool) -> None:
    for _ in range(count):
        pacer.leave(late=late)


def test_so_many_begin_at_once_and_the_others_are_woken_in_the_order_of_asking() -> None:
    pacer, clients = Pacer(2), [Client() for _ in range(4)]
    assert [pacer.enter(client.wake) for client in clients] == [True, True, False, False]
    assert pacer.enter(clients[3].wake) is False
    pacer.leave()
    assert [client.woken for client in clients] == [0, 0, 1, 0]
    assert pacer.enter(clients[2].wake)
    pacer.forget(clients[3].wake)
    pacer.leave()
    assert clients[3].woken == 0


def test_moves_that_take_long_halve_the_slots_once_for_all_that_were_under_way() -> None:
    pacer = Pacer(32)
    for slots in (32, 16, 8, 4, 2, 1, 1):
        assert begun(pacer, 100) == slots
        leave(pacer, slots, late=True)


def test_moves_that_connect_in_time_give_them_back() -> None:
    pacer = Pacer(32)
    for slots in (32, 16, 8, 4, 2):
        assert begun(pacer, 100) == slots
        leave(pacer, slots, late=True)
    for slots in (1, 2, 4, 8, 16, 32, 32):
        assert begun(pacer, 100) == slots
        leave(pacer, slots, late=False)


def test_nobody_can_move_with_no_slot_at_all() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Pacer(0)


@given(st.integers(1, 8), st.lists(st.sampled_from(["enter", "leave", "late", "forget"]), max_size=80))
def test_there_is_always_a_slot_in_the_end_and_never_more_than_were_given(
    most: int, steps: list[str]
) -> None:
    pacer, inside = Pacer(most), 0
    waiting: list[Client] = []
    turns: dict[str, Callable[[], None]] = {"leave": pacer.leave, "late": lambda: pacer.leave(late=True)}
    for step in steps:
        if step == "enter":
            client = Client()
            if pacer.enter(client.wake):
                inside += 1
            else:
                waiting.append(client)
        elif step == "forget" and waiting:
            pacer.forget(waiting.pop().wake)
        elif step in turns and inside:
            inside -= 1
            turns[step]()
        assert inside <= most
    while inside:
        inside -= 1
        pacer.leave(late=True)
    assert pacer.enter(Client().wake)
    assert not waiting or any(client.woken for client in waiting)
