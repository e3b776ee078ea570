#!/usr/bin/env python3
"""Files per second into MariaDB: modsec-parser beside a plain script and beside the floor.

    python3 benches/mariadb.py [--files 100000] [--dir DIR] [--program target/release/modsec-parser]

Starts a private MariaDB with its durable defaults in DIR (needs mariadb-server and
python3-pymysql, and time). Three ways over equal trees, in one run:

  script   reads each file, takes a few fields by regular expressions, inserts and commits the row,
           appends the file to a log and removes it: the way the job is usually done
  floor    appends all files to one log, loads the very rows that modsec-parser stores (both tables,
           same indexes) by LOAD DATA, removes the tree
  parser   modsec-parser
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

TABLE = """create table {} (id int auto_increment primary key, method varchar(10), uri text,
addr varchar(45), host varchar(255), rule varchar(10), msg text, data text, unique_id varchar(50),
severity varchar(20), status int, agent text, created_at datetime)"""


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


class Server:
    def __init__(self, root):
        self.socket = str(root / "s")
        data = root / "data"
        own = ["--no-defaults", "--datadir=%s" % data]
        subprocess.run(["mariadb-install-db", *own, "--user=root", "--auth-root-authentication-method=normal"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process = subprocess.Popen(
            ["mariadbd", *own, "--user=root", "--socket=%s" % self.socket, "--skip-networking",
             "--pid-file=%s" % (root / "pid"), "--local-infile=1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        import pymysql
        for _ in range(300):
            try:
                self.connection = pymysql.connect(unix_socket=self.socket, user="root", local_infile=True)
                break
            except pymysql.err.OperationalError:
                time.sleep(0.1)
        else:
            sys.exit("MariaDB did not start")
        self.connection.cursor().execute("create database bench")
        self.connection.select_db("bench")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def fields(text):
    def first(pattern):
        found = re.search(pattern, text)
        return found.group(1) if found else None
    return (first(r"-B--\n(\S+)"), first(r"-B--\n\S+ (\S+)"), first(r"\] \S+ (\S+)"), first(r"Host: (.*)"),
            first(r'\[id "(\d+)"\]'), first(r'\[msg "(.*?)"\]'), first(r'\[data "(.*?)"\]'), first(r"\] (\S+)"),
            first(r'\[severity "(.*?)"\]'), first(r"-F--\nHTTP/\S+ (\d+)"), first(r"User-Agent: (.*)"), None)


def script(server, tree, log, limit):
    """The way the job is usually done; stops after `limit` files, because it is slow."""
    cursor = server.connection.cursor()
    cursor.execute(TABLE.format("plain"))
    insert = "insert into plain values (null" + ", %s" * 12 + ")"
    done = 0
    with open(log, "ab") as out:
        for path in (path for path in sorted(tree.rglob("*")) if path.is_file()):
            if done == limit:
                break
            data = path.read_bytes()
            cursor.execute(insert, fields(data.decode("latin-1")))
            server.connection.commit()
            out.write(data)
            path.unlink()
            done += 1
    return done


def floor(server, tree, log, exported):
    cursor = server.connection.cursor()
    with open(log, "ab") as out:
        for directory, _, names in os.walk(tree):
            for name in names:
                with open(os.path.join(directory, name), "rb") as entry:
                    out.write(entry.read())
        out.flush()
        os.fsync(out.fileno())
    for table, path in exported.items():
        cursor.execute("load data infile '%s' into table loaded_%s" % (path, table))
    server.connection.commit()
    shutil.rmtree(tree)


def export(server, root):
    """Writes both tables to files and makes empty ones of the same shape."""
    cursor = server.connection.cursor()
    exported = {}
    for table in ("logs", "rule_matches"):
        exported[table] = root / table
        cursor.execute("select * from %s into outfile '%s'" % (table, exported[table]))
        cursor.execute("create table loaded_%s like %s" % (table, table))
    return exported


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--script-files", type=int, default=5_000, help="files that the plain script gets")
    parser.add_argument("--dir", default=None)
    parser.add_argument("--program", default="target/release/modsec-parser")
    args = parser.parse_args()
    root = pathlib.Path(tempfile.mkdtemp(dir=args.dir))
    server = Server(root)
    rates = {}
    try:
        tree = root / "script"
        make_tree(tree, args.script_files)
        start = time.time()
        done = script(server, tree, root / "script.log", args.script_files)
        rates["script"] = done / (time.time() - start)

        tree = root / "parser"
        make_tree(tree, args.files)
        os.sync()
        start = time.time()
        run = ["/usr/bin/time", "-f", "%M", "-o", str(root / "memory")]
        subprocess.run([*run, args.program, "--storage-dir", tree, "--merged-log", root / "parser.log", "--min-age", "0",
                        "--store", "mysql://root@localhost/bench?socket=%s" % server.socket], check=True)
        rates["parser"] = args.files / (time.time() - start)
        memory = int((root / "memory").read_text().split()[-1])
        cursor = server.connection.cursor()
        cursor.execute("select count(*) from logs")
        stored = cursor.fetchone()[0]
        assert stored == args.files, "%d of %d rows" % (stored, args.files)
        assert not any(path.is_file() for path in tree.rglob("2*-*-*")), "files are left"

        tree = root / "floor"
        make_tree(tree, args.files)
        exported = export(server, root)
        os.sync()
        start = time.time()
        floor(server, tree, root / "floor.log", exported)
        rates["floor"] = args.files / (time.time() - start)
    finally:
        server.stop()
        shutil.rmtree(root)
    for name in ("script", "floor", "parser"):
        print("%-7s %8.0f files/s" % (name, rates[name]))
    print("parser: %.1f times the script, %.2f of the floor, %d MB peak memory" % (
        rates["parser"] / rates["script"], rates["parser"] / rates["floor"], memory // 1024))


if __name__ == "__main__":
    main()
