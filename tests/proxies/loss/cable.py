"""A cable between two networks that takes time and drops packets: `cable.py EVERY COMMAND OTHER`.

COMMAND runs in this network, at 10.9.0.1, and OTHER in a network of its own, at 10.9.0.2. A packet takes 25 ms. Every
EVERYth packet that OTHER sends is dropped, or none for 0. When COMMAND ends, so does OTHER."""

import fcntl
import heapq
import itertools
import os
import select
import struct
import subprocess
import sys
import time

DELAY = 0.025  # seconds
LONGEST = 65536  # bytes of a packet
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def cable_end(name):
    """Creates a network interface, and returns the file with its packets."""
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


def inside(network):
    """The words before a command that runs in the network of a process."""
    return ["nsenter", "--target", str(network), "--net"]


def connect(name, address, network):
    for words in (f"link set {name} netns {network}", "link set lo up", f"address add {address} dev {name}",
                  f"link set {name} up"):
        before = [] if "netns" in words else inside(network)
        subprocess.run([*before, "ip", *words.split()], check=True)


def new_network():
    """Starts a process with its own network."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    return holder


def relay(near, far, every, ended):
    """Passes packets on until `ended()`. Returns the number of those from the far end, and of the dropped ones."""
    waiting, order, count, dropped = [], itertools.count(), 0, 0
    while not ended():
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, end, packet = heapq.heappop(waiting)
            os.write(end, packet)
        wait = min(0.1, waiting[0][0] - now) if waiting else 0.1
        for end in select.select([near, far], [], [], wait)[0]:
            packet, is_lost = os.read(end, LONGEST), False
            if end == far:
                count += 1
                is_lost = every > 0 and count % every == 0
                dropped += is_lost
            if not is_lost:
                other = far if end == near else near
                heapq.heappush(waiting, (time.monotonic() + DELAY, next(order), other, packet))
    return count, dropped


def main():
    every, command, other = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    near, far, holder = cable_end("near"), cable_end("far"), new_network()
    connect("near", "10.9.0.1/24", os.getpid())
    connect("far", "10.9.0.2/24", holder.pid)
    server = subprocess.Popen([*inside(holder.pid), *other.split()])
    client = subprocess.Popen(command.split())
    count, dropped = relay(near, far, every, lambda: client.poll() is not None)
    print(f"{count} packets of the server, {dropped} dropped")
    server.terminate()
    server.wait()
    holder.kill()
    sys.exit(client.returncode)


main()
