"""Which files a project wants to be seeded from."""

import pytest

from embedded.errors import BadConfiguration
from embedded.seeds import find_seeds


def made(project, *names):
    for name in names:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("select 1;")
    return [project / name for name in names]


def configured(project, text):
    (project / "config.toml").write_text(text)
    return find_seeds(project)


def test_without_a_configuration_it_is_seed_sql_if_there_is_one(tmp_path):
    assert find_seeds(tmp_path).files == ()
    (seed,) = made(tmp_path, "seed.sql")
    assert find_seeds(tmp_path).files == (seed,)


def test_the_configuration_names_paths_and_patterns_in_its_order_each_file_once(tmp_path):
    a, b, c, last = made(tmp_path, "seeds/1.sql", "seeds/2.sql", "seeds/deep/3.sql", "last.sql")
    (tmp_path / "seeds" / "4.sql").mkdir()
    text = '[db.seed]\nsql_paths = ["./last.sql", "./seeds/*.sql", "seeds/**/*.sql", "none/*.sql"]\n'
    found = configured(tmp_path, text)
    assert sorted(found.files) == sorted((last, a, b, c))
    assert found.files[:3] == (last, a, b)
    assert found.unmatched == ("none/*.sql",)


def test_a_path_may_be_absolute(tmp_path):
    (elsewhere,) = made(tmp_path / "elsewhere", "s.sql")
    project = tmp_path / "supabase"
    project.mkdir()
    assert configured(project, f'[db.seed]\nsql_paths = ["{elsewhere}"]').files == (elsewhere,)


def test_the_default_may_be_named_and_missing(tmp_path):
    assert configured(tmp_path, '[db.seed]\nsql_paths = ["./seed.sql"]').unmatched == ()


@pytest.mark.parametrize("text", ["[db.seed]\nenabled = false", "[db.seed]\nsql_paths = []"])
def test_seeding_can_be_switched_off(tmp_path, text):
    made(tmp_path, "seed.sql")
    assert configured(tmp_path, text).files == ()


@pytest.mark.parametrize("text", ["", "[db]\nport = 1", "[auth]\nenabled = true"])
def test_what_says_nothing_of_seeds_leaves_the_default(tmp_path, text):
    (seed,) = made(tmp_path, "seed.sql")
    assert configured(tmp_path, text).files == (seed,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[db.seed\n", "line 1"),
        ('[db]\nseed = "x"', "[db.seed] is not a table"),
        ('[db.seed]\nsql_paths = "seed.sql"', "not a list of paths"),
        ("[db.seed]\nsql_paths = [1]", "not a list of paths"),
    ],
)
def test_what_is_not_understood_is_said_with_the_file(tmp_path, text, says):
    with pytest.raises(BadConfiguration) as caught:
        configured(tmp_path, text)
    assert "config.toml cannot be used" in str(caught.value)
    assert says in str(caught.value)
