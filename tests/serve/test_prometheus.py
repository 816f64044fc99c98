from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from btcml.serve.prometheus import SERIES_FIGURES

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"


def test_the_rules_and_the_board_for_monitoring_name_figures_that_exist(service):
    """Rules of Prometheus, which promtool checks where it is installed, and a dashboard of Grafana."""
    text = service.get("/metrics/prometheus").text
    known = set(re.findall(r"^# TYPE (btcml_\w+)", text, re.MULTILINE)) | {"btcml_request_seconds_bucket"}
    rules = (MONITORING / "prometheus-rules.yml").read_text(encoding="utf-8")
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    used = [rule["expr"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    used += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    used += [variable["definition"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    named = {name for expression in used for name in re.findall(r"btcml_\w+", expression)}
    assert named <= known
    assert {f"btcml_{name}" for name in SERIES_FIGURES} <= named
    if tool := shutil.which("promtool"):
        subprocess.run([tool, "check", "rules", MONITORING / "prometheus-rules.yml"], check=True, capture_output=True)
