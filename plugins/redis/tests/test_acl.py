"""Lines of several sources are given to one user, one after the other."""

from __future__ import annotations

import shlex

import redis
from taskq_exporter_redis import acl_line


def test_lines_add_up_and_their_rights_stay_apart(redis_url: str) -> None:
    lines = [
        acl_line(("~a:*", "-@all", "+get"), ("~lists:*", "-@all", "+llen")),
        acl_line(("~b c\\*:*", "&events/*", "-@all", "+hget", "+psubscribe")),
    ]
    allowed = [("GET", "a:1"), ("LLEN", "lists:1"), ("HGET", "b c*:1", "f"), ("PSUBSCRIBE", "events/*")]
    refused = [("GET", "b c*:1"), ("LLEN", "a:1"), ("HGET", "a:1", "f"), ("SET", "a:1", "x"), ("PSUBSCRIBE", "*")]
    with redis.Redis.from_url(redis_url) as client:
        for line in [*lines, lines[0]]:
            client.execute_command(*shlex.split(line, comments=True))
        for command in allowed:
            assert client.execute_command("ACL", "DRYRUN", "taskq_exporter", *command) == b"OK", command
        for command in refused:
            assert client.execute_command("ACL", "DRYRUN", "taskq_exporter", *command) != b"OK", command
        client.execute_command("ACL", "DELUSER", "taskq_exporter")
