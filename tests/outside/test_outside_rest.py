"""What of suite D the embedded REST endpoint takes, with the official Python client alone (no `supabase` around it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from postgrest import AsyncPostgrestClient, CountMethod
from postgrest.exceptions import APIError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.outside.conftest import Project


@pytest.fixture
async def rest(project: Project) -> AsyncIterator[AsyncPostgrestClient]:
    async with AsyncPostgrestClient(
        f"{project.url}/rest/v1", headers={"apikey": project.keys.secret_key}
    ) as made:
        yield made


@pytest.mark.parametrize(
    ("table", "name", "arguments", "expected"),
    [
        ("countries", "eq", ("nicename", "Algeria"), [3]),
        ("countries", "neq", ("nicename", "Algeria"), [1, 2, 4, 5, 6]),
        ("countries", "gt", ("phonecode", 93), [2, 3]),
        ("countries", "lte", ("phonecode", 33), [4, 5]),
        ("countries", "is_", ("numcode", None), [4]),
        ("countries", "like", ("nicename", "%an%"), [1, 2, 5, 6]),
        ("countries", "ilike", ("nicename", "%AN%"), [1, 2, 4, 5, 6]),
        ("countries", "like_all_of", ("nicename", "A%,%ia"), [2, 3]),
        ("countries", "like_any_of", ("nicename", "Al%,Fr%"), [2, 3, 5]),
        ("countries", "ilike_all_of", ("nicename", "a%,%IA"), [2, 3]),
        ("countries", "ilike_any_of", ("nicename", "AL%,fr%"), [2, 3, 5]),
        ("countries", "in_", ("nicename", ["Albania", "France"]), [2, 5]),
        ("countries", "or_", ("iso.eq.DZ,nicename.eq.Albania",), [2, 3]),
        ("countries", "or_", ("and(phonecode.gt.90,iso3.like.A*),iso.eq.DE",), [1, 2, 6]),
        ("countries", "match", ({"iso": "AL", "phonecode": 355},), [2]),
        ("countries", "filter", ("nicename", "imatch", "^al"), [2, 3]),
        ("issues", "contains", ("tags", ["is:open", "priority:low"]), [1]),
        (
            "issues",
            "contained_by",
            ("tags", ["is:closed", "is:open", "severity:high", "priority:low"]),
            [1, 2, 3],
        ),
        ("issues", "overlaps", ("tags", ["is:closed", "severity:high"]), [1, 2, 3]),
        ("issues", "or_", ("id.in.(2,3),tags.cs.{is:open,priority:low}",), [1, 2, 3]),
        ("cities", "contains", ("data", {"population": 2}), [2]),
        ("reservations", "contains", ("during", "[2000-01-01 13:00, 2000-01-01 13:30)"), [1]),
        ("reservations", "contained_by", ("during", "[2000-01-01 00:00, 2000-01-01 23:59)"), [1]),
        ("issues", "fts", ("title", "cache & invalidation"), [1]),
        ("issues", "plfts", ("title", "naming things"), [3]),
        ("issues", "phfts", ("title", "use after free"), [2]),
        ("issues", "wfts", ("title", "cache or naming"), [1, 3]),
        ("reservations", "ov", ("during", "[2000-01-01 12:45, 2000-01-01 13:15)"), [1]),
        ("reservations", "range_gt", ("during", ["2000-01-01 12:00", "2000-01-01 14:00"]), [2]),
        ("reservations", "range_gte", ("during", ["2000-01-02 08:30", "2000-01-02 09:30"]), [2]),
        ("reservations", "range_lt", ("during", ["2000-01-01 15:00", "2000-01-02 16:00"]), [1]),
        ("reservations", "range_lte", ("during", ["2000-01-01 14:00", "2000-01-01 16:00"]), [1]),
        ("reservations", "range_adjacent", ("during", ["2000-01-01 12:00", "2000-01-01 13:00"]), [1]),
        ("cities", "filter", ("data->>population", "eq", "2"), [2]),
    ],
)
async def test_filters(
    rest: AsyncPostgrestClient, table: str, name: str, arguments: tuple[Any, ...], expected: list[int]
) -> None:
    query = rest.from_(table).select("id").order("id")
    found = await getattr(query, name)(*arguments).execute()
    assert [row["id"] for row in found.data] == expected


async def test_several_filters_are_and(rest: AsyncPostgrestClient) -> None:
    query = rest.from_("countries").select("country_name, iso").eq("nicename", "Germany").eq("iso", "DE")
    assert (await query.execute()).data == [{"country_name": "GERMANY", "iso": "DE"}]
    negated = rest.from_("countries").select("id").not_.in_("id", [1, 2, 3]).not_.is_("numcode", None)
    assert [row["id"] for row in (await negated.order("id").execute()).data] == [5, 6]


async def test_order_limit_offset_range_and_count(rest: AsyncPostgrestClient) -> None:
    countries = rest.from_("countries")
    page = await (
        countries.select("id", count=CountMethod.exact)
        .order("numcode", desc=True, nullsfirst=True)
        .limit(2)
        .execute()
    )
    assert (page.data, page.count) == ([{"id": 4}, {"id": 6}], 6)
    ranged = await countries.select("id").order("id").range(1, 3).execute()
    assert [row["id"] for row in ranged.data] == [2, 3, 4]
    offset = await countries.select("id").order("id").offset(4).limit(5).execute()
    assert [row["id"] for row in offset.data] == [5, 6]


async def test_functions_with_filters_and_limits(rest: AsyncPostgrestClient) -> None:
    everything = await rest.rpc("list_stored_countries", {}).execute()
    assert len(everything.data) == 6
    some = rest.rpc("search_countries_by_name", {"search_name": "Al"}).select("nicename").order("nicename")
    assert (await some.execute()).data == [{"nicename": "Albania"}, {"nicename": "Algeria"}]
    one = rest.rpc("search_countries_by_name", {"search_name": "Al"}).select("iso").eq("id", 2).single()
    assert (await one.execute()).data == {"iso": "AL"}
    last = rest.rpc("list_stored_countries", {}, get=True).select("id").order("id", desc=True).range(0, 1)
    assert [row["id"] for row in (await last.execute()).data] == [6, 5]


async def test_csv(rest: AsyncPostgrestClient) -> None:
    chosen = (
        rest.from_("countries").select("nicename, iso").in_("nicename", ["Albania", "Algeria"]).order("id")
    )
    assert (await chosen.csv().execute()).data == "nicename,iso\nAlbania,AL\nAlgeria,DZ"
    quoted = rest.from_("reservations").select("id, during").eq("id", 1).csv()
    assert (await quoted.execute()).data == (
        'id,during\n1,"[""2000-01-01 13:00:00"",""2000-01-01 15:00:00"")"'
    )
    found = rest.rpc("search_countries_by_name", {"search_name": "Fra"}).select("iso, iso3").csv()
    assert (await found.execute()).data == "iso,iso3\nFR,FRA"
    assert (await rest.from_("countries").select("iso").eq("id", -1).csv().execute()).data == "\n"


async def test_counts_alone(rest: AsyncPostgrestClient) -> None:
    asked = {"search_name": "Al"}
    both = rest.rpc("search_countries_by_name", asked, get=True, count=CountMethod.exact).select("nicename")
    counted = await both.execute()
    assert (counted.count, counted.data) == (2, [{"nicename": "Albania"}, {"nicename": "Algeria"}])
    head = await rest.rpc("search_countries_by_name", asked, head=True, count=CountMethod.exact).execute()
    assert (head.count, head.data) == (2, [])


async def test_maybe_single(rest: AsyncPostgrestClient) -> None:
    countries = rest.from_("countries").select("iso")
    found = await countries.match({"numcode": 8, "nicename": "Albania"}).maybe_single().execute()
    assert found is not None
    assert found.data == {"iso": "AL"}
    assert await rest.from_("countries").select("iso").eq("id", -1).maybe_single().execute() is None
    none = rest.rpc("list_stored_countries", {}).select("iso").eq("nicename", "Wonderland").maybe_single()
    assert await none.execute() is None


@pytest.mark.parametrize(
    ("ask", "code", "words"),
    [
        (lambda rest: rest.from_("cities").select("name, countries(*)"), "PGRST127", "embedding"),
        (lambda rest: rest.from_("cities").select("*").explain(), "PGRST107", "plan"),
    ],
)
async def test_the_rest_is_refused_in_words(
    rest: AsyncPostgrestClient, ask: Any, code: str, words: str
) -> None:
    """Embedding and plans are what of suite D the embedded server does not do."""
    with pytest.raises(APIError) as caught:
        await ask(rest).execute()
    assert caught.value.code == code
    assert words in str(caught.value.details)
    assert "not supported by the embedded server" in str(caught.value.details)
