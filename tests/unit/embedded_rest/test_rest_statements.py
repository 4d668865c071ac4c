"""Requests become SQL in which every value is a parameter and every name is quoted."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.rest.errors import RestError, SchemaMiss
from embedded.rest.parse import parse_request
from embedded.rest.schema import SchemaCache, build_cache, quote
from embedded.rest.statements import Statement, build_statement


def column(name: str, type_: str, **more: object) -> dict[str, object]:
    described = {
        "name": name,
        "schema": "pg_catalog",
        "type": type_,
        "base": type_,
        "array": type_.startswith("_"),
    }
    return {**described, "default": None, **more}


def argument(name: str, type_: str, mode: str = "i") -> dict[str, object]:
    return {**column(name, type_), "mode": mode}


def function(name: str, arguments: list[dict[str, object]], **more: object) -> dict[str, object]:
    described: dict[str, object] = {
        "schema": "public",
        "name": name,
        "volatility": "v",
        "set": False,
        "void": False,
    }
    return {**described, "composite": False, "defaults": 0, "columns": None, "arguments": arguments, **more}


ITEMS = [
    column("id", "int8", default="nextval('items_id_seq'::regclass)"),
    column("name", "text"),
    column("tags", "_text"),
    column("data", "jsonb"),
    column('we"ird', "text"),
]
CACHE = build_cache(
    {
        "relations": [
            {"schema": "public", "name": "items", "columns": ITEMS, "primary_key": ["id"]},
            {"schema": "public", "name": "keyless", "columns": [column("a", "int4")], "primary_key": []},
        ],
        "functions": [
            function("add", [argument("a", "int4"), argument("b", "int4")], defaults=1, volatility="i"),
            function("over", [argument("x", "int4")]),
            function("over", [argument("x", "int4"), argument("y", "int4")]),
            function("twin", [argument("x", "int4")]),
            function("twin", [argument("x", "text")]),
            function("whole", [argument("", "json")]),
            function("spread", [argument("xs", "_int4", "v")]),
            function("rows", [], set=True, composite=True, columns=ITEMS, volatility="s"),
            function("nothing", [], void=True),
        ],
        "types": [["pg_catalog", "text"], ["pg_catalog", "int4"], ["public", "mood"], ["extensions", "mood"]],
        "role_settings": {"anon": {"statement_timeout": "3s"}},
    },
    ["public", "extensions"],
)


def build(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    cache: SchemaCache = CACHE,
    max_rows: int | None = None,
    **headers: str,
) -> Statement:
    path, _, query = target.partition("?")
    request = parse_request(method, path, query, headers, body, schemas=["public"])
    return build_statement(request, cache, max_rows=max_rows)


def test_a_read_has_its_values_as_parameters() -> None:
    statement = build("GET", "/items?select=id,x:data->a->>0&name=eq.O'Hara&order=id.desc&limit=2&offset=1")
    assert (
        '(SELECT "public"."items"."id" AS "id", ("public"."items"."data"->$1::text->>$2::int4) AS "x"'
        ' FROM "public"."items" WHERE ("public"."items"."name" = $3::text)'
        ' ORDER BY "public"."items"."id" DESC LIMIT $4::int8 OFFSET $5::int8) _t'
    ) in statement.sql
    assert statement.parameters == ("a", 0, "O'Hara", 2, 1)
    assert statement.read_only


@pytest.mark.parametrize(
    ("condition", "sql", "parameters"),
    [
        ("id=gte.3", '("public"."items"."id" >= $1::text::"pg_catalog"."int8")', ("3",)),
        ("id=not.neq.3", 'NOT ("public"."items"."id" <> $1::text::"pg_catalog"."int8")', ("3",)),
        ("id=in.(1,2)", '("public"."items"."id" = ANY($1::text[]::"pg_catalog"."int8"[]))', (["1", "2"],)),
        ("id=eq(any).{1,2}", '("public"."items"."id" = ANY($1::text::"pg_catalog"."int8"[]))', ("{1,2}",)),
        ("name=is.not_null", '("public"."items"."name" IS NOT NULL)', ()),
        ("name=isdistinct.x", '("public"."items"."name" IS DISTINCT FROM $1::text)', ("x",)),
        ("name=ilike.*a*", '("public"."items"."name" ILIKE $1::text)', ("%a%",)),
        ("name=match.^a*", '("public"."items"."name" ~ $1::text)', ("^a*",)),
        ("tags=cs.{a}", '("public"."items"."tags" @> $1::text::"pg_catalog"."_text")', ("{a}",)),
        (
            "name=plfts(simple).cat",
            (
                '(pg_catalog.to_tsvector($1::text::pg_catalog.regconfig, "public"."items"."name")'
                " @@ pg_catalog.plainto_tsquery($1::text::pg_catalog.regconfig, $2::text))"
            ),
            ("simple", "cat"),
        ),
        (
            "or=(id.eq.1,not.and(name.is.null,id.lt.4))",
            (
                '(("public"."items"."id" = $1::text::"pg_catalog"."int8") OR NOT (("public"."items"."name" IS NULL)'
                ' AND ("public"."items"."id" < $2::text::"pg_catalog"."int8")))'
            ),
            ("1", "4"),
        ),
    ],
)
def test_conditions(condition: str, sql: str, parameters: tuple[object, ...]) -> None:
    statement = build("GET", f"/items?{condition}")
    assert f"WHERE {sql})" in statement.sql
    assert statement.parameters == parameters


def test_an_answer_is_bounded_but_a_smaller_limit_stays() -> None:
    assert build("GET", "/items", max_rows=10).parameters == (10,)
    assert build("GET", "/items?limit=3", max_rows=10).parameters == (3,)
    assert build("GET", "/items?limit=30", max_rows=10).parameters == (10,)


def test_casts_name_a_known_type() -> None:
    assert (
        'CAST("public"."items"."id" AS "pg_catalog"."int4")' in build("GET", "/items?select=id::integer").sql
    )
    assert 'AS "pg_catalog"."_text")' in build("GET", "/items?select=id::text[]").sql
    assert 'AS "public"."mood")' in build("GET", "/items?select=name::mood").sql, "the search path decides"
    with pytest.raises(SchemaMiss) as caught:
        build("GET", "/items?select=id::nope")
    assert caught.value.code == "42704"


def test_inserts_take_the_columns_of_the_payload() -> None:
    statement = build("POST", "/items", b'{"name":"x","id":1}')
    assert 'INSERT INTO "public"."items" ("name", "id")' in statement.sql
    assert statement.parameters == (b'[{"name":"x","id":1}]',)
    assert not statement.read_only
    with pytest.raises(SchemaMiss) as caught:
        build("POST", "/items", b'{"nope":1}')
    assert (caught.value.status, caught.value.code) == (400, "PGRST204")


def test_missing_keys_take_their_defaults_when_asked() -> None:
    statement = build("POST", '/items?columns="id","name"', b'[{"name":"x"}]', prefer="missing=default")
    assert "jsonb_build_object($2::text, nextval('items_id_seq'::regclass)) || item" in statement.sql


def test_upserts() -> None:
    merge = build("POST", "/items", b'{"id":1,"name":"x"}', prefer="resolution=merge-duplicates")
    assert 'ON CONFLICT ("id") DO UPDATE SET "id" = EXCLUDED."id", "name" = EXCLUDED."name"' in merge.sql
    ignore = build("POST", "/items?on_conflict=name", b'{"id":1}', prefer="resolution=ignore-duplicates")
    assert 'ON CONFLICT ("name") DO NOTHING' in ignore.sql
    keyless = build("POST", "/keyless", b'{"a":1}', prefer="resolution=merge-duplicates")
    assert "ON CONFLICT" not in keyless.sql


@pytest.mark.parametrize(("method", "command"), [("PATCH", "UPDATE"), ("DELETE", "DELETE")])
def test_changing_everything_by_mistake_is_refused(method: str, command: str) -> None:
    with pytest.raises(RestError, match=f"{command} requires a WHERE clause") as caught:
        build(method, "/items", b'{"name":"x"}')
    assert caught.value.code == "21000"
    with pytest.raises(RestError, match="Feature not implemented"):
        build(method, "/items?id=eq.1&limit=1", b'{"name":"x"}')


def test_a_representation_returns_only_the_columns_it_needs() -> None:
    """Columns the role may not read are not touched."""
    statement = build("DELETE", "/items?id=eq.1&select=name", prefer="return=representation")
    assert 'RETURNING "public"."items"."name")' in statement.sql
    assert "RETURNING 1)" in build("DELETE", "/items?id=eq.1").sql


def test_functions_are_found_by_the_names_of_their_arguments() -> None:
    assert '"public"."add"("a" := pgrst_body."a")' in build("POST", "/rpc/add", b'{"a":1}').sql
    assert build("POST", "/rpc/add", b'{"a":1}').read_only, "immutable"
    assert not build("POST", "/rpc/over", b'{"x":1}').read_only
    assert '"y" := pgrst_body."y"' in build("POST", "/rpc/over", b'{"x":1,"y":2}').sql
    assert '"public"."whole"($1::json::"pg_catalog"."json")' in build("POST", "/rpc/whole", b"[1]").sql
    by_query = build("GET", "/rpc/add?a=1&b=2")
    assert '"a" := $1::text::"pg_catalog"."int4", "b" := $2::text::"pg_catalog"."int4"' in by_query.sql
    assert build("GET", "/rpc/spread?xs=1&xs=2").parameters == (["1", "2"],)


@pytest.mark.parametrize(
    ("method", "target", "body", "code"),
    [
        ("POST", "/rpc/nope", b"{}", "PGRST202"),
        ("POST", "/rpc/add", b"{}", "PGRST202"),
        ("POST", "/rpc/add", b'{"a":1,"c":1}', "PGRST202"),
        ("POST", "/rpc/add", b"[1]", "PGRST202"),
        ("POST", "/rpc/twin", b'{"x":1}', "PGRST203"),
        ("GET", "/rpc/add?a=1&c=2", b"", "PGRST202"),
        ("GET", "/nope", b"", "PGRST205"),
        ("GET", "/items?nope=eq.1", b"", "42703"),
        ("GET", "/items?select=nope", b"", "42703"),
        ("GET", "/items?order=nope", b"", "42703"),
        ("POST", "/items?on_conflict=nope", b'{"id":1}', "42703"),
    ],
)
def test_names_that_are_not_there(method: str, target: str, body: bytes, code: str) -> None:
    with pytest.raises(RestError) as caught:
        build(method, target, body, prefer="resolution=merge-duplicates")
    assert caught.value.code == code


def test_a_miss_proposes_what_is_close() -> None:
    with pytest.raises(SchemaMiss) as caught:
        build("GET", "/itemz")
    assert caught.value.hint == "Perhaps you meant the table 'public.items'"


def test_conditions_of_a_read_apply_to_what_a_function_returns() -> None:
    statement = build("GET", "/rpc/rows?name=eq.x&select=id&order=id&limit=3")
    assert (
        'WHERE ("pgrst_source"."name" = $1::text) ORDER BY "pgrst_source"."id" LIMIT $2::int8'
        in statement.sql
    )


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_a_quoted_name_is_one_token(name: str) -> None:
    assert re.fullmatch(r'"(?:[^"]|"")*"', quote(name), re.DOTALL)


@given(
    value=st.text(st.characters(exclude_categories=("Cs",)), min_size=3).filter(
        lambda text: not text.isalnum()
    ),
    operator=st.sampled_from(["eq", "like", "cs", "fts", "match", "isdistinct"]),
    other=st.text(st.characters(exclude_categories=("Cs",)), min_size=3),
)
def test_values_never_change_the_sql(value: str, operator: str, other: str) -> None:
    one = build("GET", "/items?" + urlencode({"name": f"{operator}.{value}"}))
    two = build("GET", "/items?" + urlencode({"name": f"{operator}.{other}"}))
    assert one.sql == two.sql
    assert len(one.parameters) == 1
