"""A PostgreSQL server in a temporary folder, which can be stopped and started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

# Debian does not put the server's programs on the path.
PROGRAMS = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/pgsql").glob("*/bin")]


def find(program: str) -> str | None:
    """Return the path of one of the server's programs."""
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, PROGRAMS)])
    return shutil.which(program, path=places)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A server that trusts everyone of this host.

    Parameters
    ----------
    folder : Path
        Existing; the server refuses to run as root, who gives it to the user that comes with the server.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        self._run("initdb", "--auth=trust", "--username=metafe", "--no-sync", f"--pgdata={folder}/data")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://metafe:secret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._control("start", "-w", f"--options={options}", f"--log={self.folder}/log")

    def stop(self) -> None:
        """End every connection, as a crash does."""
        self._control("stop", "-w", "--mode=immediate")

    def wait_for_someone_who_connects(self) -> None:
        """Take the place of the stopped server until a client has tried to reach it."""
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            listener.settimeout(60)
            listener.accept()[0].close()

    def _control(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, f"--pgdata={self.folder}/data", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        path = find(program)
        assert path is not None
        subprocess.run([path, *arguments], user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
