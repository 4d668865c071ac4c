"""Column texts to JSON, against what the real server sent (pgc_types) and PostgreSQL's to_jsonb."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.wal.types import BUILTIN_TYPES, PgType
from embedded.wal.values import column_encoder, jsonb_key_order

BY_NAME = {pg_type.name: pg_type for pg_type in BUILTIN_TYPES.values()}
MOOD = PgType(90001, "mood")
PAIR = PgType(90002, "pair", fields=(("label", BY_NAME["text"]), ("n", BY_NAME["int4"])))


def encode(type_name, text):
    return column_encoder(BY_NAME[type_name])(text)


@pytest.mark.parametrize(
    ("type_name", "text", "expected"),
    [
        ("int8", "9007199254740993", "9007199254740993"),
        ("numeric", "12345678901234567890.123456789", "12345678901234567890.123456789"),
        ("numeric", "1.5000", "1.5000"),
        ("numeric", "NaN", "null"),
        ("float4", "Infinity", "null"),
        ("float8", "-Infinity", "null"),
        ("float8", "1e+300", "1" + "0" * 300),
        ("float8", "1.5e-07", "0.00000015"),
        ("float8", "-2.5e+15", "-2500000000000000"),
        ("float8", "-0", "0"),
        ("float8", "-0.5", "-0.5"),
        ("bool", "t", "true"),
        ("bool", "f", "false"),
        ("json", '{"b": 1,  "a":[1,2,{"x":null}], "b":2}', '{"a": [1, 2, {"x": null}], "b": 2}'),
        ("json", '{"aa":1.50,"b":1e5,"c":-0}', '{"b": 100000, "c": 0, "aa": 1.50}'),
        ("json", "[]", "[]"),
        ("json", "1e999999999", "null"),
        ("json", r'"\ud800"', r'"\ud800"'),
        ("jsonb", '{"f": 1.50, "big": 12345678901234567890}', '{"f": 1.50, "big": 12345678901234567890}'),
        ("jsonb", "null", "null"),
        ("timestamptz", "2024-05-06 05:08:09.123456+00", '"2024-05-06T05:08:09.123456+00:00"'),
        ("timestamptz", "0001-01-01 00:00:00+00 BC", '"0001-01-01T00:00:00+00:00 BC"'),
        ("timestamptz", "-infinity", '"-infinity"'),
        ("timestamp", "2024-05-06 07:08:09.123456", '"2024-05-06T07:08:09.123456"'),
        ("timestamp", "0001-01-01 00:00:00 BC", '"0001-01-01T00:00:00 BC"'),
        ("timestamp", "infinity", '"infinity"'),
        ("date", "2024-05-06", '"2024-05-06"'),
        ("timetz", "07:08:09+02", '"07:08:09+02"'),
        ("bytea", "\\xdeadbeef", '"deadbeef"'),
        ("bpchar", "ch   ", '"ch   "'),
        ("bit", "1010", '"1010"'),
        ("varbit", "1010", '"1010"'),
        ("oid", "4294967295", '"4294967295"'),
        ("money", "$12.34", '"$12.34"'),
        ("text", 'q" b\\ n\n t\t é 😀 \x01', '"q\\" b\\\\ n\\n t\\t é 😀 \\u0001"'),
        ("_text", '{a,"b,c","d\\"e",NULL,""}', '["a", "b,c", "d\\"e", null, ""]'),
        ("_text", '{"NULL","a\\\\b"}', '["NULL", "a\\\\b"]'),
        ("_int4", "{}", "[]"),
        ("_int4", "{{1,2},{3,4}}", "[[1, 2], [3, 4]]"),
        ("_int4", "[0:1]={1,2}", "[1, 2]"),
        ("_float8", "{1.5,NaN,1e+20}", '[1.5, "NaN", 100000000000000000000]'),
        ("_bytea", '{"\\\\xdead"}', '["\\\\xdead"]'),
        ("_bool", "{t,f}", "[true, false]"),
        ("_jsonb", '{"{\\"a\\": 1}",2}', '[{"a": 1}, 2]'),
        ("_timestamptz", '{"2024-05-06 05:08:09+00"}', '["2024-05-06T05:08:09+00:00"]'),
        ("_box", "{(1,1),(0,0);(2,2),(1,1)}", '["(1,1),(0,0)", "(2,2),(1,1)"]'),
    ],
)
def test_values(type_name, text, expected):
    assert encode(type_name, text) == expected


def test_rows_are_objects_with_keys_in_jsonb_order():
    encoder = column_encoder(PAIR)
    assert encoder('("a ""quoted"" \\\\ (b, c)",1)') == '{"n": 1, "label": "a \\"quoted\\" \\\\ (b, c)"}'
    assert encoder("(,)") == '{"n": null, "label": null}'
    assert encoder('("",2)') == '{"n": 2, "label": ""}'
    assert column_encoder(PgType(1, "_pair", element=PAIR))('{"(x,1)","(,2)"}') == (
        '[{"n": 1, "label": "x"}, {"n": 2, "label": null}]'
    )
    assert column_encoder(PgType(1, "none", fields=()))("()") == "{}"


def test_domains_are_their_base_type_without_losing_the_length():
    assert column_encoder(PgType(1, "posint", base=BY_NAME["int4"]))("5") == "5"
    assert column_encoder(PgType(1, "code", base=BY_NAME["bpchar"]))("ab ") == '"ab "'
    assert column_encoder(PgType(1, "ratio", base=BY_NAME["numeric"]))("NaN") == '"NaN"'


@pytest.mark.parametrize("pg_type", [BY_NAME["_int4"], PAIR, MOOD, BY_NAME["_box"]])
@pytest.mark.parametrize(
    "text", ["", "{", "}", "{1", "(1", "1,2", '{"a', "(a)b", '("a"x,1)', "(1,2,3)", "{1}{2}"]
)
def test_what_does_not_fit_its_type_passes_as_a_string(pg_type, text):
    assert json.loads(column_encoder(pg_type)(text)) == text


@given(st.sampled_from(sorted(BY_NAME)), st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_of_a_textual_type_breaks_the_json(type_name, text):
    pg_type = BY_NAME[type_name]
    innermost = pg_type.element or pg_type
    if innermost.shape in ("integer", "jsonb", "number", "json"):  # PostgreSQL guarantees what these print
        return
    json.loads(column_encoder(pg_type)(text))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(json_values)
def test_json_keeps_its_meaning(value):
    assert json.loads(encode("json", json.dumps(value))) == value


def _array_literal(values):
    def element(value):
        if value is None:
            return "NULL"
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    return "{" + ",".join(map(element, values)) + "}"


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_text_arrays_round_trip(values):
    assert json.loads(encode("_text", _array_literal(values))) == values


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2))
def test_rows_round_trip(values):
    fields = (("a", BY_NAME["text"]), ("b", BY_NAME["text"]))
    texts = ["" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '""') + '"' for v in values]
    assert json.loads(column_encoder(PgType(1, "r", fields=fields))("(" + ",".join(texts) + ")")) == {
        "a": values[0],
        "b": values[1],
    }


def test_key_order_counts_bytes_not_characters():
    assert sorted(["aaa", "é", "b", "zz"], key=jsonb_key_order) == ["b", "zz", "é", "aaa"]
