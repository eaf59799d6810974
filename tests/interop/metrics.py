"""Prometheus' own promtool reads what /metrics says."""

import os
import subprocess
import urllib.request

from server import Server, check, finish

server = Server("--no-tap")


def scrape():
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        return response.read()


@check("promtool finds nothing wrong with the metrics")
def _():
    for path in ("/api/history", "/nothing", "/api/messages"):
        try:
            urllib.request.urlopen(server.url + path)
        except urllib.error.HTTPError:
            pass
    ran = subprocess.run([os.environ["PROMTOOL"], "check", "metrics"], input=scrape(), capture_output=True)
    assert ran.returncode == 0 and not ran.stderr, ran.stderr.decode()


server.stop()
finish()
