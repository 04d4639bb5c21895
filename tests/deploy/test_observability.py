import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.grafana.make_dashboard import TARGET, dashboard
from schemas.states import RetrainState
from tests.deploy.known import DEPLOY, ROOT, metric_names

GROUPS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
QUERIES = {
    f"{panel['title']}: {target['legendFormat']}": target["expr"]
    for panel in dashboard()["panels"]
    for target in panel.get("targets", [])
} | {name: rule["expr"] for name, rule in ALERTS.items()}


def _selectors(node: Any) -> Iterator[Any]:
    """Every selector in a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "vector_selector", "selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            yield from _selectors(child)
    for child in getattr(node, "args", None) or []:
        yield from _selectors(child)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_parses_and_asks_for_metrics_that_exist(query: str) -> None:
    asked = {selector.name for selector in _selectors(promql_parser.parse(query))}
    assert asked, "no metric was found in it"
    assert asked == set(re.findall(r"\btamperwatch_\w+", query)), "this test does not see all of the query"
    assert asked - metric_names() == set()


def test_a_metric_that_does_not_exist_would_be_noticed() -> None:
    assert "tamperwatch_images_total" in metric_names()
    assert "tamperwatch_images" not in metric_names()


def test_the_dashboard_is_what_its_program_writes() -> None:
    assert json.loads(TARGET.read_text(encoding="utf-8")) == dashboard(), "run: python deploy/grafana/make_dashboard.py"


def test_panels_have_places_of_their_own_and_say_what_they_are_for() -> None:
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert cells & taken == set(), panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if panel["type"] != "row" and not panel["description"]] == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_an_entry_in_the_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert rule["labels"]["severity"] in ("warning", "critical")
    entry = RUNBOOK.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert "**Means**" in entry, "the runbook has no such section"
    assert "`" in entry, "no command, variable or path to look at"


def test_the_runbook_has_no_entry_without_an_alert() -> None:
    assert set(re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


def test_alerts_name_states_that_runs_have() -> None:
    (state,) = re.findall(r'state="(\w+)"', ALERTS["TamperwatchRetrainFailed"]["expr"])
    assert RetrainState(state).ended


def test_prometheus_reads_our_rules_and_finds_every_role() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert [name for name in config["rule_files"] if not (DEPLOY / "prometheus" / name).is_file()] == []
    names = {name for job in config["scrape_configs"] for found in job["dns_sd_configs"] for name in found["names"]}
    assert names == {"web", "beat", "worker-cpu", "worker-gpu", "trainer"} and names <= set(services)
    assert {found["port"] for job in config["scrape_configs"] for found in job["dns_sd_configs"]} == {9464}


def test_grafana_is_given_prometheus_and_the_dashboard() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "tamperwatch.yml").read_text(encoding="utf-8"))["providers"]
    mounts = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"]["volumes"]
    assert source["url"] == "http://prometheus:9090"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
