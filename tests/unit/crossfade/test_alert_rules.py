"""The rules of an installation as a document, and one that is tried."""

from __future__ import annotations

import threading
from pathlib import Path

import orjson
import pytest

from crossfade.alert_rules import Previews, document
from crossfade.errors import CrossfadeError
from crossfade.paths import DataDir
from crossfade.settings import Settings

GOOD = """
version: 1
channels: [{name: ops, url: "json://a-secret@localhost"}]
rules:
  - {name: cpu-high, kind: threshold, metric: system.cpu_usage, above: 90, over: 5m}
end: true
"""


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir.of(tmp_path / ".crossfade")
    made.run.mkdir(parents=True)
    return made


def test_the_document_has_rules_and_no_secret(data: DataDir, tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(GOOD)
    found = document(data, Settings(alerts=path))
    assert found["problem"] is None
    (rule,) = found["rules"]
    assert (rule["name"], rule["expected"], rule["over_seconds"]) == ("cpu-high", "avg above 90", 300.0)
    assert found["channels"] == ["ops"]
    assert b"a-secret" not in orjson.dumps(found)


def test_a_file_with_a_mistake_leaves_the_last_good_rules(data: DataDir, tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(GOOD.replace("above: 90", "above: hot"))
    found = document(data, Settings(alerts=path))
    assert found["rules"] == []
    assert found["problem"].endswith("no rules are in force")
    data.good_alerts(path).write_text(GOOD)
    found = document(data, Settings(alerts=path))
    assert [each["name"] for each in found["rules"]] == ["cpu-high"]
    assert "the last good rules stay in force" in found["problem"]


def test_one_rule_is_tried_at_a_time(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    previews, begun, end = Previews(data), threading.Event(), threading.Event()

    def play(*_: object) -> dict[str, object]:
        begun.set()
        assert end.wait(10)
        return {}

    monkeypatch.setattr(previews, "_play", play)
    first = threading.Thread(target=previews.of, args=("a", 60))
    first.start()
    assert begun.wait(10)
    with pytest.raises(CrossfadeError, match="another rule is being tried"):
        previews.of("b", 60)
    end.set()
    first.join(10)
    assert previews.of("b", 60) == {}
