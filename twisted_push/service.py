"""The server as a Twisted service: the only place that knows everything."""

from __future__ import annotations

import atexit
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TextIO, cast

from attrs import evolve
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Service
from twisted.application.strports import service as listen_service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from twisted.web.client import Agent
from twisted.web.resource import Resource

from twisted_push.assembly import Assembly
from twisted_push.collector import Collector
from twisted_push.config import (
    SHORT_KEY,
    Config,
    check_endpoint,
    is_tcp,
    needing_restart,
    reloaded_site,
)
from twisted_push.configfile import read_config
from twisted_push.demo.settings import DemoSettings, add_demo, own_config
from twisted_push.demo.site import make_demo_site
from twisted_push.errors import ConfigErrors, EngineRefused
from twisted_push.node.context import software_version
from twisted_push.node.node import Node
from twisted_push.ops.logs import observer
from twisted_push.policy import Policy
from twisted_push.sharedport import SharedPorts
from twisted_push.stopping import OneStop
from twisted_push.systemd import Notifier
from twisted_push.transports.ports import FittedEndpoint
from twisted_push.transports.tree import Tree
from twisted_push.web import GuardedSite

__all__ = ["Options", "PushService", "makeService"]

OTHER_FILES = 100
"""Open files that are no connections of browsers: listeners, callbacks, logs."""

BACKLOG = 1024
"""Connections that may wait to be taken in: after a restart all pages come at once."""

LAST_MOMENT = 1.0
"""Seconds that clients have, at the end, for reading that they are sent away, and for going."""

_log = Logger()


class Options(UsageOptions):
    """The options of ``twistd push``. Raises UsageError with every fault of the configuration."""

    synopsis = "[options]"
    optParameters = (("config", "c", None, "The configuration file (TOML)"),)
    optFlags = (("demo", None, "Add the embedded demo CMS, on a loopback port of its own"),)

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen on this Twisted endpoint instead of those of the file; may be repeated."""
        try:
            self["listen"].append(check_endpoint(endpoint))
        except ValueError as error:
            raise UsageError(f"--listen {endpoint}: {error}") from None

    def postOptions(self) -> None:
        try:
            self["read"] = self._reader()
            config = self["read"]()
            self["demo_settings"] = add_demo(config) if self["demo"] else None
        except ConfigErrors as errors:
            raise UsageError(str(errors)) from None
        self["configuration"] = config

    def _reader(self) -> Callable[[], Config]:
        """Give what reads the configuration, at the start and at each reload."""
        path, listen = self["config"], tuple(self["listen"])
        if path is None and self["demo"]:
            own = own_config()
            return lambda: _with_listen(own, listen)
        return lambda: _with_listen(read_config(path), listen)


def _with_backlog(endpoint: str) -> str:
    """Give an endpoint at which many may connect at once, if it does not say how many.

    Beyond Twisted's 50 the kernel drops whoever comes; a browser tries again after a second.
    """
    kind = endpoint.removeprefix("haproxy:").partition(":")[0]
    if kind not in ("tcp", "tcp6", "ssl", "unix") or "backlog=" in endpoint:
        return endpoint
    return f"{endpoint}:backlog={BACKLOG}"


def _with_listen(config: Config, listen: Sequence[str]) -> Config:
    return evolve(config, listen=tuple(listen)) if listen else config


class PushService(Service):
    """Everything that runs: sites, endpoints, and how they begin and end.

    ``read`` gives the configuration anew (SIGHUP); it raises ConfigErrors. ``give_up`` is called
    before the reactor is stopped because the server cannot start.
    """

    name = "push"

    def __init__(
        self,
        config: Config,
        reactor: Any,
        *,
        read: Callable[[], Config],
        notifier: Notifier,
        demo: DemoSettings | None = None,
        log_observer: ILogObserver | None = None,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._give_up = give_up
        self._read = read
        self._notifier = notifier
        self._demo = demo
        self._log_observer = log_observer
        self.config = config
        self.assembly = Assembly(config, reactor)
        self.assembly.door.closed = "the server is starting"
        self.nodes = self.assembly.nodes
        self._ports = self._make_ports()
        self._collector = Collector(reactor, lambda: self.assembly.door.connections)
        self._one_stop = OneStop(reactor)
        self._watchdog = LoopingCall(notifier.alive)
        self._watchdog.clock = reactor

    # --- Where it listens --------------------------------------------------------------------

    def _make_ports(self) -> Sequence[tuple[str, Service]]:
        public, backend = self.assembly.public, self.assembly.backend
        ports = [(e, self._browsers_port(e, public)) for e in self.config.listen]
        ports += [(e, self._port(e, backend, self._reactor)) for e in self.config.backend_listen]
        if self._demo is not None:
            endpoint = f"tcp:{self._demo.demo_port}:interface=127.0.0.1"
            demo = _make_demo(self._demo, self._reactor)
            ports.append((endpoint, listen_service(endpoint, demo, self._reactor)))
        return ports

    def _browsers_port(self, endpoint: str, tree: Tree) -> StreamServerEndpointService:
        shares = self.config.reuse_port and is_tcp(endpoint)
        reactor: Any = SharedPorts(self._reactor) if shares else self._reactor
        return self._port(_with_backlog(endpoint), tree, reactor)

    def _port(self, endpoint: str, tree: Tree, reactor: Any) -> StreamServerEndpointService:
        site = self._site(tree.root)
        port = listen_service(endpoint, site, reactor)
        fast = self.assembly.fast
        take = None if fast is None else partial(fast.take, site=site, tree=tree)
        port.endpoint = FittedEndpoint(port.endpoint, self.config.limits, take)
        return port

    def _site(self, tree: Resource) -> GuardedSite:
        return GuardedSite(tree, self._reactor, lambda: self.config.limits.max_body_size)

    # --- The beginning -----------------------------------------------------------------------

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and have it log as the configuration says."""
        if self._log_observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log_observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Bind every port. Raises SystemExit, with one line, where that cannot be."""
        super().privilegedStartService()
        _raise_file_limit(self.config.limits.max_connections)
        for endpoint, port in self._ports:
            try:
                port.privilegedStartService()
            except CannotListenError as error:
                why = getattr(error.socketError, "strerror", None) or error.socketError
                raise SystemExit(f"twisted-push: cannot listen on {endpoint}: {why}") from None
            except IndexError:
                raise SystemExit(f"twisted-push: systemd passed no socket for {endpoint}") from None

    def startService(self) -> None:
        super().startService()
        for _, port in self._ports:
            port.startService()
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._one_stop.take_signals()
        Deferred.fromCoroutine(self._start()).addErrback(self._failed)

    async def _start(self) -> None:
        for node in self.nodes:
            await node.start()
            _warn_of_short_keys(node)
        self.assembly.door.closed = ""
        self._collector.start()
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        if self._notifier.watchdog is not None:
            self._watchdog.start(self._notifier.watchdog / 2)
        self._notifier.ready()
        if why := self.assembly.slow_because:
            _log.warn("no fast path, because these versions differ: {why}", why=why)
        _log.info(
            "twisted_push {version} serves {sites} on {endpoints}",
            version=software_version(),
            sites=", ".join(self.config.sites),
            endpoints=", ".join(endpoint for endpoint, _ in self._ports),
        )
        if self._demo is not None:
            _log.info("the demo is ready: open {url} in a browser", url=self._demo.url)

    def _failed(self, failure: Failure) -> None:
        if failure.check(EngineRefused):
            _log.critical("the server cannot start: {why}", why=failure.value)
        else:
            _log.failure("the server could not start", failure)
        self._give_up()
        self._one_stop.stop()

    # --- Reload ------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read keys, origins, namespaces and limits anew; a bad file changes nothing."""
        try:
            config = self._read()
            if self._demo is not None:
                config = evolve(config, sites={**config.sites, **self.config.sites})
        except ConfigErrors as errors:
            faults = "; ".join(map(str, errors.errors))
            _log.error("reload refused, the old configuration stays: {faults}", faults=faults)
            self._notifier.reloaded("reload refused: the configuration has faults")
            return
        for path in needing_restart(self.config, config):
            _log.warn("reload: {path} changed, which needs a restart", path=path)
        self._apply(config)
        _log.info("reloaded: keys, origins, namespaces and limits are those of the file now")
        self._notifier.reloaded("reloaded")

    def _apply(self, config: Config) -> None:
        self.config = evolve(
            self.config, limits=config.limits, trusted_proxies=config.trusted_proxies
        )
        for node in self.nodes:
            site = reloaded_site(node.context.policy.site, config)
            node.reconfigure(Policy(site, config.limits))
        self.assembly.apply(self.config)

    # --- The end -----------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Stop listening, tell clients to come back, finish; fires when all is done."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._notifier.stopping()
        self.assembly.door.closed = "the server is stopping"
        await DeferredList([Deferred.fromCoroutine(_closed(port)) for _, port in self._ports])
        seconds = self.config.limits.shutdown_timeout
        draining = [Deferred.fromCoroutine(node.drain(seconds)) for node in self.nodes]
        await DeferredList(draining, consumeErrors=True)
        for node in self.nodes:
            await node.stop()
        await self._see_off()
        self._collector.stop()
        if self._watchdog.running:
            self._watchdog.stop()

    async def _see_off(self) -> None:
        """Wait until the clients are gone, or the last moment is over.

        What they were told last is not written before a later turn of the reactor.
        """
        end = self._reactor.seconds() + LAST_MOMENT
        while self.assembly.door.connections and self._reactor.seconds() < end:
            await deferLater(self._reactor, LAST_MOMENT / 20)


def _warn_of_short_keys(node: Node) -> None:
    for key in node.context.policy.site.keys:
        if key.short:
            _log.warn(
                "{site}: the key {id} has fewer than {least} characters and may be guessed",
                site=node.context.name,
                id=key.id,
                least=SHORT_KEY,
            )


def _raise_file_limit(connections: int) -> None:
    """Allow this process as many open files as it may have, and say if those are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections + OTHER_FILES:
        _log.warn(
            "limits.max_connections is {connections}, but this process may open {files} files only",
            connections=connections,
            files=hard,
        )


async def _closed(port: Service) -> None:
    stopped = port.stopService()
    if stopped is not None:
        await stopped


def _make_demo(demo: DemoSettings, reactor: Any) -> Any:
    return make_demo_site(
        api_url=lambda: f"{demo.push_url}/api",
        api_key=demo.key,
        push_url=lambda: demo.push_url,
        agent=Agent(reactor),
        clock=reactor,
    )


def _log_file(options: Options) -> TextIO:
    """Give where twistd would log to: its option, or standard output in the foreground."""
    twistd = options.parent or {"nodaemon": True}
    name = twistd.get("logfile")
    if not name and not twistd.get("nodaemon"):
        name = "twistd.log"
    if not name or name == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return sys.stdout
    return cast("TextIO", LogFile.fromFullPath(name))


def makeService(options: Options) -> PushService:
    """Build the service of these options; nothing is opened yet."""
    from twisted.internet import reactor

    demo: DemoSettings | None = options["demo_settings"]
    config: Config = options["configuration"] if demo is None else demo.config
    return PushService(
        config,
        reactor,
        read=options["read"],
        notifier=Notifier.from_environment(os.environ),
        demo=demo,
        log_observer=observer(_log_file(options), config.log_format, config.log_level),
        give_up=_exit_with_failure,
    )


def _exit_with_failure() -> None:
    """Have this process end with the exit code 1: twistd itself gives 0 for every end."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    atexit.register(leave)
