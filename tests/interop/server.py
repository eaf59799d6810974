"""The server under test, as a child process on a free port. SIGTERM must end it with exit code 0."""

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.request

# The seconds after which a test gives up. Nothing takes them unless it hangs.
PATIENCE = 60


class Server:
    def __init__(self, *arguments):
        binary = os.environ.get("OVERWIRE")
        if not binary:
            sys.exit("OVERWIRE must name the server binary; use the script `run`")
        self.process = subprocess.Popen([binary, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        first = self.process.stdout.readline()
        address = re.search(r"http://([^\s/]+:(\d+))", first)
        if not address:
            sys.exit(f"the first line of the server has no address: {first!r}")
        self.port = int(address[2])
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"

    def terminate(self):
        """Shuts the server down like a service manager. (A second signal would end it at once.)"""
        self.process.send_signal(signal.SIGTERM)

    def ended(self):
        code = self.process.wait(timeout=PATIENCE)
        assert code == 0, f"after SIGTERM the server ended with {code}, expected exit code 0"

    def stop(self):
        self.terminate()
        self.ended()

    def stats(self):
        with urllib.request.urlopen(f"{self.url}/api/stats") as response:
            return json.load(response)


def until(condition, what):
    """Repeats `condition` until its result is true, and returns the result."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


_passed = 0


def check(sentence):
    """Runs the decorated function at once, as one check, whose name is a sentence."""
    def run(body):
        global _passed
        try:
            body()
        except Exception:
            traceback.print_exc()
            print(f"FAILED  {sentence}", flush=True)
            sys.exit(1)
        _passed += 1
        print(f"ok      {sentence}", flush=True)
    return run


def finish():
    print(f"{_passed} checks passed")
