#!/usr/bin/env python3
"""Files per second into MariaDB: modsec-parser beside a plain script and beside the floor.

    python3 benches/mariadb.py [--files 100000] [--from DIR] [--fsync-ms 0,1,2,5] [--binlog off,on]

Starts a private MariaDB with durable settings in DIR (needs mariadb-server, python3-pymysql, time;
for --fsync-ms a C compiler). Three ways over equal trees, one after the other:

  script   reads each file as text, takes the 19 fields of the table by regular expressions, inserts
           and commits the row, appends the file to a log, removes it and its directory if that is
           empty now: the way the job is usually done. Into the table that modsec-parser made.
  floor    cat of all files to one log, which is synced; LOAD DATA of the very rows that
           modsec-parser stores (both tables, same indexes); rm -r
  parser   modsec-parser, one pass

A virtual disk often says that it has flushed when it has not, and a commit then costs next to
nothing. --fsync-ms adds so many milliseconds to each fsync and fdatasync of the server and of all
three, by a library that is preloaded: consumer SSDs need about 1 to 5, disks about 10. What a sync of
4 KiB really took is measured and shown.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import pymysql

SLOW_SYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
static int slowly(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *ms = getenv("FSYNC_MS");
    long us = ms ? (long)(atof(ms) * 1000) : 0;
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    int result = real(file);
    nanosleep(&pause, NULL);
    return result;
}
int fsync(int file) { return slowly("fsync", file); }
int fdatasync(int file) { return slowly("fdatasync", file); }
"""

TIME_A_SYNC = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o600)
start = time.time()
for n in range(200):
    os.pwrite(file, b"x" * 4096, n * 4096)
    os.fdatasync(file)
print((time.time() - start) / 200 * 1000)
"""

SETTINGS = ("innodb_flush_log_at_trx_commit", "innodb_flush_method", "log_bin", "sync_binlog")

COLUMNS = ("REQUEST_METHOD REQUEST_URI REMOTE_ADDR ruleId Host msg data unique_id severity maturity accuracy "
           "User_Agent responce_header Engine_Mode Score SQLi XSS phase created_at").split()
PATTERNS = [re.compile(pattern) for pattern in (
    r"-B--\n(\S+)", r"-B--\n\S+ (\S+)", r"-A--\n\[.*?\] \S+ (\S+)", r'\[id "(\d+)"\]', r"\nHost: (.*)",
    r'\[msg "(.*?)"\]', r'\[data "(.*?)"\]', r"-A--\n\[.*?\] (\S+)", r'\[severity "(.*?)"\]',
    r'\[maturity "(\d+)"\]', r'\[accuracy "(\d+)"\]', r"\nUser-Agent: (.*)", r"-F--\nHTTP/\S+ (\d+)",
    r'\nEngine-Mode: "(\w+)"', r"Total Score: (\d+)", r"SQLi=(\d+)", r"XSS=(\d+)", r"\(phase (\d)\)")]
WRITTEN = re.compile(r"-A--\n\[(\d+/\w+/\d+:\d+:\d+:\d+)")


def sample():
    root = pathlib.Path(__file__).resolve().parent.parent / "examples/data/audit"
    return [path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()]


def make_tree(root, files):
    """Entries of which none is like another, 500 in a minute directory."""
    entries = sample()
    for n in range(files):
        minute = 5 * 60 + n // 500
        name = "20260304-%02d%02d" % (minute // 60 % 24, minute % 60)
        path = root / "20260304" / name
        if n % 500 == 0:
            path.mkdir(parents=True, exist_ok=True)
        entry = entries[n % len(entries)].replace(b"] ", b"] %07d" % n, 1)
        (path / ("%s00-%024d" % (name, n))).write_bytes(entry)


def fields(text):
    found = [pattern.search(text) for pattern in PATTERNS]
    values = [match.group(1) if match else None for match in found]
    written = WRITTEN.search(text)
    written = written and time.strftime("%Y-%m-%d %H:%M:%S", time.strptime(written.group(1), "%d/%b/%Y:%H:%M:%S"))
    return values + [written]


class Run:
    """One server, one cost of a sync, three contenders."""

    def __init__(self, root, args, fsync_ms, binlog):
        self.root, self.args = root, args
        self.env = dict(os.environ, FSYNC_MS=str(fsync_ms))
        if fsync_ms:
            (root / "slow.c").write_text(SLOW_SYNC)
            library = str(root / "slow.so")
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, str(root / "slow.c"), "-ldl"], check=True)
            self.env["LD_PRELOAD"] = library
        self.socket = str(root / "s")
        own = ["--no-defaults", "--datadir=%s" % (root / "data")]
        subprocess.run(["mariadb-install-db", *own, "--user=root", "--auth-root-authentication-method=normal"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        durable = ["--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", *(["--log-bin"] if binlog else [])]
        self.server = subprocess.Popen(
            ["mariadbd", *own, *durable, "--user=root", "--socket=%s" % self.socket, "--skip-networking",
             "--pid-file=%s" % (root / "pid")], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.connection = self.connect()
        self.ask("create database bench")
        self.connection.select_db("bench")

    def connect(self):
        for _ in range(300):
            try:
                return pymysql.connect(unix_socket=self.socket, user="root")
            except pymysql.err.OperationalError:
                time.sleep(0.1)
        self.stop()
        return sys.exit("MariaDB did not start")

    def ask(self, statement):
        cursor = self.connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall()

    def stop(self):
        self.server.terminate()
        self.server.wait()

    def tree(self, name, files):
        tree = self.root / name
        if self.args.source:
            shutil.copytree(self.args.source, tree)
        else:
            make_tree(tree, files)
        os.sync()
        return tree

    def sync_ms(self):
        timed = subprocess.run([sys.executable, "-c", TIME_A_SYNC, self.root / "sync"], env=self.env, check=True,
                               capture_output=True, text=True)
        return float(timed.stdout)

    def parser(self):
        tree = self.tree("parser", self.args.files)
        files = sum(len(names) for _, _, names in os.walk(tree))
        start = time.time()
        subprocess.run(["/usr/bin/time", "-f", "%M", "-o", self.root / "memory", self.args.program,
                        "--storage-dir", tree, "--merged-log", self.root / "parser.log", "--min-age", "0", "--quiet",
                        "--store", "mysql://root@localhost/bench?socket=%s" % self.socket], env=self.env, check=True,
                       stdout=subprocess.DEVNULL)
        rate = files / (time.time() - start)
        stored = self.ask("select count(*) from logs")[0][0]
        assert stored == files, "%d of %d rows" % (stored, files)
        assert not any(path.is_file() for path in tree.rglob("2*-*-*")), "files are left"
        return rate, int((self.root / "memory").read_text().split()[-1]) // 1024

    def script(self):
        """Stops after some seconds, because it is slow; its pace does not change."""
        tree = self.tree("script", min(self.args.files, 50_000))
        self.ask("create table plain like logs")
        insert = "insert into plain (%s) values (%s)" % (", ".join(COLUMNS), ", ".join(["%s"] * len(COLUMNS)))
        cursor, done, start = self.connection.cursor(), 0, time.time()
        with open(self.root / "script.log", "ab") as log:
            for directory, _, names in os.walk(tree):
                for name in names:
                    path = os.path.join(directory, name)
                    with open(path, "rb") as file:
                        data = file.read()
                    cursor.execute(insert, fields(data.decode("latin-1")))
                    self.connection.commit()
                    log.write(data)
                    log.flush()
                    os.unlink(path)
                    try:
                        os.rmdir(directory)
                    except OSError:
                        pass
                    done += 1
                    if time.time() - start > self.args.script_seconds:
                        return done / (time.time() - start)
        return done / (time.time() - start)

    def floor(self):
        tree = self.tree("floor", self.args.files)
        files = sum(len(names) for _, _, names in os.walk(tree))
        for table in ("logs", "rule_matches"):
            self.ask("select * from %s into outfile '%s'" % (table, self.root / table))
            self.ask("create table loaded_%s like %s" % (table, table))
        log, start = self.root / "floor.log", time.time()
        subprocess.run("find '%s' -type f -print0 | xargs -0 cat > '%s' && sync '%s'" % (tree, log, log), shell=True,
                       env=self.env, check=True)
        for table in ("logs", "rule_matches"):
            self.ask("load data infile '%s' into table loaded_%s" % (self.root / table, table))
        self.connection.commit()
        subprocess.run(["rm", "-r", tree], check=True)
        return files / (time.time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--from", dest="source", metavar="DIR", help="copy this tree instead of making one")
    parser.add_argument("--fsync-ms", default="0", help="added to each sync; several with commas between")
    parser.add_argument("--binlog", default="off,on", help="off, on, or both: a server with backups has it on")
    parser.add_argument("--script-seconds", type=float, default=20)
    parser.add_argument("--dir", default=None)
    parser.add_argument("--program", default="target/release/modsec-parser")
    args = parser.parse_args()
    print("binlog  sync ms  script/s   floor/s  parser/s  times script  of floor  MB")
    for binlog in args.binlog.split(","):
        for fsync_ms in args.fsync_ms.split(","):
            root = pathlib.Path(tempfile.mkdtemp(dir=args.dir))
            run = Run(root, args, float(fsync_ms), binlog == "on")
            try:
                settings = [run.ask("select @@%s" % name)[0][0] for name in SETTINGS]
                sync_ms = run.sync_ms()
                (parser_rate, memory), script_rate, floor_rate = run.parser(), run.script(), run.floor()
            finally:
                run.stop()
                shutil.rmtree(root)
            print("%-6s  %7.2f  %8.0f  %8.0f  %8.0f  %12.1f  %8.2f  %2d" % (
                binlog, sync_ms, script_rate, floor_rate, parser_rate, parser_rate / script_rate,
                parser_rate / floor_rate, memory), flush=True)
    print("; ".join("%s=%s" % pair for pair in zip(SETTINGS, settings)))


if __name__ == "__main__":
    main()
