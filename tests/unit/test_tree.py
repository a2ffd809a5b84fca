"""What is served by path: as twisted.web finds it, and for those who read requests before it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.web.resource import Resource, getChildForRequest
from twisted.web.test.requesthelper import DummyRequest

from twisted_push.transports.head import Head, read_head
from twisted_push.transports.tree import Tree


class Leaf(Resource):
    isLeaf = True


def head_of(path: str) -> Head:
    data = f"GET {path} HTTP/1.1\r\nHost: push.test\r\n\r\n".encode()
    found = read_head(data, IPv4Address("TCP", "192.0.2.1", 1))
    assert found is not None
    return found[0]


@pytest.fixture
def tree() -> Tree:
    tree = Tree()
    tree.mount("/connection/websocket", Leaf())
    tree.mount("/connection/sse", Leaf())
    tree.mount("health", Leaf())
    tree.mount_leaf("api", Leaf())
    tree.mount_leaf("/push/drupal", Leaf())
    return tree


def child(tree: Tree, *names: bytes) -> Any:
    found: Any = tree.root
    for name in names:
        found = found.children[name]
    return found


@pytest.mark.parametrize(
    ("path", "names", "postpath"),
    [
        ("/api/publish", [b"api"], [b"publish"]),
        ("/api/a//b/", [b"api"], [b"a", b"", b"b", b""]),
        ("/api/", [b"api"], [b""]),
        ("/api/publish?a=%20/b", [b"api"], [b"publish"]),
        ("/push/drupal/user/kick/3", [b"push", b"drupal"], [b"user", b"kick", b"3"]),
    ],
)
def test_leaves(tree: Tree, path: str, names: list[bytes], postpath: list[bytes]) -> None:
    """They are found as twisted.web finds them, with the same rest of the path."""
    leaf = child(tree, *names)
    assert tree.find_leaf(head_of(path)) == (leaf, postpath)
    request = DummyRequest(path.partition("?")[0].encode()[1:].split(b"/"))
    assert getChildForRequest(tree.root, request) is leaf
    assert request.postpath == postpath


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/api", "/apis/publish", "/x/api/publish", "//api/publish", "/API/publish"),
        *("/api/%70ublish", "/%61pi/publish", "/push", "/push/", "/push/drupal", "/push/drupals/x"),
        *("/drupal/x", "/health", "/health/", "/connection/sse", "/connection/websocket/"),
    ],
)
def test_what_is_left_to_twisted_web(tree: Tree, path: str) -> None:
    assert tree.find_leaf(head_of(path)) is None


def test_what_is_mounted_side_by_side(tree: Tree) -> None:
    assert set(child(tree, b"connection").children) == {b"websocket", b"sse"}
    assert set(tree.root.children) == {b"connection", b"health", b"api", b"push"}


def test_endpoints() -> None:
    """They are at one path, and say themselves whether they let in a request."""

    class Endpoint:
        let_in: Any = object()

        def opening(self, head: Head) -> Any:
            return self.let_in

    tree, endpoint = Tree(), Endpoint()
    tree.open_at("/ws", endpoint)
    assert tree.find_opening(head_of("/ws?a=b")) is endpoint.let_in
    for path in ("/ws/", "/ws/x", "/w", "/"):
        assert tree.find_opening(head_of(path)) is None
    endpoint.let_in = None
    assert tree.find_opening(head_of("/ws")) is None
