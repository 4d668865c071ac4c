"""What to do next where nothing has arrived yet, or nothing but this machine: each step with the command that takes it."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.hub import Frame
from dashboard.place import Place


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: what it brings, and the exact command."""

    title: str
    icon: str
    brings: str
    command: str
    done: bool = False


def wanted(frame: Frame) -> bool:
    """Tell whether there is nothing yet, or nothing but this machine."""
    return len(frame.state.hosts) <= 1 and not frame.state.applications


def title(frame: Frame) -> str:
    """Return what there is so far, in Markdown."""
    so_far = "nothing but this machine is watched yet" if frame.state.hosts else "nothing has arrived yet"
    return f"**First steps** :gray[{so_far}]"


def steps(frame: Frame, place: Place, *, rollout: bool) -> list[Step]:
    """Return the steps; ``rollout`` tells whether one has been started."""
    here = [] if frame.state.hosts else [_arrive(place)]
    return [
        *here,
        Step(
            "Add a device",
            ":material/dns:",
            "Another machine, read over SSH: nothing is installed there. Its host key is shown, to be compared.",
            f"crossfade devices add web-1 monitor@web-1.example --key-file ~/.ssh/crossfade{place.option}",
        ),
        Step(
            "Push from an application",
            ":material/upload:",
            "Sessions, connections, semaphores and requests as only the application knows them. True: all is kept.",
            f'{place.variable}python -c \'from crossfade import push; app = push.application("shop"); '
            'app.session_created("s-1", user="ann"); print(app.flush())\'',
        ),
        _people(place),
        Step(
            "Start a rollout",
            ":material/route:",
            "Clients are moved to Supabase step by step, as far as flags.yaml wishes, and taken back when something "
            "is wrong.",
            f"crossfade rollout start --dwell 15m{place.option}",
            done=rollout,
        ),
    ]


def _arrive(place: Place) -> Step:
    return Step(
        "Watch this machine",
        ":material/monitor_heart:",
        "It is watched by itself while crossfade up runs; a reading comes within seconds. If none does, this says why.",
        f"crossfade doctor{place.option}",
    )


def _people(place: Place) -> Step:
    if place.hosted:
        return Step(
            "Add users",
            ":material/group_add:",
            "People sign in as users of your project whose app_metadata.crossfade_role is viewer, operator or admin; or "
            "with a token.",
            f"crossfade token ann --role operator --for 8h{place.option}",
        )
    return Step(
        "Add users",
        ":material/group_add:",
        "Whoever reaches the dashboard may look. Operators change flags, command containers and steer the rollout.",
        f"crossfade users add ann@example.com --role operator{place.option}",
    )
