#!/bin/sh
# Database, account and option file for modsec-parser, as root, on the machine with the database.
set -eu

password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
mysql <<SQL
create database if not exists modsec_logs character set utf8mb4;
create user if not exists waf@localhost;
alter user waf@localhost identified by '$password';
grant all on modsec_logs.* to waf@localhost;
SQL
# What defaults-file in config.toml names; root's alone.
umask 077
mkdir -p /etc/modsec-tools
chmod 755 /etc/modsec-tools
printf '[client]\npassword = %s\n' "$password" > /etc/modsec-tools/my.cnf
