"""Stands in for modsec_recedive.sh: counts answers of 403 by X-Real-IP, names every tenth in the
jail file, and starts the parser every other second.

It reads a file when it is closed, not when it appears, so that what it misses is not its own doing.
Usage: counter.py DIR STATE JAIL PARSER [ARGUMENT ...]
"""

import re
import subprocess
import sys
import threading
import time

tree, state, jail, *parser = sys.argv[1:]
counts = {}


def parse_again_and_again():
    while True:
        time.sleep(2)
        if subprocess.run(parser, stdin=subprocess.DEVNULL).returncode != 0:
            print("the parser failed", file=sys.stderr, flush=True)


def count(path):
    with open(path, encoding="latin-1") as file:
        text = file.read()
    status = re.search(r"-F--\nHTTP/\d\.\d (\d+)", text)
    client = re.search(r"X-Real-IP: (\S+)", text)
    if not status or not client or status.group(1) != "403":
        return
    client = client.group(1)
    counts[client] = counts.get(client, 0) + 1
    with open(state, "w") as file:
        for known, number in counts.items():
            file.write(f"{known} {number} {int(time.time())}\n")
    if counts[client] % 10 == 0:
        with open(jail, "a") as file:
            file.write(f"{client} - {time.strftime('%Y-%m-%d %H:%M:%S')}\n")


threading.Thread(target=parse_again_and_again, daemon=True).start()
command = ["inotifywait", "-q", "-m", "-r", "-e", "close_write", "--format", "%w%f", tree]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
    for line in events.stdout:
        try:
            count(line.rstrip("\n"))
        except (FileNotFoundError, NotADirectoryError):
            pass  # The parser was faster.
