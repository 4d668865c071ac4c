"""What the facts of a database mean for Crossfade. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfade.checks import Check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crossfade.hosted.facts import Facts
    from embedded.migrations import Migration

OLDEST = 15
"""The oldest PostgreSQL that the migrations are tested on."""
_NO_SUPABASE = (
    "this is no Supabase project's database; a plain PostgreSQL becomes one by Supabase's own set-up (self-hosting), or leave "
    "DATABASE_URL, SUPABASE_URL and SUPABASE_KEY away to use the embedded one"
)


def judge(facts: Facts) -> list[Check]:
    """Return what a database has to have, each as found. What is not ``ok`` stands in the way."""
    return list(_findings(facts))


def pending(facts: Facts, migrations: Iterable[Migration]) -> list[Migration]:
    """Return the migrations that are not recorded there, in order."""
    return [each for each in migrations if each.version not in facts.applied]


def unrecorded(facts: Facts, migrations: Iterable[Migration]) -> bool:
    """Whether our tables are there, and no record of what made them: nobody can say which version they are."""
    return facts.tables > 0 and not any(each.version in facts.applied for each in migrations)


def _findings(facts: Facts) -> Iterator[Check]:
    yield _check(
        "PostgreSQL",
        facts.version >= OLDEST,
        f"{facts.version}, database {facts.database}, as {facts.user}",
        f"Crossfade needs PostgreSQL {OLDEST} or newer: upgrade the project",
    )
    yield _check(
        "connection",
        facts.session,
        "a session of its own" if facts.session else "a transaction pooler",
        "use the direct connection or the session pooler (port 5432): leases and locks belong to a session",
    )
    missing = (
        *facts.missing_roles,
        *facts.missing_functions,
        *(() if facts.messages else ("realtime.messages",)),
    )
    yield _check(
        "Supabase",
        not missing,
        f"not there: {', '.join(missing)}" if missing else "roles, auth and realtime are there",
        _NO_SUPABASE,
    )
    yield _check(
        "change feed",
        facts.wal_level == "logical",
        f"wal_level is {facts.wal_level}",
        "set wal_level to logical and restart PostgreSQL; Realtime needs it",
    )
    yield _publication(facts)
    yield _check(
        "tables",
        facts.may_create,
        f"{facts.user} may {'' if facts.may_create else 'not '}create tables in public",
        f"grant create on schema public to {facts.user}, or connect as the project's postgres",
    )
    yield _check(
        "policies",
        facts.may_police or not facts.messages,
        f"{facts.user} may {'' if facts.may_police else 'not '}write policies on realtime.messages",
        f"grant supabase_realtime_admin to {facts.user}, or connect as the project's postgres",
    )
    yield _check(
        "row security",
        facts.bypasses_rls,
        f"{facts.user} is {'not ' if facts.bypasses_rls else ''}subject to it",
        f"alter role {facts.user} bypassrls, or connect as the project's postgres: the collector writes as this role",
    )


def _publication(facts: Facts) -> Check:
    if not facts.publication:
        return _check(
            "publication", good=False, detail="supabase_realtime is not there",
            advice="create publication supabase_realtime; it is what Realtime follows",
        )  # fmt: skip
    if facts.publishes_all:
        return _check(
            "publication",
            good=False,
            detail="supabase_realtime is for all tables",
            advice="make it one that lists its tables: Crossfade turns its feed on and off there",
        )
    return _check(
        "publication",
        facts.may_publish,
        f"{facts.user} may {'' if facts.may_publish else 'not '}add tables to supabase_realtime",
        f"alter publication supabase_realtime owner to {facts.user}, or connect as its owner",
    )


def _check(name: str, good: bool, detail: str, advice: str) -> Check:  # noqa: FBT001 - reads as a table
    return Check(name, ok=good, detail=detail, advice="" if good else advice)
