"""The CI templates parse, and every command in them exists with its options."""

import re
import subprocess
import sys

import pytest
import yaml

from harness.system.files import ROOT

CI = ROOT / "docs" / "ci"


TEMPLATES = ("github.yml", "gitlab.yml", "Jenkinsfile")


def commands(name: str) -> list[list[str]]:
    """Every `python -m harness` command of a template, its lines joined."""
    text = re.sub(r"\\\n\s*", " ", (CI / name).read_text())
    text = re.sub(r"(?<=[^:\n-])\n\s+(?=--)", " ", text)  # folded YAML
    return [match.split() for match in re.findall(r"-m harness (\w[^\n>|']*)", text)]


@pytest.fixture(scope="module")
def known_options() -> dict[str, str]:
    """Help texts by command."""

    def help_of(command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "harness", command, "--help"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    return {command: help_of(command) for command in ("run", "report")}


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name.endswith(".yml")])
def test_yaml_parses(name):
    document = yaml.safe_load((CI / name).read_text())
    jobs = document.get("jobs", document)
    assert {"precheck", "gate"} <= jobs.keys()
    assert "npu" in (jobs["gate"].get("runs-on") or jobs["gate"]["tags"])


def test_the_jenkinsfile_closes_what_it_opens():
    text = (CI / "Jenkinsfile").read_text()
    text = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"'''.*?'''", "", text, flags=re.DOTALL)
    text = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"|//.*", "", text)
    for opening, closing in ("{}", "()"):
        assert text.count(opening) == text.count(closing) > 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_commands_and_options_exist(name, known_options):
    found = commands(name)
    assert sorted(command[0] for command in found) == ["report", "report", "run", "run"]
    for command, *words in found:
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options, command
        for option in options:
            # pytest's help lists this one by its other spelling.
            option = option.replace("--junitxml", "--junit-xml")
            assert re.search(rf"{option}\b", known_options[command]), f"{command} {option}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_both_jobs_keep_their_evidence(name):
    text = (CI / name).read_text()
    for word in ("--junitxml=", "--format markdown", "--html="):
        assert text.count(word) == 2, word
    assert "EMULATED" in text
