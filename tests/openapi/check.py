"""Runs schemathesis twice: on operations that answer at once, and on operations that hold or stream their answers.

A valid request to an operation of the second kind would be held, or would open a stream or a WebSocket, and
schemathesis waits for the end of each answer. So these operations get only invalid requests, and must refuse
all of them at once. tests/openapi.rs makes the valid requests.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request

from server import Server, check, finish

SCHEMATHESIS = sys.argv[1]
SEED = "1"
LONGEST = "5"  # seconds for one answer: a held answer takes longer


def is_live(operation):
    answers = operation["responses"]
    types = answers.get("200", {}).get("content", {})
    is_stream = "101" in answers or "text/event-stream" in types or "application/x-ndjson" in types
    return is_stream or operation["operationId"] in ("demoPoll", "roomPoll")


def run(operations, *options, hooks=None):
    """Runs it on these operations. Returns the number of cases."""
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": os.path.abspath(hooks)} if hooks else None
    server = Server()
    chosen = [option for one in operations for option in ("--include-operation-id", one)]
    command = [SCHEMATHESIS, "--config-file", os.path.abspath("schemathesis.toml"), "run", f"{server.url}/openapi.json",
               "--seed", SEED, "--request-timeout", LONGEST, "--continue-on-failure", "--warnings", "off",
               "--suppress-health-check", "too_slow",  # the speed of schemathesis does not matter here
               *chosen, *options]
    with tempfile.TemporaryDirectory() as folder:  # it writes files to the current folder
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    cases, passed = map(int, re.search(r"(\d+) generated, (\d+) passed", done.stdout).groups())
    tested = int(re.search(r"Tested: (\d+)", done.stdout)[1])
    assert (passed, tested) == (cases, len(operations)), done.stdout
    server.stop()
    return cases


server = Server()
with urllib.request.urlopen(f"{server.url}/openapi.json") as response:
    paths = json.load(response)["paths"]
server.stop()
operations = [operation for path in paths.values() for operation in path.values()]
live = [operation["operationId"] for operation in operations if is_live(operation)]
plain = [operation["operationId"] for operation in operations if not is_live(operation)]


@check("operations that answer at once answer as described")
def _():
    cases = run(plain, "--max-examples", "100")
    assert cases > 500, cases
    print(f"        {len(plain)} operations, {cases} cases")


@check("operations that hold or stream refuse invalid requests as described")
def _():
    cases = run(live, "--mode", "negative", "--phases", "coverage", hooks="hooks.py")
    assert cases > 150, cases
    print(f"        {len(live)} operations, {cases} cases")


finish()
