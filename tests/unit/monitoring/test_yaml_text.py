from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.yaml_text import YamlError, composed, loaded


def test_a_document_is_read_with_its_lines_or_as_it_is() -> None:
    root = composed("a: 1\nb: [2]\n")
    assert root is not None
    assert [key.start_mark.line for key, _ in root.value] == [0, 1]
    assert loaded("a: 1\nb: [2]\n") == {"a": 1, "b": [2]}
    assert composed("") is None
    assert loaded("# nothing\n") is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: b: c\n", 1, "not YAML: mapping values are not allowed here"),
        ("a:\n- [1\nb: 2\n", 3, "that begins in line 2"),
        ("a: 1\na: 2\n", 2, "duplicate key"),
        ("a: \0", None, "not YAML: "),
        ("[" * 5000, None, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_line(text: str, line: int | None, said: str) -> None:
    with pytest.raises(YamlError, match=r"\Anot YAML: ") as wrong:
        loaded(text)
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)
    assert wrong.value.line == line


@given(st.text("abz0159 .:-+_!&*[]{}#|>'\"%@`,?\\\n\t\r\0\x85\ufeff~=<xoeNZ") | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (composed, loaded):
        with suppress(YamlError):
            read(text)
