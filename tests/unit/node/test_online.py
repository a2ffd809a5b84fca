"""Who is online: told once, to those who may see it, and to the CMS."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

import pytest
import pytest_twisted
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.drupal import Drupal
from tests.unit.cms.support import NOW, MemoryCms, Outcome
from tests.unit.node.support import Tab, World, sign
from tests.unit.nodejs_support import NodejsTab, NodejsWorld, run
from twisted_push.cms.reports import LONGEST_DELAY
from twisted_push.config import PresenceConfig
from twisted_push.errors import Disconnect
from twisted_push.node import online as online_module
from twisted_push.node.online import Online
from twisted_push.node.targets import Target

GRACE = 2.0
TICK = 0.25
QUIET = {"ping_interval": 1e6, "pong_timeout": 1e6}
"""Nobody answers pings here."""


class Site(NodejsWorld):
    """A site whose Drupal keeps a table of who is online, and says who sees whom."""

    cms_class: type[MemoryCms] = Drupal

    def __init__(self, grace: float = GRACE, **options: Any) -> None:
        super().__init__(limits=QUIET, presence=PresenceConfig(online_grace=grace), **options)

    @property
    def cms_table(self) -> Drupal:
        return cast("Drupal", self.cms)

    @property
    def online(self) -> Online:
        return self.node.online

    @property
    def reports_left(self) -> dict[str, Any]:
        """What the reports to the CMS still keep."""
        left = self.leftovers().items()
        return {name: value for name, value in left if name.startswith("reports.")}

    def sees(self, user: str, *watchers: str) -> None:
        """Have the CMS say, from now on, that these users may see one."""
        self.cms_table.lists[user] = list(watchers)

    def tab_of(self, token: str, *, kind: str = "nodejs") -> Page:
        """Give a tab in one of two dialects; the user is what is before the dash of its token."""
        tab = self.connected(token=token) if kind == "centrifugal" else self.page_of(token)
        return Page(tab)

    def begin(self, token: str, kind: str) -> Tab | NodejsTab:
        """Give a tab that presented itself and has no answer yet."""
        if kind == "centrifugal":
            tab = self.tab()
            tab.send("connect", token=token)
            return tab
        page = self.page()
        page.authenticate(token)
        return page

    def pass_grace(self) -> None:
        self.advance(GRACE)


@define(eq=False)
class Page:
    """A tab of either dialect, and the presence notifications that it got."""

    tab: Tab | NodejsTab

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(each["uid"], each["event"]) for each in self._notifications()]

    def _notifications(self) -> Iterable[dict[str, str]]:
        for frame in self.tab.transport.sent:
            message = _message_in(frame)
            if "presenceNotification" in message:
                assert list(message) == ["presenceNotification"]
                yield message["presenceNotification"]

    @property
    def first(self) -> list[list[str]]:
        """Whom it was told of when it connected, each time that it was."""
        found = []
        for frame in self.tab.transport.sent:
            message = _message_in(frame)
            if "presenceState" in message:
                assert list(message) == ["presenceState"]
                found.append(message["presenceState"]["online"])
        return found

    def leave(self) -> None:
        self.tab.leave()


def _message_in(frame: bytes) -> dict[str, Any]:
    """Give the object of a message, whatever the dialect; an empty one for other frames."""
    if frame.startswith(b"42") or frame.startswith(b"2["):
        name, message = json.loads(frame[frame.index(b"[") :])
        assert name == "message"
    elif frame.startswith(b"{"):
        message = json.loads(frame).get("push", {}).get("message", {}).get("data", {})
    else:
        message = {}
    return cast("dict[str, Any]", message)


@pytest_twisted.async_yield_fixture
async def make_site() -> Any:
    """Make sites; of none may anything be left when its clients are gone."""
    made: list[Site] = []

    async def make(**options: Any) -> Site:
        site = Site(**options)
        await site.start()
        made.append(site)
        return site

    yield make
    for site in made:
        site.engine.hold.clear()
        await site.end()


Sites = Any
KINDS = ("nodejs", "centrifugal")


# --- Coming and going ------------------------------------------------------------------------


async def test_the_frames_of_both_dialects(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    pages = [site.tab_of("2-nodejs"), site.tab_of("2-other", kind="centrifugal")]
    site.tab_of("3")
    assert [page.tab.transport.sent[-1] for page in pages] == [
        b'2["message",{"presenceNotification":{"uid":"3","event":"online"}}]',
        b'{"push":{"message":{"data":{"presenceNotification":{"uid":"3","event":"online"}}}}}',
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_who_may_see_it_is_told_that_a_user_comes_and_goes(
    make_site: Sites, kind: str
) -> None:
    site = await make_site()
    site.sees("3", "2")
    watcher, stranger = site.tab_of("2", kind=kind), site.tab_of("4", kind=kind)
    page = site.tab_of("3", kind=kind)
    assert watcher.told == [("3", "online")]
    page.leave()
    site.advance(GRACE - TICK)
    assert watcher.told == [("3", "online")]
    site.advance(TICK)
    assert watcher.told == [("3", "online"), ("3", "offline")]
    site.advance(100)
    assert len(watcher.told) == 2
    assert stranger.told == page.told == []


async def test_every_tab_of_a_watcher_is_told_with_one_frame_of_a_codec(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2", "4")
    pages = [site.tab_of("2-a"), site.tab_of("2-b"), site.tab_of("4")]
    other = site.tab_of("2-c", kind="centrifugal")
    site.tab_of("3")
    assert [page.told for page in (*pages, other)] == [[("3", "online")]] * 4
    assert len({id(page.tab.transport.sent[-1]) for page in pages}) == 1


async def test_a_second_tab_is_no_news_and_the_last_one_counts(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    watcher = site.tab_of("2")
    first, second = site.tab_of("3-a"), site.tab_of("3-b", kind="centrifugal")
    assert site.online.count() == 2
    first.leave()
    site.advance(60)
    assert watcher.told == [("3", "online")]
    assert site.online.is_online("3")
    second.leave()
    site.pass_grace()
    assert watcher.told == [("3", "online"), ("3", "offline")]
    assert not site.online.is_online("3")


async def test_a_page_change_is_no_departure(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    watcher, page = site.tab_of("2"), site.tab_of("3")
    for _ in range(5):
        page.leave()
        site.advance(GRACE - TICK)
        assert site.online.is_online("3")
        page = site.tab_of("3")
        site.advance(TICK)
    site.advance(60)
    assert watcher.told == [("3", "online")]
    assert site.cms_table.told == [("2", "online"), ("3", "online")]


async def test_the_grace_begins_with_each_departure(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    watcher, page = site.tab_of("2"), site.tab_of("3")
    page.leave()
    site.advance(1.5)
    site.tab_of("3").leave()
    site.advance(1.75)
    assert watcher.told == [("3", "online")]
    site.advance(TICK)
    assert watcher.told == [("3", "online"), ("3", "offline")]


async def test_one_who_comes_after_the_grace_is_news_again(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    watcher = site.tab_of("2")
    for _ in range(2):
        site.tab_of("3").leave()
        site.pass_grace()
    assert watcher.told == [("3", "online"), ("3", "offline")] * 2


@pytest.mark.parametrize("grace", [0.0, 10.0])
async def test_the_grace_is_a_setting(make_site: Sites, grace: float) -> None:
    site = await make_site(grace=grace)
    site.tab_of("3").leave()
    assert site.online.is_online("3")
    site.advance(max(0.0, grace - TICK))
    assert site.online.is_online("3")
    site.advance(TICK)
    assert not site.online.is_online("3")


async def test_a_logout_is_a_departure(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    watcher = site.tab_of("2")
    site.tab_of("3")
    run(site.node.backend.logout(user="3"))
    site.pass_grace()
    assert watcher.told == [("3", "online"), ("3", "offline")]


async def test_the_anonymous_user_is_never_online(make_site: Sites) -> None:
    site = await make_site()
    site.sees("0", "2", "0")
    site.sees("2", "0")
    anonymous = site.tab_of("0-a")
    watcher = site.tab_of("2")
    other = site.tab_of("0-b")
    for page in (anonymous, other, watcher):
        page.leave()
        site.pass_grace()
        assert not site.online.is_online("")
    assert anonymous.told == other.told == watcher.told == []
    assert site.cms_table.told == [("2", "online"), ("2", "offline")]


async def test_one_who_was_not_let_in_was_never_online(make_site: Sites) -> None:
    site = await make_site()
    site.engine.hold.add("overlays")
    page = site.page()
    page.authenticate("3")
    assert page.session.user == "3"
    assert not site.online.is_online("3")
    page.leave()
    site.pass_grace()
    assert site.cms_table.told == []


async def test_one_who_was_not_let_in_does_not_stretch_the_grace(make_site: Sites) -> None:
    site = await make_site()
    site.tab_of("3").leave()
    site.engine.hold.add("overlays")
    page = site.begin("3", "nodejs")
    site.advance(GRACE - TICK)
    page.leave()
    site.advance(TICK)
    assert not site.online.is_online("3")


@pytest.mark.parametrize("uid", ["007", "alice", "18446744073709551616", 'a"b', "é"])
async def test_a_uid_is_text_as_the_cms_gave_it(make_site: Sites, uid: str) -> None:
    site = await make_site()
    site.sees(uid, "2")
    watchers = [site.tab_of("2", kind=kind) for kind in KINDS]
    site.tab_of(uid).leave()
    site.pass_grace()
    for watcher in watchers:
        assert watcher.told == [(uid, "online"), (uid, "offline")]
    assert site.cms_table.told[1:] == [(uid, "online"), (uid, "offline")]


# --- Who is told -----------------------------------------------------------------------------


async def test_a_watcher_who_comes_later_is_told_of_what_happens_then(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    page = site.tab_of("3")
    watcher = site.tab_of("2")
    assert watcher.told == []  # As with the server that Drupal's module came with.
    page.leave()
    site.pass_grace()
    assert watcher.told == [("3", "offline")]


async def test_a_watcher_within_their_own_grace_is_not_here(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    gone = site.tab_of("2-a")
    gone.leave()
    site.tab_of("3")
    assert gone.tab.transport.ignored == 0
    assert gone.told == site.tab_of("2-b").told == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_watcher_who_connects_is_first_told_that(make_site: Sites, kind: str) -> None:
    site = await make_site()
    site.sees("3", "2")
    site.engine.hold.add("overlays")
    tab = site.begin("2", kind)
    before = len(tab.transport.sent)
    site.engine.hold.clear()
    page = site.tab_of("3")
    assert len(tab.transport.sent) == before
    site.engine.release()
    watcher = Page(tab)
    first = [["3"]] if kind == "centrifugal" else []
    assert len(tab.transport.sent) == before + 1 + len(first)
    assert (watcher.first, watcher.told) == (first, [])
    page.leave()
    site.pass_grace()
    assert watcher.told == [("3", "offline")]


async def test_nobody_is_told_of_themselves(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "3", "2")
    watcher = site.tab_of("2")
    pages = [site.tab_of("3-a"), site.tab_of("3-b")]
    for page in pages:
        page.leave()
    site.pass_grace()
    assert watcher.told == [("3", "online"), ("3", "offline")]
    assert [page.told for page in pages] == [[], []]


async def test_a_watcher_who_cannot_keep_up_does_not_keep_the_others(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2", "4")
    slow, watcher = site.tab_of("2"), site.tab_of("4")
    slow.tab.session.pause()
    slow.tab.session.deliver(b" " * site.node.max_outbox)
    page = site.tab_of("3")
    site.advance(TICK)
    assert slow.tab.code == 3008
    page.leave()
    site.pass_grace()
    assert watcher.told == [("3", "online"), ("3", "offline")]


async def test_several_who_leave_at_once_and_watch_each_other(make_site: Sites) -> None:
    site = await make_site()
    everybody = [str(uid) for uid in range(1, 6)]
    for uid in everybody:
        site.sees(uid, *everybody)
    pages = [site.tab_of(uid) for uid in everybody]
    for page in pages[:-1]:
        page.leave()
    site.pass_grace()
    assert sorted(pages[-1].told) == [(uid, "offline") for uid in everybody[:-1]]
    assert site.online.count() == 1


# --- Who is here when one comes --------------------------------------------------------------


async def test_a_client_is_first_told_who_is_here(make_site: Sites) -> None:
    site = await make_site()
    for user in ("5", "3", "4"):
        site.sees(user, "2", user)
    for token in ("3-a", "3-b", "5"):
        site.tab_of(token)
    site.tab_of("4").leave()
    watcher = site.tab_of("2", kind="centrifugal")
    frames = [json.loads(frame) for frame in watcher.tab.transport.sent]
    assert list(frames[0]) == ["id", "connect"]
    assert frames[1:] == [
        {"push": {"message": {"data": {"presenceState": {"online": ["3", "4", "5"]}}}}}
    ]
    site.pass_grace()
    assert watcher.told == [("4", "offline")]
    assert site.tab_of("2-b", kind="centrifugal").first == [["3", "5"]]
    assert site.tab_of("3-c", kind="centrifugal").first == []


async def test_one_who_sees_nobody_is_told_nothing(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    site.tab_of("4")
    watcher = site.tab_of("2", kind="centrifugal")
    assert watcher.first == []
    page = site.tab_of("3")
    await site.online.see("3", frozenset())
    assert site.tab_of("2-b", kind="centrifugal").first == []
    page.leave()


async def test_the_page_of_drupal_is_told_of_changes_alone(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    site.tab_of("3")
    watcher = site.tab_of("2")
    assert (watcher.first, watcher.told) == ([], [])


async def test_of_very_many_a_client_is_told_the_number(
    make_site: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_module, "MAX_FIRST", 3)
    site = await make_site()
    for number in range(5, 10):
        site.sees(str(number), "2")
        site.tab_of(str(number))
    watcher = site.tab_of("2", kind="centrifugal")
    [state] = [
        _message_in(frame)["presenceState"]
        for frame in watcher.tab.transport.sent
        if "presenceState" in _message_in(frame)
    ]
    assert state["more"] == 2
    assert len(state["online"]) == 3
    assert state["online"] == sorted(state["online"])


async def test_nobody_is_let_see_as_the_anonymous_user(make_site: Sites) -> None:
    site = await make_site()
    page = site.tab_of("3")
    await site.online.see("3", frozenset({"", "2"}))
    anonymous = site.tab_of("0-a", kind="centrifugal")
    assert anonymous.first == []
    page.leave()
    site.pass_grace()
    assert anonymous.told == []


# --- Who may see changes ---------------------------------------------------------------------


async def test_the_cms_changes_who_sees_a_user(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    old, new = site.tab_of("2"), site.tab_of("4")
    page = site.tab_of("3")
    await site.online.see("3", frozenset({"4"}))
    assert old.told == [("3", "online"), ("3", "offline")]
    assert new.told == [("3", "online")]
    await site.online.see("3", frozenset({"4"}))
    page.leave()
    site.pass_grace()
    assert old.told == [("3", "online"), ("3", "offline")]
    assert new.told == [("3", "online"), ("3", "offline")]


async def test_the_last_word_of_the_cms_counts(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    old, new = site.tab_of("2"), site.tab_of("4")
    pages = [site.tab_of("3-a")]
    await site.online.see("3", frozenset())
    await site.online.see("3", frozenset({"4"}))
    pages.append(site.tab_of("3-b"))  # What was asked at the same moment may be older.
    assert (old.told, new.told) == ([("3", "online"), ("3", "offline")], [("3", "online")])
    for page in pages:
        page.leave()
    site.pass_grace()
    assert old.told == new.told == [("3", "online"), ("3", "offline")]


async def test_it_may_change_within_the_grace(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    old, new = site.tab_of("2"), site.tab_of("4")
    site.tab_of("3").leave()
    await site.online.see("3", frozenset({"4"}))
    assert (old.told, new.told) == ([("3", "online"), ("3", "offline")], [("3", "online")])
    site.pass_grace()
    assert old.told == new.told == [("3", "online"), ("3", "offline")]


async def test_nobody_sees_a_user_any_more(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    watcher, page = site.tab_of("2"), site.tab_of("3")
    await site.online.see("3", frozenset())
    assert watcher.told == [("3", "online"), ("3", "offline")]
    page.leave()
    site.pass_grace()
    assert watcher.told == [("3", "online"), ("3", "offline")]


async def test_what_the_cms_says_of_one_who_is_not_online_is_kept(make_site: Sites) -> None:
    """The answer that lets the user in may be an older one."""
    site = await make_site()
    old, new = site.tab_of("2"), site.tab_of("4")
    site.sees("3", "2")
    site.tab_of("3").leave()
    site.pass_grace()
    assert old.told == [("3", "online"), ("3", "offline")]
    await site.online.see("3", frozenset({"4"}))
    assert site.online.count() == 2
    for _ in range(2):
        site.tab_of("3").leave()
        site.pass_grace()
    assert len([each for each in site.cms_table.asked if b"authenticate" in each.body]) == 3
    assert old.told == [("3", "online"), ("3", "offline")]
    assert new.told == [("3", "online"), ("3", "offline")] * 2


async def test_a_newer_answer_beats_what_was_kept(make_site: Sites) -> None:
    site = await make_site()
    old, new = site.tab_of("2"), site.tab_of("4")
    for user in ("3", ""):
        await site.online.see(user, frozenset({"2"}))
    site.advance(TICK)
    site.sees("3", "4")
    site.tab_of("3").leave()
    site.tab_of("0-a").leave()
    assert (old.told, new.told) == ([], [("3", "online")])
    site.pass_grace()


async def test_a_newer_grant_replaces_what_the_cms_said(make_site: Sites) -> None:
    site = await make_site()
    first, second, third = (site.tab_of(uid) for uid in ("2", "4", "5"))
    site.sees("3", "2")
    pages = [site.tab_of("3-a")]
    await site.online.see("3", frozenset({"4"}))
    site.advance(TICK)
    site.sees("3", "5")
    pages.append(site.tab_of("3-b"))
    assert first.told == second.told == [("3", "online"), ("3", "offline")]
    assert third.told == [("3", "online")]
    for page in pages:
        page.leave()
    site.pass_grace()
    assert first.told == second.told == third.told == [("3", "online"), ("3", "offline")]


async def test_a_grant_that_was_kept_does_not(make_site: Sites) -> None:
    site = await make_site()
    friend = site.tab_of("2")
    site.sees("3", "2")
    page = site.tab_of("3")
    site.advance(TICK)
    await site.online.see("3", frozenset())
    site.advance(TICK)
    page.leave()
    page = site.tab_of("3")
    assert len([each for each in site.cms_table.asked if b"authenticate" in each.body]) == 2
    page.leave()
    site.pass_grace()
    assert friend.told == [("3", "online"), ("3", "offline")]  # By the word of the CMS.


async def test_a_grant_that_is_refreshed_says_who_sees_its_user(make_site: Sites) -> None:
    site = await make_site()
    old, new = site.tab_of("2"), site.tab_of("4")
    site.sees("3", "2")
    tab = site.connected(token="3-old")
    site.advance(TICK)
    site.sees("3", "4")
    assert "refresh" in tab.ask("refresh", token="3-new")
    assert (old.told, new.told) == ([("3", "online"), ("3", "offline")], [("3", "online")])
    assert site.online.is_online("3")
    tab.leave()
    site.pass_grace()
    assert old.told == new.told == [("3", "online"), ("3", "offline")]


async def test_a_grant_that_says_nothing_of_it_changes_nothing() -> None:
    world = World(limits=QUIET, presence=PresenceConfig(online_grace=GRACE))
    await world.start()
    watcher, other = Page(world.user("2")), Page(world.user("4"))
    world.user("3", presence_to=["2"])
    world.user("3", iat=NOW + 1)
    assert watcher.told == [("3", "online")]
    await world.node.online.see("3", frozenset({"4"}))
    world.user("3", iat=NOW + 2)
    assert watcher.told == [("3", "online"), ("3", "offline")]
    assert other.told == [("3", "online")]
    world.advance(1)
    world.user("3", iat=NOW + 1, presence_to=[])
    assert other.told == [("3", "online"), ("3", "offline")]
    await world.end()


async def test_a_token_signed_by_a_fast_clock_does_not_outlast_the_word_of_the_cms(
    make_site: Sites,
) -> None:
    site = await make_site()
    watcher = site.tab_of("2")
    tab = site.connected(token=sign(sub="3", iat=int(site.clock.seconds()) + 5))
    await site.online.see("3", frozenset({"2"}))
    tab.leave()
    site.pass_grace()
    assert watcher.told == [("3", "online"), ("3", "offline")]


# --- The server stops ------------------------------------------------------------------------


async def test_nobody_is_told_when_the_server_drains() -> None:
    site = Site()
    await site.start()
    site.sees("3", "2")
    watcher, page, late = site.tab_of("2"), site.tab_of("3"), site.tab_of("4")
    late.leave()
    reported = list(site.cms_table.told)
    await site.node.drain(0.0)
    assert page.tab.code == watcher.tab.code == 3001
    site.advance(60)
    assert watcher.told == [("3", "online")]
    assert site.cms_table.told == reported
    assert site.online.count() == 0
    await site.node.stop()
    assert site.reports_left == {}


async def test_nobody_is_told_when_the_server_stops() -> None:
    site = Site()
    await site.start()
    site.sees("3", "2")
    watcher, page = site.tab_of("2"), site.tab_of("3")
    reported = list(site.cms_table.told)
    await site.node.stop()
    assert page.tab.code == 3001
    site.advance(60)
    assert watcher.told == [("3", "online")]
    assert site.cms_table.told == reported
    assert site.clock.getDelayedCalls() == []


async def test_the_server_stops_while_the_cms_is_being_told() -> None:
    site = Site()
    await site.start()
    page = site.tab_of("3")
    site.cms_table.hangs = True
    page.leave()
    site.pass_grace()
    assert [each["messageType"] for each in site.cms_table.held] == ["userOffline"]
    await site.node.stop()
    assert site.cms_table.held == []
    assert site.reports_left == {}
    assert site.clock.getDelayedCalls() == []


# --- The CMS ---------------------------------------------------------------------------------


async def test_the_cms_is_told_once_for_all_tabs(make_site: Sites) -> None:
    site = await make_site()
    pages = [site.tab_of("3-a"), site.tab_of("3-b", kind="centrifugal")]
    assert site.cms_table.told == [("3", "online")]
    for page in pages:
        page.leave()
    site.pass_grace()
    assert site.cms_table.told == [("3", "online"), ("3", "offline")]
    [*_, question] = site.cms_table.asked
    assert json.loads(question.form["messageJson"]) == {"uid": "3", "messageType": "userOffline"}


async def test_a_cms_that_was_down_learns_the_newest_state(make_site: Sites) -> None:
    site = await make_site()
    stays, goes = site.tab_of("2"), site.tab_of("3")
    site.cms_table.fails = True
    goes.leave()
    site.pass_grace()
    assert site.cms_table.online == {"2", "3"}
    stays.leave()
    site.pass_grace()
    site.cms_table.fails = False
    site.tab_of("4")
    site.tab_of("2")
    site.advance(LONGEST_DELAY)
    assert site.cms_table.online == {"2", "4"}
    assert ("2", "offline") not in site.cms_table.told


async def test_users_see_each_other_while_the_cms_hangs(make_site: Sites) -> None:
    site = await make_site()
    site.sees("3", "2")
    site.cms_table.hangs = True
    watcher = site.page()
    watcher.authenticate("2")
    site.cms_table.answer_oldest()
    page = site.page()
    page.authenticate("3")
    assert [each["messageType"] for each in site.cms_table.held] == ["userOnline", "authenticate"]
    site.cms_table.answer_oldest()
    site.cms_table.answer_oldest()
    assert Page(watcher).told == [("3", "online")]
    page.leave()
    site.pass_grace()
    assert Page(watcher).told == [("3", "online"), ("3", "offline")]
    assert site.cms_table.told == [("2", "online")]
    site.cms_table.hangs = False
    site.cms_table.answer_oldest()
    assert site.cms_table.told == [("2", "online"), ("3", "online"), ("3", "offline")]


async def test_without_such_a_cms_the_clients_are_told_all_the_same() -> None:
    world = World(callback=True, limits=QUIET)
    await world.start()
    assert world.context.gate.reports is None
    world.cms.answer = {"result": {"user": "2"}}
    watcher = Page(world.connected(token="two"))
    world.cms.answer = {"result": {"user": "3", "presence_to": ["2"]}}
    page = world.connected(token="three")
    assert watcher.told == [("3", "online")]
    await world.node.backend.disconnect(Target(user="3"), Disconnect(3503))
    assert page.code == 3503
    world.advance(GRACE)
    assert watcher.told == [("3", "online"), ("3", "offline")]
    await world.end()


# --- The hook --------------------------------------------------------------------------------


def hook_told(world: World) -> list[tuple[str, str]]:
    world.cms.agent.flush()
    events = [event for asked in world.cms.asked for event in asked.json.get("events", [])]
    return [(event["user"], event["event"]) for event in events]


async def test_the_hook_is_told_once_for_all_tabs_and_page_changes() -> None:
    settings = PresenceConfig(hook_url="http://cms.test/hook", online_grace=GRACE)
    world = World(limits=QUIET, presence=settings)
    world.cms.answer = {}
    await world.start()
    world.connected()
    tabs = [world.user("2"), world.user("2"), world.user("3")]
    world.advance(1)
    assert hook_told(world) == [("2", "online"), ("3", "online")]
    assert len(world.cms.asked) == 1
    for tab in tabs:
        tab.leave()
    world.advance(1)
    world.user("2")
    world.advance(5)
    assert hook_told(world)[2:] == [("3", "offline")]
    assert world.context.gate.hook.waiting == 0
    drained = Outcome(Deferred.fromCoroutine(world.node.drain(1.0)))
    world.advance(10)
    assert drained.done
    await world.node.stop()
    assert len(hook_told(world)) == 3
    assert world.leftovers() == {}
    assert world.clock.getDelayedCalls() == []


# --- Any course of events --------------------------------------------------------------------

USERS = ("1", "2", "3", "4")
UIDS = st.sampled_from(USERS)
LISTS = st.frozensets(UIDS)


@define
class ModelUser:
    """One who is online: the number of tabs, and what was said of who sees it, with the time.

    ``gone_at`` is when it is offline, if nobody comes back. Of two that were said at one time the
    CMS's own word counts, not a grant's.
    """

    tabs: int = 0
    gone_at: float = 0.0
    said: list[tuple[float, bool, frozenset[str]]] = field(factory=list)

    def watchers(self, user: str) -> frozenset[str]:
        """Give who sees the user that this is."""
        if not self.said:
            return frozenset()
        newest = max(each[:2] for each in self.said)
        return [each[2] for each in self.said if each[:2] == newest][-1] - {user}


class Play:
    """A site and what it should do, side by side.

    Of each token the CMS is asked once: what it said then is kept, and counts as said then. So
    does what it said last of a user in ``lists``.
    """

    def __init__(self) -> None:
        self.site = Site()
        run(self.site.start())
        self.tabs: list[tuple[Page, str]] = []
        self.users: dict[str, ModelUser] = {}
        self.grants: dict[str, tuple[float, bool, frozenset[str]]] = {}
        self.expected: dict[Page, dict[str, list[str]]] = {}
        self.lists: dict[str, tuple[float, bool, frozenset[str]]] = {}
        self.reports: dict[str, list[str]] = {}
        self.failing = False

    @property
    def now(self) -> float:
        return self.site.clock.seconds()

    def connect(self, user: str, number: int, seen_by: frozenset[str], kind: str) -> None:
        token = f"{user}-{number}"
        self.site.cms_table.lists[user] = sorted(seen_by)
        grant = self.grants.setdefault(token, (self.now, False, seen_by))
        page = self.site.tab_of(token, kind=kind)
        came = user not in self.users
        known = self.users.setdefault(user, ModelUser())
        known.tabs += 1
        self.expected[page] = {}
        self.tabs.append((page, user))
        listed = [self.lists[user]] if came and user in self.lists else []
        self.say(user, known, *listed, grant)
        if came:
            self.reports.setdefault(user, []).append("online")
        visible = sorted(name for name, each in self.users.items() if user in each.watchers(name))
        assert page.first == ([visible] if visible and kind == "centrifugal" else [])

    def leave(self, page: Page) -> None:
        [user] = [user for each, user in self.tabs if each is page]
        self.tabs.remove((page, user))
        page.leave()
        known = self.users[user]
        known.tabs -= 1
        known.gone_at = self.now + GRACE

    def see(self, user: str, seen_by: frozenset[str]) -> None:
        run(self.site.online.see(user, seen_by))
        self.lists[user] = said = (self.now, True, seen_by)
        if user in self.users:
            self.say(user, self.users[user], said)

    def say(self, user: str, known: ModelUser, *said: tuple[float, bool, frozenset[str]]) -> None:
        before = known.watchers(user)
        known.said.extend(said)
        after = known.watchers(user)
        self.tell(user, before - after, "offline")
        self.tell(user, after - before, "online")

    def tell(self, user: str, watchers: frozenset[str], event: str) -> None:
        for page, watcher in self.tabs:
            if watcher in watchers:
                self.expected[page].setdefault(user, []).append(event)

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / TICK)):
            self.site.advance(TICK)
            for user, known in list(self.users.items()):
                if not known.tabs and known.gone_at <= self.now:
                    del self.users[user]
                    self.tell(user, known.watchers(user), "offline")
                    self.reports.setdefault(user, []).append("offline")
        self.check()

    def refuse(self, user: str) -> None:
        """Have the CMS take no report of a user any more, or again."""
        self.site.cms_table.refused ^= {user}
        self.failing = True

    def check(self) -> None:
        online = self.site.online
        assert {user for user in USERS if online.is_online(user)} == set(self.users)
        assert online.count() == len(self.users)
        for page, expected in self.expected.items():
            told: dict[str, list[str]] = {}
            for uid, event in page.told:
                told.setdefault(uid, []).append(event)
            assert told == expected
        if not self.failing:
            reported: dict[str, list[str]] = {}
            for uid, event in self.site.cms_table.told:
                reported.setdefault(uid, []).append(event)
            assert reported == self.reports

    def finish(self) -> None:
        """The CMS knows the true state once it answers; and nothing is left."""
        self.site.cms_table.refused = set()
        self.advance(2 * LONGEST_DELAY + 1)
        assert self.site.cms_table.online == set(self.users)
        run(self.site.end())
        assert self.site.cms_table.online == set()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_in_any_order_everybody_is_told_what_the_model_says(data: st.DataObject) -> None:
    play = Play()
    steps = ["connect", "connect", "leave", "leave", "see", "refuse", "pass", "pass"]
    for _ in range(data.draw(st.integers(0, 30))):
        step = data.draw(st.sampled_from(steps))
        if step == "pass":
            play.advance(data.draw(st.sampled_from([TICK, GRACE - TICK, GRACE, 5.0])))
        elif step == "see":
            play.see(data.draw(UIDS), data.draw(LISTS))
        elif step == "refuse":
            play.refuse(data.draw(UIDS))
        elif step == "connect" or not play.tabs:
            kind = data.draw(st.sampled_from(KINDS))
            play.connect(data.draw(UIDS), data.draw(st.integers(0, 4)), data.draw(LISTS), kind)
        else:
            play.leave(data.draw(st.sampled_from(play.tabs))[0])
        play.check()
    play.finish()
