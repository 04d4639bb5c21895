"""Write dashboards/tamperwatch.json: `python deploy/grafana/make_dashboard.py`. Change the panels here, not in the JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent / "dashboards" / "tamperwatch.json"
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_RESULTS = "rate(tamperwatch_results_total[15m])"
_WIDTH, _HEIGHT, _ROW = 8, 8, 24


@dataclass(frozen=True)
class Panel:
    """A graph: its queries by legend, and what it is good for."""

    title: str
    unit: str
    help: str
    queries: dict[str, str]
    kind: str = "timeseries"
    stacked: bool = False


def _quantile(share: float, metric: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket[5m])))"


def _mean(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}_sum[5m])) / sum by ({by}) (rate({metric}_count[5m]))"


def _median_and_p95(metric: str, by: str) -> dict[str, str]:
    legend = "{{" + by + "}}"
    return {f"{legend} median": _quantile(0.5, metric, by), f"{legend} p95": _quantile(0.95, metric, by)}


SECTIONS: dict[str, list[Panel]] = {
    "Stream": [
        # Every worker reports the same queues: the largest answer, not the sum.
        Panel("Waiting", "short", "Messages in Redis", {"{{queue}}": "max by (queue) (tamperwatch_queue_messages)"}),
        Panel(
            "Oldest waiting",
            "s",
            "Age of the oldest queued job",
            {"{{queue}}": "max by (queue) (tamperwatch_oldest_waiting_seconds)"},
        ),
        Panel(
            "In hand",
            "short",
            "Unacknowledged messages, those that wait for another try included; and what SQL and the processes say",
            {
                "unacknowledged": "max(tamperwatch_unacked_messages)",
                "running in SQL": "sum(max by (queue) (tamperwatch_running_jobs))",
                "worked on": "sum(tamperwatch_jobs_in_hand)",
            },
        ),
        Panel(
            "Pictures ended",
            "ops",
            "A second, failures included",
            {"{{instance}}": "sum by (instance) (rate(tamperwatch_images_total[5m])) > 0"},
            stacked=True,
        ),
        Panel(
            "Verdicts",
            "percentunit",
            "Shares of the pictures with a result",
            {"{{verdict}}": f"sum by (verdict) ({_RESULTS}) / scalar(sum({_RESULTS}))"},
            stacked=True,
        ),
        Panel(
            "Answered from the store",
            "percentunit",
            "Pictures whose bytes had been audited before",
            {"share": "sum(rate(tamperwatch_reused_results_total[15m])) / sum(rate(tamperwatch_results_total[15m]))"},
        ),
    ],
    "What goes wrong": [
        Panel(
            "Failures",
            "ops",
            "Jobs ended under an error code",
            {"{{code}}": "sum by (code) (rate(tamperwatch_failures_total[5m]))"},
        ),
        Panel(
            "Tries to be repeated", "ops", "Transient errors", {"{{code}}": "sum by (code) (rate(tamperwatch_retries_total[5m]))"}
        ),
        Panel(
            "Dead letters, an hour",
            "short",
            "Failures that `tamperwatch retry` may mend",
            {"{{code}}": "sum by (code) (increase(tamperwatch_dead_letters_total[1h]))"},
        ),
        Panel(
            "Messages out of turn",
            "ops",
            "Normal after a restart of Redis or of workers; lasting, look at the runbook",
            {
                "delivered again": "sum(rate(tamperwatch_redeliveries_total[5m]))",
                "duplicates": "sum(rate(tamperwatch_duplicates_total[5m]))",
                "swept": "sum(rate(tamperwatch_swept_jobs_total[5m]))",
                "overtaken": "sum(rate(tamperwatch_overtaken_outcomes_total[5m]))",
                "unclaimed": "sum(rate(tamperwatch_unclaimed_messages_total[5m]))",
                "invalid": "sum(rate(tamperwatch_invalid_messages_total[5m]))",
                "malformed": "sum(rate(tamperwatch_malformed_messages_total[5m]))",
            },
        ),
        Panel("Stores", "short", "1: somebody reaches it", {"{{store}}": "max by (store) (tamperwatch_up)"}),
        Panel(
            "Connections to Redis, an hour",
            "short",
            "More than a few are reconnects",
            {"{{instance}}": "increase(tamperwatch_consumer_connections_total[1h])"},
        ),
    ],
    "Where the time goes": [
        Panel(
            "Stages",
            "s",
            "Time of a picture in a stage, 95th percentile",
            {"{{stage}}": _quantile(0.95, "tamperwatch_stage_seconds", "stage")},
        ),
        Panel("Batch size", "short", "Items of one call, mean", {"{{batcher}}": _mean("tamperwatch_batch_size", "batcher")}),
        Panel(
            "Batch wait",
            "s",
            "How long a call's first item waited for it",
            _median_and_p95("tamperwatch_batch_wait_seconds", "batcher"),
        ),
        Panel("Batch run", "s", "Time of one call", _median_and_p95("tamperwatch_batch_run_seconds", "batcher")),
        Panel(
            "Device at work",
            "percentunit",
            "Of the time; near 1 the network is the bottleneck",
            {"{{instance}}": 'sum by (instance) (rate(tamperwatch_batch_run_seconds_sum{batcher="device"}[5m]))'},
        ),
        Panel("Memory", "bytes", "Resident, by process", {"{{job}} {{instance}}": "tamperwatch_process_resident_memory_bytes"}),
    ],
    "Model": [
        Panel(
            "Version in use",
            "short",
            "Processes that answer with it",
            {"{{version}} on {{engine}}, {{device}}": "sum by (version, engine, device) (tamperwatch_model_info)"},
            stacked=True,
        ),
        Panel(
            "Drift",
            "short",
            "PSI of the newest scores; above 0.25 they have moved much",
            {"{{instance}} against {{reference}}": "tamperwatch_score_psi_ratio"},
        ),
        Panel("Scores", "percentunit", "Of pictures as submitted", _median_and_p95("tamperwatch_score_ratio", "job")),
        Panel(
            "Swaps, an hour",
            "short",
            "Changes of the live model while running",
            {"{{outcome}}": "sum by (outcome) (increase(tamperwatch_model_swaps_total[1h]))"},
        ),
        Panel(
            "Shadow and canary",
            "ops",
            "Pictures of the version that is tried",
            {
                "shadow {{outcome}}": "sum by (outcome) (rate(tamperwatch_shadow_pictures_total[5m]))",
                "canary {{outcome}}": "sum by (outcome) (rate(tamperwatch_canary_pictures_total[5m]))",
                "refused as {{role}}": "sum by (role) (rate(tamperwatch_side_model_refusals_total[5m]))",
            },
        ),
    ],
    "Learning": [
        Panel(
            "Runs begun, a week",
            "short",
            "By what began them",
            {"{{trigger}}": "sum by (trigger) (increase(tamperwatch_retrain_begun_total[7d]))"},
        ),
        Panel(
            "Runs ended, a week",
            "short",
            "As what",
            {"{{state}}": "sum by (state) (increase(tamperwatch_retrain_ended_total[7d]))"},
        ),
        Panel(
            "Nights missed, a week",
            "short",
            "Nights without a run",
            {"missed": "sum(increase(tamperwatch_retrain_missed_nights_total[7d]))"},
            kind="stat",
        ),
        Panel(
            "Timetable",
            "s",
            "Since somebody looked at it; a minute is normal",
            {"ago": "time() - max(tamperwatch_retrain_looked_timestamp_seconds)"},
            kind="stat",
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for name, section in SECTIONS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": name,
                "collapsed": False,
                "panels": [],
                "gridPos": _place(0, top, _ROW, 1),
            }
        )
        for number, panel in enumerate(section):
            across, down = number * _WIDTH % _ROW, number * _WIDTH // _ROW
            panels.append(_panel(panel, len(panels) + 1, _place(across, top + 1 + down * _HEIGHT, _WIDTH, _HEIGHT)))
        top += 1 + -(-len(section) * _WIDTH // _ROW) * _HEIGHT
    variable = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0}
    return {
        "uid": "tamperwatch",
        "title": "Tamperwatch",
        "tags": ["tamperwatch"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [variable]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    lines = {
        "lineWidth": 1,
        "fillOpacity": 10,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none"},
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": lines if panel.kind == "timeseries" else {}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
        if panel.kind == "timeseries"
        else {},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
