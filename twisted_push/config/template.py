"""The commented file that ``twisted-push init`` writes."""

from __future__ import annotations

import secrets
from string import Template

__all__ = ["template"]

_SECRET_BYTES = 32

_TEXT = Template("""\
# The configuration of a twisted_push server (TOML).
#
# A line that begins with "# name = value" shows a default; remove the "# " to change it. Each
# setting can also come from the environment: TWISTED_PUSH_ and the path in capitals with two
# underscores between the parts, such as TWISTED_PUSH_LIMITS__PING_INTERVAL=20s.
#
# This file holds secrets. Keep it readable for the server alone, or move them to files of their
# own with key_file and token_secret_file. `twisted-push check-config` tells whether it is valid.

# Where browsers connect: Twisted endpoints (tcp:, ssl:, tls:, unix:, systemd:, haproxy:...).
listen = ["tcp:8080:interface=127.0.0.1"]

# Where the CMS posts its messages, and for health and metrics. Empty: the same as listen.
# backend_listen = ["tcp:8081:interface=127.0.0.1"]

# Whether several servers on this machine may listen there, and share the connections.
# reuse_port = false

# Addresses or networks of reverse proxies whose X-Forwarded-For is believed.
# trusted_proxies = ["127.0.0.1", "::1"]

# Where history, grants, logouts and the like are kept over a restart. Empty: they are not. A
# directory of the server's own; a relative name is beside this file.
# state_dir = "/var/lib/twisted-push"
# durability = "commit"            # a publish is answered when it is: commit: on the disk; write:
                                   # with the operating system; none: in memory

# log_level = "info"               # debug | info | warn | error | critical
# log_format = "text"              # text | json

# Addresses for Drupal's nodejs module. Empty: not there.
# nodejs_path = "/nodejs/"         # where the module posts
# socketio_path = "/socket.io"     # where its pages connect

# compression = false              # of messages to WebSocket clients; see the manual for its cost

[limits]                           # of the whole process
# max_connections = 19000          # each is an open file: see also `ulimit -n`
# max_connections_per_address = 0  # 0: no limit
# max_message_size = "64KiB"       # from a client
# max_body_size = "1MiB"           # of a request by the CMS
# max_outbox = "1MiB"              # unsent bytes per client, then it is closed as slow
# stale_close_delay = "10s"        # from the connection to an accepted connect
# ping_interval = "25s"
# pong_timeout = "10s"
# shutdown_timeout = "20s"         # clients are told to come back, spread over this time
# send_buffer = "64KiB"            # what the kernel keeps of what is sent to a client
# unacknowledged_timeout = "30s"   # then a client whose network acknowledges nothing is dropped
# max_commands_per_second = 100    # per client, with bursts of twice as many; 0: no limit
# max_channels_per_client = 128
# max_pending_commands = 256
# max_content_tokens = 100000      # per site
# recovery_max_publication_limit = 300  # what a client recovers, or asks of a history, at once

[sites.default]
# The key with which the CMS posts messages (X-API-Key, or the service key of Drupal's module).
key = "$key"

# The secret (HS256) of the JSON Web Tokens that the CMS gives to its pages.
token_secret = "$token_secret"

# Names under which browsers reach this site. Needed once there are several sites.
# hosts = ["www.example.org"]

# Origins of pages that may connect. Empty: only pages of the same host as the push server's.
# allowed_origins = ["https://www.example.org"]

# broadcast_channel = "broadcast"  # everybody is in it
# user_channel = ""                # e.g. "user:{user}": every client of a user is in it
# anonymous = false                # let clients in without a token
# content_token_ttl = "1h"         # how long a content token waits for its page

# How the CMS is asked who a client is, and what it may do. Without a url only JSON Web Tokens let
# clients in.
[sites.default.callback]
# url = "http://127.0.0.1/nodejs/message"
# dialect = "nodejs"               # nodejs: Drupal's nodejs module; connect: JSON, see the manual
# forward_headers = ["Cookie"]     # of the browser's request, for the dialect connect
# refresh_url = ""                 # is asked before an expire_at is over. Empty: url is asked again
# subscribe_url = ""               # dialect connect: is asked where client_subscribe = "cms"
# sub_refresh_url = ""             # may a client keep such a channel? Empty: subscribe_url is asked
# publish_url = ""                 # is asked where client_publish = "cms"
# rpc_url = ""                     # answers the calls of clients; empty: there are none
# timeout = "5s"
# max_concurrent = 20
# max_waiting = 10000
# grant_ttl = "1h"                 # how long an answer without an expiry of its own is kept
# serve_stale = "10m"              # how long past that it still serves while the CMS fails
# basic_auth_file = ""             # a file with user:password
# verify_tls = true
# max_answer_size = "256KiB"
# client_messages = false          # let clients send messages to the CMS (dialect nodejs)
# client_messages_per_minute = 30  # per client

# Who is online: when a user counts as gone, and where the CMS is told of it. Empty: nowhere.
[sites.default.presence]
# online_grace = "2s"              # a page change is no departure
# hook_url = ""
# hook_secret_file = ""            # what requests to the hook are signed with

# Bounds of this site, besides those of the process. 0: no limit.
[sites.default.limits]
# max_connections = 0
# max_connections_per_user = 0
# max_requests_per_second = 0      # of each key

# Rules for channels, by the beginning of their names; the first that fits counts. A channel that
# none fits keeps no history, and clients may not ask for it.
#
# [[sites.default.namespaces]]
# prefix = "chat:"
# history_size = 100
# history_ttl = "10m"
# recover = true                   # give clients that come back what they missed
# recovery_mode = "stream"         # stream: all of it; cache: the latest publication alone
# presence = false
# join_leave = false
# client_subscribe = "deny"        # deny | token | cms | anyone
# client_publish = "deny"          # deny | cms | subscriber | anyone
# client_history = false
# client_presence = false
""")


def template() -> str:
    """Give the text of a new configuration file, with secrets that were made just now."""
    return _TEXT.substitute(
        key=secrets.token_urlsafe(_SECRET_BYTES),
        token_secret=secrets.token_urlsafe(_SECRET_BYTES),
    )
