"""What the benchmarks say of their figures: ratios of the same round, and targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fan_out import WITH_HISTORY
from benchmarks.figures import SHORT, Figure
from benchmarks.report import document, peers_table, table, targets_table
from benchmarks.targets import TARGETS, Target, judged

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
FAN_OUT = Figure(
    "fan-out to 10,000",
    "µs CPU per delivery",
    [10.0, 24.0, 12.0],
    floor=[10.0, 20.0, 8.0],
    peers={"ws": [20.0, 48.0, 24.0], WITH_HISTORY: [11.0, 22.0, 8.8]},
)
NAMES = (
    "fan-out to 10,000, 16 in one turn",
    "idle connection of 10,000",
    "the server with 18,000 idle",
    "handshake and connect, known grant",
    "ping and pong of a client",
    "small frame of a client: a command",
    "publish to 1 receiver, 1 connection",
    "publish in batches of 20",
    "worst answer to another client during a fan-out to 18,000",
    "longest collection, 18,000 connections, JSON churn",
    "callback to the CMS through treq",
)


def test_a_ratio_is_of_the_same_round() -> None:
    assert FAN_OUT.ratio(FAN_OUT.floor) == 1.2  # The medians themselves would give 1.2, too:
    assert FAN_OUT.ratio(FAN_OUT.peers["ws"]) == 0.5
    uneven = Figure("", "", [1.0, 2.0, 30.0], floor=[1.0, 4.0, 10.0])
    assert uneven.ratio(uneven.floor) == 1.0  # … those of these would give 0.5.


def test_every_target_finds_its_figure() -> None:
    workers = Figure("2 workers on 2 cores, fan-out to 10,000", "deliveries/s", [3.4], floor=[2.0])
    fan_out = Figure(**{**vars(FAN_OUT), "peers": {**FAN_OUT.peers, "Nchan": [9.0, 9.0, 9.0]}})
    figures = [fan_out, workers, *(Figure(name, "µs", [1.0]) for name in NAMES)]
    assert [target for target, _ in judged(figures)] == list(TARGETS)


def test_figures_per_second_are_not_taken_for_the_cost_of_the_same_name() -> None:
    name = "publish to 1 receiver, 1 connection"
    figures = [Figure(name, "messages per second", [9000.0]), Figure(name, "µs CPU", [140.0])]
    assert [value for _, value in judged(figures)] == [140.0]


def test_no_target_for_many_clients_is_judged_with_fewer() -> None:
    """Nor a small frame by a pong, which is less than a command."""
    names = [
        "fan-out to 2,000",
        "fan-out to 2,000, 16 in one turn",
        "idle connection of 2,000",
        "the server with 5,000 idle",
        "small frame of a client: a pong",
        "worst answer to another client during a fan-out to 5,000",
        "longest collection, 5,000 connections, JSON churn",
        "2 workers on 2 cores, fan-out to 2,000",
    ]
    figures = [Figure(name, "µs", [1.0], floor=[1.0], peers={"ws": [1.0]}) for name in names]
    assert list(judged(figures)) == []


def test_the_record_of_a_full_run_is_judged_as_it_would_be_now() -> None:
    record = json.loads((RESULTS / "full.json").read_text("utf-8"))
    figures = [
        Figure(
            each["name"],
            each["unit"],
            each["rounds"],
            (each["floor"] or {}).get("rounds", []),
            {name: peer["rounds"] for name, peer in each["peers"].items()},
        )
        for each in record["figures"]
    ]
    found = {target.what: (value, target.verdict(value)) for target, value in judged(figures)}
    told: Any = {
        each["what"]: (pytest.approx(each["measured"], rel=0.01), each["reached"])
        for each in record["targets"]
    }
    assert found == told


@pytest.mark.parametrize(
    ("at_least", "value", "verdict"),
    [
        (False, 0.5, "moonshot"),
        (False, 0.8, "yes"),
        (False, 0.81, "NO"),
        (True, 0.9, "moonshot"),
        (True, 0.8, "yes"),
        (True, 0.79, "NO"),
    ],
)
def test_verdicts(at_least: bool, value: float, verdict: str) -> None:
    moonshot = 0.9 if at_least else 0.65
    target = Target("", "", "", lambda figure: 0.0, 0.8, moonshot, at_least)
    assert target.verdict(value) == verdict


def test_tables() -> None:
    rounds = table([FAN_OUT]).splitlines()[2].split("|")
    assert [cell.strip() for cell in rounds[3:-1]] == ["12", "10", "24", "10", "1.20"]
    assert "24 (0.50)" in peers_table([FAN_OUT])
    assert peers_table([Figure("alone", "", [1.0])]) == ""
    said = targets_table([FAN_OUT]).splitlines()
    assert [line.split("|")[-2].strip() for line in said[2:]] == ["yes", "moonshot", "moonshot"]


def test_the_document_is_json() -> None:
    found = json.loads(json.dumps(document("run", SHORT, [FAN_OUT], {"Nchan": "not there"})))
    [figure] = found["figures"]
    assert figure["floor"]["ratio"] == 1.2
    assert figure["peers"]["ws"]["rounds"] == FAN_OUT.peers["ws"]
    assert found["skipped"] == {"Nchan": "not there"}
    assert found["targets"][0]["reached"] == "yes"
