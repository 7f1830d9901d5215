"""What the environment audit is made of: metadata, checks, reports, the plan of its faults."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from examples.environment_audit.app import is_model_step, step_count
from examples.environment_audit.checks import Finding, Part, check_licences, check_versions, family
from examples.environment_audit.distributions import applicable, licence_of, prose, read_facts, take_inventory
from examples.environment_audit.model import RateLimited, retry_after
from examples.environment_audit.page import html
from examples.environment_audit.plan import Plan, Wishes, check_endpoint
from examples.environment_audit.report import Audited, Report, markdown
from orchestrator.errors import ConfigurationError

# -- metadata ----------------------------------------------------------------------------------------------------------


def test_the_inventory_is_what_is_installed_in_the_seed_s_order() -> None:
    everything = take_inventory(0, 1)
    assert "pytest" in everything.names
    assert sorted(everything.names) == sorted(everything.installed)
    assert take_inventory(5, 1).names == everything.names[:5]
    assert take_inventory(0, 2).names != everything.names


def test_facts_are_the_real_metadata() -> None:
    facts = read_facts("pytest")
    assert (facts.name, facts.version) == ("pytest", take_inventory(0, 0).installed["pytest"])
    assert any(line.startswith("pluggy") for line in facts.requires)
    assert facts.licence == "MIT"
    assert facts.files > 50


@pytest.mark.parametrize(
    ("expression", "free_text", "classifiers", "licence"),
    [
        ("MIT", "other", ["License :: OSI Approved :: BSD License"], "MIT"),
        ("", "", ["License :: OSI Approved", "License :: OSI Approved :: BSD License"], "BSD License"),
        ("", "Apache 2.0\nmore", [], "Apache 2.0"),
        ("", "Permission is hereby granted, free of charge, to any person obtaining a copy", [], ""),
    ],
)
def test_a_licence_is_found_where_it_stands(
    expression: str, free_text: str, classifiers: list[str], licence: str
) -> None:
    assert licence_of(expression, free_text, classifiers) == licence


def test_only_requirements_that_hold_here_count() -> None:
    lines = ["a>=1", "b ; extra == 'x'", "c<2 ; python_version < '3'", "not a requirement!"]
    assert applicable(lines) == ["a>=1", "not a requirement!"]


def test_prose_is_whole_sentences_without_mark_up() -> None:
    text = """# Title\n\n[![badge](http://b/x.svg)](http://b)\n\nA tool for [many\nthings](http://x) at once.
Too short.\n\n```python\nThis code = is not prose at all.\n```\n\n- A list item without an end\n"""
    assert prose(text) == "A tool for many things at once."


# -- checks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("MIT", "permissive"),
        ("Apache-2.0 OR GPL-3.0-only", "permissive"),
        ("LGPL-3.0-or-later", "weak copyleft"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "weak copyleft"),
        ("GNU General Public License v2 (GPLv2)", "strong copyleft"),
        ("AGPL-3.0", "strong copyleft"),
        ("", "unknown"),
        ("See LICENSE", "unknown"),
    ],
)
def test_licence_families(licence: str, kind: str) -> None:
    assert family(licence) == kind


def test_licences_are_checked_against_each_other() -> None:
    parts = [Part("app", "1", "MIT", requires=["Gpl_Lib>=1"]), Part("gpl-lib", "2", "GPL-3.0"), Part("odd", "1", "")]
    assert check_licences(parts) == [
        Finding("app", "licences differ", "permissive, and it requires gpl-lib: strong copyleft"),
        Finding("odd", "licence unknown", "its metadata names none"),
    ]


def test_versions_are_checked_against_requirements() -> None:
    parts = [Part("app", "1", "MIT", "<3", ["lib>=2", "gone", "Pre_Release>=1"])]
    found = check_versions(parts, {"lib": "1.5", "pre-release": "2.0rc1"}, "3.11.7")
    assert [(one.kind, one.detail) for one in found] == [
        ("python", "it asks for Python <3, this is 3.11.7"),
        ("requirement not met", "it asks for lib>=2, installed is 1.5"),
        ("requirement missing", "gone is not installed"),
    ]


# -- reports -----------------------------------------------------------------------------------------------------------


def test_reports_carry_foreign_text_safely() -> None:
    row = Audited(Part("x", "1", "MIT"), "a | b <script>", "line\nbreak")
    content = Report("3.11", "Linux", 0, [row], [Finding("x", "licence unknown", "<b>")])
    assert "| x | 1 | MIT | permissive | 0 | a \\| b <script> | line break |" in markdown(content)
    assert "<td>a | b &lt;script&gt;</td><td>line\nbreak</td>" in html(content)
    assert "<script>" not in html(content)


def test_the_page_counts_licences_and_findings() -> None:
    rows = [Audited(Part(name, "1", licence), "s", "r") for name, licence in (("a", "MIT"), ("b", "MIT"), ("c", ""))]
    page = html(Report("3.11", "Linux", 0, rows, [Finding("c", "licence unknown", "d")]))
    assert 'title="2 permissive"' in page
    assert 'title="1 unknown"' in page
    assert ">1</b><span>findings" in page
    assert "http" not in page, "nothing comes from elsewhere"


def test_a_report_without_findings_says_so() -> None:
    content = Report("3.11", "Linux", 0, [], [])
    assert "None: every licence is known" in markdown(content)
    assert "None: every licence is known" in html(content)


# -- the model's refusals ----------------------------------------------------------------------------------------------


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("1.5") == 1.5
    assert retry_after(None) == 5.0
    assert retry_after("soon") == 5.0
    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < retry_after(format_datetime(soon, usegmt=True)) <= 100
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == 0.0
    assert RateLimited("later", 2.5).next_retry_delay == timedelta(seconds=2.5)


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_the_wishes_are_the_environment_s() -> None:
    environ = {"KILL_STEP": "9", "RATE_LIMIT_STEP": "", "SEED": "3", "OPENAI_BASE_URL": "http://x/v1"}
    assert Wishes.of(environ) == Wishes(kill=9, seed=3, endpoint="http://x/v1")
    with pytest.raises(ConfigurationError, match="KILL_STEP='x': must be a whole number"):
        Wishes.of({"KILL_STEP": "x"})


def test_every_planned_fault_strikes_a_step_that_asks_the_model() -> None:
    for seed in range(50):
        plan = Plan.of(Wishes(seed=seed), 45)
        assert (plan.kill, plan.rate_limit, plan.notes) == (18, 42, ())
        assert is_model_step(plan.breaks, 45)
        assert [(fault.kind, fault.label) for fault in plan.faults()] == [
            ("hold", "step-18"),
            ("rate_limit", "step-42"),
            ("break", f"step-{plan.breaks}"),
        ]


def test_the_seed_moves_the_break() -> None:
    assert len({Plan.of(Wishes(seed=seed), 45).breaks for seed in range(20)}) > 5


def test_a_step_that_asks_no_model_hands_its_fault_on() -> None:
    plan = Plan.of(Wishes(kill=17, breaks=0), 45)
    assert (plan.kill, plan.breaks) == (18, 0)
    assert plan.notes == ("KILL_STEP=17: step 17 asks no model, so the fault strikes at step 18",)


def test_a_step_beyond_the_run_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"RATE_LIMIT_STEP=42: .* is 31; .*LIMIT cuts the run short"):
        Plan.of(Wishes(limit=10), 10)


def test_an_own_endpoint_takes_no_faults() -> None:
    assert Plan.of(Wishes(endpoint="http://x/v1"), 45).faults() == []


def test_two_of_three_steps_of_a_distribution_ask_the_model() -> None:
    asking = [number for number in range(1, step_count(2) + 1) if is_model_step(number, 2)]
    assert (asking, step_count(2)) == ([3, 4, 6, 7], 11)


def test_the_faults_in_words() -> None:
    assert Plan(140, 18, 42, 0).words() == "SIGKILL at step 18, 429 with Retry-After 2 s at step 42"
    assert Plan(140, 0, 0, 0).words() == "none"


@pytest.mark.parametrize("url", ["models.example.net/v1", "ftp://x/v1", "http://", "http://host:port/v1"])
def test_an_endpoint_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is no address"):
        check_endpoint(url)


def test_an_endpoint_where_nobody_listens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        check_endpoint(f"http://127.0.0.1:{port}/v1")
    with pytest.raises(ConfigurationError, match=f"nobody answers at 127.0.0.1:{port}"):
        check_endpoint(f"http://127.0.0.1:{port}/v1")
