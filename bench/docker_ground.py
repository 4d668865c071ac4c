"""What the Docker measurements stand on: containers of busybox alone, and a controller in a process of its own."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import docker

from collectors.docker_connection import FOREIGN_ERRORS, from_environment, reason_of

CONTAINERS = 15
TALKER = "while :; do echo $(date) a line of a log as they are written by many a program, again and again and again; sleep 1; done"


def run(*arguments: str) -> str:
    """Run the docker command; return what it says."""
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


class Ground:
    """Containers that are removed at the end."""

    def __init__(self, client: docker.APIClient, image: str) -> None:
        self.client = client
        self.image = image
        self.names: list[str] = []

    def start(self, script: str, *options: str, name: str = "") -> str:
        """Run a shell script in a container without a network; return its name."""
        name = name or f"bench-{uuid.uuid4().hex[:8]}"
        if name not in self.names:
            self.names.append(name)
        run("run", "-d", "--name", name, "--network", "none", *options, self.image, "sh", "-c", script)
        return name


@contextmanager
def ground() -> Iterator[Ground]:
    """Make the image; ends the program with one line where there is no Docker."""
    try:
        client = from_environment()
    except FOREIGN_ERRORS as error:
        sys.exit(
            f"no Docker answers: {reason_of(error)}; apt-get install -y docker.io && dockerd --storage-driver=vfs &"
        )
    busybox = shutil.which("busybox")
    if busybox is None:
        sys.exit("busybox is not here; apt-get install -y busybox-static")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(os.path.realpath(busybox), "bin/busybox")
        for name in ("sh", "sleep", "date", "dd", "cat", "false", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    image = f"crossfade-bench-{uuid.uuid4().hex[:8]}"
    client.import_image_from_data(packed.getvalue(), repository=image)
    made = Ground(client, image)
    try:
        yield made
    finally:
        if made.names:
            subprocess.run(["docker", "rm", "-f", *made.names], capture_output=True, timeout=120, check=False)
        client.remove_image(image, force=True)
        client.close()


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
