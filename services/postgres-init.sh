#!/bin/sh
# Runs once, in the Postgres container, when its data folder is new: what `add_databases` of postgres_server.py does.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$STAR_FEAST_PASSWORD" --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE feast LOGIN PASSWORD :'password';
CREATE DATABASE feast OWNER feast;
REVOKE CONNECT ON DATABASE star FROM PUBLIC;
SQL
