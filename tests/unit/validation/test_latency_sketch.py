import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from validation.latency import ACCURACY, LatencyFigures, LatencySketch

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sketch_of(values: list[float]) -> LatencySketch:
    sketch = LatencySketch()
    for value in values:
        sketch.add(value)
    return sketch


@UNHURRIED
@given(st.lists(st.floats(1e-5, 1e5), min_size=1), st.floats(0, 1))
def test_every_quantile_is_within_its_accuracy(values, q):
    exact = sorted(values)[int(q * (len(values) - 1))]
    found = sketch_of(values).quantile(q)
    assert found == pytest.approx(exact, rel=ACCURACY * 1.01)


def test_an_empty_sketch_knows_nothing():
    assert LatencySketch().figures() == LatencyFigures(0, None, None, None)


def test_clocks_that_disagree_do_no_harm():
    figures = sketch_of([-5.0, 0.0]).figures()
    assert figures.count == 2
    assert figures.p50_seconds == pytest.approx(1e-6, rel=0.02)


def test_figures():
    figures = sketch_of([n / 1000 for n in range(1, 1001)]).figures()
    assert figures.p50_seconds == pytest.approx(0.5, rel=0.02)
    assert figures.p99_seconds == pytest.approx(0.99, rel=0.02)
    assert figures.max_seconds == 1.0
