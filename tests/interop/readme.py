"""Runs the curl commands of README.md and src/README.md, with another port."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import urllib.request

from server import Server, check, finish

server = Server("--chaos")
# The commands with a key are for a server that knows it.
folder = tempfile.TemporaryDirectory()
keys = os.path.join(folder.name, "keys")
added = subprocess.run([os.environ["OVERWIRE"], "key", "add", "alice", "--keys", keys], capture_output=True, text=True)
guarded = Server("--keys", keys, "--no-tap")
root = pathlib.Path(__file__).parents[2]
readme = (root / "README.md").read_text() + (root / "src/README.md").read_text()
commands = re.findall(r"`(curl [^`]+)`", readme) + re.findall(r"^\$ (curl .+)$", readme, re.MULTILINE)

# The status line that a command must show, if it is not "200 OK".
UPGRADED = "101 Switching Protocols"
EXPECTED = {
    "/api/connections/ID": "404 Not Found",  # the id of no connection
    "/api/ws": UPGRADED, "/api/signal": UPGRADED, "/ws": UPGRADED, "/sse/message": "202 Accepted",
}
HELD = 28  # curl's exit code when --max-time ends a stream or a held poll

# Some commands have a placeholder for an id.
with urllib.request.urlopen(urllib.request.Request(f"{server.url}/poll", method="POST")) as response:
    connection_id = json.load(response)["connection_id"]

assert len(commands) > 20, commands
for command in commands:
    @check(command)
    def _():
        target = re.search(r"127\.0\.0\.1:8000([^\s'?]*)", command)[1]
        # With --verbose, curl prints a head at once, and not with the first content.
        filled_in = re.sub("FROM-[A-Z-]+", connection_id, command).replace("KEY", added.stdout.strip())
        asked = guarded if "KEY" in command else server
        bounded = filled_in.replace("127.0.0.1:8000", asked.authority).replace("curl ", "curl --verbose --max-time 1 ", 1)
        ran = subprocess.run(["bash", "-c", bounded], capture_output=True, text=True, errors="replace")
        held = ran.returncode == HELD and ("timeout=" in command or target == "/poll")
        assert ran.returncode in (0, HELD), ran.stderr
        assert held or f"< HTTP/1.1 {EXPECTED.get(target, '200 OK')}" in ran.stderr, ran.stderr

server.stop()
guarded.stop()
finish()
