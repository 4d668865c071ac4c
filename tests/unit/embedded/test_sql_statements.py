"""Cutting SQL into statements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.sql_statements import split


def texts(sql):
    return [statement.text for statement in split(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        (" ; ;\n;", []),
        ("-- only a comment", []),
        ("/* a /* nested; */ b */ -- c\n", []),
        ("select 1", ["select 1"]),
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("select ';', ';;'';'; select 2", ["select ';', ';;'';'", "select 2"]),
        (r"select E'\';'; select 2", [r"select E'\';'", "select 2"]),
        (r"select '\'; select 2", [r"select '\'", "select 2"]),
        ('select ";""";select 2', ['select ";"""', "select 2"]),
        ("do $$ begin; end; $$; select $a$ $$;$b$ $a$", ["do $$ begin; end; $$", "select $a$ $$;$b$ $a$"]),
        ("select $1; select a$b; select 2", ["select $1", "select a$b", "select 2"]),
        ("select 1 -- x;\n, 2; select 3", ["select 1 -- x;\n, 2", "select 3"]),
        ("select 1 /* ; /* ; */ ; */; select 2", ["select 1 /* ; /* ; */ ; */", "select 2"]),
        ("select 'open; select 2", ["select 'open; select 2"]),
        ("select 1 /* open; select 2", ["select 1 /* open; select 2"]),
        ("(select 1); (select 2)", ["(select 1)", "(select 2)"]),
        (
            "create function f() returns int begin atomic select case 1 when 1 then 2 end; select 2; end; select 3",
            [
                "create function f() returns int begin atomic select case 1 when 1 then 2 end; select 2; end",
                "select 3",
            ],
        ),
        ("begin; select 1; end; select 2", ["begin", "select 1", "end", "select 2"]),
    ],
)
def test_statements(sql, expected):
    assert texts(sql) == expected


def test_lines_are_where_the_statement_begins():
    sql = "-- c\n\nselect 1;\n\n/* x\n */ select\n 2;\nselect 3"
    assert [(statement.line, statement.first_words) for statement in split(sql)] == [
        (3, ("select", "1")),
        (6, ("select", "2")),
        (8, ("select", "3")),
    ]


@given(st.text(alphabet="ab;'\"$-/*\\\n e1", max_size=60))
def test_nothing_but_comments_and_blanks_is_lost(sql):
    for statement in split(sql):
        assert statement.text in sql
        assert statement.text


safe = st.text(alphabet="abc123 ,()=", min_size=1).map(lambda text: "select " + text.strip()).map(str.rstrip)


@given(st.lists(safe))
def test_plain_statements_round_trip(statements):
    assert texts(";\n".join(statements)) == statements
