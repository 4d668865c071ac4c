from __future__ import annotations

from collectors.ssh.breaker import DeviceBreaker


def test_a_device_rests_longer_each_time_up_to_the_cap_and_begins_anew_after_a_success() -> None:
    breaker = DeviceBreaker(threshold=3, first_seconds=10, cap_seconds=60, random=lambda: 1.0)
    for _ in range(2):
        breaker.failed(100)
        assert breaker.rests(100) == 0
    rests = []
    for _ in range(5):
        breaker.failed(100)
        rests.append(breaker.rests(100))
    assert rests == [10, 20, 40, 60, 60]
    assert breaker.rests(160) == 0
    breaker.succeeded()
    assert not breaker.open
    breaker.failed(200)
    assert breaker.rests(200) == 0


def test_rests_are_spread() -> None:
    rests = []
    for random in (0.0, 0.5, 1.0):
        breaker = DeviceBreaker(threshold=1, first_seconds=10, random=lambda random=random: random)
        breaker.failed(0)
        rests.append(breaker.rests(0))
    assert rests == [5, 7.5, 10]
