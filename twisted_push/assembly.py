"""What a configuration is made into: the nodes of its sites, and the addresses they are at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.web.resource import Resource
from twisted.web.server import Request

from twisted_push.backend.api import Api
from twisted_push.backend.keys import Rates
from twisted_push.backend.nodejs import NodejsRoutes
from twisted_push.cms.gate import make_gate
from twisted_push.config import Config, SiteConfig
from twisted_push.dialects.centrifugal import CentrifugalDialect
from twisted_push.dialects.nodejs import NodejsDialect
from twisted_push.engines.journal.journal import Journal
from twisted_push.engines.memory import MemoryEngine
from twisted_push.fairness import Scheduler, Share
from twisted_push.interfaces import ITransport
from twisted_push.node.context import Context, software_version
from twisted_push.node.mirrors import Mirror
from twisted_push.node.node import Node
from twisted_push.ops.health import Health, Ready
from twisted_push.ops.metrics import Metrics
from twisted_push.policy import Policy
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.protocols.nodejs import NodejsCodec
from twisted_push.session import Session
from twisted_push.stats import SiteStats
from twisted_push.transports.clientscript import ClientScript, Script, ScriptAddresses
from twisted_push.transports.door import Door
from twisted_push.transports.echo import EchoReceiver
from twisted_push.transports.engineio import PING_FRAME, EngineIoEndpoint, message_frame
from twisted_push.transports.fast import find_fast_path
from twisted_push.transports.frames import deflated_text_frame, text_frame
from twisted_push.transports.stream import (
    HTTP_STREAM,
    POLL,
    SSE,
    AcceptStream,
    Connections,
    EmulationEndpoint,
    PollEndpoint,
    StreamEndpoint,
    event_frame,
    line_frame,
)
from twisted_push.transports.tree import Tree
from twisted_push.transports.websocket import (
    Accept,
    PushWebSocket,
    WebSocketEndpoint,
)

__all__ = ["Assembly", "link"]

CLIENT_SCRIPTS = (b"socket.io.js", b"socket.io.min.js", b"socket.io.slim.js")
"""Names under which Socket.IO's own servers have their script: pages ask for any of them."""


class Assembly:
    """All that serves requests. ``public`` and ``backend`` are what is served, by path.

    They are the same one unless the backend has endpoints of its own. ``fast`` is the fast path of
    the ports of browsers; if there can be none, ``slow_because`` says why.
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        self._reactor = reactor
        scheduler = Scheduler(reactor)
        self.nodes = [
            _make_node(site, config, reactor, scheduler.share()) for site in config.sites.values()
        ]
        link(self.nodes)
        self.door = Door(self.nodes, config)
        self.public = Tree()
        self.backend = Tree() if config.backend_listen else self.public
        self._endpoints: list[WebSocketEndpoint | EngineIoEndpoint] = []
        self.fast, self.slow_because = (
            find_fast_path(self.door, reactor) if config.fast_path else (None, "")
        )
        self._add_native(config.debug_echo)
        if config.socketio_path:
            self._add_socketio(config.socketio_path)
        self._add_backend(config.nodejs_path)
        for tree in {self.public, self.backend}:
            tree.mount("health", Health())
            tree.mount("ready", Ready(self.nodes, lambda: self.door.closed))

    def apply(self, config: Config) -> None:
        """Take the limits and proxies of a configuration that was read again."""
        self.door.apply(config)
        link(self.nodes)
        if self.fast is not None:
            self.fast.apply_limits()
        for endpoint in self._endpoints:
            endpoint.apply_limits()

    # --- Browsers ----------------------------------------------------------------------------

    def _add_native(self, debug_echo: bool) -> None:
        dialects = {node: CentrifugalDialect(node) for node in self.nodes}

        def accept_with(codec: CentrifugalCodec) -> Callable[[Node, ITransport], Session]:
            return lambda node, transport: node.accept(transport, codec, dialects[node])

        self._add_streams(accept_with)
        self._add_scripts()
        plain, packed = CentrifugalCodec(text_frame), CentrifugalCodec(deflated_text_frame)

        def accept(node: Node, socket: ITransport) -> Session:
            packs = cast("PushWebSocket", socket).compresses
            return accept_with(packed if packs else plain)(node, socket)

        self._add_websocket("/connection/websocket", accept)
        if debug_echo:
            self._add_websocket("/debug/echo", lambda _, peer: EchoReceiver(peer))

    def _add_websocket(self, path: str, accept: Accept) -> None:
        compress = self.door.config.compression
        endpoint = WebSocketEndpoint(self.door, accept, self._reactor, compress=compress)
        self._endpoints.append(endpoint)
        self.public.open_at(path, endpoint)
        self.public.mount(path, endpoint)

    def _add_streams(self, accept_with: Callable[[CentrifugalCodec], AcceptStream]) -> None:
        """Add what clients fall back to where WebSocket does not get through."""
        connections: Connections = {}
        for kind, frame in ((SSE, event_frame), (HTTP_STREAM, line_frame)):
            accept = accept_with(CentrifugalCodec(frame, tells_end=True))
            stream = StreamEndpoint(kind, self.door, accept, connections, self._reactor)
            self.public.mount(f"/connection/{kind.transport}", stream)
        accept = accept_with(CentrifugalCodec(line_frame, tells_end=True))
        polls = PollEndpoint(self.door, accept, connections, self._reactor)
        self.public.mount(f"/connection/{POLL}", polls)
        self.public.mount("/emulation", EmulationEndpoint(self.door, connections))

    def _add_scripts(self) -> None:
        """Add this server's own client, for script elements and as a module."""
        scripts = {"script": Script("push.js"), "module": Script("push.mjs")}
        for script in scripts.values():
            self.public.mount(script.name, ClientScript(script))
        addresses = ScriptAddresses(software_version(), scripts)
        self.public.mount("push.json", addresses)

    def _add_socketio(self, path: str) -> None:
        """Add Socket.IO: the revisions 4 and 5 of its protocol go with Engine.IO 3 and 4."""
        codecs = {3: NodejsCodec(message_frame, None), 4: NodejsCodec(message_frame, PING_FRAME)}
        dialects = {
            (node, version): NodejsDialect(node, version + 1)
            for node in self.nodes
            for version in codecs
        }

        def accept(node: Node, transport: ITransport, version: int) -> Session:
            dialect = dialects[node, version]
            session = node.accept(transport, codecs[version], dialect)
            dialect.opened(session)
            return session

        endpoint = EngineIoEndpoint(self.door, accept, self._reactor)
        self._endpoints.append(endpoint)
        for each in (path, f"{path}/"):
            self.public.open_at(each, endpoint)
        self.public.mount(path, _SocketIo(endpoint))

    # --- The CMS -----------------------------------------------------------------------------

    def _add_backend(self, nodejs_path: str) -> None:
        rates = Rates()
        self.backend.mount_leaf("api", Api(self.nodes, self._reactor, rates))
        self.backend.mount("metrics", Metrics(self.nodes))
        if nodejs_path:
            self.backend.mount_leaf(nodejs_path, NodejsRoutes(self.nodes, self._reactor, rates))


class _SocketIo(Resource):
    """An endpoint, with and without a slash at the end, and the client's script beside it."""

    def __init__(self, endpoint: EngineIoEndpoint) -> None:
        super().__init__()
        self._endpoint = endpoint
        self.putChild(b"", endpoint)
        script = ClientScript(Script("socket.io.js"))
        for name in CLIENT_SCRIPTS:
            self.putChild(name, script)

    def render(self, request: Request) -> bytes | int:
        return self._endpoint.render(request)


def link(nodes: Sequence[Node]) -> None:
    """Have sites shown on those that watch them, and nowhere else."""
    for node in nodes:
        name = node.context.name
        node.backend.mirrors.set(
            Mirror(watcher.context.name, mirror.prefix, mirror.channel, watcher.backend.publish)
            for watcher in nodes
            if watcher is not node
            for mirror in watcher.context.policy.site.mirrors
            if name in mirror.sites or "*" in mirror.sites
        )


def _make_node(site: SiteConfig, config: Config, reactor: Any, share: Share) -> Node:
    engine = MemoryEngine(reactor, _make_journal(site, config, reactor))
    stats = SiteStats()
    gate = make_gate(site, engine, reactor, stats)
    policy = Policy(site, config.limits)
    return Node(Context(site.name, policy, engine, gate, reactor, stats, share))


def _make_journal(site: SiteConfig, config: Config, reactor: Any) -> Journal | None:
    """Make the journal of a site: in a directory of its own, which has the site's name."""
    if not config.state_dir:
        return None
    return Journal(str(Path(config.state_dir, site.name)), config.durability, reactor)
