#!/usr/bin/env python3
"""The job of decode.rs in plain Python, for comparison: each entry becomes the 19 fields of the
table `logs`, one alert's rule fields among them, with nothing but the standard library.

    python3 benches/decode.py native examples/data/audit
    python3 benches/decode.py json modsec-core/tests/data/json-v2/v2-json-concurrent/audit
    python3 benches/decode.py json modsec-core/tests/data/json-v3/v3-json-concurrent/audit
    python3 benches/decode.py pure-json DIRECTORY

`json` reads documents with the part of the standard library that is written in C; `pure-json` with
the same library's own Python, which is what a program in nothing but Python does.

Prints bytes and entries per second of the best of several rounds. Files are read beforehand.
"""

import json
import os
import re
import sys
import time
from datetime import datetime

TAG = re.compile(r' \[([a-z]+) "((?:[^"\\]|\\.)*)"\]')
PHASE = re.compile(r"\(phase ([1-5])\)")
SCORE = re.compile(r"Inbound Anomaly Score.*?\(Total (?:Inbound )?Score: (\d+)(?:[^()]*?SQLi=(\d*),\s*XSS=(\d*))?", re.I)


def rules(messages):
    """Takes the tags of each alert apart and picks the one that intercepted."""
    alerts = []
    for message in messages:
        tags = {}
        for key, value in TAG.findall(message):
            if key == "tag":
                tags.setdefault("tags", []).append(value)
            else:
                tags[key] = value
        tags["denied"] = message.startswith("Access denied")
        phase = PHASE.search(message) if tags["denied"] else None
        tags["phase"] = int(phase[1]) if phase else None
        alerts.append(tags)
    return alerts


def row(line, headers, address, txid, status, mode, when, alerts):
    words = line.split(" ")
    primary = next((a for a in alerts if a.get("denied")), alerts[0] if alerts else {})
    names = {name.lower(): value for name, value in headers}
    score = sqli = xss = None
    for alert in alerts:
        found = SCORE.match(alert.get("msg") or "")
        if found:
            score, sqli, xss = found.groups()
    return {
        "REQUEST_METHOD": words[0],
        "REQUEST_URI": " ".join(words[1:-1]),
        "REMOTE_ADDR": address,
        "ruleId": primary.get("id"),
        "Host": names.get("host"),
        "msg": primary.get("msg"),
        "data": primary.get("data"),
        "unique_id": txid,
        "severity": primary.get("severity"),
        "maturity": primary.get("maturity"),
        "accuracy": primary.get("accuracy"),
        "User_Agent": names.get("user-agent"),
        "responce_header": status,
        "Engine_Mode": mode,
        "Score": score,
        "SQLi": sqli,
        "XSS": xss,
        "phase": primary.get("phase"),
        "created_at": when,
    }


def native(entry):
    text = entry.decode("latin-1")
    boundary = text[2:10]
    parts = dict(re.findall(rf"--{boundary}-([A-Z])--\n(.*?)(?=\n--{boundary}-|\Z)", text, re.S))
    stamp, rest = parts.get("A", "").split("] ", 1)
    txid, client, _, _, _ = rest.rsplit(" ", 4)
    try:
        when = datetime.strptime(stamp[1:].replace("--", "-"), "%d/%b/%Y:%H:%M:%S.%f %z")
    except ValueError:
        when = datetime.strptime(stamp[1:].replace("--", "-"), "%d/%b/%Y:%H:%M:%S %z")
    lines = parts.get("B", "").split("\n")
    headers = [line.split(": ", 1) for line in lines[1:] if ": " in line]
    status = re.match(r"HTTP/\S+ (\d{3})", parts.get("F", ""))
    told = [line.split(": ", 1) for line in parts.get("H", "").split("\n") if ": " in line]
    messages = [value for key, value in told if key == "Message"]
    mode = next((value.strip('"') for key, value in told if key == "Engine-Mode"), None)
    return row(lines[0], headers, client, txid, status and int(status[1]), mode, when, rules(messages))


def pure_decoder():
    decoder = json.JSONDecoder()
    decoder.parse_string = json.decoder.py_scanstring
    decoder.scan_once = json.scanner.py_make_scanner(decoder)
    return decoder.decode


def document(entry, loads=json.loads):
    text = entry.decode("utf-8", "replace").replace('"http_version":,', '"http_version":null,')
    found = loads(text)
    head = found["transaction"]
    if "audit_data" in found:
        request, told = found.get("request", {}), found["audit_data"]
        return row(
            request.get("request_line", ""),
            request.get("headers", {}).items(),
            head.get("remote_address"),
            head.get("transaction_id"),
            found.get("response", {}).get("status"),
            told.get("engine_mode"),
            datetime.strptime(head["time"].replace("--", "-"), "%d/%b/%Y:%H:%M:%S.%f %z"),
            rules(told.get("messages", [])),
        )
    request = head.get("request", {})
    alerts = [
        {**message["details"], "id": message["details"]["ruleId"], "msg": message["message"]}
        for message in head.get("messages", [])
    ]
    return row(
        f'{request.get("method")} {request.get("uri")} HTTP/{request.get("http_version")}',
        request.get("headers", {}).items(),
        head.get("client_ip"),
        head.get("unique_id"),
        head.get("response", {}).get("http_code"),
        head.get("producer", {}).get("secrules_engine"),
        datetime.strptime(head["time_stamp"], "%a %b %d %H:%M:%S %Y"),
        alerts,
    )


def main():
    pure = pure_decoder()
    readers = {"native": native, "json": document, "pure-json": lambda entry: document(entry, pure)}
    read = readers[sys.argv[1]]
    entries = []
    for directory, _, names in os.walk(sys.argv[2]):
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                entries.append(file.read())
    size = sum(map(len, entries))
    best = float("inf")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        start = time.perf_counter()
        rows = [read(entry) for entry in entries]
        best = min(best, time.perf_counter() - start)
    assert len(rows) == len(entries)
    print(f"{size / best / 1e6:.1f} MB/s, {len(entries) / best:.0f} entries/s")


if __name__ == "__main__":
    main()
