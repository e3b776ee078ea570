"""Stands in for mod_sec_log_parser.py: a row for each file, the file's text to the merged log, and
away with it; then empty directories, except the newest.   Usage: parser.py DIR MERGED SOCKET DATABASE
"""

import os
import re
import subprocess
import sys

COLUMNS = {
    "REQUEST_METHOD": r"--[0-9a-f]+-B--\n([A-Z]+) ",
    "REQUEST_URI": r"--[0-9a-f]+-B--\n[A-Z]+ (\S+)",
    "REMOTE_ADDR": r"\] \S+ ([0-9.:a-f]+) ",
    "ruleId": r'\[id "(\d+)"\]',
    "Host": r"Host: (\S+)",
    "msg": r'\[msg "(.+?)"\]',
    "data": r'\[data "(.+?)"\]',
    "unique_id": r"\[.+?\] ([\w@-]+)",
    "severity": r'\[severity "(.+?)"\]',
    "User_Agent": r"User-Agent: (.+)",
    "responce_header": r"--[0-9a-f]+-F--\nHTTP/\d\.\d (\d{3}) .",
    "Engine_Mode": r'Engine-Mode: "(.+)"',
    "phase": r"\(phase (\d)\)",
}


def value(pattern, text):
    found = re.search(pattern, text)
    if not found:
        return "NULL"
    safe = found.group(1).replace("*", "+").replace("--", " ").replace(";", ".")
    return "'" + re.sub(r"[^\w .,:/?&=%+@()\[\]-]", " ", safe)[:60000] + "'"


def statement(text):
    values = [value(pattern, text) for pattern in COLUMNS.values()]
    return f"INSERT INTO logs ({', '.join(COLUMNS)}) VALUES ({', '.join(values)});\n"


tree, merged, socket, database = sys.argv[1:]
for place, _, names in os.walk(tree):
    for name in sorted(names):
        path = os.path.join(place, name)
        with open(path, encoding="latin-1", newline="") as file:
            text = file.read()
        subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={socket}", "--user=root", database],
            input=statement(text).encode(),
            check=True,
        )
        with open(merged, "a", encoding="latin-1", newline="") as log:
            log.write(text + "\n")
        os.unlink(path)
minutes = [place for place, below, names in os.walk(tree) if re.search(r"/\d{8}-\d{4}$", place)]
for place in sorted(minutes, key=os.path.basename)[:-8]:
    try:
        os.rmdir(place)
    except OSError:
        pass
